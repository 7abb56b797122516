"""Claims about the proof over all versions: a good home passes, and each thing that can go wrong is named."""

import dataclasses
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from petpark_assets.domain.errors import CorruptData, NotFound
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue, tombstones
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.originals import TABLE
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.tombstones import Tombstone
from petpark_assets.domain.workflow import forgetting, ingestion, sides, verification
from petpark_assets_tests.originals import damage, read_original

SIDE = 32


@pytest.fixture(scope="module")
def first_home(tmp_path_factory):
    """Three versions of a drawn lake: a photo leaves in the second and comes back in the third, with a copy of it."""
    folder = tmp_path_factory.mktemp("verification")
    lake, home = folder / "lake", open_home(folder / "home", actor="tester")
    draw_lake(lake, num_images=60, num_broken=8)
    photo = min((lake / "cat").glob("0*.jpg"))
    ingestion.new_dataset_version(home, str(lake), SIDE)
    data = photo.read_bytes()
    photo.unlink()
    ingestion.new_dataset_version(home, str(lake), SIDE)
    photo.write_bytes(data)
    Image.open(io.BytesIO(data)).resize((150, 150)).save(lake / "cat/smaller.png")
    ingestion.new_dataset_version(home, str(lake), SIDE)
    assert catalogue.list_versions(home.store) == ["v0001", "v0002", "v0003"]
    return home


@pytest.fixture
def home(first_home, tmp_path):
    """A copy of that home, to be damaged."""
    shutil.copytree(first_home.root, tmp_path / "home")
    return open_home(tmp_path / "home", actor="tester")


def offending(home):
    """The claims that do not hold, and the findings."""
    document = verification.verify_versions(home)
    assert document["is_sound"] == (document["offending"] == [])
    found = {claim: document[claim] for claim in verification.CLAIMS if document[claim]}
    assert sum(found.values()) == len(document["offending"])
    return set(found), document["offending"]


def accepted(home, version="v0003"):
    """The rows of a version's accepted photos."""
    rows = catalogue.read_manifest(home.store, version).to_pylist()
    return [row for row in rows if row["state"] == "accepted"]


def forge_version(home, change):
    """One more version, made from the newest by changing its rows; nothing but its content is wrong."""
    versions = catalogue.list_versions(home.store)
    rows = catalogue.read_manifest(home.store, versions[-1]).to_pylist()
    change(rows)
    digest = catalogue.manifest_sha256(home.store, versions[-1])
    table = catalogue.build_table(rows, num_ignored=1, previous_manifest=digest)
    catalogue.write_manifest(home.store, catalogue.version_name(len(versions) + 1), table)


def test_a_good_home_is_sound(home):
    """Over versions in which photos come, go and come back with copies, everything is proven and nothing cries wolf."""
    progress = []
    document = verification.verify_versions(home, on_progress=lambda *numbers: progress.append(numbers))
    assert document["offending"] == []
    assert document["is_sound"]
    assert (document["num_versions"], document["num_photos"]) == (3, len(accepted(home)))
    assert progress[-1] == (document["num_photos"],) * 2


def test_a_home_without_versions_is_no_proof(tmp_path):
    """Whoever mistypes the home must not read that all is well; and nothing is made by looking."""
    with pytest.raises(NotFound, match="has no dataset version to verify"):
        verification.verify_versions(open_home(tmp_path / "home", actor="tester"))
    assert not (tmp_path / "home").exists()


def test_versions_that_the_ledger_knows_and_the_store_does_not_are_named(home):
    """The newest version leaves no gap behind, and all of them leave nothing: only the ledger tells."""
    shutil.rmtree(home.store.local_path(catalogue.manifest_key("v0003")).parent)
    claims, (found,) = offending(home)
    assert (claims, found["dataset_version"]) == ({"ledger_is_whole"}, "v0003")
    shutil.rmtree(home.root / "store")
    claims, found = offending(home)
    assert claims == {"ledger_is_whole"}
    assert [finding["dataset_version"] for finding in found] == ["v0001", "v0002", "v0003"]


def test_a_changed_ledger_is_named(home):
    """It is what auditors read first."""
    path = home.root / "ledger.jsonl"
    path.write_text(path.read_text().replace("tester", "nobody", 1))
    claims, _ = offending(home)
    assert claims == {"ledger_is_whole"}


