"""The blocking check of a version: are there copies of train photos on the test side?

It has no rule in common with the grouping that it checks: it works on the stored pixels, takes nearest neighbours by
where colours and edges are, and compares the edges themselves. Copies are re-encoded, resized, brightened, mirrored or
slightly cropped photos.
Not here: what to do about a leak, or how groups are made (likeness.py, groups.py).
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.images import MIN_SIDE_PX, Pixels

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

MIN_VERIFIED = 0.72
"""Likeness, 1 for the same pixels; what it is made of: `_aligned`. Of 10,000 copies of real photos the least was 0.73,
of pairs of 20,000 other photos the most 0.68 (two shots of one scene), of drawings 0.70."""
MIN_VERIFIED_TINY = 0.78
"""The same for pixels of less than 24 px, which know less; 1 copy in 2,000 is no more than a suspect then."""
SUSPECT_MARGIN = 0.06

_SMALL_PX = 24
_COLOUR_CELLS, _EDGE_CELLS = 6, 4
_MIN_NEAR, _NUM_NEIGHBOURS = 0.86, 4
"""Cosine between descriptions: copies have 0.88 and more, and 1 in 10,000 other pairs more than 0.87."""
_MIN_UNALIGNED = 0.45
"""Cosine between edges as they lie: copies have 0.54 and more, 99 % of other neighbours less."""
_CROPS = (
    *((share, share, share, share) for share in (0.0, 0.015, 0.03, 0.045)),
    (0.03, 0.0, 0.0, 0.0), (0.0, 0.03, 0.0, 0.0), (0.0, 0.0, 0.03, 0.0), (0.0, 0.0, 0.0, 0.03),
    (0.03, 0.03, 0.0, 0.0), (0.0, 0.03, 0.03, 0.0), (0.0, 0.0, 0.03, 0.03), (0.03, 0.0, 0.0, 0.03),
)  # fmt: skip
"""Shares cut off left, at the top, right, at the bottom."""
_BORDER_SHARE = 0.2
_CLIPPED = 245
_PART, _TRAIN_PART = 1024, 8192
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """Pairs of a train and a test photo, as places in what was given."""

    verified: Rows
    """int64 [M, 2]: copies, by place."""
    suspects: Rows
    """int64 [K, 2]: too much alike to pass over, the nearest first."""
    suspect_distances: npt.NDArray[np.float64]
    """[K]: 1 - likeness."""


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What is kept of each photo: about 1 kB."""

    luminance: npt.NDArray[np.uint8]
    """[N, S, S], S at most 24."""
    descriptions: npt.NDArray[np.float16]
    """[N, 172], each of length 1."""


def find_leaks(train_pixels: Pixels, test_pixels: Pixels) -> Leaks:
    """Copies across the sides, of uint8 [N, R, R, 3] and [M, R, R, 3], R >= 16, which are read in parts: map them.

    Flat photos have no edges and are copies of nothing. 80,000 against 20,000 of 96 px took 34 s on two busy cores.
    """
    for pixels in (train_pixels, test_pixels):
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or min(pixels.shape[1:3]) < MIN_SIDE_PX:
            raise AssertionError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 [N, R, R, 3], R >= 16")
    if train_pixels.shape[1:] != test_pixels.shape[1:]:
        raise AssertionError(f"two resolutions: {train_pixels.shape[1:]} and {test_pixels.shape[1:]}")
    train = _side(train_pixels)
    found = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    for asked in (test_pixels, test_pixels[:, :, ::-1]):  # as they are, and mirrored
        found += _compared(train_pixels, asked, train)
    pairs, places = np.unique(np.concatenate([pairs for pairs, _ in found]), axis=0, return_inverse=True)
    likeness = np.zeros(len(pairs))
    np.maximum.at(likeness, places, np.concatenate([values for _, values in found]))
    min_verified = MIN_VERIFIED if train.luminance.shape[1] == _SMALL_PX else MIN_VERIFIED_TINY
    is_verified = likeness >= min_verified
    is_suspect = ~is_verified & (likeness >= min_verified - SUSPECT_MARGIN)
    nearest = np.argsort(-likeness[is_suspect], kind="stable")
    return Leaks(
        verified=pairs[is_verified],
        suspects=pairs[is_suspect][nearest],
        suspect_distances=1 - likeness[is_suspect][nearest],
    )


