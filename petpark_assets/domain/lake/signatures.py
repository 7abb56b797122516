"""What a photo looks like, in 136 bytes: enough to know its copies again, and to draw a blurred shadow of it.

A signature is the lowest 135 frequencies of the luminance (a DCT, type II), each weighted to be about as large as any
other and scaled to one loudness, and the mean luminance. What a crop does to them is a linear map, what mirroring does
a change of signs: signatures of the cropped and the mirrored photo are made from that of the whole one (`View`), so
nothing but the whole is stored. All sums are of whole numbers that their floats hold exactly: the same bytes on every
machine, whatever the number of threads and the order of summation.
Not here: which photos are copies of each other (likeness.py), or what happens to those (groups.py).
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Luminance = npt.NDArray[np.uint8]
"""uint8 [N, 64, 64]: Pillow's "L" of `images.thumbnail`."""
Signatures = npt.NDArray[np.uint8]
"""uint8 [N, SIGNATURE_BYTES]."""
Spectra = npt.NDArray[np.float32]
"""float32 [N, NUM_FREQUENCIES] or part of it, whole numbers."""
Part = tuple[int, int]
"""From which frequency to which, the lowest being 0."""

SIDE_PX = 64
"""Of the thumbnails."""
_NUM_ORDERS = 16
"""Orders of the DCT a direction. More would see finer detail than copies keep; with 12, a crop is not foreseen well."""
NUM_FREQUENCIES = _NUM_ORDERS * (_NUM_ORDERS + 1) // 2 - 1
"""Vertical and horizontal order together below 16, without the mean."""
SIGNATURE_BYTES = NUM_FREQUENCIES + 1
ALL: Part = (0, NUM_FREQUENCIES)

_WHITENING = 0.8
"""Amplitudes of photos fall as frequency to the power -1.08 (measured); a little less is made up for, so that the fine
frequencies, which copies keep worst, weigh a little less."""
_LOUDNESS = 16
"""Root mean square of a signature's numbers: int8 then clips at 8 of it, and rounding costs 2 % of it."""
FLAT_LEVELS = 0.75
"""A photo whose low frequencies deviate by less (levels of 255 at middle grey, root mean square) has no likeness."""
_HASH_ORDERS = 8
_FADING_SHARE = 0.15

_TONE_SCALE, _TONE_OFFSET = 300, 30
_BASIS_SCALE, _WEIGHT_SCALE, _MAP_SCALE = 512, 256, 4096
_WAVE_SCALE = 2**20
_CHUNK = 256  # fits the cache: twice as fast as 4096


@dataclass(frozen=True)
class View:
    """A window in a photo: which share of its width or height is cut off at each side."""

    left: float = 0.0
    top: float = 0.0
    right: float = 0.0
    bottom: float = 0.0


def signatures(luminance: Luminance) -> Signatures:
    """Signatures uint8 [N, SIGNATURE_BYTES] of thumbnails uint8 [N, 64, 64]; about 11 us each on one core."""
    if luminance.shape[1:] != (SIDE_PX, SIDE_PX) or luminance.dtype != np.uint8:
        raise AssertionError(f"luminance is {luminance.dtype} {luminance.shape}, expected uint8 [N, 64, 64]")
    found = np.empty((len(luminance), SIGNATURE_BYTES), np.uint8)
    for start in range(0, len(luminance), _CHUNK):
        part = luminance[start : start + _CHUNK]
        found[start : start + _CHUNK, :-1] = _loudness_removed(_transform(part)).view(np.uint8)
        found[start : start + _CHUNK, -1] = part.reshape(len(part), -1).sum(axis=1, dtype=np.int64) // SIDE_PX**2
    return found


def spectra(found: Signatures) -> Spectra:
    """A signature's frequencies as numbers, -127 to 127; all 0 for a flat photo."""
    return np.ascontiguousarray(found[:, :-1]).view(np.int8).astype(np.float32)


def perceptual_hashes(found: Signatures) -> list[str]:
    """16 hexadecimal digits of each signature: the signs of the lowest 8 x 8 frequencies, the mean's always 0."""
    signs = np.zeros((len(found), _HASH_ORDERS**2), np.bool_)
    signs[:, 1:] = found[:, _hashed()].view(np.int8) > 0
    return [one.tobytes().hex() for one in np.packbits(signs, axis=1)]


@functools.cache
def _hashed() -> npt.NDArray[np.int64]:
    """Places of the lowest 8 x 8 frequencies but the mean, row by row."""
    vertical, horizontal = orders()
    row_by_row = np.lexsort((horizontal, vertical))
    return row_by_row[(np.maximum(vertical, horizontal) < _HASH_ORDERS)[row_by_row]]


@functools.cache
def orders() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vertical and horizontal order of each of a signature's frequencies, lowest frequencies first."""
    vertical, horizontal = (order.ravel() for order in np.mgrid[:_NUM_ORDERS, :_NUM_ORDERS])
    squares = vertical**2 + horizontal**2
    by_frequency = np.argsort(squares, kind="stable")
    is_kept = (vertical + horizontal < _NUM_ORDERS) & (squares > 0)
    kept = by_frequency[is_kept[by_frequency]]
    return vertical[kept], horizontal[kept]


@functools.cache
def mirror_signs() -> npt.NDArray[np.float32]:
    """What mirroring left to right multiplies a spectrum by: odd horizontal frequencies change their sign."""
    return np.where(orders()[1] % 2 == 1, np.float32(-1), np.float32(1))