def test_a_forgotten_photo_is_no_fault(home):
    """Old manifests name it, and its bytes are gone: as it must be."""
    forgetting.forget(home, accepted(home)[0]["sha256"], "asked")
    assert offending(home) == (set(), [])


def test_a_changed_manifest_is_named(home):
    """Its digest is the version's name for everything that was made from it."""
    rows = accepted(home)
    path = home.store.local_path(catalogue.manifest_key("v0002"))
    table = catalogue.build_table(rows, num_ignored=1, previous_manifest=catalogue.manifest_sha256(home.store, "v0001"))
    path.write_bytes(catalogue.to_parquet(table))
    claims, found = offending(home)
    assert "manifests_are_as_recorded" in claims
    assert found[0]["dataset_version"] == "v0002"
    assert "was changed after it was recorded" in found[0]["detail"]


def test_a_version_taken_out_of_the_middle_is_named(home):
    """Each manifest names the one before it, so a gap shows."""
    shutil.rmtree(home.store.local_path(catalogue.manifest_key("v0002")).parent)
    claims, (found, told) = offending(home)
    assert (claims, found["dataset_version"]) == ({"manifests_are_as_recorded", "ledger_is_whole"}, "v0003")
    assert told["dataset_version"] == "v0002"
    assert "a version is missing, was changed, or was put in" in found["detail"]


def test_a_photo_that_changes_sides_is_named_with_its_key(home):
    """The one thing that must never happen."""
    photo = accepted(home)[3]
    other = {"train": "test", "test": "train"}[photo["split"]]

    def change(rows):
        next(row for row in rows if row["sha256"] == photo["sha256"] and row["split"])["split"] = other

    forge_version(home, change)
    claims, found = offending(home)
    assert "photos_keep_their_side" in claims
    row = next(row for row in found if row["claim"] == "photos_keep_their_side")
    assert (row["dataset_version"], row["key"], row["sha256"]) == ("v0004", photo["key"], photo["sha256"])


def test_sides_that_somebody_chose_are_named(home):
    """Balanced, kept for ever and without a copy across: only the rule, applied again, tells that nobody drew lots."""
    shutil.rmtree(home.store.root)
    (home.root / "ledger.jsonl").unlink()
    lake = home.root.parent / "lake"
    draw_lake(lake, num_images=40, num_broken=0)
    ingestion.new_dataset_version(home, str(lake), SIDE)
    rows = catalogue.read_manifest(home.store, "v0001").to_pylist()
    for side in ("train", "test"):  # both of one class
        photo = next(row for row in rows if row["label"] == "cat" and row["split"] == side and "swapped" not in row)
        photo |= {"split": {"train": "test", "test": "train"}[side], "swapped": True}
    swapped = {row["key"] for row in rows if row.pop("swapped", False)}
    home.store.delete(catalogue.manifest_key("v0001"))
    home.store.delete("raw_images/v0001.json")
    table = catalogue.build_table(rows, num_ignored=1, previous_manifest=None)
    catalogue.write_manifest(home.store, "v0001", table)
    (home.root / "ledger.jsonl").unlink()
    claims, found = offending(home)
    assert claims == {"sides_are_as_ruled"}
    assert {row["key"] for row in found} == swapped


BY_BOTH_SIGNATURES = {"copies_keep_one_side", "no_leak_by_another_signature"}


def forge_leak(home):
    """Put the copy that came with v0003 on the other side, in a group of its own; returns it and its original."""
    rows = catalogue.read_manifest(home.store, "v0003").to_pylist()
    copy = next(row for row in rows if row["key"] == "cat/smaller.png")
    original = next(row for row in rows if row["group"] == copy["group"] and row["key"] != copy["key"])
    copy |= {"split": {"train": "test", "test": "train"}[original["split"]], "group": copy["sha256"]}
    home.store.local_path(catalogue.manifest_key("v0003")).unlink()
    home.store.local_path("raw_images/v0003.json").unlink()
    digest = catalogue.manifest_sha256(home.store, "v0002")
    table = catalogue.build_table(rows, num_ignored=1, previous_manifest=digest)
    catalogue.write_manifest(home.store, "v0003", table)
    return copy, original