def _side(pixels: Pixels) -> _Side:
    small_px = min(_SMALL_PX, pixels.shape[1])
    luminance = np.empty((len(pixels), small_px, small_px), np.uint8)
    descriptions = np.empty((len(pixels), 3 * _COLOUR_CELLS**2 + 4 * _EDGE_CELLS**2), np.float16)
    for part in _parts(len(pixels), _PART // 4):
        small = _shrunk(pixels[part], small_px)
        grey = small @ _LUMINANCE
        luminance[part] = np.rint(grey)
        descriptions[part] = _unit(np.concatenate([_colours(small), _edge_directions(grey)], axis=1))
    return _Side(luminance=luminance, descriptions=descriptions)


def _parts(num: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, num, size))


def _shrunk(pixels: Pixels, small_px: int) -> Floats:
    """float32 [N, S, S, 3]: means over areas."""
    number, side_px = pixels.shape[:2]
    areas = _areas(side_px, small_px)
    rows = areas @ pixels.reshape(number, side_px, side_px * 3).astype(np.float32)
    columns = rows.reshape(-1, side_px * 3) @ np.kron(areas, np.eye(3, dtype=np.float32)).T
    return columns.reshape(number, small_px, small_px, 3)


def _colours(small: Floats) -> Floats:
    """[N, 108]: colours of a coarse grid, without the photo's mean, of length 1."""
    cells = _areas(small.shape[1], _COLOUR_CELLS)
    grid = np.kron(cells, cells) @ small.reshape(len(small), small.shape[1] ** 2, 3)
    return _unit((grid - grid.mean(axis=1, keepdims=True)).reshape(len(small), 3 * _COLOUR_CELLS**2))


def _edge_directions(grey: Floats) -> Floats:
    """[N, 64]: how strong edges of four directions are in a coarse grid, of length 1."""
    along, down = _slopes(grey)
    strength = np.sqrt(along**2 + down**2) + np.float32(1e-3)
    straight, slanted = (along**2 - down**2) / strength, 2 * along * down / strength  # of twice the angle
    bins = np.stack([np.maximum(sign * part, 0) for part in (straight, slanted) for sign in (1, -1)], axis=1)
    cells = _areas(bins.shape[2], _EDGE_CELLS)
    return _unit(np.sqrt(bins.reshape(len(grey), 4, -1) @ np.kron(cells, cells).T).reshape(len(grey), -1))


def _compared(train_pixels: Pixels, test_pixels: Pixels, train: _Side) -> Iterator[tuple[Rows, Floats]]:
    """Pairs [M, 2] of neighbours whose edges are in the same places, and their likeness."""
    test = _side(test_pixels)
    neighbours = _neighbours(train.descriptions, test.descriptions)
    for part in _parts(len(neighbours), _PART):
        pairs = neighbours[part]
        first, second = (
            side.luminance[rows].astype(np.float32) for side, rows in ((train, pairs[:, 0]), (test, pairs[:, 1]))
        )
        pairs = pairs[_cosines(_edges(first), _edges(second)) >= _MIN_UNALIGNED]
        if len(pairs):
            sides = (train_pixels, pairs[:, 0]), (test_pixels, pairs[:, 1])
            yield pairs, _likeness(*(_shrunk(pixels[rows], train.luminance.shape[1]) for pixels, rows in sides))


def _neighbours(train: npt.NDArray[np.float16], test: npt.NDArray[np.float16]) -> Rows:
    """Pairs [M, 2] of each test photo with the nearest train photos that are near."""
    found = [np.empty((0, 2), np.int64)]
    for part in _parts(len(test), _PART):
        asked = test[part].astype(np.float32)
        nearest = _Nearest(len(asked))
        for train_part in _parts(len(train), _TRAIN_PART):
            nearest.offer(asked @ train[train_part].astype(np.float32).T, train_part.start)
        asker, place = np.nonzero(nearest.rows >= 0)
        found.append(np.stack([nearest.rows[asker, place], asker + part.start], axis=1))
    return np.concatenate(found)


