"""A model against the champion on the same photos: is it worse than what answers today, on the whole or on any slice?

Two accuracies of one test side are counted on the same photos, so only the photos that one of the two gets right and
the other wrong can tell them apart: McNemar's test. Where several slices are asked at once, Holm's step-down procedure
keeps the chance of refusing a model that is worse on none of them below ALPHA.
Not here: who the champion is, or its answers (workflow/champion.py); the slices (slices.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.report.metrics import THRESHOLD, Evaluation
from petpark_assets.domain.report.slices import Slice

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Champion:
    """Whom a model is compared with."""

    model_version: int
    package: str
    """The package's digest: sha256 of its SHA256SUMS."""
    trained_cnn: str
    """Digest of its network's record."""
    dataset_version: str
    """Of the photos that it learned from."""
    attempt: str


def compare(
    labels: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.floating[Any]],
    champion_probabilities: npt.NDArray[np.floating[Any]],
    slices: Sequence[Slice],
    champion: Champion,
) -> dict[str, Any]:
    """Both models' answers on the whole test side and on each slice; ready for JSON.

    Args:
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        probabilities: float [N] of dog, 0 to 1, by the model.
        champion_probabilities: float [N] of dog, 0 to 1, by the champion, of the same photos.
        slices: of the same photos.
        champion: who that is.

    Returns:
        `champion`, `alpha`; of the whole `num_images`, `accuracy`, `champion_accuracy`, `num_worse` (photos that the
        champion alone got right), `num_better` (the model alone), `p_worse` and `p_better` (McNemar, one-sided: how
        likely as many or more by chance); `slices`: each `measure`, `name`, all of the above, `p_worse_adjusted`
        (Holm) and `is_worse`. The whole is told, slices decide.
    """
    is_right = (probabilities >= THRESHOLD) == labels
    was_right = (champion_probabilities >= THRESHOLD) == labels
    rows = [
        {"measure": part.measure, "name": part.name, **_counts(is_right[part.members], was_right[part.members])}
        for part in slices
    ]
    adjusted = holm([row["p_worse"] for row in rows])
    return {
        "champion": vars(champion),
        "alpha": ALPHA,
        **_counts(is_right, was_right),
        "slices": [
            {**row, "p_worse_adjusted": p_value, "is_worse": p_value <= ALPHA}
            for row, p_value in zip(rows, adjusted, strict=True)
        ],
    }


def judged(evaluation: Evaluation, comparison: Mapping[str, Any]) -> Evaluation:
    """The exam with the comparison: a model that is significantly worse than the champion on a slice is rejected.

    The verdict stays one line, and names each such slice.
    """
    worse = [_refusal(row, comparison["champion"]) for row in comparison["slices"] if row["is_worse"]]
    if not worse:
        return replace(evaluation, comparison=comparison)
    before = [] if evaluation.is_accepted else [evaluation.verdict.removeprefix("rejected: ")]
    verdict = f"rejected: {'; '.join([*before, *worse])}"
    return replace(evaluation, comparison=comparison, is_accepted=False, verdict=verdict)


def mcnemar(num_worse: int, num_better: int) -> float:
    """How likely so many of the discordant photos, or more, go against the model if both are equally good: 0 to 1.

    The exact, one-sided form: a binomial's upper tail with share 1/2. Q. McNemar, "Note on the sampling error of the
    difference between correlated proportions or percentages", Psychometrika 12 (1947), 153-157.
    """
    num = num_worse + num_better
    tail, term = 0, math.comb(num, num_worse)
    for number in range(num_worse, num + 1):
        tail += term
        term = term * (num - number) // (number + 1)
    return float(tail / 2**num)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order: those of at most alpha may be rejected together, with alpha's error.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70.
    """
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def sentence(comparison: Mapping[str, Any] | None) -> str:
    """The whole comparison in one line for people."""
    if comparison is None:
        return "There was no champion to compare with."
    version = comparison["champion"]["model_version"]
    told = f"accuracy {comparison['accuracy']:.4f}, champion (version {version}) {comparison['champion_accuracy']:.4f}"
    alone = f"{comparison['num_better']} photos right by this model alone, {comparison['num_worse']} by the champion"
    return f"{_size(comparison)}: {told}; {alone} alone."


def is_clearly_better(comparison: Mapping[str, Any] | None, champion_package: str) -> tuple[bool, str]:
    """Whether a model may succeed the champion of this package without a person, and why or why not, in one line.

    It may when McNemar's one-sided test says so at ALPHA, on the same photos, of this very champion: a comparison with
    another one, who reigned when the exam was held, says nothing of it.
    """
    if comparison is None or comparison["champion"]["package"] != champion_package:
        return False, "its exam did not compare it with the champion of today"
    return comparison["p_better"] <= comparison["alpha"], sentence(comparison).rstrip(".")


def _size(comparison: Mapping[str, Any]) -> str:
    for name, p_value in (("worse", comparison["p_worse"]), ("better", comparison["p_better"])):
        if p_value <= comparison["alpha"]:
            return f"Significantly {name} than the champion on the same photos (one-sided p {p_value:.2g})"
    return "Not significantly better or worse than the champion on the same photos"


def _counts(is_right: npt.NDArray[np.bool_], was_right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    num_worse, num_better = int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum())
    return {
        "num_images": len(is_right),
        "accuracy": float(is_right.mean()),
        "champion_accuracy": float(was_right.mean()),
        "num_worse": num_worse,
        "num_better": num_better,
        "p_worse": mcnemar(num_worse, num_better),
        "p_better": mcnemar(num_better, num_worse),
    }


def _refusal(row: Mapping[str, Any], champion: Mapping[str, Any]) -> str:
    slice_name = f"{row['measure']} {row['name']}"
    accuracies = f"accuracy {row['accuracy']:.4f} against {row['champion_accuracy']:.4f}"
    return (
        f"significantly worse than the champion (version {champion['model_version']}) on {slice_name}: {accuracies} on "
        f"{row['num_images']} photos, p {row['p_worse_adjusted']:.2g} (McNemar, Holm)"
    )