def test_a_copy_on_the_other_side_is_found_by_both_signatures(home):
    """A grouping with a bug gives each copy a group of its own: the manifest looks right, and only photos tell."""
    _, original = forge_leak(home)
    claims, found = offending(home)
    assert claims >= BY_BOTH_SIGNATURES
    for row in (row for row in found if row["claim"] in BY_BOTH_SIGNATURES):
        assert {row["key"], row["other_key"]} == {"cat/smaller.png", original["key"]}
    assert [path.name for path in home.cache.iterdir() if "leak" in path.name] == []


def test_a_copy_without_pixels_is_found_by_its_original(home):
    """Versions may have pixels at different resolutions; nothing escapes the independent check by that."""
    copy, _ = forge_leak(home)
    home.pixels.forget([copy["sha256"]])
    claims, _ = offending(home)
    assert claims >= BY_BOTH_SIGNATURES | {"pixels_are_there"}
    home.originals.forget([copy["sha256"]])
    claims, _ = offending(home)
    assert "originals_are_whole" in claims
    assert "no_leak_by_another_signature" not in claims


def test_a_damaged_and_a_lost_original_are_named(home):
    """Old versions are rebuilt from them."""
    damaged, lost, *_ = accepted(home)
    damage(home.store.root, read_original(home.originals, damaged["sha256"]))
    home.originals.forget([lost["sha256"]])
    claims, found = offending(home)
    assert claims == {"originals_are_whole"}
    assert {row["key"] for row in found} == {damaged["key"], lost["key"]}


@pytest.mark.parametrize(
    ("table", "claim"),
    [(TABLE, "originals_are_whole"), (f"pixels.lance/{SIDE}px.lance", "pixels_are_there")],
)
def test_a_table_that_cannot_be_read_is_named_once_and_all_else_is_looked_at(home, table, claim):
    """A file is cut off, as by a disk that failed: all of the damage must be known before anything is mended."""
    ingestion.raw_images(home, "v0003", 2 * SIDE)
    blank_pixels(home, accepted(home)[-1]["sha256"], 2 * SIDE)
    forge_leak(home)
    path = next((home.store.root / table / "data").iterdir())
    path.write_bytes(path.read_bytes()[:-1000])
    claims, found = offending(home)
    assert claims > {claim} | BY_BOTH_SIGNATURES
    assert ("pixels_are_as_drawn" in claims) == (claim == "pixels_are_there")
    (row,) = (row for row in found if row["claim"] == claim)
    assert row["detail"].startswith(f"the table {home.store.root / table} cannot be opened or read: ")
    assert row["detail"].endswith(("from originals", "has its photos"))
    assert "\n" not in row["detail"]


def test_originals_that_cannot_be_read_are_named_alone(home):
    """Lance keeps a photo's length before its bytes; with another one it reads neither that photo nor its batch."""
    unreadable = accepted(home)[:2]
    for photo in unreadable:
        data = read_original(home.originals, photo["sha256"])
        (path,) = (path for path in (home.store.root / TABLE / "data").iterdir() if data in path.read_bytes())
        before, after = path.read_bytes().split(len(data).to_bytes(8, "little") + data)
        path.write_bytes(before + bytes([255] * 8) + data + after)
    claims, found = offending(home)
    assert claims == {"originals_are_whole"}
    assert {row["key"] for row in found} == {photo["key"] for photo in unreadable}
    assert all("cannot be opened or read" in row["detail"] for row in found)


def test_pixels_that_cannot_be_read_are_named(home, monkeypatch):
    """Although their table says that they are there."""

    def read(*_told):
        raise CorruptData("a page makes no sense")

    monkeypatch.setattr(PixelStore, "read", read)
    claims, found = offending(home)
    assert claims == {"pixels_are_as_drawn"}
    assert {row["sha256"] for row in found} == {row["sha256"] for row in accepted(home)}


def test_lost_pixels_are_named(home):
    """They can be drawn again from the originals, but somebody must know."""
    photo = accepted(home)[0]
    home.pixels.forget([photo["sha256"]])
    claims, (found,) = offending(home)
    assert (claims, found["key"]) == ({"pixels_are_there"}, photo["key"])


def blank_pixels(home, sha256, side):
    """What a failing disk, or a person, may do to a table: it can still be read, and is of the same size."""
    pixels = home.pixels.read([sha256], side).tobytes()
    (path,) = (path for path in Path(home.pixels.root, f"{side}px.lance/data").iterdir() if pixels in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(pixels, bytes(len(pixels))))