def seen(spectrum: Spectra, view: View, part: Part = ALL, *, is_faded: bool = False) -> Spectra:
    """Part of the spectra of a view of photos, from the spectra of the whole photos; see view_map."""
    found: Spectra = np.rint((spectrum @ view_map(view, part, is_faded=is_faded)) / np.float32(_MAP_SCALE))
    return found


@functools.cache
def view_map(view: View, part: Part = ALL, *, is_faded: bool = False) -> npt.NDArray[np.float32]:
    """The matrix of whole numbers that takes spectra [N, NUM_FREQUENCIES] of photos to part of a view's, times 4096.

    Faded, the view fades to grey towards its borders, so that what lies behind them, a frame above all, tells little.
    Every partial sum stays below 2**24, which float32 adds exactly.
    """
    vertical, horizontal = orders()
    rows, columns = _cropped(view.top, view.bottom, is_faded), _cropped(view.left, view.right, is_faded)
    exact = rows[np.ix_(vertical, vertical)] * columns[np.ix_(horizontal, horizontal)]
    scaled = np.rint(exact * (_MAP_SCALE * _weights()[:, None] / _weights())).astype(np.float32)
    if np.abs(scaled).sum(axis=1).max() * 127 >= 2**24:
        raise AssertionError(f"{view} is cut too far: float32 would round its sums")
    return np.ascontiguousarray(scaled[slice(*part)].T)


@functools.cache  # most views cut as much at one side as at another
def _cropped(start: float, end: float, is_faded: bool) -> npt.NDArray[np.float64]:
    """[16, 16]: how much of each order of a line is in each order of its part from `start` to 1 - `end`.

    Waves are whole numbers too, so that float64 adds them exactly: the order of a product's sums is the processor's.
    Not by BLAS, whose threads wait for each other where a processor is busy: 49 ms for what takes one.
    """
    places = (np.arange(2048) + 0.5) / 2048
    order = np.arange(_NUM_ORDERS)[:, None]
    loudness = np.where(order == 0, 1, math.sqrt(2))
    from_border = np.minimum(places, 1 - places)
    part = np.cos(np.pi * order * places)
    if is_faded:
        part *= np.sin(np.pi / 2 * np.minimum(from_border / _FADING_SHARE, 1)) ** 2
    whole = np.cos(np.pi * order * (start + places * (1 - start - end)))
    sums = np.einsum("pi,wi->pw", np.rint(part * _WAVE_SCALE), np.rint(whole * _WAVE_SCALE))
    found: npt.NDArray[np.float64] = sums / (len(places) * _WAVE_SCALE**2) * (loudness * loudness.T)
    return found


@functools.cache
def _weights() -> npt.NDArray[np.float64]:
    """Of each frequency, whole numbers."""
    squares = (vertical**2 + horizontal**2 for vertical, horizontal in zip(*orders(), strict=True))
    return np.array([round(_WEIGHT_SCALE * float(square) ** (_WHITENING / 2)) for square in squares], np.float64)


@functools.cache
def _tones() -> npt.NDArray[np.float32]:
    """A level's logarithm, as a whole number: brightening becomes a shift, and clipped highlights lose little."""
    middle = math.log(128 + _TONE_OFFSET)
    tones = [round(_TONE_SCALE * (math.log(level + _TONE_OFFSET) - middle)) for level in range(256)]
    return np.array(tones, np.float32)


@functools.cache
def _basis() -> npt.NDArray[np.float32]:
    """[16, 64] whole numbers: cosines, scaled."""
    return np.array(
        [
            [round(_BASIS_SCALE * math.cos(math.pi * order * (place + 0.5) / SIDE_PX)) for place in range(SIDE_PX)]
            for order in range(_NUM_ORDERS)
        ],
        np.float32,
    )


def _transform(luminance: Luminance) -> npt.NDArray[np.float64]:
    """[N, NUM_FREQUENCIES], root mean squares of tones: the first sum is below 2**24, the second below 2**53."""
    tones = np.take(_tones(), luminance)
    columns = (tones.reshape(-1, SIDE_PX) @ _basis().T).reshape(-1, SIDE_PX, _NUM_ORDERS).astype(np.float64)
    both = _basis().astype(np.float64) @ columns
    vertical, horizontal = orders()
    loudness = np.where(vertical == 0, 1, math.sqrt(2)) * np.where(horizontal == 0, 1, math.sqrt(2))
    found: npt.NDArray[np.float64] = both[:, vertical, horizontal] * (loudness / (_BASIS_SCALE * SIDE_PX) ** 2)
    return found


def _loudness_removed(amplitudes: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """int8 [N, NUM_FREQUENCIES] of one loudness; rows of a flat photo are 0."""
    tones_a_level = _TONE_SCALE / (128 + _TONE_OFFSET)
    is_flat = _squares(amplitudes * _WEIGHT_SCALE) < (FLAT_LEVELS * tones_a_level * _WEIGHT_SCALE) ** 2
    weighted = np.rint(amplitudes * _weights())
    loudness = np.sqrt(_squares(weighted) / NUM_FREQUENCIES)
    loudness[is_flat] = np.inf
    return np.rint(weighted * (_LOUDNESS / loudness)[:, None]).clip(-127, 127).astype(np.int8)


def _squares(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums of squares of values rounded to whole numbers, which add exactly."""
    found: npt.NDArray[np.float64] = (np.rint(values) ** 2).sum(axis=1)
    return found
