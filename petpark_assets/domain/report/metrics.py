"""The exam: what was right and wrong on the test side, how sure we can be of it, and the verdict.

Numbers only, and scikit-learn computes what it has. Not here: intervals (intervals.py), calibration (calibration.py),
the slices (slices.py), the champion (comparison.py), pictures (figures.py), the page (page.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn_metrics

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.calibration import calibration
from petpark_assets.domain.report.intervals import CONFIDENCE, f1_interval, wilson_interval
from petpark_assets.domain.report.slices import Slice, describe

THRESHOLD = 0.5
DECISION_RULE = f"{LABELS[1]} if its probability is {THRESHOLD} or more, otherwise {LABELS[0]}"
MAX_CURVE_POINTS = 200
NUM_HISTOGRAM_BINS = 20
CURVE_DECIMALS = 6

Labels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the exam gave."""

    metrics: Mapping[str, Any]
    """Ready for JSON, without NaN; every share and every interval's end is 0 to 1.

    `decision_rule`, `threshold`, `num_images`; `accuracy`, `accuracy_interval`; `precision`, `recall`: means of the
    two classes'; `by_class`: for cat and dog `num_images`, `precision`, `recall`, `f1`, each with `..._interval`,
    `true_positives`, `false_positives`, `true_negatives`, `false_negatives`; `confusion`: rows true, columns
    predicted, in the order of `labels`; with dog as the positive class `roc_auc`, `average_precision`, `log_loss`,
    `brier`, `calibration` (calibration.calibration), `roc_curve`, `pr_curve` and `histogram`; `abstention`: None, or
    `unknown_below`, and `coverage` and `accuracy` of the photos that are answered; `slices` (slices.describe).
    Everything but `abstention` counts every photo, whatever its probability.
    """
    is_accepted: bool
    verdict: str
    """One line: each missed target with what was received and asked, or that all are reached."""
    comparison: Mapping[str, Any] | None = None
    """With the champion (comparison.judged); None: there was none."""


def evaluate(
    labels: Labels,
    probabilities: npt.NDArray[np.floating[Any]],
    targets: Targets,
    *,
    unknown_below: float | None = None,
    slices: Sequence[Slice] = (),
) -> Evaluation:
    """Examine the answers on the test side and hold them against the targets.

    Args:
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        probabilities: float [N] of dog, 0 to 1.
        targets: what accuracy, and precision and recall of each class, must reach (point estimates).
        unknown_below: answers of lower probability (0.5 to 1) count as unknown; None: none does.
        slices: parts of the same photos that are also looked at by themselves.

    Raises:
        InvalidInput: no photos, photos of one class only, or values that are no labels or probabilities.
    """
    truth, scores = _checked(labels, probabilities)
    predicted = (scores >= THRESHOLD).astype(np.uint8)
    metrics = _decisions(truth, predicted) | _rankings(truth, scores) | _curves(truth, scores)
    is_right = predicted == truth
    metrics |= {"calibration": calibration(truth, scores), "histogram": _histogram(truth, scores)}
    metrics |= {"abstention": _abstention(is_right, scores, unknown_below), "slices": describe(slices, is_right)}
    missed = _missed(metrics, targets)
    verdict = f"rejected: {'; '.join(missed)}" if missed else _accepted(metrics, targets)
    return Evaluation(metrics=metrics, is_accepted=not missed, verdict=verdict)


def _checked(labels: Labels, probabilities: npt.NDArray[np.floating[Any]]) -> tuple[Labels, Probabilities]:
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape:
        raise InvalidInput(f"labels {truth.shape} and probabilities {scores.shape} must be two lists of one length")
    if not len(truth):
        raise InvalidInput("the test side is empty: a model cannot be tested without photos; add photos to the lake")
    if not np.isin(truth, (0, 1)).all():
        raise InvalidInput(f"labels hold {sorted(set(truth.tolist()) - {0, 1})[:3]}: 0 is cat, 1 is dog, no other")
    if len(np.unique(truth)) == 1:
        raise InvalidInput(
            f"the test side's {len(truth)} photos are all of {LABELS[int(truth[0])]}: both classes are needed; "
            "add photos of the other to the lake"
        )
    unfit = int((~((scores >= 0) & (scores <= 1))).sum())  # a NaN is neither
    if unfit:
        raise InvalidInput(f"{unfit} of {len(scores)} probabilities are not from 0 to 1: train the network again")
    return truth.astype(np.uint8), scores


def _decisions(truth: Labels, predicted: Labels) -> dict[str, Any]:
    """What counts right and wrong answers; a class that is never predicted has precision 0, not NaN."""
    confusion = sklearn_metrics.confusion_matrix(truth, predicted, labels=[0, 1])
    precision, recall, f1, num_images = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=[0, 1], zero_division=0.0
    )
    by_class = {
        label: _class_counts(confusion, index)
        | {"num_images": int(num_images[index])}
        | {"precision": float(precision[index]), "recall": float(recall[index]), "f1": float(f1[index])}
        for index, label in enumerate(LABELS)
    }
    return {
        "decision_rule": DECISION_RULE,
        "threshold": THRESHOLD,
        "confidence": CONFIDENCE,
        "labels": list(LABELS),
        "num_images": len(truth),
        "accuracy": float(sklearn_metrics.accuracy_score(truth, predicted)),
        "accuracy_interval": list(wilson_interval(int(np.trace(confusion)), len(truth))),
        "precision": float(np.mean(precision)),
        "recall": float(np.mean(recall)),
        "by_class": by_class,
        "confusion": confusion.tolist(),
    }


