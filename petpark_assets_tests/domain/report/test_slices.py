"""A slice is a promise about some photos: which they are must be plain, and none may be too small to say anything."""

import numpy as np

from petpark_assets.domain.report.slices import MIN_IMAGES, cut, describe


def ramp(num_images):
    """Measured values that rise from photo to photo, the same of each kind."""
    return dict.fromkeys(("brightness", "sharpness", "size"), np.arange(num_images, dtype=float))


def test_every_photo_is_in_its_class_and_in_a_third_of_each_kind():
    """A photo that is in no slice is one on which a model may get worse unseen."""
    labels = np.repeat([0, 1], 450).astype(np.uint8)
    slices = cut(labels, ramp(900))
    assert [(part.measure, part.name) for part in slices[:5]] == [
        ("class", "cat"), ("class", "dog"), ("brightness", "dark"), ("brightness", "middle"), ("brightness", "bright"),
    ]  # fmt: skip
    for measure in ("class", "brightness", "sharpness", "size"):
        members = np.sum([part.members for part in slices if part.measure == measure], axis=0)
        assert (members == 1).all()
    assert [(part.low, part.high) for part in slices if part.measure == "size"] == [(0, 299), (300, 599), (600, 899)]


def test_photos_of_one_size_are_never_divided():
    """Cut by place, equal photos would fall into different slices, and the listing would choose which."""
    labels = (np.arange(900) % 2).astype(np.uint8)
    sizes = np.where(np.arange(900) < 700, 1000.0, 2000.0)
    found = [part for part in cut(labels, ramp(900) | {"size": sizes}) if part.measure == "size"]
    assert [(part.name, int(part.members.sum())) for part in found] == [("small", 700), ("large", 200)]


def test_slices_below_200_photos_are_left_out():
    """Two mistakes more on thirty photos would refuse a model that is better on all others."""
    labels = np.array([0] * 401 + [1] * 199, dtype=np.uint8)
    slices = cut(labels, ramp(600))
    assert "dog" not in {part.name for part in slices}
    assert min(part.members.sum() for part in slices) == MIN_IMAGES
    assert [part.name for part in cut(labels[:250], ramp(250))] == ["cat"]


def test_a_slices_accuracy_is_that_of_its_photos():
    """Counted by hand: the first hundred of three hundred dark photos are wrong."""
    labels = (np.arange(900) % 2).astype(np.uint8)
    rows = describe(cut(labels, ramp(900)), np.arange(900) >= 100)
    dark = next(row for row in rows if row["name"] == "dark")
    assert (dark["num_images"], dark["accuracy"]) == (300, 200 / 300)
    assert dark["accuracy_interval"][0] < dark["accuracy"] < dark["accuracy_interval"][1]
