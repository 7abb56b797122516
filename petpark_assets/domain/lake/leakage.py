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

MIN_VERIFIED = 0.84
"""Likeness: cosine between the edges of two photos, best aligned, in the whole or in the inner part, whichever is less
(the outer part alone may be a white frame). Of 10,000 copies of real photos the least was 0.86, of pairs of 20,000
other photos the most 0.79."""
MIN_VERIFIED_TINY = 0.9
"""The same for pixels of less than 24 px, which know less: one copy in 2,000 is no more than a suspect then."""
MIN_SUSPECT = 0.75

_SMALL_PX = 24
_COLOUR_CELLS, _EDGE_CELLS = 6, 4
_MIN_NEAR, _NUM_NEIGHBOURS = 0.86, 4
"""Cosine between descriptions: copies have 0.88 and more, and 1 in 10,000 other pairs more than 0.87."""
_MIN_UNALIGNED = 0.45
"""Cosine between edges as they lie: copies have 0.54 and more, 99 % of other neighbours less."""
_CROPS = (
    *((share, share, share, share) for share in (0.0, 0.015, 0.03, 0.045)),
    (0.03, 0.0, 0.0, 0.0),
    (0.0, 0.03, 0.0, 0.0),
    (0.0, 0.0, 0.03, 0.0),
    (0.0, 0.0, 0.0, 0.03),
)
"""Shares cut off left, at the top, right, at the bottom."""
_PART, _TRAIN_PART = 1024, 8192


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """Pairs of a train and a test photo, as places in what was given."""

    verified: Rows
    """int64 [M, 2]: copies, by place."""
    suspects: Rows
    """int64 [K, 2]: too much alike to pass over, the nearest first."""
    suspect_distances: npt.NDArray[np.float64]
    """[K], above 1 - MIN_VERIFIED and up to 1 - MIN_SUSPECT; 0 would be the same edges."""


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What is kept of each photo: about 1 kB."""

    luminance: npt.NDArray[np.uint8]
    """[N, S, S], S at most 24."""
    descriptions: npt.NDArray[np.float16]
    """[N, 172], each of length 1."""


def find_leaks(train_pixels: Pixels, test_pixels: Pixels) -> Leaks:
    """Copies across the sides, of uint8 [N, R, R, 3] and [M, R, R, 3], R >= 16, which are read in parts: map them.

    Flat photos have no edges and are copies of nothing. 80,000 against 20,000 of 96 px take about X s on two cores.
    """
    for pixels in (train_pixels, test_pixels):
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or min(pixels.shape[1:3]) < MIN_SIDE_PX:
            raise AssertionError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 [N, R, R, 3], R >= 16")
    train = _side(train_pixels)
    found = [_compared(train, _side(test_pixels[:, :, ::step])) for step in (1, -1)]  # as they are, and mirrored
    pairs, places = np.unique(np.concatenate([pairs for pairs, _ in found]), axis=0, return_inverse=True)
    likeness = np.zeros(len(pairs))
    np.maximum.at(likeness, places, np.concatenate([values for _, values in found]))
    is_suspect = (likeness >= MIN_SUSPECT) & (likeness < MIN_VERIFIED)
    nearest = np.argsort(-likeness[is_suspect], kind="stable")
    return Leaks(
        verified=pairs[likeness >= MIN_VERIFIED],
        suspects=pairs[is_suspect][nearest],
        suspect_distances=1 - likeness[is_suspect][nearest],
    )


def _side(pixels: Pixels) -> _Side:
    small_px = min(_SMALL_PX, pixels.shape[1])
    luminance = np.empty((len(pixels), small_px, small_px), np.uint8)
    descriptions = np.empty((len(pixels), 3 * _COLOUR_CELLS**2 + 4 * _EDGE_CELLS**2), np.float16)
    for part in _parts(len(pixels), _PART // 4):
        small = _shrunk(pixels[part], small_px)
        grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
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
    grid = (np.kron(cells, cells) @ small.reshape(len(small), -1, 3)).reshape(len(small), -1, 3)
    return _unit((grid - grid.mean(axis=1, keepdims=True)).reshape(len(small), -1))


def _edge_directions(grey: Floats) -> Floats:
    """[N, 64]: how strong edges of four directions are in a coarse grid, of length 1."""
    along, down = _slopes(grey)
    strength = np.sqrt(along**2 + down**2) + np.float32(1e-3)
    straight, slanted = (along**2 - down**2) / strength, 2 * along * down / strength  # of twice the angle
    bins = np.stack([np.maximum(sign * part, 0) for part in (straight, slanted) for sign in (1, -1)], axis=1)
    cells = _areas(bins.shape[2], _EDGE_CELLS)
    return _unit(np.sqrt(bins.reshape(len(grey), 4, -1) @ np.kron(cells, cells).T).reshape(len(grey), -1))


def _compared(train: _Side, test: _Side) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Pairs [M, 2] of neighbours, and how much alike their edges are, best aligned."""
    pairs = _neighbours(train.descriptions, test.descriptions)
    likeness = [
        _likeness(train.luminance[pairs[part, 0]], test.luminance[pairs[part, 1]]) for part in _parts(len(pairs), _PART)
    ]
    return pairs, np.concatenate([np.empty(0), *likeness])


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


def _likeness(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Cosine between the edges of pairs of luminances [N, S, S], one or the other cropped; 0 where it cannot be much."""
    first, second = train.astype(np.float32), test.astype(np.float32)
    unaligned = _cosines(_edges(first), _edges(second))
    likely = np.flatnonzero(unaligned >= _MIN_UNALIGNED)
    first, second = first[likely], second[likely]
    found = np.zeros(len(train))
    for crop in _CROPS:
        one = _cosines(_edges(_cropped(first, crop)), _edges(second))
        other = _cosines(_edges(first), _edges(_cropped(second, crop)))
        found[likely] = np.maximum(found[likely], np.maximum(one, other))
    return found


def _cropped(luminance: Floats, crop: tuple[float, float, float, float]) -> Floats:
    """[N, S, S]: a window, as large as the whole."""
    left, top, right, bottom = crop
    side_px = luminance.shape[1]
    return _areas(side_px, side_px, top, bottom) @ luminance @ _areas(side_px, side_px, left, right).T


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
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-3))


@functools.cache
def _areas(num_from: int, num_to: int, start: float = 0.0, end: float = 0.0) -> Floats:
    """[num_to, num_from]: equal parts of a line, from `start` to 1 - `end`, as means over its pixels."""
    borders = (start + np.linspace(0, 1, num_to + 1) * (1 - start - end)) * num_from
    pixels = np.arange(num_from)
    shares = np.minimum(borders[1:, None], pixels + 1) - np.maximum(borders[:-1, None], pixels)
    shares = shares.clip(min=0)
    found: Floats = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
