"""The independent check over all versions: is any photo of a test side a copy of one of a train side?

By pixels, with none of the grouping's rules (lake/leakage.py). A photo's side is for ever, so one search over all that
were ever accepted answers for every version, and also for a model that is examined on a later version than its own.
Not here: the same for one version, on the copies that its training reads anyway (checks/splits.py).
"""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import images
from petpark_assets.domain.errors import CorruptData, PermanentError
from petpark_assets.domain.files import named_disk_errors
from petpark_assets.domain.home import Home
from petpark_assets.domain.images import Pixels
from petpark_assets.domain.lake.leakage import find_leaks
from petpark_assets.domain.workflow.invariants import SIDES, Finding, pair

CLAIM = "no_leak_by_another_signature"
DRAWN_PX = 64
"""Where nothing is stored at any resolution."""
_BATCH = 2048


def check_sides(home: Home, members: pa.Table) -> tuple[list[Finding], list[Finding]]:
    """Copies across the sides among members (invariants.MEMBER), and suspects, the most alike first.

    Photos without pixels that can be read, at the resolution that most have, are drawn from their originals; where that
    fails too, they are taken for blank, which is a copy of nothing, and other claims name them.
    """
    train, test = (members.filter(pc.equal(members["split"], side)).sort_by("sha256") for side in SIDES)
    if not train.num_rows or not test.num_rows:
        return [], []
    resolution_px = _widest_resolution(home, members["sha256"].to_pylist())
    with named_disk_errors(home.cache):
        home.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.cache, prefix="leak-check-") as folder:
            sides = [
                _copy(home, rows["sha256"].to_pylist(), resolution_px, Path(folder) / f"{name}.npy")
                for name, rows in zip(SIDES, (train, test), strict=True)
            ]
            leaks = find_leaks(*sides)
    verified = [
        pair(CLAIM, train, test, places, "verified as copies of one photo") for places in leaks.verified.tolist()
    ]
    suspects = [
        pair(CLAIM, train, test, places, f"alike by {1 - distance:.3f}, too little to be sure")
        for places, distance in zip(leaks.suspects.tolist(), leaks.suspect_distances.tolist(), strict=True)
    ]
    return verified, suspects


def _widest_resolution(home: Home, sha256s: Sequence[str]) -> int:
    """The resolution at which most of the photos are stored, the lowest of several."""
    missing = {side: len(_missing(home, sha256s, side)) for side in home.pixels.resolutions()}
    return min(missing, key=lambda side: (missing[side], side), default=DRAWN_PX)


def _copy(home: Home, sha256s: Sequence[str], resolution_px: int, path: Path) -> Pixels:
    """Pixels uint8 [N, R, R, 3] in the order given, in a file of their own, memory-mapped."""
    absent = set(_missing(home, sha256s, resolution_px))
    with path.open("wb") as file:
        shape = (len(sha256s), resolution_px, resolution_px, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(sha256s), _BATCH):
            part = sha256s[start : start + _BATCH]
            pixels = np.zeros((len(part), *shape[1:]), np.uint8)
            is_stored = np.array([sha256 not in absent for sha256 in part])
            try:
                pixels[is_stored] = home.pixels.read([sha256 for sha256 in part if sha256 not in absent], resolution_px)
            except CorruptData:
                is_stored[:] = False
            with contextlib.suppress(CorruptData):  # of the table of originals: the rest stays blank
                _draw(home, part, pixels, np.flatnonzero(~is_stored).tolist())
            file.write(pixels.data)
    mapped: Pixels = np.load(path, mmap_mode="r")
    return mapped


def _missing(home: Home, sha256s: Sequence[str], resolution_px: int) -> list[str]:
    """All of them where a table cannot be read, which `pixels_are_there` says."""
    try:
        return home.pixels.missing(sha256s, resolution_px)
    except CorruptData:
        return list(sha256s)


def _draw(home: Home, sha256s: Sequence[str], pixels: Pixels, places: Sequence[int]) -> None:
    """Those at some places, from their originals. Raises CorruptData."""
    wanted = {sha256s[place]: place for place in places}
    for sha256, data in home.originals.find(list(wanted)):
        pixels[wanted[sha256]] = _drawn(home, sha256, data, pixels.shape[1])


def _drawn(home: Home, sha256: str, data: bytes | None, resolution_px: int) -> Pixels:
    try:
        return images.resize(images.decode(home.originals.verified(sha256, data)), resolution_px)
    except PermanentError:  # gone or damaged, which `originals_are_whole` and `pixels_are_there` say
        return np.zeros((resolution_px, resolution_px, 3), np.uint8)