def test_changed_pixels_are_named_at_each_resolution_and_can_be_drawn_again(home):
    """Training reads them and nothing else; that there are some for each photo says nothing."""
    one, other, *_ = accepted(home)
    ingestion.raw_images(home, "v0003", 16)
    assert offending(home) == (set(), [])
    blank_pixels(home, one["sha256"], SIDE)
    blank_pixels(home, other["sha256"], 16)
    claims, found = offending(home)
    assert claims == {"pixels_are_as_drawn"}
    assert {(row["key"], row["sha256"]) for row in found} == {(row["key"], row["sha256"]) for row in (one, other)}
    sides_px = {row["sha256"]: row["detail"].split("px.lance")[0].rpartition("/")[2] for row in found}
    assert sides_px == {one["sha256"]: str(SIDE), other["sha256"]: "16"}
    for side in (SIDE, 16):
        shutil.rmtree(f"{home.pixels.root}/{side}px.lance")
        for version in catalogue.list_versions(home.store):
            ingestion.raw_images(home, version, side)
    assert offending(home) == (set(), [])


def test_the_proof_of_many_photos_is_that_of_few(home, monkeypatch):
    """Photos are compared by the shard, on all processors: no place may slip from one to another."""
    photos = accepted(home)
    wrong = photos[1::7]
    for photo in wrong:
        blank_pixels(home, photo["sha256"], SIDE)
    home.originals.forget([photos[0]["sha256"]])
    monkeypatch.setattr(verification, "_SHARD_ROWS", 3)
    claims, found = offending(home)
    assert claims == {"originals_are_whole", "pixels_are_as_drawn"}
    assert {row["key"] for row in found} == {photo["key"] for photo in [photos[0], *wrong]}


def test_what_is_left_of_a_forgotten_photo_is_named(home):
    """A tombstone without the deletion: forgetting was stopped, or an ingestion brought the photo back meanwhile."""
    photo = accepted(home)[0]
    tombstones.write(home.store, _tombstone(photo, versions=("v0001", "v0002", "v0003")))
    claims, found = offending(home)
    assert claims == {"forgotten_is_gone"}
    assert [row["detail"] for row in found] == [
        "its original is stored: forget it again", f"its pixels of {SIDE} px are stored: forget it again",
    ]  # fmt: skip
    forgetting.forget(home, photo["sha256"], "asked")
    assert offending(home) == (set(), [])


def test_a_home_that_has_not_followed_is_named(home):
    """Its caches and pages may still show a photo that was forgotten in another home of the store."""
    photo = accepted(home)[0]
    sides.open_side(home, "v0003", photo["split"], SIDE)
    other = open_home(home.root.parent / "other", actor="Lee", store_uri=home.store.uri)
    forgetting.forget(other, photo["sha256"], "asked")
    claims, (found,) = offending(home)
    assert (claims, found["sha256"]) == ({"forgotten_is_gone"}, photo["sha256"])
    assert f"{home.cache / 'pixels'} and what is beside it may hold copies of it" in found["detail"]
    assert offending(other) == (set(), [])
    sides.open_side(home, "v0003", photo["split"], SIDE)
    assert offending(home) == (set(), [])


def test_a_photo_accepted_after_it_was_forgotten_is_named(home):
    """By a version that began later; one that was being made meanwhile is no fault if nothing of the photo is left."""
    photo = accepted(home)[0]
    home.pixels.forget([photo["sha256"]])
    home.originals.forget([photo["sha256"]])
    began_before = _tombstone(photo, versions=("v0001", "v0002"))
    tombstones.write(home.store, began_before)
    assert offending(home) == (set(), [])
    home.store.local_path(tombstones.tombstone_key(photo["sha256"])).unlink()
    tombstones.write(home.store, dataclasses.replace(began_before, when="2000-01-01T00:00:00+00:00"))
    claims, (found,) = offending(home)
    assert (claims, found["dataset_version"], found["key"]) == ({"forgotten_is_gone"}, "v0003", photo["key"])


def _tombstone(photo, versions):
    return Tombstone(
        sha256=photo["sha256"], keys=(photo["key"],), dataset_versions=versions, reason="asked", who="Kim",
        when="2999-01-01T00:00:00+00:00",
    )  # fmt: skip
