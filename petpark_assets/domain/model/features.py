"""Feature engineering and scaling: the statistics of the train side, from what ingestion measured photo by photo.

No pixel is read again, and no number of the test side is looked at.
Not here: how augmentation is carried out (augmentation.py), or the measuring (images.py).
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files, splits
from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.records import FeatureScaling, TrainSplit

AUGMENTATION: Mapping[str, str] = MappingProxyType({
    "crop": "a random part of the photo, of at least crop_scale_min of its area, somewhat wider or narrower",
    "flip": "left and right exchanged, in half of the photos",
    "colour": "brightness, contrast and saturation multiplied by up to 1 more or less colour_jitter; 0: as they are",
    "hide": "in half of the crops a rectangle of up to hidden_share_max of its area is grey; 0: none",
    "resolution": "crops grow from first_resolution_share to last_resolution_share of the full resolution",
})  # fmt: skip
"""What training does to photos of the train side, never to others; strengths are hyperparameters."""

MIN_DEVIATION = 1 / 255
"""One level: photos of a single colour must not be divided by zero."""

_QUANTILES = MappingProxyType({"p05": 0.05, "p50": 0.5, "p95": 0.95})


def feature_scaling(train_split: TrainSplit, manifest: pa.Table, attempt: str) -> FeatureScaling:
    """The statistics of a train side, from its version's manifest. Raises CorruptData on another train side."""
    photos = manifest.filter(pc.equal(manifest["split"], "train")).sort_by("sha256")
    if splits.members_digest(photos) != train_split.members:
        raise CorruptData(
            f"the manifest of {train_split.dataset_version} has not the train side that was recorded "
            f"({train_split.members[:12]}…): restore the manifest, or build a new dataset version"
        )
    means = _channel_averages(photos["channel_means"])
    squares = _channel_averages(photos["channel_squares"])
    return FeatureScaling(
        dataset_version=train_split.dataset_version,
        attempt=attempt,
        train_split=files.digest(train_split),
        channel_means=means,
        channel_deviations=_deviations(means, squares),
        brightness=_quantiles(photos["brightness"]),
        sharpness=_quantiles(photos["sharpness"]),
        augmentation=dict(AUGMENTATION),
    )


def preprocessing(scaling: FeatureScaling, resolution_px: int) -> Preprocessing:
    """What travels with the weights: the train side's channel statistics at the recipe's resolution."""
    return Preprocessing(
        resolution_px=resolution_px,
        channel_means=scaling.channel_means,
        channel_deviations=scaling.channel_deviations,
    )


def _channel_averages(column: pa.ChunkedArray) -> tuple[float, float, float]:
    """Over photos that count alike; exact sums, so that every machine records the same digits."""
    by_photo = np.array(column.to_pylist(), dtype=np.float64).reshape(-1, 3)
    red, green, blue = (math.fsum(channel) / len(by_photo) for channel in by_photo.T)
    return red, green, blue


def _deviations(means: tuple[float, float, float], squares: tuple[float, float, float]) -> tuple[float, float, float]:
    pairs = zip(means, squares, strict=True)
    red, green, blue = (math.sqrt(max(square - mean**2, MIN_DEVIATION**2)) for mean, square in pairs)
    return red, green, blue


def _quantiles(column: pa.ChunkedArray) -> dict[str, float]:
    values: npt.NDArray[np.float64] = np.asarray(column.to_pylist(), dtype=np.float64)
    return {name: float(np.quantile(values, share)) for name, share in _QUANTILES.items()}
