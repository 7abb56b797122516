"""Claims about the validation part: a share of each class, in whole groups, whatever the order."""

import hashlib

import numpy as np

from petpark_assets.domain.model.validation import carve_validation


def sha256s(count: int) -> list[str]:
    """Of that many photos."""
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_validation_is_carved_from_each_class_whatever_the_order():
    """A photo must not change sides with the listing."""
    names, labels = sha256s(300), (np.arange(300) % 3 == 0).astype(np.uint8)
    carved = carve_validation(names, labels, 0.1)
    assert carved[labels == 0].sum() == 20
    assert carved[labels == 1].sum() == 10
    order = np.random.default_rng(0).permutation(300)
    again = carve_validation([names[index] for index in order], labels[order], 0.1)
    assert np.array_equal(again, carved[order])


def test_a_small_class_still_gives_a_photo_to_validation():
    """Without one, its errors could not choose the epoch."""
    assert carve_validation(sha256s(5), np.array([0, 0, 0, 1, 1], np.uint8), 0.1)[:3].sum() == 1
    assert carve_validation(sha256s(1), np.array([0], np.uint8), 0.1).sum() == 0


def test_near_duplicates_stay_together_whatever_their_labels():
    """A copy of a learnt photo among those that judge would praise what was learnt by heart."""
    names = [f"{number // 4:02d}" for number in range(200)]
    labels = (np.arange(200) % 4 == 0).astype(np.uint8)  # each group has one photo of the second class
    carved = carve_validation(names, labels, 0.1)
    assert carved.sum() == 20
    assert all(len(set(carved[start : start + 4])) == 1 for start in range(0, 200, 4))


def test_a_group_too_large_for_its_share_is_learnt_from():
    """One burst of a camera must not fill, or overfill, what judges."""
    names, labels = ["a"] * 30 + sha256s(20), np.zeros(50, np.uint8)
    carved = carve_validation(names, labels, 0.1)
    assert carved.sum() == 5
    assert not carved[:30].any()
