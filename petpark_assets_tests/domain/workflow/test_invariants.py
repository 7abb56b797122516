"""Claims about what manifests must satisfy: each rule is seen to be broken, and good versions break none."""

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.workflow import invariants


def photo(name, split="train", label="cat", group=None, **fields):
    """An accepted photo; its bytes are its name."""
    sha256 = files.sha256(name.encode())
    return {"key": name, "sha256": sha256, "size_bytes": 1, "label": label, "state": "accepted", "split": split,
            "group": group or sha256, **fields}  # fmt: skip


def version(*rows):
    """A manifest of some rows."""
    return catalogue.build_table(rows, num_ignored=0, previous_manifest=None)


def members(*manifests):
    """The members of versions v0001, v0002, ..."""
    found = invariants.MEMBER.empty_table()
    for number, manifest in enumerate(manifests, start=1):
        found = invariants.fold(found, catalogue.version_name(number), manifest)
    return found


SET_ASIDE = {"state": "quarantined", "reason": "undecodable", "split": None, "label": None, "group": None}
GOOD = [photo("a"), photo("b", "test"), photo("c", **SET_ASIDE), photo("d", state="duplicate", split=None)]


def test_a_good_version_breaks_no_rule():
    """A check that cries wolf is switched off."""
    manifest = version(*GOOD)
    assert list(invariants.within("v0001", manifest)) == []
    assert list(invariants.against_earlier(members(manifest), "v0002", manifest)) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (photo("x", state="lost", split=None), "its state is none that there is"),
        (photo("x", label=None), "accepted without a class"),
        (photo("x", label="hamster"), "accepted without a class"),
        (photo("x", split=None), "accepted without a class"),
        (photo("x", split="validation"), "accepted without a class"),
        (photo("x", sha256=None), "accepted without a class"),
        (photo("x", state="duplicate"), "on a side without being accepted"),
        (photo("x", **{**SET_ASIDE, "reason": None}), "quarantined without a reason"),
        (photo("x", **{**SET_ASIDE, "reason": "ugly"}), "quarantined without a reason"),
        (photo("x", reason="undecodable"), "has a reason without being quarantined"),
        (photo("x", sha256=files.sha256(b"a")), "its bytes are accepted twice"),
    ],
)
def test_a_row_that_does_not_add_up_is_named(row, words):
    """Counts balance only if every row is one thing, wholly."""
    found = list(invariants.within("v0001", version(*GOOD, row)))
    assert {finding.claim for finding in found} <= {"every_photo_is_counted_once", "groups_stay_together"}
    assert [finding.key for finding in found if words in finding.detail][-1] == "x"


def test_a_key_that_is_there_twice_is_named():
    """One file counted as two."""
    found = list(invariants.within("v0001", version(*GOOD, photo("a", sha256=files.sha256(b"other")))))
    assert [(finding.key, finding.detail) for finding in found] == [("a", "its key is there twice")] * 2


def test_a_group_on_both_sides_is_named():
    """Near-duplicates across the sides are the leak that everything here is about."""
    manifest = version(*GOOD, photo("x", "train", group="g"), photo("y", "test", group="g"))
    (found,) = invariants.within("v0001", manifest)
    assert (found.claim, found.dataset_version) == ("groups_stay_together", "v0001")
    assert "group g is on both sides" in found.detail


def test_a_photo_that_changed_sides_is_named_also_when_it_was_away_in_between():
    """Nobody may train on what an older model was examined on."""
    before = members(version(*GOOD, photo("x", "test")), version(*GOOD), version(*GOOD))
    found = list(invariants.against_earlier(before, "v0004", version(*GOOD, photo("x", "train"))))
    assert {finding.claim for finding in found} == {"photos_keep_their_side", "groups_stay_together"}
    assert all((finding.key, finding.dataset_version) == ("x", "v0004") for finding in found)
    assert "on the train side, v0001 had it on the test side" in found[0].detail


def test_a_group_that_changed_sides_is_named_though_none_of_its_photos_did():
    """A copy of a photo that is gone from the lake still belongs to that photo's side."""
    before = members(version(*GOOD, photo("x", "test", group="g")))
    (found,) = invariants.against_earlier(before, "v0002", version(*GOOD, photo("y", "train", group="g")))
    assert (found.claim, found.key, found.other_key) == ("groups_stay_together", "y", "x")


def test_both_sides_of_a_photo_that_changed_are_remembered():
    """So that it is named again by every version and every check after."""
    found = members(version(photo("x", "test")), version(photo("x", "train")), version(photo("x", "train")))
    assert sorted(zip(found["split"].to_pylist(), found["dataset_version"].to_pylist(), strict=True)) == [
        ("test", "v0001"), ("train", "v0002"),
    ]  # fmt: skip


def class_of(num_test, num_train, prefix=""):
    """Photos of one class, each a group of its own."""
    sides = ["test"] * num_test + ["train"] * num_train
    return [photo(f"{prefix}{side}{number}", side) for number, side in enumerate(sides)]


def test_a_class_off_80_to_20_is_reachable_only_while_new_groups_could_have_mended_it():
    """Removals can leave a class unbalanced, which is named and no fault; a new version that does not steer is one."""
    nothing = invariants.MEMBER.empty_table()
    assert list(invariants.unbalanced(nothing, "v0001", version(*class_of(40, 160)))) == []
    (fault,) = invariants.unbalanced(nothing, "v0001", version(*class_of(50, 150)))
    assert (fault["label"], fault["test_share"], fault["is_reachable"]) == ("cat", 0.25, True)
    settled = members(version(*class_of(40, 160)))
    (removed,) = invariants.unbalanced(settled, "v0002", version(*class_of(40, 100)))
    assert not removed["is_reachable"]
    some_new = version(*class_of(40, 100), *class_of(0, 10, "new"))
    (still,) = invariants.unbalanced(settled, "v0002", some_new)
    assert not still["is_reachable"]
    too_many = version(*class_of(30, 160), *class_of(0, 20, "new"))
    (fault,) = invariants.unbalanced(settled, "v0002", too_many)
    assert fault["is_reachable"]
