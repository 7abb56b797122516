"""What grouping is measured on, as files in a folder: signatures and pixels of photos, of their copies, of mosaics.

    luminance.npy, pixels.npy                       of the photos
    signatures of ORIGINAL or an alteration.npy     of the photos, and of their copies in the same order
    planted ALTERATION.npy                          pixels of the copies of every PLANTED_STEP-th photo
    distinct.npy, copies.npy, frames.npy            signatures of the three sets of 100,000
    mosaics.npy                                     pixels of the first of them, in another order

Not here: what is measured on them (grouping.py), mosaics as files of their own (mosaics.py).
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from petpark_assets.domain import images
from petpark_assets.domain.lake.signatures import SIGNATURE_BYTES, signatures
from petpark_assets.domain.resizing import resize
from petpark_assets_tests.benchmarks.alterations import MIXED, SIX
from petpark_assets_tests.benchmarks.mosaics import POOL, SHIFTS

ORIGINAL = "original"
COPIES = ("JPEG quality 40", "resized to 75 %", "brightness x 1.2", "mirrored", "cropped 3 % a side")
"""The five of the worst case."""
PLANTED_STEP = 5
CHECKED_PX = 96
NUM_PHOTOS = 100_000


def draw(paths: Sequence[Path], folder: Path) -> None:
    """Signatures and pixels of the photos and of all their copies, as files in a folder."""
    planted = len(range(0, len(paths), PLANTED_STEP))
    _new_file(folder / "luminance.npy", (len(paths), 64, 64))
    _new_file(folder / "pixels.npy", (len(paths), CHECKED_PX, CHECKED_PX, 3))
    for name in (ORIGINAL, *SIX, *MIXED):
        _new_file(signatures_of(folder, name), (len(paths), SIGNATURE_BYTES))
    for name in SIX:
        _new_file(planted_of(folder, name), (planted, CHECKED_PX, CHECKED_PX, 3))
    with ProcessPoolExecutor() as pool:
        step = 50 * PLANTED_STEP
        jobs = [(start, paths[start : start + step], folder) for start in range(0, len(paths), step)]
        for number, _ in enumerate(pool.map(_draw_part, jobs), start=1):
            say(f"altered {min(number * step, len(paths))} of {len(paths)} photos")


def _draw_part(job: tuple[int, Sequence[Path], Path]) -> None:
    start, paths, folder = job
    rows = slice(start, start + len(paths))
    photos = [Image.fromarray(images.decode(path.read_bytes())) for path in paths]
    luminance = _luminance([np.asarray(photo) for photo in photos])
    _write(folder / "luminance.npy", rows, luminance)
    _write(folder / "pixels.npy", rows, np.stack([resize(np.asarray(photo), CHECKED_PX) for photo in photos]))
    _write(signatures_of(folder, ORIGINAL), rows, signatures(luminance))
    for name, alter in {**SIX, **MIXED}.items():
        copies = [images.decode(alter(photo)) for photo in photos]
        _write(signatures_of(folder, name), rows, signatures(_luminance(copies)))
        if name in SIX:
            planted = np.stack([resize(copy, CHECKED_PX) for copy in copies[::PLANTED_STEP]])
            first = start // PLANTED_STEP
            _write(planted_of(folder, name), slice(first, first + len(planted)), planted)


def _luminance(photos: Sequence[images.Pixels]) -> np.ndarray:
    return images.luminance(np.stack([images.thumbnail(photo) for photo in photos]))


def draw_sets(folder: Path) -> int:
    """The sets whose grouping is timed, and pixels for the independent check; returns how large they could be made."""
    luminance, pixels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("luminance", "pixels"))
    count = min(NUM_PHOTOS, len(luminance) // POOL * POOL * len(SHIFTS))
    numbers = np.random.default_rng(0).permutation(count)
    mosaics = np.empty((count, *luminance.shape[1:]), np.uint8)
    _mix(luminance, mosaics)
    np.save(folder / "distinct.npy", signatures(mosaics)[numbers])
    copies = [np.load(signatures_of(folder, name))[: count // len(COPIES)] for name in COPIES]
    np.save(folder / "copies.npy", np.concatenate(copies)[numbers])
    np.save(folder / "frames.npy", _frames(luminance[0], count))
    _mix(pixels, np.lib.format.open_memmap(folder / "mosaics.npy", "w+", np.uint8, (count, *pixels.shape[1:])))
    return count


def _mix(squares: np.ndarray, mosaics: np.ndarray) -> None:
    """Fill [count, R, R, ...] with quarters of four different ones of [N, R, R, ...], as mosaics.draw_mosaics does."""
    half = squares.shape[1] // 2
    upper, lower = slice(half), slice(half, None)
    quarters = ((upper, upper), (upper, lower), (lower, upper), (lower, lower))
    starts = [start for start in range(0, len(mosaics) // len(SHIFTS), POOL) for _ in SHIFTS]
    for number, (start, shifts) in enumerate(zip(starts, SHIFTS * len(starts), strict=False)):
        part, pool = mosaics[number * POOL : (number + 1) * POOL], np.asarray(squares[start : start + POOL])
        for shift, (rows, columns) in zip((0, *shifts), quarters, strict=True):
            part[:, rows, columns] = pool[(np.arange(POOL) + shift) % POOL][:, rows, columns]


def _frames(scene: np.ndarray, count: int) -> np.ndarray:
    """Signatures of one scene in the noise of a sensor."""
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(0, count, POOL):
        noisy = scene + rng.standard_normal((POOL, *scene.shape), dtype=np.float32) * 2
        parts.append(signatures(noisy.clip(0, 255).astype(np.uint8)))
    return np.concatenate(parts)[:count]


def signatures_of(folder: Path, name: str) -> Path:
    """A file of the folder."""
    return folder / f"signatures of {name.replace('/', '-')}.npy"


def planted_of(folder: Path, name: str) -> Path:
    """A file of the folder."""
    return folder / f"planted {name.replace('/', '-')}.npy"


def _new_file(path: Path, shape: tuple[int, ...]) -> None:
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()


def _write(path: Path, rows: slice, values: np.ndarray) -> None:
    file = np.lib.format.open_memmap(path, "r+")
    file[rows] = values
    file.flush()


def say(line: str) -> None:
    """Tell a person how far it is."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
