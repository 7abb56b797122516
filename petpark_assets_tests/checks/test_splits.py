"""Claims about the sides' checks: each can fail, history is that of the other versions, and a leak stops the run."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from petpark_assets.domain import splits
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue, history
from petpark_assets_tests.assets import displayed
from petpark_assets_tests.checks import doctored
from petpark_assets_tests.checks.verdicts import build, verdict
from petpark_assets_tests.domain.audit.drawn_home import add_version, photo
from petpark_assets_tests.domain.lake.likenesses import drawings, pixels_of

MOVED = "a" * 64


def _make_version(store: LocalStore, version: str, side: str) -> None:
    row = {
        "key": "cat/1.jpg", "size_bytes": 1, "sha256": MOVED, "label": "cat", "group": MOVED,
        "split": side, "state": "accepted", "first_version": "v0001",
    }  # fmt: skip
    table = catalogue.build_table([row], num_ignored=0, previous_manifest=None)
    assert catalogue.write_manifest(store, version, table)


def test_a_photo_that_changed_sides_is_found_in_the_newest_version(tmp_path: Path):
    """Were the version's own rows its history, a photo that moved would always look as if it had never moved."""
    store = LocalStore(tmp_path)
    _make_version(store, "v0001", "train")
    _make_version(store, "v0002", "test")
    newest = catalogue.read_manifest(store, "v0002")
    assert splits.leaks(newest, history.sides(history.read_history(store, besides="v0002"))) == [MOVED]
    assert splits.leaks(newest, history.sides(history.read_history(store))) == []


@pytest.fixture
def home(tmp_path):
    """A home without versions."""
    return open_home(tmp_path / "home", actor="tester")


PHOTOS = [photo(number) for number in range(20)]
"""Ten of each class, two of them on the test side: 0, 5, 10 and 15."""


def test_sides_that_share_nothing_pass(home):
    """Also a second version of the same photos, with others."""
    add_version(home, "v0001", PHOTOS)
    add_version(home, "v0002", [*PHOTOS[1:], photo(20)])
    for version in ("v0001", "v0002"):
        found = verdict(home, "no_photo_on_both_sides", version)
        assert (found.passed, found.description) == (True, "the sides share nothing")
        assert found.metadata["offending"].value == []


def test_a_photo_that_was_on_the_other_side_fails_in_every_version(home):
    """A model of one version may be examined on another; the photo is named, and what to do about it."""
    moved = {**PHOTOS[3], "split": "test"}
    add_version(home, "v0001", PHOTOS)
    add_version(home, "v0002", [moved, *PHOTOS[4:]])
    for version in ("v0001", "v0002"):
        found = verdict(home, "no_photo_on_both_sides", version)
        assert (found.passed, found.blocking) == (False, True)
        assert found.metadata["offending"].value == [moved["sha256"]]
        assert found.description.startswith(f"1 photos on both sides, the first is {moved['sha256'][:12]}…: take them")


def test_a_group_on_both_sides_fails(home):
    """Near-duplicates are one photo for an exam: both are named."""
    parted = {**PHOTOS[5], "group": PHOTOS[6]["group"]}
    add_version(home, "v0001", [*PHOTOS[:5], parted, *PHOTOS[6:]])
    found = verdict(home, "no_photo_on_both_sides")
    assert not found.passed
    assert found.metadata["offending"].value == sorted([PHOTOS[5]["sha256"], PHOTOS[6]["sha256"]])


def with_pixels(home, *, is_copied):
    """A version of drawings. That of photo 5 shines through to photo 1's, and 10 may be a brighter copy of 2."""
    pixels = pixels_of(drawings(len(PHOTOS)), doctored.RECIPE.resolution_px)
    pixels[5] = np.rint(0.62 * pixels[1] + 0.38 * pixels[5])
    if is_copied:
        pixels[10] = np.minimum(pixels[2] * 1.1, 255)
    add_version(home, "v0001", PHOTOS)
    home.pixels.append([row["sha256"] for row in PHOTOS], pixels, doctored.RECIPE.resolution_px)


