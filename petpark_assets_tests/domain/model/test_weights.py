"""Claims about weights as bytes: the same after a round trip, and nothing else is taken for them."""

import dataclasses

import numpy as np
import pytest

from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.weights import load_classifier, save_weights
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes


def test_weights_are_the_same_bytes_after_a_round_trip(data, fitted):
    """Digests of models rest on it."""
    first = weights_bytes(fitted)
    classifier = load_classifier(first)
    assert save_weights(classifier.network.state_dict(), TINY, PREPROCESSING) == first
    assert classifier.preprocessing == PREPROCESSING
    again = load_classifier(first)
    assert np.array_equal(
        predict(classifier, data.images, device="cpu"),
        predict(again, data.images, device="cpu"),
    )


def test_weights_of_another_architecture_are_refused_in_one_line(fitted):
    """The message of torch itself is a page."""
    wrong = save_weights(fitted.weights, dataclasses.replace(TINY, width=16), PREPROCESSING)
    with pytest.raises(CorruptData, match="not those of petnet with width 16") as refusal:
        load_classifier(wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"no weights at all", (5).to_bytes(8, "little") + b"{}   "])
def test_bytes_that_are_no_weights_are_refused(data):
    """Whatever is wrong with the file, the error says so in one line."""
    with pytest.raises(CorruptData, match="no weights of ours"):
        load_classifier(data)
