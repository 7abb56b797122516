"""Claims about the drawn lake: it is the same for everybody, broken where it says so, and not won by a trick."""

from pathlib import Path

import numpy as np
import pytest

from petpark_assets.domain import images
from petpark_assets.domain.errors import Conflict
from petpark_assets.domain.lake.drawn import BROKEN, README, draw_lake, draw_one
from petpark_assets.domain.records import LABELS


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """One lake for all claims: 12 photos and every kind of broken file."""
    folder = tmp_path_factory.mktemp("lakes") / "drawn"
    draw_lake(folder, num_images=12, num_broken=8)
    return folder


def contents(folder):
    """Bytes by key."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_numbers_draw_the_same_lake(lake, tmp_path):
    """The demo's numbers are repeatable only if its photos are."""
    draw_lake(tmp_path / "again", num_images=12, num_broken=8)
    assert contents(tmp_path / "again") == contents(lake)


def test_another_seed_draws_other_photos(lake, tmp_path):
    """A seed that changes nothing would make every claim about repeating runs hollow."""
    draw_lake(tmp_path / "other", num_images=4, num_broken=0, seed=1)
    assert set(contents(tmp_path / "other").values()) & set(contents(lake).values()) == {README.encode()}


def test_a_larger_lake_begins_like_a_smaller_one(lake, tmp_path):
    """Tests grow a lake by drawing more of it; the first photos must stay what they were."""
    draw_lake(tmp_path / "small", num_images=6, num_broken=0)
    small, large = contents(tmp_path / "small"), contents(lake)
    assert all(large[key] == data for key, data in small.items())


def test_it_holds_what_was_asked_for(lake):
    """Half cats, half dogs, the broken ones, and a README that is no photo."""
    keys = sorted(contents(lake))
    good = [key for key in keys if "broken" not in key and key != "README.txt"]
    assert [sum(key.startswith(f"{label}/") for key in good) for label in ("cat", "dog")] == [6, 6]
    assert len([key for key in keys if "broken" in key]) == 8
    assert len(keys) == 12 + 8 + 1
    assert not images.sniff(README.encode()[: images.HEAD_BYTES], "README.txt")


def test_every_good_photo_can_be_decoded_and_differs(lake):
    """A duplicate or an unreadable drawing would be counted as broken."""
    good = {key: data for key, data in contents(lake).items() if "broken" not in key and key != "README.txt"}
    assert len(set(good.values())) == len(good) == 12
    for data in good.values():
        height_px, width_px, _ = images.decode(data).shape
        assert min(height_px, width_px) >= 140
        assert max(height_px, width_px) <= 220


@pytest.mark.parametrize(("kind", "reason"), [
    ("text", "undecodable"), ("empty", "undecodable"), ("truncated", "truncated"), ("bomb", "too_large"),
    ("tiny", "too_small"),
])  # fmt: skip
def test_broken_files_break_as_they_are_named(lake, kind, reason):
    """They are there to show every reason of the quarantine."""
    (path,) = lake.rglob(f"broken-*-{kind}.*")
    with pytest.raises(images.UnreadablePhoto) as caught:
        images.decode(path.read_bytes())
    assert caught.value.reason == reason


def test_what_is_broken_in_other_ways_is_a_good_photo(lake):
    """The unlabelled, the unknown and the duplicate are refused for their place or their bytes, not their pixels."""
    for kind in ("unlabelled", "unknown", "duplicate"):
        (path,) = lake.rglob(f"broken-*-{kind}.*")
        assert images.decode(path.read_bytes()).any()
    copies = [key for key, data in contents(lake).items() if data == path.read_bytes()]
    assert len(copies) == 2
    assert all(key.startswith("dog/") for key in copies)
    assert (lake / "broken-4-unlabelled.jpg").exists()
    assert (lake / "hamster" / "broken-8-unknown.jpg").exists()


def test_more_broken_files_than_kinds_begin_again(tmp_path):
    """Any number can be asked for."""
    draw_lake(tmp_path / "lake", num_images=2, num_broken=len(BROKEN) + 1)
    assert (tmp_path / "lake" / "cat" / "broken-9-text.jpg").exists()


def test_a_lake_is_never_drawn_over_another(lake):
    """Somebody's photos may lie there; the demo's second run must find its own lake as it left it."""
    before = contents(lake)
    with pytest.raises(Conflict, match="exists already"):
        draw_lake(lake)
    assert contents(lake) == before


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    """Half a lake would be taken for a whole one by the next run."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("petpark_assets.domain.lake.drawn._broken", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_lake(tmp_path / "lake", num_images=2, num_broken=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def drawings():
    """240 pictures, a cat and a dog in turn."""
    return [np.asarray(draw_one(np.random.default_rng([7, n]), LABELS[n % 2])) for n in range(240)]


def accuracy_of_a_straight_line(features):
    """Of the best linear rule on these features (ridge regression), on photos it was not fitted to."""
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    signs = np.where(np.arange(len(features)) % 2, 1.0, -1.0)
    folds = np.arange(len(features)) // 2 % 4
    hits = []
    for fold in range(4):
        x, y = features[folds != fold], signs[folds != fold]
        weights = x.T @ np.linalg.solve(x @ x.T + len(x) * np.eye(len(x)), y)
        hits += list(features[folds == fold] @ weights * signs[folds == fold] > 0)
    return np.mean(hits)


def test_colour_brightness_and_size_do_not_tell_the_classes_apart(drawings):
    """A network that only looked at colours must fail, or the demo would show nothing about learning shapes."""
    measured = images.measure(np.stack([images.thumbnail(pixels) for pixels in drawings]))
    shapes = np.array([pixels.shape[:2] for pixels in drawings])
    features = np.column_stack([
        measured.channel_means, measured.channel_squares, measured.brightness, measured.sharpness, shapes,
    ])  # fmt: skip
    assert accuracy_of_a_straight_line(features) < 0.7


def test_shape_does_tell_them_apart(drawings):
    """There must be something to learn: even a straight line on a few coarse edges is better than chance."""
    grey = np.array([images.resize(pixels, 24).mean(axis=2) for pixels in drawings])
    edges = np.abs(np.diff(grey, axis=1)).reshape(len(grey), -1)
    assert accuracy_of_a_straight_line(edges) > 0.6
