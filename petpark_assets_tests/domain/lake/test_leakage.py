"""Claims about the independent check: planted copies are found by pixels alone, and other photos are not accused."""

import numpy as np
import pytest

from petpark_assets.domain.lake.leakage import MIN_VERIFIED, SUSPECT_MARGIN, find_leaks
from petpark_assets_tests.benchmarks.alterations import MIXED, SIX
from petpark_assets_tests.domain.lake.likenesses import drawings, pixels_of, real_photos

NUM_TRAIN, NUM_TEST = 40, 20
PX = 48


@pytest.fixture(scope="module")
def sides():
    """Pixels of distinct drawings on both sides."""
    photos = pixels_of(drawings(NUM_TRAIN + NUM_TEST), PX)
    return photos[:NUM_TRAIN], photos[NUM_TRAIN:]


def planted(pictures, alter, count, side_px):
    """Copies of the first photos of the train side, among the test side's own."""
    return pixels_of([alter(picture) for picture in pictures[:count]], side_px)


@pytest.mark.parametrize("side_px", [16, 20, 48, 96])
def test_distinct_photos_are_not_accused(side_px):
    """This check blocks a version: what it verifies must be copies, or nobody could ever build on a good lake."""
    photos = pixels_of(drawings(NUM_TRAIN + NUM_TEST), side_px)
    assert find_leaks(photos[:NUM_TRAIN], photos[NUM_TRAIN:]).verified.tolist() == []


@pytest.mark.parametrize("name", sorted({*SIX, *MIXED} - {"grey"}))  # without colours the neighbours are others
def test_planted_copies_are_verified(sides, name):
    """If the grouping missed a kind of copy, this is what stands between it and a flattering report."""
    train, test = sides
    copies = planted(drawings(NUM_TRAIN), (SIX | MIXED)[name], 12, PX)
    found = find_leaks(train, np.concatenate([test, copies]))
    assert found.verified.tolist() == [[place, NUM_TEST + place] for place in range(12)]


@pytest.mark.photos
@pytest.mark.parametrize("side_px", [16, 48, 96])
def test_copies_of_real_photos_are_verified_at_every_resolution(photos, side_px):
    """Drawings are simpler than photos; pixels are stored at the resolution that the recipe trains at."""
    pictures = real_photos(photos, 160)
    train, test = pixels_of(pictures[:120], side_px), pixels_of(pictures[120:], side_px)
    assert find_leaks(train, test).verified.tolist() == []
    for alter in SIX.values():
        found = find_leaks(train, np.concatenate([test, planted(pictures, alter, 120, side_px)]))
        assert found.verified.tolist() == [[place, 40 + place] for place in range(120)]


def test_what_is_nearly_a_copy_is_a_suspect_with_its_distance(sides):
    """A person can look at a handful of pairs; the nearest come first."""
    train, test = sides
    steps = np.linspace(0.3, 0.6, 16)[:, None, None, None]
    blends = np.rint(train[:1] * (1 - steps) + test[:1] * steps).astype(np.uint8)
    found = find_leaks(train, np.concatenate([test, blends]))
    assert len(found.suspects) > 0
    assert set(found.suspects[:, 0].tolist()) == {0}
    assert (np.diff(found.suspect_distances) >= 0).all()
    assert (found.suspect_distances > 1 - MIN_VERIFIED).all()
    assert (found.suspect_distances <= 1 - MIN_VERIFIED + SUSPECT_MARGIN).all()
    assert not {tuple(pair) for pair in found.suspects.tolist()} & {tuple(pair) for pair in found.verified.tolist()}


def test_mapped_files_give_what_arrays_give(sides, tmp_path):
    """Sides are larger than memory: they are read in parts from files that training reads anyway."""
    train, test = sides[0], np.concatenate([sides[1], sides[0][:5]])
    for name, pixels in (("train", train), ("test", test)):
        np.save(tmp_path / f"{name}.npy", pixels)
    mapped = find_leaks(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("train", "test")))
    assert np.array_equal(mapped.verified, find_leaks(train, test).verified)
    assert len(mapped.verified) == 5


def test_a_photo_with_many_copies_is_still_caught(sides):
    """Only a few neighbours of a photo are looked at; a train side that holds it twenty times must not hide it."""
    train = np.concatenate([sides[0], *[sides[0][:1]] * 20])
    found = find_leaks(train, np.concatenate([sides[1], sides[0][:1]]))
    assert len(found.verified) > 0
    assert set(found.verified[:, 1].tolist()) == {NUM_TEST}


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_photos_are_copies_of_nothing(sides, level):
    """Black frames hold nothing to learn and nothing to examine; they must not block a version."""
    flat = np.full((5, PX, PX, 3), level, np.uint8)
    found = find_leaks(np.concatenate([sides[0], flat]), np.concatenate([sides[1], flat]))
    assert len(found.verified) == len(found.suspects) == 0


def test_an_empty_side_has_no_leaks(sides):
    """A version may be asked about before it has both."""
    train, test = sides
    for pair in ((train[:0], test), (train, test[:0]), (train[:0], test[:0])):
        found = find_leaks(*pair)
        assert found.verified.shape == found.suspects.shape == (0, 2)


def test_pixels_of_another_shape_are_refused(sides):
    """A mix-up of resolutions would find nothing, and that would read as no leak."""
    train, _ = sides
    for wrong in (train[:, :8, :8], train.astype(np.float32), train[..., 0]):
        with pytest.raises(AssertionError, match="expected uint8"):
            find_leaks(train, wrong)
    with pytest.raises(AssertionError, match="two resolutions"):
        find_leaks(train, train[:, :24, :24])