def pair(train, test):
    """The cells of a pair in the check's tables."""
    return {"train": train["key"], "test": test["key"], "train_sha256": train["sha256"], "test_sha256": test["sha256"]}


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_copy_on_the_other_side_fails_and_what_looks_alike_is_listed(home, is_copied):
    """The grouping may have overlooked a copy; what only may be one is for a person to look at, and blocks nothing."""
    with_pixels(home, is_copied=is_copied)
    found = verdict(home, "no_near_duplicate_on_both_sides")
    assert (found.passed, found.blocking) == (not is_copied, True)
    (suspect,) = displayed.rows(found.metadata["suspects"])
    assert 0.28 < float(suspect.pop("distance")) < 0.34
    assert suspect == pair(PHOTOS[1], PHOTOS[5])
    if is_copied:
        assert displayed.rows(found.metadata["verified"]) == [pair(PHOTOS[2], PHOTOS[10])]
        assert found.description.startswith("1 leaks: dog/010.jpg is a copy of dog/002.jpg: take one of each pair")
    else:
        assert found.metadata["verified"].value == "none"
        assert found.description == "no copies across the sides, 1 suspects"


def test_sides_of_80_to_20_pass(home):
    """With the share of each class."""
    add_version(home, "v0001", PHOTOS)
    found = verdict(home, "split_is_80_to_20")
    assert (found.passed, found.description) == (True, "cat: 0.2000 on the test side, dog: 0.2000 on the test side")


def test_one_class_off_80_to_20_is_a_warning(home):
    """The other class does not make up for it."""
    on_test = [{**row, "split": "test"} if row["key"] in {"cat/001.jpg", "cat/003.jpg"} else row for row in PHOTOS]
    for version in ("v0001", "v0002"):  # what came later excuses nothing
        add_version(home, version, on_test)
    found = verdict(home, "split_is_80_to_20")
    assert (found.passed, found.severity, found.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert found.description == "cat: 0.4000 on the test side, dog: 0.2000 on the test side"


def test_the_warning_says_where_removals_put_80_to_20_out_of_reach(home):
    """Nobody looks for a fault where there is none: sides are for ever, and six cats of the train side were removed."""
    add_version(home, "v0001", PHOTOS)
    removed = {f"cat/{number:03}.jpg" for number in (1, 3, 7, 9, 11, 13)}
    add_version(home, "v0002", [row for row in PHOTOS if row["key"] not in removed])
    found = verdict(home, "split_is_80_to_20", "v0002")
    assert not found.passed
    assert found.description == (
        "cat: 0.5000 on the test side (removals keep it from 80/20 until photos arrive), dog: 0.2000 on the test side"
    )


@pytest.fixture(scope="module")
def drawn_home(tmp_path_factory):
    """A good home with photos, to be copied."""
    return doctored.drawn(tmp_path_factory.mktemp("drawn"))


def _unbalance(home):
    """Put all cats on the test side."""

    def change(rows):
        for row in rows:
            if row["label"] == "cat" and row["split"]:
                row["split"] = "test"

    doctored.rewrite(home, change)


@pytest.mark.parametrize(
    ("doctor", "refused", "failed"),
    [
        (doctored.part_copies, "no_near_duplicate_on_both_sides", "test_split_no_near_duplicate_on_both_sides"),
        (_unbalance, "split_is_80_to_20", "evaluation_report"),
    ],
    ids=["a leak", "a warning"],
)
def test_a_leak_stops_the_run_before_the_exam_and_a_warning_does_not(drawn_home, tmp_path, doctor, refused, failed):
    """A check that only tells lets a model be crowned for what it had learnt. An exam that begins has no model here."""
    home = doctored.copied(drawn_home, tmp_path)
    doctor(home)
    result = build(home, "raw_images", "train_split", "test_split", "evaluation_report")
    assert [check.check_name for check in result.get_asset_check_evaluations() if not check.passed] == [refused]
    assert {event.step_key for event in result.all_events if event.is_step_failure} == {failed}
    began = {event.step_key for event in result.all_events if event.is_step_start}
    assert ("evaluation_report" in began) == (failed == "evaluation_report")
    made = {event.asset_key.to_user_string() for event in result.all_events if event.is_step_materialization}
    assert made == {"raw_images", "train_split", "test_split"}
