"""Claims about what the UI shows of an exam beside the targets."""

import dataclasses

import pytest

from petpark_assets.assets.metadata import table
from petpark_assets.assets.report import _beside_the_targets, _slice_rows
from petpark_assets.domain.recipes import RECIPES
from petpark_assets.domain.records import EvaluationReport
from petpark_assets_tests.assets import displayed
from petpark_assets_tests.domain.report import toy

LAPTOP = RECIPES["laptop"]
METRICS = toy.context(unknown_below=0.6).evaluation.metrics


def record(metrics):
    """Of an exam that gave these."""
    return EvaluationReport(
        dataset_version="v0001", attempt=toy.ATTEMPT, trained_cnn="", test_split="", is_accepted=True, verdict="",
        targets={}, default_targets={}, metrics=metrics, files={},
    )  # fmt: skip


def test_the_error_that_is_judged_is_the_one_that_is_shown():
    """The milder number beside the verdict about the other would read as a mistake, or as an excuse."""
    judged = METRICS["calibration"]["of_confidence"]
    shown = _beside_the_targets(record(METRICS), LAPTOP)
    assert shown["expected_calibration_error"] == judged["expected_calibration_error"]
    assert shown["calibration_error_by_chance"] == judged["perfectly_calibrated"]["mean"]
    assert f"at most {judged['perfectly_calibrated']['mean'] + 0.005:.4f}" in shown["calibration_asked"]


def test_what_was_asked_of_the_answered_is_shown_beside_what_was_found():
    """A share alone does not say that it was to be another."""
    shown = _beside_the_targets(record(METRICS), LAPTOP)
    assert shown["answered_asked"].startswith("Asked of those answered: at least 0.9800 right. ")
    assert shown["answered_asked"].endswith(f": {shown['accuracy_of_the_answered']:.4f}.")


def test_an_exam_of_before_is_shown_as_far_as_it_went():
    """Records are read for ever: the first had one calibration error, later ones nothing of chance's."""
    first = {"expected_calibration_error": 0.01, "bins": []}
    metrics = {name: value for name, value in METRICS.items() if name not in {"slices", "abstention"}}
    shown = _beside_the_targets(record(metrics | {"calibration": first}), LAPTOP)
    assert shown.keys() == {"expected_calibration_error", "champion", "slices"}
    assert shown["expected_calibration_error"] == pytest.approx(0.01)


SLICES = [
    {"measure": "brightness", "name": "dark", "num_images": 400, "accuracy": 0.9},
    {"measure": "class", "name": "cat", "num_images": 600, "accuracy": 1.0},
]


CHAMPION = [
    {"champion_accuracy": 0.95, "p_worse_adjusted": 0.04},
    {"champion_accuracy": 0.5, "p_worse_adjusted": 1.0},
]


def test_each_slice_is_a_row_with_the_champion_s_beside_it():
    """A model that is better on the whole may be worse at night: it is read off here."""
    alone = record(METRICS | {"slices": SLICES})
    rows = [
        {"slice": "brightness: dark", "photos": "400", "accuracy": "0.9"},
        {"slice": "class: cat", "photos": "600", "accuracy": "1"},
    ]
    assert displayed.rows(table(_slice_rows(alone))) == rows
    rows[0] |= {"champion": "0.95", "p worse": "0.04"}
    rows[1] |= {"champion": "0.5", "p worse": "1"}
    compared = dataclasses.replace(alone, comparison={"slices": CHAMPION})
    assert displayed.rows(table(_slice_rows(compared))) == rows