def _class_counts(confusion: npt.NDArray[np.int64], index: int) -> dict[str, Any]:
    """Counts and intervals of one class against the other, taking it as the positive one."""
    true_positives, true_negatives = int(confusion[index, index]), int(confusion[1 - index, 1 - index])
    false_positives, false_negatives = int(confusion[1 - index, index]), int(confusion[index, 1 - index])
    return {
        "true_positives": true_positives,
        "false_positives": false_positives,
        "true_negatives": true_negatives,
        "false_negatives": false_negatives,
        "precision_interval": list(wilson_interval(true_positives, true_positives + false_positives)),
        "recall_interval": list(wilson_interval(true_positives, true_positives + false_negatives)),
        "f1_interval": list(f1_interval(true_positives, false_positives, false_negatives)),
    }


def _rankings(truth: Labels, scores: Probabilities) -> dict[str, Any]:
    """What needs no threshold. A wrong answer of probability 0 costs log_loss 36, not infinity (float64's clip)."""
    return {
        "roc_auc": float(sklearn_metrics.roc_auc_score(truth, scores)),
        "average_precision": float(sklearn_metrics.average_precision_score(truth, scores)),
        "log_loss": float(sklearn_metrics.log_loss(truth, scores, labels=[0, 1])),
        "brier": float(sklearn_metrics.brier_score_loss(truth, scores)),
    }


def _curves(truth: Labels, scores: Probabilities) -> dict[str, Any]:
    false_positive_rate, true_positive_rate, _ = sklearn_metrics.roc_curve(truth, scores)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, scores, drop_intermediate=True)
    return {
        "roc_curve": {
            "false_positive_rate": _thinned(false_positive_rate),
            "true_positive_rate": _thinned(true_positive_rate),
        },
        "pr_curve": {"recall": _thinned(recall), "precision": _thinned(precision)},
    }


def _thinned(points: Probabilities) -> list[float]:
    """At most MAX_CURVE_POINTS of a curve's points, both ends kept; by place, so that x and y stay pairs."""
    num_points = min(len(points), MAX_CURVE_POINTS)
    kept = np.linspace(0, len(points) - 1, num_points).round().astype(int)
    return [round(float(point), CURVE_DECIMALS) for point in points[kept]]


def _abstention(
    is_right: npt.NDArray[np.bool_], scores: Probabilities, unknown_below: float | None
) -> dict[str, Any] | None:
    """How many photos are answered when the others count as unknown, and how many of those rightly."""
    if unknown_below is None:
        return None
    answered = is_right[np.maximum(scores, 1 - scores) >= unknown_below]
    return {
        "unknown_below": unknown_below,
        "num_answered": len(answered),
        "coverage": len(answered) / len(is_right),
        "accuracy": float(answered.mean()) if len(answered) else None,
        "accuracy_interval": list(wilson_interval(int(answered.sum()), len(answered))),
    }


def _histogram(truth: Labels, scores: Probabilities) -> dict[str, Any]:
    """Photos by probability of dog, for each true class."""
    edges = np.linspace(0, 1, NUM_HISTOGRAM_BINS + 1)
    counts = {label: np.histogram(scores[truth == i], edges)[0].tolist() for i, label in enumerate(LABELS)}
    return {"edges": [round(float(edge), CURVE_DECIMALS) for edge in edges], "num_images": counts}


def gated(metrics: Mapping[str, Any], targets: Targets) -> list[tuple[str, float, tuple[float, float], float]]:
    """The numbers that decide: name, value, its interval and what is asked, accuracy first."""
    rows = [("accuracy", metrics["accuracy"], tuple(metrics["accuracy_interval"]), targets.accuracy)]
    for name, target in (("precision", targets.precision), ("recall", targets.recall)):
        for label in LABELS:
            numbers = metrics["by_class"][label]
            rows.append((f"{name} of {label}", numbers[name], tuple(numbers[f"{name}_interval"]), target))
    return rows


def _missed(metrics: Mapping[str, Any], targets: Targets) -> list[str]:
    return [
        f"{name} {_below(value, target)} is below its target {target}"
        for name, value, _, target in gated(metrics, targets)
        if value < target
    ]


def _below(value: float, target: float) -> str:
    """Four decimals, or all where those would look as if the target were reached (0.96997 of 0.97)."""
    return f"{value:.4f}" if round(value, 4) < target else repr(value)


def _accepted(metrics: Mapping[str, Any], targets: Targets) -> str:
    reached = [f"{name} {value:.4f} (target {target})" for name, value, _, target in gated(metrics, targets)]
    return f"accepted: every target is reached: {'; '.join(reached)}"
