"""Claims about tombstones: the first word stands, all are listed, and a damaged one is named."""

import dataclasses

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, NotFound
from petpark_assets.domain.lake import tombstones

PHOTO = files.sha256(b"a photo")
TOMBSTONE = tombstones.Tombstone(
    sha256=PHOTO,
    keys=("cat/1.jpg", "cat/copy.jpg"),
    dataset_versions=("v0001",),
    reason="its owner asked",
    who="Kim",
    when="2026-11-22T12:00:00+00:00",
)


@pytest.fixture
def store(tmp_path):
    """A store with one tombstone."""
    store = files.LocalStore(tmp_path)
    assert tombstones.forgotten(store) == frozenset()
    assert tombstones.write(store, TOMBSTONE)
    return store


def test_a_tombstone_is_read_as_it_was_written(store):
    """Who, when and why must be answered years later."""
    assert tombstones.forgotten(store) == {PHOTO}
    assert tombstones.read(store, PHOTO) == TOMBSTONE
    with pytest.raises(NotFound):
        tombstones.read(store, files.sha256(b"another photo"))


def test_the_first_word_stands(store):
    """Forgetting is run again after a crash, maybe by another person: the day and the reason are those of the first."""
    assert not tombstones.write(store, dataclasses.replace(TOMBSTONE, reason="another"))
    assert tombstones.read(store, PHOTO).reason == "its owner asked"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"sha256": "ab"}'])
def test_a_damaged_tombstone_still_keeps_the_photo_out_and_is_named(store, data):
    """The list of the forgotten is a listing of names: no damage inside a file may let a photo back in."""
    store.local_path(tombstones.tombstone_key(PHOTO)).write_bytes(data)
    assert tombstones.forgotten(store) == {PHOTO}
    with pytest.raises(CorruptData, match="is no tombstone any more"):
        tombstones.read(store, PHOTO)


def test_a_tombstone_under_another_name_is_named(store):
    """A copy under a wrong name would say that another photo was forgotten."""
    other = files.sha256(b"another photo")
    store.write_new(tombstones.tombstone_key(other), store.read(tombstones.tombstone_key(PHOTO)))
    with pytest.raises(CorruptData, match=f"is the tombstone of {PHOTO[:12]}"):
        tombstones.read(store, other)
