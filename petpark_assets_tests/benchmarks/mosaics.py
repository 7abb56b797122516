"""As many distinct photos as wanted out of some thousand: mosaics of quarters of four different ones.

No two mosaics share more than one quarter, so none is a near-duplicate of another, and every one costs as much to
decode as a photo of its size. Not here: what they are for (ingestion.py).
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_PX = 200
QUALITY = 90
POOL = 2000
"""Photos whose quarters are mixed with each other: they are in memory at once, 240 MB."""
SHIFTS = ((1, 2, 4), (8, 16, 32), (64, 128, 256), (512, 1024, 96), (520, 1200, 1700))
"""How far away the partners of a photo are, for its top right, bottom left and bottom right quarter. By no shift do two
mosaics get two quarters of the same photos: differences of shifts are all different."""


def draw_mosaics(photos: Path, folder: Path, count: int) -> None:
    """Write `count` mosaics as JPEGs into cat/ and dog/, by the label of the photo at the top left."""
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True, exist_ok=True)
    paths = sorted(photos.glob("cat/*.jpg")) + sorted(photos.glob("dog/*.jpg"))
    paths = [path for pair in zip(paths[: len(paths) // 2], paths[len(paths) // 2 :], strict=False) for path in pair]
    numbers = itertools.islice(_numbered(paths), count)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for pool_of_photos, jobs in itertools.groupby(numbers, key=lambda job: job[0]):
            pixels = np.stack(list(pool.map(_open, paths[pool_of_photos : pool_of_photos + POOL])))
            list(pool.map(lambda job, pixels=pixels: _write(job, paths, pixels, folder), jobs))


def _numbered(paths: Sequence[Path]) -> Iterator[tuple[int, int, int]]:
    """First photo of the pool, photo in it, shift."""
    for start in range(0, len(paths) - POOL + 1, POOL):
        for shift, place in itertools.product(range(len(SHIFTS)), range(POOL)):
            yield start, place, shift


def _open(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize((SIDE_PX, SIDE_PX)))


def _write(job: tuple[int, int, int], paths: Sequence[Path], pixels: np.ndarray, folder: Path) -> None:
    start, place, shift = job
    right, below, across = ((place + distance) % POOL for distance in SHIFTS[shift])
    half = SIDE_PX // 2
    mosaic = pixels[place].copy()
    mosaic[:half, half:] = pixels[right][:half, half:]
    mosaic[half:, :half] = pixels[below][half:, :half]
    mosaic[half:, half:] = pixels[across][half:, half:]
    label = paths[start + place].parent.name
    Image.fromarray(mosaic).save(folder / label / f"{start + place}-{shift}.jpg", quality=QUALITY)
