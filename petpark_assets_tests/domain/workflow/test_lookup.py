"""Claims about finding a photo by what a person types: the right one, or a question back."""

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import InvalidInput, NotFound
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.workflow.lookup import find_photo

FIRST, SECOND, THIRD = (files.sha256(data) for data in (b"first", b"second", b"third"))


def make_version(store, version, **sha256_by_name):
    """A version that saw these bytes under these names."""
    rows = [
        {"key": f"cat/{name}.jpg", "sha256": sha256, "size_bytes": 1, "state": "quarantined", "reason": "unlabelled"}
        for name, sha256 in sha256_by_name.items()
    ]
    catalogue.write_manifest(store, version, catalogue.build_table(rows, num_ignored=0, previous_manifest=None))


@pytest.fixture
def store(tmp_path):
    """Two versions: `a` was replaced by another photo, `b` left, `c` could not be read."""
    store = files.LocalStore(tmp_path)
    make_version(store, "v0001", a=FIRST, b=SECOND, c=None)
    make_version(store, "v0002", a=THIRD, c=None, d=THIRD)
    return store


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat/b.jpg", SECOND),
        ("cat/d.jpg", THIRD),
        (FIRST, FIRST),
        (FIRST[:8], FIRST),
        (SECOND[:12].upper(), SECOND),
    ],
)
def test_a_photo_is_found_by_key_or_digits_in_any_version(store, name, expected):
    """Who asks to be forgotten may have left the lake long ago."""
    assert find_photo(store, OriginalStore(store), name) == expected


def test_a_key_that_named_two_photos_is_asked_back(store):
    """Forgetting the wrong one cannot be undone."""
    with pytest.raises(InvalidInput, match="named 2 photos in turn") as caught:
        find_photo(store, OriginalStore(store), "cat/a.jpg")
    assert f"{FIRST[:16]} (since v0001)" in str(caught.value)
    assert f"{THIRD[:16]} (since v0002)" in str(caught.value)


def test_digits_that_begin_two_photos_are_asked_back(store):
    """Eight digits of a hundred thousand photos rarely meet, but they do."""
    make_version(store, "v0003", x="ab" * 32, y="ab" * 8 + "cd" * 24)
    with pytest.raises(InvalidInput, match="begins the sha256 of 2 photos: give more digits"):
        find_photo(store, OriginalStore(store), "abababab")
    assert find_photo(store, OriginalStore(store), "ab" * 8 + "cd") == "ab" * 8 + "cd" * 24


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat/nobody.jpg", "no version has a photo 'cat/nobody.jpg'"),
        (FIRST[:7], "8 or more digits"),
        ("0" * 64, "no version has a photo whose sha256 begins with 0000"),
        ("cat/c.jpg", r"the bytes of cat/c\.jpg could never be read"),
    ],
)
def test_what_names_no_photo_is_refused(store, name, words):
    """In one line that says what would."""
    with pytest.raises(NotFound, match=words):
        find_photo(store, OriginalStore(store), name)


def test_a_photo_that_a_stopped_ingestion_stored_is_found_by_its_whole_sha256(store):
    """Its bytes are kept though no version speaks of it: somebody must be able to remove them."""
    orphan = files.sha256(b"orphan")
    OriginalStore(store).append({orphan: b"orphan"})
    assert find_photo(store, OriginalStore(store), orphan) == orphan
    with pytest.raises(NotFound):
        find_photo(store, OriginalStore(store), orphan[:20])
