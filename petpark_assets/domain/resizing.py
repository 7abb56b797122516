"""Photos squeezed to a square: bilinear with antialiasing, in whole numbers, the same bytes on every machine.

What is stored, trained on and handed to a package is defined here. The rule is torch's for uint8: weights rounded to 15
bits, across first, then down, rounded to a level after each. All sums are of multiples of one power of two that floats
hold exactly, so neither the order of summation nor the number of threads changes a byte, and torch gives the same bytes
(lake/squeezing.py, for many photos; importing it costs seconds and 0.5 GB, which a few photos or a service need not
pay). At 96 px one core takes 0.26 ms for 200 x 200 px and 62 ms for 12 megapixels; Pillow 0.30 and 33.
Not here: decoding (images.py).
"""

import functools
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], red green blue."""
Levels = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""0 to 255, whole numbers once they are rounded; and weights, multiples of a power of two."""

WEIGHT_BITS = 15
MOST_PRECISION = 22
_EXACT_IN_FLOAT32 = 16
"""255 * 2**16 + 2**15 is below 2**24: float32 holds every sum of weights of this precision."""
_BLOCK = 8
"""Outputs that share a product of matrices: more would multiply too many zeros."""
_CHUNK = 2**19
"""Levels that are floating point at a time: they stay in the cache."""

_KEPT_BYTES = 32 * 2**20
"""More is asked for anew each time: a strip of a panorama must not stay in every thread."""
_kept = threading.local()


@dataclass(frozen=True)
class _Taps:
    """How one direction is squeezed."""

    dtype: type[np.floating]
    """Holds every sum exactly."""
    num_channels: int
    """Side by side in each line."""
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
        _resize_together(photos[start : start + step], squeezed[start : start + step])
    return squeezed


def _resize_together(photos: Pixels, squeezed: Pixels) -> None:
    """Photos [N, H, W, 3], all at a time if they are small, to [N, R, R, 3]."""
    count, height, width, _ = photos.shape
    size = squeezed.shape[1]
    down = _taps(height, size, 1)
    narrow = kept_memory("narrow", (count, height, size, 3), down.dtype)
    step = max(1, _CHUNK // (3 * width * count))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        _squeeze_across(photos[:, rows], narrow[:, rows])
    squeezed.reshape(count, size, -1)[:] = _squeeze_down(narrow.reshape(count, height, -1), down, size)


def _squeeze_across(photos: Pixels, narrow: Levels) -> None:
    """[N, H, W, 3] to [N, H, R, 3], the three channels of a line as they lie, or each as a line of its own."""
    *shape, width, _ = photos.shape
    size = narrow.shape[2]
    if width == size:
        narrow[:] = photos
        return
    taps = _taps(width, size, 3)
    num_parts = 3 // taps.num_channels
    lines = kept_memory("lines", (num_parts, *shape, 3 * width // num_parts), taps.dtype)
    lines[:] = np.moveaxis(photos.reshape(*shape, -1, num_parts), -1, 0)
    sums = kept_memory("across", (num_parts, *shape, 3 * size // num_parts), taps.dtype)
    flat, flat_sums = lines.reshape(-1, lines.shape[-1]), sums.reshape(-1, sums.shape[-1])
    for output, start, weights in taps.blocks:
        window = flat[:, start : start + weights.shape[1]]
        np.matmul(window, weights.T, out=flat_sums[:, output : output + len(weights)])
    narrow.reshape(*shape, -1, num_parts)[:] = np.moveaxis(_to_levels(sums), 0, -1)


def _squeeze_down(narrow: Levels, taps: _Taps, num_outputs: int) -> Levels:
    """[N, inputs, line] to [N, outputs, line]."""
    if narrow.shape[1] == num_outputs:
        return narrow
    sums = kept_memory("down", (len(narrow), num_outputs, narrow.shape[2]), taps.dtype)
    for output, start, weights in taps.blocks:
        window = narrow[:, start : start + weights.shape[1]]
        np.matmul(weights, window, out=sums[:, output : output + len(weights)])
    return _to_levels(sums)


def _to_levels(sums: Levels) -> Levels:
    """Weighted levels rounded to levels; changes its argument.

    None leaves 0 to 255: 256 would need weights whose sum is 1 + 1/510, and rounded ones come to no more than 1 + 4e-5
    (looked at for sides up to images.MAX_SIDE_PX, squeezed to 1 to 512).
    """
    sums += sums.dtype.type(0.5)
    return np.floor(sums, out=sums)


def kept_memory(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> Any:
    """An array of a shape, in the memory that this thread had under this name before: its content is of no meaning.

    New memory is handed over by the system page by page as it is written to, which took longer than squeezing.
    """
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    known = _kept.__dict__.get(name)
    if known is None or known.size < size_bytes:
        known = np.empty(size_bytes, np.uint8)
        if size_bytes <= _KEPT_BYTES:
            _kept.__dict__[name] = known
    return known[:size_bytes].view(dtype).reshape(shape)


@functools.lru_cache(maxsize=256)
def _taps(size_px: int, resolution_px: int, num_channels: int) -> _Taps:
    """Of a line of `size_px` pixels: triangles as wide as two outputs, cut off at the ends, each with a sum of 1.

    Of several channels side by side each has zeros for the others: three times the products of a small photo take less
    time than to part its channels, and to put them together again. Of larger ones, in float64, they take more: the taps
    are then of one channel.
    """
    scale = size_px / resolution_px
    reach = max(scale, 1.0)
    windows = [_triangle(scale * (output + 0.5), reach, size_px) for output in range(resolution_px)]
    precision = _precision(max(float(weights.max()) for _, weights in windows))
    dtype, num_channels = (np.float32, num_channels) if precision <= _EXACT_IN_FLOAT32 else (np.float64, 1)
    blocks = []
    for output in range(0, resolution_px, _BLOCK):
        part = windows[output : output + _BLOCK]
        start = part[0][0]
        matrix = np.zeros((len(part), max(first + len(weights) for first, weights in part) - start), dtype)
        for row, (first, weights) in zip(matrix, part, strict=True):
            row[first - start : first - start + len(weights)] = np.floor(weights * 2**precision + 0.5) / 2**precision
        each = np.kron(matrix, np.eye(num_channels, dtype=dtype))
        blocks.append((output * num_channels, start * num_channels, each))
    return _Taps(dtype=dtype, num_channels=num_channels, blocks=tuple(blocks))


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