class _Nearest:
    """The nearest so far of each of some photos."""

    def __init__(self, num: int) -> None:
        self.rows = np.full((num, _NUM_NEIGHBOURS), -1, np.int64)
        self.cosines = np.full((num, _NUM_NEIGHBOURS), _MIN_NEAR, np.float32)  # ascending

    def offer(self, cosines: Floats, first_row: int) -> None:
        """Take what is nearer, from [num, R]; after the first offers that is little."""
        askers, columns = np.divmod(np.flatnonzero(cosines > self.cosines[:, :1]), cosines.shape[1])
        everybody = np.repeat(np.arange(len(self.rows)), _NUM_NEIGHBOURS)
        owner = np.concatenate([everybody, askers])
        cosine = np.concatenate([self.cosines.ravel(), cosines[askers, columns]])
        row = np.concatenate([self.rows.ravel(), columns + first_row])
        order = np.lexsort((cosine, owner))
        ends = np.searchsorted(owner[order], np.arange(len(self.rows)), "right")
        last = order[ends[:, None] + np.arange(-_NUM_NEIGHBOURS, 0)]
        self.rows, self.cosines = row[last], cosine[last]


def _likeness(first: Floats, second: Floats) -> Floats:
    """Of pairs [N, S, S, 3], one or the other cropped so that they lie best."""
    found = np.zeros(len(first), np.float32)
    for crop in _CROPS:
        found = np.maximum(found, _aligned(_cropped(first, crop), second))
        found = np.maximum(found, _aligned(first, _cropped(second, crop)))
    return found


def _aligned(first: Floats, second: Floats) -> Floats:
    """The mean of two cautious numbers: what edges have in common, and how much one explains of the other's colours.

    Each is that of the whole or of the inner part, whichever is less: the rest may be a white frame.
    """
    border = round(_BORDER_SHARE * first.shape[1])
    inner = slice(border, -border)
    inside = first[:, inner, inner], second[:, inner, inner]
    edges = np.minimum(_cosines(*_both_edges(first, second)), _cosines(*_both_edges(*inside)))
    explained = np.minimum(_explained(first, second), _explained(*inside))
    return (edges + explained).astype(np.float32) / np.float32(2)


def _both_edges(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    return _edges(first @ _LUMINANCE), _edges(second @ _LUMINANCE)


def _explained(first: Floats, second: Floats) -> Floats:
    """1 - what is left of the second's contrast when the first, as bright as fits best, is taken away.

    Levels that brightening may have clipped do not count.
    """
    is_within = ((first < _CLIPPED) & (second < _CLIPPED)).astype(np.float32)
    brightening = (_sums(first * second * is_within) / _sums(first**2 * is_within).clip(min=1)).astype(np.float32)
    rest = _sums((brightening * first - second) ** 2 * is_within)
    contrast = _sums((second - second.mean(axis=(1, 2), keepdims=True)) ** 2 * is_within)
    found: Floats = 1 - np.sqrt(rest / contrast.clip(min=1))[:, 0, 0, 0]
    return found


def _sums(values: Floats) -> Floats:
    found: Floats = values.sum(axis=(1, 2, 3), keepdims=True)
    return found


def _cropped(small: Floats, crop: tuple[float, float, float, float]) -> Floats:
    """[N, S, S, 3]: a window, as large as the whole."""
    left, top, right, bottom = crop
    number, side_px = small.shape[:2]
    rows = _areas(side_px, side_px, top, bottom) @ small.reshape(number, side_px, side_px * 3)
    found: Floats = _areas(side_px, side_px, left, right) @ rows.reshape(small.shape)
    return found


def _edges(luminance: Floats) -> Floats:
    """[N, D] of length 1."""
    return _unit(np.stack(_slopes(luminance), axis=1).reshape(len(luminance), -1))


def _slopes(luminance: Floats) -> tuple[Floats, Floats]:
    """How luminance grows along and down, [N, S - 2, S - 2] each."""
    along = luminance[:, 1:-1, 2:] - luminance[:, 1:-1, :-2]
    return along, luminance[:, 2:, 1:-1] - luminance[:, :-2, 1:-1]


def _cosines(first: Floats, second: Floats) -> Floats:
    found: Floats = np.einsum("nd,nd->n", first, second)
    return found


def _unit(values: Floats) -> Floats:
    found: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-3))
    return found


@functools.cache
def _areas(num_from: int, num_to: int, start: float = 0.0, end: float = 0.0) -> Floats:
    """[num_to, num_from]: equal parts of a line, from `start` to 1 - `end`, as means over its pixels."""
    borders = (start + np.linspace(0, 1, num_to + 1) * (1 - start - end)) * num_from
    pixels = np.arange(num_from)
    shares = np.minimum(borders[1:, None], pixels + 1) - np.maximum(borders[:-1, None], pixels)
    shares = shares.clip(min=0)
    found: Floats = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
