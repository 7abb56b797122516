"""The predictions file is the proof behind every number: it must hold exactly what was answered."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.report.metrics import evaluate
from petpark_assets.domain.report.predictions import SCHEMA, predictions_parquet, read_predictions
from petpark_assets_tests.domain.report import toy


def test_the_report_can_be_computed_again_from_the_file():
    """Without loss: an auditor gets the same verdict and the same digits from the Parquet file alone."""
    sha256s, labels, probabilities = toy.answers()
    again = read_predictions(predictions_parquet(sha256s, labels, probabilities))
    assert dict(zip(again.sha256s, again.probabilities.tolist(), strict=True)) == dict(
        zip(sha256s, probabilities.tolist(), strict=True)
    )
    order = np.argsort(sha256s)
    recorded = evaluate(labels[order], probabilities[order], Targets())
    assert evaluate(again.labels, again.probabilities, Targets()) == recorded


def test_the_order_of_answers_changes_no_byte():
    """The file's sha256 is in the record: it may depend on what was answered, not on who came first."""
    sha256s, labels, probabilities = toy.answers()
    other = np.random.default_rng(1).permutation(len(labels))
    shuffled = predictions_parquet([sha256s[i] for i in other], labels[other], probabilities[other])
    assert shuffled == predictions_parquet(sha256s, labels, probabilities)


def test_columns_are_in_words():
    """Anyone with a Parquet reader understands it: labels are words, no photo has an empty field."""
    data = predictions_parquet(["b", "a"], np.array([0, 1], dtype=np.uint8), np.array([0.5, 0.25]))
    table = pq.read_table(io.BytesIO(data))
    assert table.schema == SCHEMA
    assert table.to_pylist() == [
        {"sha256": "a", "label": "dog", "predicted": "cat", "probability": 0.25},
        {"sha256": "b", "label": "cat", "predicted": "dog", "probability": 0.5},
    ]


@pytest.mark.parametrize("sha256s", [["a"], ["a", "a"]], ids=["one missing", "twice"])
def test_answers_that_do_not_pair_up_are_refused(sha256s):
    """A shifted column would give every photo its neighbour's answer."""
    with pytest.raises(InvalidInput, match="each photo needs one of each"):
        predictions_parquet(sha256s, np.array([0, 1], dtype=np.uint8), np.array([0.5, 0.25]))
