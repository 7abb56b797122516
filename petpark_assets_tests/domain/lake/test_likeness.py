"""Claims about copies: altered ones are found, others are left alone, and a thousand alike cost no more than others."""

import numpy as np
import pytest

from petpark_assets.domain.lake import candidates
from petpark_assets.domain.lake.candidates import KEPT_A_PHOTO
from petpark_assets.domain.lake.groups import assign_groups
from petpark_assets.domain.lake.likeness import near_duplicates
from petpark_assets.domain.lake.signatures import signatures
from petpark_assets_tests.benchmarks.alterations import MIXED, SIX
from petpark_assets_tests.domain.lake.likenesses import drawings, luminance_of, real_photos, signatures_of

NUM = 60


@pytest.fixture(scope="module")
def originals():
    """Signatures of distinct drawings."""
    return signatures_of(drawings(NUM))


def all_new(found):
    """Pairs when nothing was known before, as a set."""
    return {tuple(pair) for pair in near_duplicates(found, np.ones(len(found), np.bool_)).tolist()}


def frames(count, noise=2.0):
    """What a camera that looks at one scene sees: the same drawing in the noise of its sensor."""
    rng = np.random.default_rng(0)
    (scene,) = luminance_of(drawings(1)).astype(np.float32)
    noisy = scene + rng.standard_normal((count, 64, 64), dtype=np.float32) * np.float32(noise)
    return signatures(noisy.clip(0, 255).astype(np.uint8))


def num_families(found, pairs):
    """How many groups photos fall into."""
    names = [f"{number:06d}" for number in range(len(found))]
    return len(set(assign_groups(names, pairs, {}, {}).group_of.values()))


@pytest.mark.parametrize("name", [*SIX, *MIXED])
def test_every_altered_copy_of_a_drawing_is_found(originals, name):
    """A copy that is missed may be examined though its original was learned: the report would flatter the model."""
    copies = signatures_of([(SIX | MIXED)[name](photo) for photo in drawings(NUM)])
    pairs = all_new(np.concatenate([originals, copies]))
    assert [number for number in range(NUM) if (number, number + NUM) not in pairs] == []


def test_distinct_drawings_are_mostly_left_alone():
    """The demo's lake is drawn after one pattern; were it one group, there would be nothing to split."""
    found = signatures_of(drawings(400))
    assert len({place for pair in all_new(found) for place in pair}) < 400 * 0.15


@pytest.mark.photos
@pytest.mark.parametrize("name", ["cropped 3 % a side", "brightness x 1.2", "cropped 3 %, mirrored, JPEG quality 40"])
def test_copies_of_real_photos_are_found_and_others_left_alone(photos, name):
    """Drawings are simpler than photos. What is measured on all of them stands in benchmarks/results/grouping.json."""
    pictures = real_photos(photos, 200)
    copies = [(SIX | MIXED)[name](picture) for picture in pictures]
    pairs = all_new(np.concatenate([signatures_of(pictures), signatures_of(copies)]))
    assert pairs == {(number, number + 200) for number in range(200)}


def test_what_is_known_is_not_compared_again_and_nothing_is_lost_by_it(originals):
    """An increment must find what the whole would, each pair with a new photo once; or groups would depend on luck."""
    copies = signatures_of([SIX["cropped 3 % a side"](photo) for photo in drawings(NUM)])
    found = np.concatenate([originals, copies, originals])
    pairs = all_new(found)
    for is_new in (np.arange(3 * NUM) >= 2 * NUM, np.arange(3 * NUM) % 7 == 0, np.zeros(3 * NUM, np.bool_)):
        increment = near_duplicates(found, is_new)
        assert increment.dtype == np.int32
        assert increment.tolist() == sorted([i, j] for i, j in pairs if is_new[i] or is_new[j])


def test_a_few_new_photos_find_what_many_at_once_find(originals, monkeypatch):
    """Few are looked up by a shorter way: were it another, an increment could miss a copy that a first look finds."""
    copies = signatures_of([SIX["cropped 3 % a side"](photo) for photo in drawings(NUM)])
    found = np.concatenate([originals, copies])
    by_the_short_way = all_new(found)
    monkeypatch.setattr(candidates, "CHUNK", 7)
    assert all_new(found) == by_the_short_way


def test_the_order_of_photos_does_not_matter(originals):
    """A bucket lists in another order than a folder."""
    found = np.concatenate([originals, signatures_of([SIX["mirrored"](photo) for photo in drawings(NUM)])])
    order = np.random.default_rng(0).permutation(len(found))
    shuffled = {tuple(sorted((int(order[i]), int(order[j])))) for i, j in all_new(found[order])}
    assert shuffled == all_new(found)


@pytest.mark.parametrize("noise", [0.0, 2.0, 8.0])
def test_many_frames_of_one_camera_are_one_family_at_a_bounded_price(noise):
    """A thousand frames have half a million pairs; a hundred thousand would have five billion."""
    found = frames(1000, noise)
    pairs = near_duplicates(found, np.ones(len(found), np.bool_))
    assert len(pairs) <= 1000 * 2 * KEPT_A_PHOTO
    assert num_families(found, pairs) == 1


def test_a_new_frame_joins_the_family_of_the_known_ones():
    """The camera goes on; each day's frames must go where those of the days before are."""
    found = frames(300)
    is_new = np.arange(300) >= 280
    pairs = near_duplicates(found, is_new)
    assert set(range(280, 300)) <= set(pairs.ravel().tolist())
    assert (is_new[pairs].any(axis=1)).all()


def test_night_frames_without_content_are_not_copies():
    """Noise alone is like nothing; a lens that was covered all night must neither cost time nor join everything."""
    noise = np.random.default_rng(0).integers(0, 6, (500, 64, 64), np.uint8)
    assert all_new(signatures(noise)) == set()


def test_flat_photos_of_one_level_are_one_family(originals):
    """Black frames look the same; they hold nothing to learn, so all that matters is that they cost nothing."""
    black, white = np.zeros((50, 64, 64), np.uint8), np.full((50, 64, 64), 255, np.uint8)
    found = np.concatenate([originals, signatures(black), signatures(white)])
    black_pairs, white_pairs = ({(first, first + n) for n in range(1, 50)} for first in (NUM, NUM + 50))
    assert all_new(found) == all_new(originals) | black_pairs | white_pairs
    is_new = np.arange(len(found)) >= NUM + 49
    pairs = near_duplicates(found, is_new)
    assert [NUM, NUM + 49] in pairs.tolist()


def test_nothing_is_like_nothing(originals):
    """A first version may have one photo, an increment none."""
    for found in (originals[:0], originals[:1]):
        assert near_duplicates(found, np.ones(len(found), np.bool_)).shape == (0, 2)
