"""The exam: what was right and wrong on the test side, how sure we can be of it, and the verdict.

Numbers only: pictures are drawn in figures.py, the page is written in page.py. scikit-learn computes what it has;
Wilson's intervals and bins with their counts are ours, because it has neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn_metrics

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import LABELS

THRESHOLD = 0.5
DECISION_RULE = f"{LABELS[1]} if its probability is {THRESHOLD} or more, otherwise {LABELS[0]}"
CONFIDENCE = 0.95
MAX_CURVE_POINTS = 200
NUM_CALIBRATION_BINS = 15
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
    `brier`, `calibration`, `roc_curve`, `pr_curve` and `histogram`.
    """
    is_accepted: bool
    verdict: str
    """One line: each missed target with what was received and asked, or that all are reached."""


def evaluate(labels: Labels, probabilities: npt.NDArray[np.floating[Any]], targets: Targets) -> Evaluation:
    """Examine the answers on the test side and hold them against the targets.

    Args:
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        probabilities: float [N] of dog, 0 to 1.
        targets: what accuracy, and precision and recall of each class, must reach (point estimates).

    Raises:
        InvalidInput: no photos, photos of one class only, or values that are no labels or probabilities.
    """
    truth, scores = _checked(labels, probabilities)
    predicted = (scores >= THRESHOLD).astype(np.uint8)
    metrics = _decisions(truth, predicted) | _rankings(truth, scores) | _curves(truth, scores)
    metrics |= {"calibration": _calibration(truth, scores), "histogram": _histogram(truth, scores)}
    missed = _missed(metrics, targets)
    verdict = f"rejected: {'; '.join(missed)}" if missed else _accepted(metrics, targets)
    return Evaluation(metrics=metrics, is_accepted=not missed, verdict=verdict)


def wilson_interval(num_successes: int, num_trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share, 0 to 1; (0, 1) when nothing was tried.

    It stays inside 0 to 1 and is honest near both ends, where the usual p +- 1.96 deviations is not.
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209-212; formula (4) of L. D. Brown, T. T. Cai and A. DasGupta, "Interval
    estimation for a binomial proportion", Statistical Science 16 (2001), 101-133.
    """
    if num_trials == 0:
        return 0.0, 1.0
    z_squared = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = num_successes / num_trials
    centre = (share + z_squared / (2 * num_trials)) / (1 + z_squared / num_trials)
    half_width = (z_squared * (share * (1 - share) + z_squared / (4 * num_trials)) / num_trials) ** 0.5
    half_width /= 1 + z_squared / num_trials
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def f1_interval(true_positives: int, false_positives: int, false_negatives: int) -> tuple[float, float]:
    """Wilson's interval for F1, through the share that F1 rises with: J = TP / (TP + FP + FN), F1 = 2J / (1 + J).

    The "Wilson indirect" method of K. F. Y. Lam, V. Gopal and J. Qian, "Confidence intervals for the F1 score: a
    comparison of four methods" (2023), arXiv:2309.14621.
    """
    low, high = wilson_interval(true_positives, true_positives + false_positives + false_negatives)
    return 2 * low / (1 + low), 2 * high / (1 + high)


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


def _calibration(truth: Labels, scores: Probabilities) -> dict[str, Any]:
    """How well a probability of dog keeps its word: bins of equal mass, fewer when many photos share one value.

    Equal probabilities always share a bin, so that the order of the photos changes nothing. The expected calibration
    error is the mean over photos of |share of dogs - mean probability| in their bin.
    """
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, NUM_CALIBRATION_BINS + 1)))
    bins = np.searchsorted(edges[1:-1], scores)
    rows = [_bin(truth[bins == number], scores[bins == number]) for number in np.unique(bins)]
    gaps = [row["num_images"] * abs(row["share_of_dogs"] - row["mean_probability"]) for row in rows]
    return {
        "expected_calibration_error": sum(gaps) / len(truth),
        "bins": [{name: round(value, CURVE_DECIMALS) for name, value in row.items()} for row in rows],
    }


def _bin(truth: Labels, scores: Probabilities) -> dict[str, float]:
    low, high = wilson_interval(int(truth.sum()), len(truth))
    return {
        "num_images": len(truth),
        "mean_probability": float(scores.mean()),
        "share_of_dogs": float(truth.mean()),
        "share_low": low,
        "share_high": high,
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
