"""Photos squeezed to a square: bilinear with antialiasing, in whole numbers, the same bytes on every machine.

What is stored, trained on and handed to a package is defined here. The rule is torch's for uint8: weights rounded to 15
bits, across first, then down, rounded to a level after each. All sums are of whole numbers that their floats hold
exactly, so neither the order of summation nor the number of threads changes a byte, and torch gives the same bytes
(lake/squeezing.py, for many photos; importing it costs seconds and 0.5 GB, which a few photos or a service need not
pay). At 96 px one core takes 0.3 ms for 200 x 200 px and 45 ms for 12 megapixels; Pillow 0.25 and 70.
Not here: decoding (images.py).
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], red green blue."""
Levels = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""Whole numbers, 0 to 255."""

WEIGHT_BITS = 15
MOST_PRECISION = 22
_EXACT_IN_FLOAT32 = 16
"""255 * 2**16 + 2**15 is below 2**24: float32 holds every sum of weights of this precision."""
_BLOCK = 8
"""Outputs that share a product of matrices: more would multiply too many zeros."""
_CHUNK = 2**19
"""Levels that are floating point at a time: they stay in the cache."""


@dataclass(frozen=True)
class _Taps:
    """How one direction is squeezed."""

    precision: int
    """Weights are shares of 2**precision."""
    blocks: tuple[tuple[int, int, Levels], ...]
    """First output, first input, weights [outputs, inputs]."""


def resize(pixels: Pixels, resolution_px: int) -> Pixels:
    """Pixels [H, W, 3] squeezed to [R, R, 3]; nothing is cropped."""
    squeezed: Pixels = resize_all(pixels[None], resolution_px)[0]
    return squeezed


def resize_all(photos: Pixels, resolution_px: int) -> Pixels:
    """Photos of one size [N, H, W, 3] squeezed to [N, R, R, 3]: in two threads in half the time that one by one takes.

    Of one small photo after the other, each call of numpy is so short that threads mostly wait for the interpreter.
    """
    count, height, width, _ = photos.shape
    squeezed = np.empty((count, resolution_px, resolution_px, 3), np.uint8)
    step = max(1, _CHUNK // (3 * height * width))
    for start in range(0, count, step):
        squeezed[start : start + step] = _resize_together(photos[start : start + step], resolution_px)
    return squeezed


def _resize_together(photos: Pixels, resolution_px: int) -> Levels:
    """Photos [N, H, W, 3], all at a time if they are small, to levels [N, R, R, 3]."""
    count, height, width, _ = photos.shape
    across, down = _taps(width, resolution_px), _taps(height, resolution_px)
    narrow = np.empty((count, 3, height, resolution_px), _dtype(down))
    step = max(1, _CHUNK // (3 * width * count))
    for top in range(0, height, step):
        planes = photos[:, top : top + step].transpose(0, 3, 1, 2).astype(_dtype(across), order="C")
        narrow[:, :, top : top + step] = _squeeze_across(planes, across, resolution_px)
    return _squeeze_down(narrow, down, resolution_px).transpose(0, 2, 3, 1)


def _squeeze_across(planes: Levels, taps: _Taps, resolution_px: int) -> Levels:
    """[N, 3, H, W] to [N, 3, H, R]."""
    *shape, width = planes.shape
    if width == resolution_px:
        return planes
    lines = planes.reshape(-1, width)
    sums = np.empty((len(lines), resolution_px), planes.dtype)
    for output, start, weights in taps.blocks:
        window = lines[:, start : start + weights.shape[1]]
        np.matmul(window, weights.T, out=sums[:, output : output + len(weights)])
    return _to_levels(sums, taps.precision).reshape(*shape, resolution_px)


def _squeeze_down(planes: Levels, taps: _Taps, resolution_px: int) -> Levels:
    """[N, 3, H, R] to [N, 3, R, R]."""
    if planes.shape[2] == resolution_px:
        return planes
    sums = np.empty((*planes.shape[:2], resolution_px, resolution_px), planes.dtype)
    for output, start, weights in taps.blocks:
        window = planes[:, :, start : start + weights.shape[1]]
        np.matmul(weights, window, out=sums[:, :, output : output + len(weights)])
    return _to_levels(sums, taps.precision)


def _to_levels(sums: Levels, precision: int) -> Levels:
    """Sums of weighted levels, rounded to levels; changes its argument."""
    sums += 2.0 ** (precision - 1)
    sums *= 2.0**-precision
    np.floor(sums, out=sums)
    return np.clip(sums, 0, 255, out=sums)


def _dtype(taps: _Taps) -> type[np.floating]:
    return np.float32 if taps.precision <= _EXACT_IN_FLOAT32 else np.float64


@functools.lru_cache(maxsize=256)
def _taps(size_px: int, resolution_px: int) -> _Taps:
    """Of a line of `size_px` levels: triangles as wide as two outputs, cut off at the ends, each with a sum of 1."""
    scale = size_px / resolution_px
    reach = max(scale, 1.0)
    windows = [_triangle(scale * (output + 0.5), reach, size_px) for output in range(resolution_px)]
    precision = _precision(max(float(weights.max()) for _, weights in windows))
    dtype = np.float32 if precision <= _EXACT_IN_FLOAT32 else np.float64
    blocks = []
    for output in range(0, resolution_px, _BLOCK):
        part = windows[output : output + _BLOCK]
        start = part[0][0]
        matrix = np.zeros((len(part), max(first + len(weights) for first, weights in part) - start), dtype)
        for row, (first, weights) in zip(matrix, part, strict=True):
            row[first - start : first - start + len(weights)] = np.floor(weights * 2**precision + 0.5)
        blocks.append((output, start, matrix))
    return _Taps(precision=precision, blocks=tuple(blocks))


def _triangle(center: float, reach: float, size_px: int) -> tuple[int, npt.NDArray[np.float64]]:
    """The first input that an output sees, and the weights of all that it sees."""
    first = max(int(center - reach + 0.5), 0)
    places = np.arange(first, min(int(center + reach + 0.5), size_px))
    weights = np.maximum(0.0, 1.0 - np.abs((places - center + 0.5) * (1.0 / reach)))
    return first, weights / weights.sum()


def _precision(largest: float) -> int:
    """The most bits after the point with which the largest weight still has no more than WEIGHT_BITS."""
    allowed = (bits for bits in range(MOST_PRECISION) if int(0.5 + largest * 2 ** (bits + 1)) >= 2**WEIGHT_BITS)
    return next(allowed, MOST_PRECISION)
