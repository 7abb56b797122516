"""Which photos are copies of each other: re-encoded, resized, brightened, mirrored or slightly cropped.

Photos that share a key (candidates.py) are compared: the spectrum of some view of one must point where that of the
other, or of its mirror image, does.
Not here: what becomes of the copies (groups.py).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.lake.candidates import (
    CHUNK,
    VIEWS,
    Candidates,
    KeyTable,
    Rows,
    find_candidates,
    key_tables,
    view_keys,
)
from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.lake.signatures import Part, Signatures, Spectra, View, mirror_signs, seen, spectra

Pairs = npt.NDArray[np.int32]
"""int32 [M, 2]."""

COMPARED: Part = (25, 123)
"""Frequencies above 5 and below 13 half periods. Lower ones tell little: black cats on a sofa share them, and drawings
on one background. Higher ones do not survive a crop."""
MIN_LIKENESS = 0.85
"""Cosine between faded views."""
_CHUNK = 8192
"""Pairs compared at a time."""


def near_duplicates(signatures: Signatures, is_new: npt.NDArray[np.bool_]) -> Pairs:
    """Verified pairs of rows of uint8 [N, SIGNATURE_BYTES] with at least one new: i < j, sorted, each once.

    They link the same photos whatever the order of the rows. Flat photos have no likeness: those of equal mean
    luminance are one family. Of a large family not every pair is given, but enough to link it.
    """
    rows = _by_content(signatures)
    is_flat = ~signatures[rows, :-1].any(axis=1)
    flat, other = rows[is_flat], rows[~is_flat]
    found = [flat[_alike_flats(signatures[flat, -1], is_new[flat])]]
    found += [other[part] for part in _alike_spectra(signatures[other], is_new[other])]
    pairs = np.sort(np.concatenate(found), axis=1)
    codes = np.unique(pairs[:, 0] << 32 | pairs[:, 1])  # far faster than unique rows
    return np.stack([codes >> 32, codes & (2**32 - 1)], axis=1).astype(np.int32)


def _by_content(signatures: Signatures) -> Rows:
    """Rows in an order that depends on the signatures alone: by their 64-bit FNV-1a hash."""
    mixed = np.full(len(signatures), 0xCBF29CE484222325, np.uint64)
    for column in signatures.T:
        mixed = (mixed ^ column) * np.uint64(0x100000001B3)
    return np.argsort(mixed, kind="stable")


def _alike_flats(levels: npt.NDArray[np.uint8], is_new: npt.NDArray[np.bool_]) -> Rows:
    """Of each mean luminance all photos paired with the first, and the new ones with the first known one."""
    found = [np.empty((0, 2), np.int64)]
    for level in np.unique(levels):
        alike = np.flatnonzero(levels == level)
        for hub in (alike[0], *alike[~is_new[alike]][:1]):
            others = alike[(alike != hub) & (is_new[alike] | is_new[hub])]
            found.append(np.stack([np.full_like(others, hub), others], axis=1))
    return np.concatenate(found)


def _alike_spectra(signatures: Signatures, is_new: npt.NDArray[np.bool_]) -> Iterator[Rows]:
    """Pairs [M, 2], some in both directions: every view of one photo against the whole other."""
    keys = view_keys(signatures)
    everybody, new, known = np.arange(len(signatures)), np.flatnonzero(is_new), np.flatnonzero(~is_new)
    for viewed, whole in ((everybody, new), (new, known)):
        if not len(viewed) or not len(whole):
            continue
        tables = key_tables(signatures, keys, viewed, whole)

        def alike(part: Rows, tables: Sequence[KeyTable] = tables) -> Rows:
            candidates = find_candidates(signatures, keys, tables, part)
            starts = range(0, len(candidates.viewed), _CHUNK)
            found = [_verified(signatures, candidates.part(start, start + _CHUNK)) for start in starts]
            return np.concatenate([np.empty((0, 2), np.int64), *found])

        yield from map_in_threads(alike, [whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK)])


def _verified(signatures: Signatures, candidates: Candidates) -> Rows:
    """The pairs [M, 2] that are alike."""
    photos, places = np.unique(candidates.viewed, return_inverse=True)
    spectrum, wholes = spectra(signatures[photos]), spectra(signatures[candidates.whole])
    wholes[candidates.is_mirrored] *= mirror_signs()
    wanted = seen(wholes, View(), COMPARED, is_faded=True)
    is_alike = np.zeros(len(wanted), np.bool_)
    for view in VIEWS:
        rest = np.flatnonzero(~is_alike)
        likeness = _cosines(seen(spectrum, view, COMPARED, is_faded=True)[places[rest]], wanted[rest])
        is_alike[rest] = likeness >= MIN_LIKENESS
    return np.stack([candidates.viewed[is_alike], candidates.whole[is_alike]], axis=1)


def _cosines(first: Spectra, second: Spectra) -> npt.NDArray[np.float64]:
    """Of the angles between spectra [N, F]; whole numbers, which float32 multiplies and adds exactly."""
    product, squares = _dot(first, second), _dot(first, first) * _dot(second, second)
    return product / np.sqrt(np.maximum(squares, 1))


def _dot(first: Spectra, second: Spectra) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.einsum("nf,nf->n", first, second).astype(np.float64)
    return found
