"""Whether probabilities keep their word: the calibration error, what chance leaves of it, and unknowns.

Even a perfectly calibrated model shows an error above 0, since shares are counted on a limited number of photos: what
such a model of the same confidences would show is simulated and stands beside each error.
Not here: how a network is calibrated (model/), the pictures (figures.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.report.intervals import wilson_interval

NUM_BINS = 15
NUM_SIMULATIONS = 1000
DECIMALS = 6

MAX_ERROR = {"gpu": 0.015}
"""Asked of a recipe, by name; of the others EXCESS above the simulated mean."""
EXCESS = 0.005
NOT_ASKED = {"demo"}
"""Its test side is too small to say anything."""

Outcomes = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float64]


def calibration(truth: Outcomes, scores: Probabilities) -> dict[str, Any]:
    """How well the probability of dog, and that of the answer itself, keep their word; ready for JSON.

    `expected_calibration_error` and `bins`, with `perfectly_calibrated`, are of the probability of dog (0 to 1).
    `of_confidence` has the first and the last for the probability of the label that was given (0.5 to 1), against the
    share of right answers: the error as C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger define it, "On calibration of
    modern neural networks", ICML 2017, with bins of equal mass.

    Args:
        truth: uint8 [N], 1 where it is a dog.
        scores: float64 [N], the probability of dog.
    """
    is_right = ((scores >= 0.5) == truth).astype(np.uint8)
    bins = _equal_mass_bins(scores)
    rows = [_row(truth[bins == number], scores[bins == number]) for number in range(bins.max() + 1)]
    return {
        **_error(truth, scores),
        "bins": [{name: round(value, DECIMALS) for name, value in row.items()} for row in rows],
        "of_confidence": _error(is_right, np.maximum(scores, 1 - scores)),
    }


def judge(recipe: str, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a recipe's calibration error, and whether it is reached: `asked`, `is_reached`, `sentence`.

    The error is that of the confidence, as the field defines it; that of the probability of dog is often the smaller.
    `asked` and `is_reached` are None where nothing is asked, and of a record that is older than that number. No part
    of the gate.
    """
    if recipe in NOT_ASKED or "of_confidence" not in calibration:
        return {"asked": None, "is_reached": None, "sentence": f"Nothing is asked of recipe {recipe} here."}
    judged = calibration["of_confidence"]
    error, by_chance = judged["expected_calibration_error"], judged["perfectly_calibrated"]["mean"]
    asked = MAX_ERROR.get(recipe, by_chance + EXCESS)
    why = "" if recipe in MAX_ERROR else f", {EXCESS} above what a perfectly calibrated model would show"
    is_reached = error <= asked
    sentence = (
        f"Asked of recipe {recipe} for the probability of the answer: at most {asked:.4f}{why}. "
        f"{'Reached' if is_reached else 'Missed'}."
    )
    return {"asked": asked, "is_reached": is_reached, "sentence": sentence}


def judge_answered(asked: float | None, abstention: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether those answered are right as often here as the recipe asks: `asked`, `is_reached`, `sentence`.

    The threshold was chosen on the validation part (model/calibration.py), and only the test side says what it is
    worth. All None where nothing is asked, or no photo is answered. No
    part of the gate.

    Args:
        asked: the recipe's answered_accuracy, 0 to 1; None: its record is older than that.
        abstention: that of metrics.evaluate.
    """
    if asked is None or not abstention or abstention["accuracy"] is None:
        return dict.fromkeys(("asked", "is_reached", "sentence"))
    accuracy, (_, high) = abstention["accuracy"], abstention["accuracy_interval"]
    is_reached = accuracy >= asked
    found = "Reached" if is_reached else "Missed, within chance" if high >= asked else "Missed by more than chance"
    sentence = f"Asked of those answered: at least {asked:.4f} right. {found}: {accuracy:.4f}."
    return {"asked": asked, "is_reached": is_reached, "sentence": sentence}


def _error(outcomes: Outcomes, probabilities: Probabilities) -> dict[str, Any]:
    """The mean over photos of |share of outcomes - mean probability| in their bin, and what chance makes of it."""
    bins = _equal_mass_bins(probabilities)
    random = np.random.default_rng(0)
    simulated = [
        _expected_error(random.random(len(bins)) < probabilities, probabilities, bins) for _ in range(NUM_SIMULATIONS)
    ]
    return {
        "expected_calibration_error": _expected_error(outcomes, probabilities, bins),
        "perfectly_calibrated": {
            "mean": round(float(np.mean(simulated)), DECIMALS),
            "p95": round(float(np.quantile(simulated, 0.95)), DECIMALS),
            "num_simulations": NUM_SIMULATIONS,
        },
    }


def _expected_error(outcomes: npt.NDArray[Any], probabilities: Probabilities, bins: npt.NDArray[np.int64]) -> float:
    return float(np.abs(np.bincount(bins, outcomes - probabilities)).sum() / len(bins))


def _equal_mass_bins(probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """Each photo's bin, 0 to at most 14: fewer when many share one value, which is never divided between bins.

    So the order of the photos changes nothing.
    """
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probabilities), return_inverse=True)[1]


def _row(truth: Outcomes, scores: Probabilities) -> dict[str, float]:
    low, high = wilson_interval(int(truth.sum()), len(truth))
    return {
        "num_images": len(truth),
        "mean_probability": float(scores.mean()),
        "share_of_dogs": float(truth.mean()),
        "share_low": low,
        "share_high": high,
    }
