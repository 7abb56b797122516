"""Toy photos for the rooms that tell copies from other photos: drawings, their altered copies, and real ones.

Not here: the alterations themselves (benchmarks/alterations.py).
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from petpark_assets.domain import images
from petpark_assets.domain.lake.drawn import draw_one
from petpark_assets.domain.lake.signatures import Luminance, Signatures, signatures
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.resizing import resize


@functools.cache
def drawings(count: int, seed: int = 0) -> tuple[Image.Image, ...]:
    """Distinct drawings, cats and dogs in turn."""
    return tuple(draw_one(np.random.default_rng([seed, number]), LABELS[number % 2]) for number in range(count))


def real_photos(folder: Path, count: int) -> list[Image.Image]:
    """The first photos of a folder, some of each class."""
    paths = [path for label in LABELS for path in sorted(folder.glob(f"{label}/*.jpg"))[: count // 2]]
    return [Image.open(path).convert("RGB") for path in paths]


def pixels_of(pictures: Sequence[bytes | Image.Image], side_px: int) -> images.Pixels:
    """uint8 [N, R, R, 3], as ingestion draws them."""
    decoded = (images.decode(one) if isinstance(one, bytes) else np.asarray(one) for one in pictures)
    return np.stack([resize(pixels, side_px) for pixels in decoded])


def luminance_of(pictures: Sequence[bytes | Image.Image]) -> Luminance:
    """uint8 [N, 64, 64]."""
    return images.luminance(pixels_of(pictures, images.THUMBNAIL_PX))


def signatures_of(pictures: Sequence[bytes | Image.Image]) -> Signatures:
    """uint8 [N, SIGNATURE_BYTES]."""
    return signatures(luminance_of(pictures))
