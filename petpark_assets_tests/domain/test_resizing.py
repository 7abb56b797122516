"""Claims about squeezing photos to squares: the whole photo, averaged, and the same bytes whoever does it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import resizing
from petpark_assets.domain.lake.squeezing import squeeze
from petpark_assets.domain.resizing import resize

RED, GREEN, BLUE, GREY = (230, 20, 20), (20, 200, 30), (30, 40, 220), (128, 128, 128)


def noise(height_px, width_px, seed=0):
    """Pixels of no pattern: every rounding shows."""
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), np.uint8)


def quarters(width_px, height_px):
    """Red and green above, blue and grey below."""
    pixels = np.full((height_px, width_px, 3), GREY, np.uint8)
    pixels[: height_px // 2, : width_px // 2] = RED
    pixels[: height_px // 2, width_px // 2 :] = GREEN
    pixels[height_px // 2 :, : width_px // 2] = BLUE
    return pixels


def test_resizing_squeezes_the_whole_photo():
    """Nothing is cropped: the four corners are still there, whatever the aspect."""
    small = resize(quarters(300, 90), 32)
    assert small.shape == (32, 32, 3)
    assert small.dtype == np.uint8
    for row, column, colour in ((2, 2, RED), (2, 29, GREEN), (29, 2, BLUE), (29, 29, GREY)):
        assert tuple(small[row, column]) == colour


def test_resizing_averages_what_it_leaves_out():
    """Without antialiasing a fine pattern becomes noise, and ONNX's resize with it would not agree."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(resize(stripes, 32)[8:-8, 8:-8].astype(int)) <= 8


def test_a_photo_of_the_right_size_is_left_as_it_is():
    """A camera that already gives the recipe's size must not be blurred."""
    assert np.array_equal(resize(noise(40, 40), 40), noise(40, 40))


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_flat_photo_keeps_its_level(level):
    """Rounded weights must add up, or every photo would be a little darker than it is."""
    for size in ((17, 333), (200, 200), (1000, 40)):
        assert (resize(np.full((*size, 3), level, np.uint8), 64) == level).all()


@pytest.mark.parametrize("resolution_px", [16, 33, 64, 96, 224])
def test_torch_in_a_long_job_and_numpy_in_a_short_one_give_the_same_bytes(resolution_px):
    """Pixels must not tell with how many others a photo arrived; Pillow, the field's measure, only rounds otherwise."""
    sizes = [(16, 16), (200, 200), (resolution_px, 200), (200, resolution_px), (17, 991), (1500, 700), (3000, 31)]
    for number, size in enumerate(sizes):
        pixels = np.full((*size, 3), 255, np.uint8) if number == 0 else noise(*size, seed=number)
        squares = np.empty((3, resolution_px, resolution_px, 3), np.uint8)
        turned = np.ascontiguousarray(pixels[::-1])
        squeeze([pixels, turned, pixels], [squares], by_torch=True)
        square = squares[0]
        assert np.array_equal(square, resize(pixels, resolution_px))
        assert np.array_equal(squares[1], resize(turned, resolution_px))
        assert np.array_equal(squares[2], square)
        by_pillow = Image.fromarray(pixels).resize((resolution_px, resolution_px), Image.Resampling.BILINEAR)
        assert np.abs(square.astype(int) - np.asarray(by_pillow)).max() <= 1


def test_threads_that_squeeze_at_once_do_not_write_over_each_other():
    """Each uses its own memory again and again, for photos of all sizes."""
    photos = [noise(50 + 37 * (seed % 7), 60 + 53 * (seed % 5), seed=seed) for seed in range(60)]
    expected = [resize(pixels, 32) for pixels in photos]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert all(map(np.array_equal, pool.map(lambda pixels: resize(pixels, 32), photos), expected))


def test_a_panorama_leaves_no_memory_behind():
    """A server's threads live for months."""

    def kept_bytes():
        resize(noise(65_000, 20), 224)
        return sum(kept.nbytes for kept in vars(resizing._kept).values())

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(kept_bytes).result() < 5 * resizing._KEPT_BYTES


def test_weights_of_a_large_photo_are_kept_once_and_not_for_three_channels():
    """Photos have hundreds of widths, and those of each are kept: of three channels they are nine times as large."""
    taps = resizing._taps(4000, 96, 3)
    assert (taps.dtype, taps.num_channels) == (np.float64, 1)
    assert sum(weights.nbytes for *_, weights in taps.blocks) < 2**19


def test_a_processor_without_vector_instructions_gives_the_same_bytes():
    """Two machines with one lake must come to one version, and to equal pixels under one sha256."""
    script = """
import hashlib, numpy as np
from petpark_assets.domain.lake.squeezing import squeeze
pixels = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
squares = [np.empty((1, side, side, 3), np.uint8) for side in (16, 64, 96, 400)]
squeeze([pixels], squares, by_torch=True)
print(hashlib.sha256(b"".join(square.tobytes() for square in squares)).hexdigest())
"""
    digests = {
        subprocess.run([sys.executable, "-c", script], env={"ATEN_CPU_CAPABILITY": capability}, capture_output=True,
                       text=True, check=True).stdout
        for capability in ("default", "avx2")
    }  # fmt: skip
    assert len(digests) == 1
