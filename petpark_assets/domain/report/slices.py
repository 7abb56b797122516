"""Parts of the test side that are looked at by themselves: each class, and thirds by brightness, sharpness and size.

A model may lose on dark photos what it gains on bright ones, and its accuracy says nothing of it.
Not here: what is found on them (metrics.py, comparison.py), or measuring photos (images.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.intervals import wilson_interval

MIN_IMAGES = 200
"""Smaller slices are not looked at: at an accuracy of 0.95 their interval would be wider than 6 points."""

THIRDS: Mapping[str, tuple[str, str, str]] = {
    "brightness": ("dark", "middle", "bright"),
    "sharpness": ("blurred", "middle", "sharp"),
    "size": ("small", "middle", "large"),
}
"""By what is measured, the names of its thirds, lowest first."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some photos of the test side."""

    measure: str
    """`class`, or one of THIRDS."""
    name: str
    low: float | None
    """The smallest value in it; None for a class."""
    high: float | None
    members: npt.NDArray[np.bool_]
    """[N]: which photos of the test side."""


def cut(labels: npt.NDArray[np.uint8], measured: Mapping[str, npt.NDArray[np.float64]]) -> list[Slice]:
    """The slices of a test side that have 200 photos or more.

    Args:
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        measured: by the names of THIRDS, float64 [N]: mean luminance 0 to 1, deviation of the luminance's Laplacian,
            and pixels of the original. Thirds are of these photos; equal values share one, so that none may be left.
    """
    classes = [
        Slice(measure="class", name=label, low=None, high=None, members=labels == index)
        for index, label in enumerate(LABELS)
    ]
    thirds = [part for measure, values in measured.items() for part in _thirds(measure, values)]
    return [part for part in (*classes, *thirds) if part.members.sum() >= MIN_IMAGES]


def _thirds(measure: str, values: npt.NDArray[np.float64]) -> list[Slice]:
    third_of = np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values)
    found = [(name, third_of == number) for number, name in enumerate(THIRDS[measure])]
    return [
        Slice(
            measure=measure, name=name, members=members,
            low=round(float(values[members].min()), 4), high=round(float(values[members].max()), 4),
        )
        for name, members in found
        if members.any()
    ]  # fmt: skip


def describe(slices: Sequence[Slice], is_right: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Each slice with its accuracy and interval; ready for JSON.

    `is_right`: [N], whether the model answered each photo of the test side rightly.
    """
    return [
        {
            "measure": part.measure,
            "name": part.name,
            "low": part.low,
            "high": part.high,
            "num_images": int(part.members.sum()),
            "accuracy": float(is_right[part.members].mean()),
            "accuracy_interval": list(wilson_interval(int(is_right[part.members].sum()), int(part.members.sum()))),
        }
        for part in slices
    ]
