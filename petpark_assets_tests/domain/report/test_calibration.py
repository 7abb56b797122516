"""A probability is a promise: how well it is kept must be told apart from what chance makes of a perfect one."""

import numpy as np
import pytest

from petpark_assets.domain.report.calibration import calibration, judge, judge_answered


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
    found = errors(of_dog=(0.2, 0.0), of_confidence=(0.016, 0.012))
    assert judge("gpu", found)["is_reached"] is False
    assert judge("laptop", found) == {
        "asked": pytest.approx(0.017),
        "is_reached": True,
        "sentence": "Asked of recipe laptop for the probability of the answer: at most 0.0170, 0.005 above what a "
        "perfectly calibrated model would show. Reached.",
    }
    assert judge("demo", found)["asked"] is None
    assert judge("gpu", {"expected_calibration_error": 0.5})["is_reached"] is None  # a record of before


def test_the_milder_of_the_two_errors_excuses_nothing():
    """That of the probability of dog is often the smaller, and is not what the field means by the word."""
    found = errors(of_dog=(0.0100, 0.0067), of_confidence=(0.0136, 0.0068))
    assert judge("laptop", found)["is_reached"] is False
    assert "at most 0.0118" in judge("laptop", found)["sentence"]


def errors(*, of_dog, of_confidence):
    """As calibration gives them: two errors, each with what chance leaves of it."""
    dog, confidence = (
        {"expected_calibration_error": error, "perfectly_calibrated": {"mean": by_chance}}
        for error, by_chance in (of_dog, of_confidence)
    )
    return {**dog, "of_confidence": confidence}


@pytest.mark.parametrize(
    ("accuracy", "interval", "is_reached", "words"),
    [
        (0.9709, [0.9649, 0.9759], False, "at least 0.9800 right. Missed by more than chance: 0.9709."),
        (0.9780, [0.9720, 0.9830], False, "Missed, within chance: 0.9780."),
        (0.9800, [0.9740, 0.9850], True, "Reached: 0.9800."),
    ],
)
def test_what_was_asked_of_the_answered_is_held_against_the_test_side(accuracy, interval, is_reached, words):
    """The threshold keeps the promise on the photos that chose it; a miss on others must not pass in silence."""
    found = judge_answered(0.98, {"accuracy": accuracy, "accuracy_interval": interval})
    assert (found["asked"], found["is_reached"]) == (0.98, is_reached)
    assert found["sentence"].endswith(words)


def test_nothing_is_judged_where_nothing_was_asked_or_answered():
    """Records of before said neither; a threshold above every answer leaves no share of right ones."""
    nothing = {"asked": None, "is_reached": None, "sentence": None}
    answered = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95]}
    assert judge_answered(None, answered) == judge_answered(0.98, None) == nothing
    assert judge_answered(0.98, {"accuracy": None, "accuracy_interval": [0, 1]}) == nothing
