"""Claims about the check of a version's photos: it counts for itself, and refuses each sum that does not come out."""

import dataclasses

import pytest

from petpark_assets.domain.files import write_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets_tests.checks.verdicts import verdict
from petpark_assets_tests.domain.audit.drawn_home import photo

CHECK = "every_photo_is_counted_once"
ASIDE = {"split": None, "label": None, "group": None}
ROWS = [
    *(photo(number) for number in range(4)),
    {**photo(4), **ASIDE, "state": "duplicate"},
    {**photo(5), **ASIDE, "state": "quarantined", "reason": "undecodable"},
]


def told(folder, rows, **recorded):
    """What the check says of a manifest of these rows whose record has these counts instead of those of ROWS."""
    home = open_home(folder, actor="tester")
    table = catalogue.build_table(rows, num_ignored=0, previous_manifest=None)
    sha256 = catalogue.write_manifest(home.store, "v0001", table)
    good = catalogue.build_table(ROWS, num_ignored=0, previous_manifest=None)
    record = catalogue.raw_images(good, "v0001", sha256)
    write_record(home.store, dataclasses.replace(record, images={**record.images, **recorded}), {})
    return verdict(home, CHECK)


def test_a_version_that_adds_up_passes(tmp_path):
    """With the counts beside it, as the UI shows them."""
    found = told(tmp_path, ROWS)
    assert (found.passed, found.description) == (True, "6 rows, 6 accounted for, 6 recorded as seen")
    assert {state: count.value for state, count in found.metadata.items()} == {
        "accepted": 4, "duplicate": 1, "quarantined": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "recorded", "words"),
    [
        ([*ROWS[:3], {**photo(3), "state": "lost"}, *ROWS[4:]], {"accepted": 3}, "6 rows, 5 accounted for, 6 recorded"),
        (ROWS, {"seen": 7}, "6 rows, 6 accounted for, 7 recorded"),
        (ROWS, {"accepted": 3, "duplicate": 2}, "6 rows, 6 accounted for, 6 recorded"),
    ],
    ids=["a photo in no state", "a photo that no row is about", "photos counted as others"],
)
def test_a_version_that_does_not_add_up_fails(tmp_path, rows, recorded, words):
    """A photo that is nowhere was neither learned from nor looked at by a person, and nobody would know."""
    found = told(tmp_path, rows, **recorded)
    assert (found.passed, found.blocking) == (False, True)
    assert found.description.startswith(words)
