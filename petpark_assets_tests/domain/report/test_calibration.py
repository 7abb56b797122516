"""A probability is a promise: how well it is kept must be told apart from what chance makes of a perfect one."""

import numpy as np
import pytest

from petpark_assets.domain.report.calibration import calibration, judge


def perfect(num_images, seed):
    """A perfectly calibrated, rather sure model: labels are drawn from its own probabilities."""
    random = np.random.default_rng(seed)
    scores = random.beta(0.2, 0.2, num_images)
    return (random.random(num_images) < scores).astype(np.uint8), scores


def test_a_perfect_model_is_within_what_was_simulated():
    """Else the number beside the error would be no measure of chance: 5 % of perfect models are above the quantile."""
    found = [calibration(*perfect(1000, seed)) for seed in range(20)]
    errors = [one["expected_calibration_error"] for one in found]
    assert np.mean(errors) == pytest.approx(np.mean([one["perfectly_calibrated"]["mean"] for one in found]), rel=0.1)
    assert sum(one["expected_calibration_error"] > one["perfectly_calibrated"]["p95"] for one in found) <= 4


def test_a_model_that_is_too_sure_is_far_above_what_was_simulated():
    """What temperature scaling mends: logits three times too large."""
    truth, scores = perfect(4000, 0)
    sure = 1 / (1 + ((1 - scores) / scores.clip(1e-9)) ** 3)
    error = calibration(truth, sure)
    for found in (error, error["of_confidence"]):
        assert found["expected_calibration_error"] > 2 * found["perfectly_calibrated"]["p95"]


def test_the_error_of_the_confidence_is_counted_by_hand():
    """As the field defines it: against the share of right answers, not of dogs."""
    truth = np.array([1] * 70 + [0] * 30 + [0] * 90 + [1] * 10, dtype=np.uint8)
    scores = np.array([0.9] * 100 + [0.3] * 100)
    found = calibration(truth, scores)
    assert found["of_confidence"]["expected_calibration_error"] == pytest.approx((0.2 + 0.2) / 2)
    assert found["expected_calibration_error"] == pytest.approx((0.2 + 0.2) / 2)
    assert [row["num_images"] for row in found["bins"]] == [100, 100]


def test_the_same_answers_give_the_same_numbers():
    """The simulation is part of a digested record."""
    assert calibration(*perfect(500, 1)) == calibration(*perfect(500, 1))


def test_what_is_asked_depends_on_the_recipe():
    """0.015 of `gpu`, 0.005 above chance of the others, nothing of the demo's eighty photos."""
    found = {"expected_calibration_error": 0.016, "perfectly_calibrated": {"mean": 0.012}}
    assert judge("gpu", found)["is_reached"] is False
    assert judge("laptop", found) == {
        "asked": pytest.approx(0.017),
        "is_reached": True,
        "sentence": "Asked of recipe laptop: at most 0.0170, 0.005 above what a perfectly calibrated model would show. "
        "Reached.",
    }
    assert judge("demo", found)["asked"] is None
    assert judge("gpu", {"expected_calibration_error": 0.5})["is_reached"] is None  # a record of before
