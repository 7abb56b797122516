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


def test_the_temperature_travels_with_the_weights_and_is_one_where_none_is_named(fitted):
    """The report, the packaging and a replay must answer with one file; files of before had no temperature."""
    scaled = save_weights(fitted.weights, TINY, PREPROCESSING, 1.25)
    assert load_classifier(scaled).temperature == 1.25
    plain = save_weights(fitted.weights, TINY, PREPROCESSING)
    size = int.from_bytes(plain[:8], "little")
    header = plain[8 : 8 + size].replace(rb",\"temperature\":1.0", b"")
    old = len(header).to_bytes(8, "little") + header + plain[8 + size :]
    assert len(old) < len(plain)
    assert load_classifier(old).temperature == 1


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
