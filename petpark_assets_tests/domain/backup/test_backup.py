"""Claims about backups: all of a home comes back, whatever went on meanwhile, and nothing that was forgotten."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.audit import proof
from petpark_assets.domain.backup import checking, making, places, restoring
from petpark_assets.domain.backup.snapshot import Engines
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue, tombstones
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.ledger import FileLedger
from petpark_assets.domain.s3.store import S3Store
from petpark_assets.domain.workflow import forgetting, ingestion, verification
from petpark_assets.resources.environments import open_here, read_environment
from petpark_assets_tests import releases
from petpark_assets_tests.domain.backup.conftest import SIDE_PX, at
from petpark_assets_tests.domain.workflow import scan
from petpark_assets_tests.originals import read_original

BUILDER = """
import shutil, sys
from pathlib import Path
from petpark_assets.domain.home import open_home
from petpark_assets.domain.workflow import ingestion
root, more = Path(sys.argv[1]), Path(sys.argv[2])
home = open_home(root / "home", actor="builder")
for photo in sorted(more.glob("cat/*.jpg")):
    shutil.copy(photo, root / "lake/cat")
    version = ingestion.new_dataset_version(home, str(root / "lake"), 16).dataset_version
    ingestion.raw_images(home, version, 16)
    ingestion.split(home, version)
    print(version, flush=True)
"""


@pytest.fixture
def finished(tmp_path):
    """A home with all that there is in one, as the code of 2026-11-22 left it: models, registry, Dagster's runs."""
    return at(releases.unpack(tmp_path) / "home")


def restore(place, root, **which):
    """The home that a backup gives, proved as a person is told to."""
    restoring.restore(place, root, at, **which)
    assert proof.verify(at(root))["offending"] == []
    assert verification.verify_versions(at(root))["offending"] == []
    return at(root)


def contents(store):
    """What a store has, but for the tables of photos, whose log differs."""
    return {key: store.read(key) for key in store.list_keys("") if ".lance/" not in key}


def test_all_of_a_home_comes_back(finished, place, tmp_path):
    """Every byte of the store, every event, the registry with its files, Dagster's runs, and pages to look at."""
    made = making.make(finished, place)
    before, events = contents(finished.store), list(finished.ledger.events())
    shutil.rmtree(finished.root)
    again = restore(place, tmp_path / "elsewhere/home")
    assert contents(again.store) == before
    *same, restored = again.ledger.events()
    assert same == events[: made["num_events"]]
    assert (restored.event, restored.subject["number"]) == ("home_restored", 1)
    again.registry.download("champion", tmp_path / "model")
    assert (again.root / "dagster/history/runs.db").is_file()
    assert len(list((again.root / "reports").rglob("*.html"))) == 6


def home_photos(home):
    """The photos of all versions that were not forgotten."""
    tables = [catalogue.read_manifest(home.store, version) for version in catalogue.list_versions(home.store)]
    rows = [row for table in tables for row in table.to_pylist() if row["state"] == "accepted"]
    return sorted({row["sha256"] for row in rows} - tombstones.forgotten(home.store))


def test_a_second_backup_adds_only_what_is_new_and_the_first_can_still_be_restored(home, folder, place, tmp_path):
    """Whoever pays for every byte each night backs up once a month."""
    first = making.make(home, place)
    again = making.make(home, place)
    assert (first["number"], again["number"], again["num_new"]) == (1, 2, 1), "only the ledger has a new line"
    grow(home, folder, tmp_path)
    third = making.make(home, place)
    assert third["num_new"] < 15 < first["num_new"]
    assert [backup.number for backup in places.list_backups(place)] == [1, 2, 3]
    assert catalogue.list_versions(restore(place, tmp_path / "one", number=1).store) == ["v0001", "v0002"]
    assert catalogue.list_versions(restore(place, tmp_path / "three").store) == ["v0001", "v0002", "v0003"]


def grow(home, folder, tmp_path):
    """A photo more, in a version more."""
    draw_lake(tmp_path / "more", num_images=24, num_broken=0)
    shutil.copy(tmp_path / "more/dog/00021.jpg", folder / "lake/dog")
    version = ingestion.new_dataset_version(home, str(folder / "lake"), SIDE_PX).dataset_version
    ingestion.split(home, version)


class DiesAfter(LocalStore):
    """A place whose writer dies after some writes."""

    writes_left = 0

    def write_many(self, items):
        """See Store."""
        self._count()
        super().write_many(items)

    def write_new(self, key, data):
        """See Store."""
        self._count()
        return super().write_new(key, data)

    def _count(self):
        self.writes_left -= 1
        if self.writes_left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_backup_is_none_and_the_next_goes_on(home, place, tmp_path):
    """What was being written when the power went must not be what a park is restored from."""
    for writes in count():
        dying = DiesAfter(place.root)
        dying.writes_left = writes
        try:
            assert making.make(home, dying)["number"] == 1
            break
        except KeyboardInterrupt:
            with pytest.raises(NotFound, match="there is none; one that was interrupted is none"):
                places.find(place)
    assert writes > 5
    restore(place, tmp_path / "again")


def test_the_last_write_says_that_all_is_there(home, place):
    """Nothing may follow it: an error after it would leave a backup that is called whole and is not."""
    order = []

    class Noting(LocalStore):
        def write_many(self, items):
            order.extend(items)
            super().write_many(items)

        def write_new(self, key, data):
            order.append(key)
            return super().write_new(key, data)

        def sync(self):
            order.append("sync")
            super().sync()

    making.make(home, Noting(place.root))
    assert order[-2:] == ["sync", "backups/000001.json"]


def test_a_forgotten_photo_goes_from_older_backups_and_never_comes_back(home, place, tmp_path):
    """Its owner asked: neither the place, nor a home restored from before, may have a byte of it."""
    making.make(home, place)
    photo = home_photos(home)[0]
    data = read_original(home.originals, photo)
    pixels = home.pixels.read([photo], SIDE_PX).tobytes()
    wanted = scan.blocks(data[700:-32]) | scan.blocks(pixels)
    told = forgetting.forget(home, photo, "its owner asked")
    assert told["backups"] == [place.uri]
    assert scan.files_with(wanted, [place.root]) != [], "the scan does not see it, so it proves nothing"
    assert making.make(home, place)["num_removed"] >= 2
    assert "forgotten.json" not in places.read_files(place, places.find(place)), "it is about this home's copies"
    assert forgetting.forget(home, photo, "its owner asked")["backups"] == []
    assert scan.files_with(wanted, [place.root]) == []
    for number in (1, 2):
        again = restore(place, tmp_path / str(number), number=number)
        assert photo in tombstones.forgotten(again.store)
        assert scan.files_with(wanted, [again.root]) == []
        assert [event.subject["sha256"] for event in again.ledger.events() if event.event == "photo_forgotten"][
            -1
        ] == photo


def test_the_lake_is_left_out_also_where_it_lies_in_the_home(folder, place, tmp_path):
    """It would be copied with every backup, and bring back what was forgotten."""
    home = at(tmp_path / "home")
    shutil.copytree(folder / "lake", home.root / "photos")
    ingestion.new_dataset_version(home, str(home.root / "photos"), SIDE_PX)
    making.make(home, place)
    assert not any(path.startswith("photos/") for path in places.read_files(place, places.find(place)))
    forgetting.forget(home, home_photos(home)[0], "its owner asked")
    making.make(home, place)
    for number in (1, 2):
        restore(place, tmp_path / str(number), number=number)


def test_a_copy_that_a_person_kept_of_a_forgotten_photo_goes_too(home, place, tmp_path):
    """Every backup can still be restored, and none has the photo's bytes under another name."""
    photo = home_photos(home)[0]
    data = read_original(home.originals, photo)
    (home.root / "for-kim").mkdir()
    (home.root / "for-kim/nice.jpg").write_bytes(data)
    making.make(home, place)
    forgetting.forget(home, photo, "its owner asked")
    making.make(home, place)
    wanted = scan.blocks(data[700:-32])
    assert scan.files_with(wanted, [home.root]) != [], "the scan does not see it, so it proves nothing"
    assert scan.files_with(wanted, [place.root]) == []
    for number in (1, 2):
        assert scan.files_with(wanted, [restore(place, tmp_path / str(number), number=number).root]) == []


@pytest.mark.parametrize("name", ["store", "data/park"])
def test_a_store_that_is_named_within_the_home_comes_back_there(folder, place, tmp_path, name):
    """Copied once, or tables of before would keep what was forgotten; restored with the home, not beside it."""
    environment = dataclasses.replace(read_environment({"PETPARK_ACTOR": "Kim"}), home=tmp_path / "home")
    environment = dataclasses.replace(environment, store=f"{tmp_path}/./home/{name}")
    home = open_here(environment)
    ingestion.new_dataset_version(home, str(folder / "lake"), SIDE_PX)
    making.make(home, place)
    assert not any(path.startswith("data/") for path in places.read_files(place, places.find(place)))
    photo = home_photos(home)[0]
    wanted = scan.blocks(read_original(home.originals, photo)[700:-32])
    forgetting.forget(home, photo, "its owner asked")
    making.make(home, place)
    assert scan.files_with(wanted, [place.root]) == []
    shutil.rmtree(home.root)
    restoring.restore(place, home.root, lambda root: open_here(environment.at(root)), number=1)
    again = open_here(environment)
    assert again.store.uri == f"{home.root}/{name}"
    assert verification.verify_versions(again)["offending"] == []
    assert scan.files_with(wanted, [home.root]) == []


def test_a_folder_of_a_server_within_the_home_is_refused_before_anything_is_written(home, place, tmp_path):
    """The home is made elsewhere and renamed: it could not take the place of a folder that has something."""
    making.make(home, place)
    logs = LocalStore(tmp_path / "again/logs")
    with pytest.raises(InvalidInput, match=r"again/logs lies in the home .*/again, and nothing was written"):
        restoring.restore(place, tmp_path / "again", at, Engines(logs=logs))
    assert not list(tmp_path.glob("*again*"))


def test_a_link_is_followed_to_where_the_home_shall_be(home, place, tmp_path):
    """A disk of its own is often linked to from where people look."""
    making.make(home, place)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert restoring.restore(place, tmp_path / "link", at)["home"] == str(tmp_path / "disk")
    assert verification.verify_versions(at(tmp_path / "link"))["offending"] == []


def test_a_photo_forgotten_after_all_backups_stays_so_where_the_ledger_outlived_the_home(home, place, tmp_path):
    """A ledger on a server of its own is ahead of every backup: it alone knows, and has the tombstone's every word."""
    making.make(home, place)
    photo = home_photos(home)[0]
    wanted = scan.blocks(read_original(home.originals, photo)[700:-32])
    wanted |= scan.blocks(home.pixels.read([photo], SIDE_PX).tobytes())
    forgetting.forget(home, photo, "its owner asked")
    outlived = home.ledger

    def open_beside(root):
        return dataclasses.replace(at(root), ledger=outlived)

    root = tmp_path / "again"
    assert scan.files_with(wanted, [place.root]) != [], "the scan does not see it, so it proves nothing"
    told = restoring.restore(place, root, open_beside)
    assert (told["forgotten"], told["num_events_since"]) == ([photo], 2)
    assert tombstones.read(at(root).store, photo) == tombstones.read(home.store, photo)
    assert scan.files_with(wanted, [root]) == []
    assert [event.event for event in outlived.events()][-3:] == ["backup_made", "photo_forgotten", "home_restored"]


def test_a_log_that_is_deleted_before_it_is_read_is_passed_over(home, place, tmp_path):
    """Somebody deletes a run meanwhile: the backup is of the rest, at once, and nobody reads of forgotten photos."""

    class Fading(LocalStore):
        def read(self, key):
            raise NotFound(f"{key} is not in {self.uri}")

    logs = Fading(tmp_path / "logs")
    logs.write_new("storage/run/step.err", b"told")
    making.make(home, place, Engines(logs=logs))
    assert not any(path.startswith("logs/") for path in places.read_files(place, places.find(place)))


def test_a_photo_forgotten_while_a_backup_ends_waits_for_the_next(home, place, tmp_path, monkeypatch):
    """Its list is written by then: without an object that it names it could not be restored, on any day."""
    photo = min(home_photos(home))
    write = places.write

    def write_late(*told):
        forgetting.forget(home, photo, "its owner asked")
        write(*told)

    monkeypatch.setattr(places, "write", write_late)
    making.make(home, place)
    monkeypatch.setattr(places, "write", write)
    restore(place, tmp_path / "again")
    assert making.make(home, place)["num_removed"] >= 1
    assert photo in tombstones.forgotten(restore(place, tmp_path / "later", number=1).store)


def test_a_ledger_of_another_home_is_refused_before_anything_is_written(home, place, tmp_path):
    """In a chain of parks a mistyped database would leave one park's photos in another's bucket."""
    making.make(home, place)
    other = at(tmp_path / "other")
    other.ledger.append("label_corrected", {})
    bucket = LocalStore(tmp_path / "bucket")

    def open_beside(root):
        return dataclasses.replace(at(root), store=bucket, ledger=other.ledger)

    with pytest.raises(Conflict, match="the ledger of another home, from event 1 on, and nothing was written"):
        restoring.restore(place, tmp_path / "again", open_beside)
    assert list(bucket.list_keys("")) == []


def test_a_mount_point_cannot_become_a_home(home, place):
    """Everything would be written before the last step, which the system refuses."""
    making.make(home, place)
    with pytest.raises(InvalidInput, match="/proc is a mount point: choose a folder within it"):
        restoring.restore(place, Path("/proc"), at)


def test_a_changed_byte_is_found_and_nothing_is_made(home, place, tmp_path):
    """A home that is nearly right is worse than none."""
    making.make(home, place)
    for key in (
        places.numbers(place) and "backups/000001.json",
        place.list_keys("lists")[0],
        place.list_keys("pixels")[0],
    ):
        path = place.root / key
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
        with pytest.raises(CorruptData, match=key):
            restoring.restore(place, tmp_path / "again", at)
        path.write_bytes(whole)
    assert not list(tmp_path.glob("*again*"))
    restore(place, tmp_path / "again")


@pytest.mark.parametrize("damaged", ["backups/000002.json", "lists"])
def test_a_damaged_backup_stops_no_other(home, folder, place, tmp_path, damaged):
    """An older one is what its error tells a person to take; the next backup makes all well again."""
    making.make(home, place)
    known = set(place.list_keys("lists"))
    grow(home, folder, tmp_path)
    making.make(home, place)
    (path,) = [damaged] if damaged != "lists" else set(place.list_keys("lists")) - known
    (place.root / path).write_bytes(b"{")
    with pytest.raises(CorruptData, match=path):
        restoring.restore(place, tmp_path / "again", at)
    told = restoring.restore(place, tmp_path / "again", at, number=1)
    assert told["damaged"] == ["2: forget again what was forgotten before it, if it is back"]
    third = making.make(home, place)
    assert (third["number"], third["damaged"], making.make(home, place)["damaged"]) == (3, [2], [2])
    assert catalogue.list_versions(restore(place, tmp_path / "third").store) == ["v0001", "v0002", "v0003"]
    assert [row["number"] for row in checking.describe(place)] == [1, 2, 3, 4]
    assert [row["is_damaged"] for row in checking.describe(place)] == [False, True, False, False]


MANIFEST = "store/raw_images/v0001/manifest.parquet"


def lose(place, path, how, number=None):
    """Spoil what a backup has of a file, as a disk or a person does."""
    kept = places.read_files(place, places.find(place, number))[path]
    lost = place.root / places.object_key(path, kept.sha256)
    data = lost.read_bytes()
    if how == "gone":
        lost.unlink()
    else:
        lost.write_bytes(data[:-20] if how == "cut" else bytes([data[0] ^ 1]) + data[1:])


def is_damaged(place, **which):
    """Of each backup, as `petpark backup --list` says."""
    return [row["is_damaged"] for row in checking.describe(place, **which)]


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_an_object_that_is_lost_is_named_and_written_again(home, place, tmp_path, how):
    """A backup of tonight that trusts one of last year is worth what a disk has made of that since."""
    making.make(home, place)
    tables = [path for path in places.newest(place).files if path.startswith("store/pixels.lance/")]
    for path in (MANIFEST, tables[0]):
        lose(place, path, how)
    assert is_damaged(place) == [True]
    assert checking.describe(place)[0]["num_lost"] == 2
    with pytest.raises(CorruptData, match=r"is gone from the backup, or damaged: .* --verify` writes it again"):
        restoring.restore(place, tmp_path / "again", at)
    told = making.make(home, place)
    assert (told["num_mended"], told["damaged"], is_damaged(place)) == (2, [], [False, False])
    for number in (1, 2):
        restore(place, tmp_path / str(number), number=number)


def test_changed_bytes_of_the_same_size_are_found_by_reading_them(home, place, tmp_path):
    """It takes as long as a first backup, so a person says when; and to look is not to write."""
    making.make(home, place)
    lose(place, MANIFEST, "rotten")
    assert (is_damaged(place), is_damaged(place, is_read=True)) == ([False], [True])
    assert making.make(home, place)["num_mended"] == 0
    with pytest.raises(CorruptData, match=r"manifest\.parquet is gone from the backup, or damaged"):
        restoring.restore(place, tmp_path / "again", at)
    told = making.make(home, place, is_read=True)
    assert (told["num_mended"], told["damaged"]) == (1, [])
    assert is_damaged(place, is_read=True) == [False] * 3
    restore(place, tmp_path / "again", number=1)


def test_a_backup_that_lost_what_the_home_has_no_longer_is_named_each_time(home, place, tmp_path):
    """Its ledger of then is nowhere else: nobody must count on it, and the others are none the worse."""
    making.make(home, place)
    lose(place, "ledger.jsonl", "gone")
    for number in (2, 3):
        told = making.make(home, place)
        assert (told["number"], told["num_mended"], told["damaged"]) == (number, 0, [1])
    assert is_damaged(place) == [True, False, False]
    restore(place, tmp_path / "again")


def test_what_forgetting_removed_is_no_loss(home, place):
    """Older backups are restored without it; crying wolf each night would hide a true loss."""
    making.make(home, place)
    forgetting.forget(home, home_photos(home)[0], "its owner asked")
    for _ in range(2):
        told = making.make(home, place, is_read=True)
        assert (told["num_mended"], told["damaged"]) == (0, [])
    assert is_damaged(place, is_read=True) == [False] * 3


def test_a_mending_that_is_interrupted_is_gone_on_with(home, place, tmp_path):
    """What is whole is never touched, and what was damaged is damaged at most."""
    making.make(home, place)
    lose(place, MANIFEST, "cut")
    for writes in count():
        dying = DiesAfter(place.root)
        dying.writes_left = writes
        try:
            making.make(home, dying)
            break
        except KeyboardInterrupt:
            assert {row["num_lost"] for row in checking.describe(place)} <= {0, 1}
    assert writes > 1
    assert not any(is_damaged(place, is_read=True))
    restore(place, tmp_path / "again", number=1)


def test_what_a_damaged_backup_knows_as_forgotten_stays_so(home, place, tmp_path):
    """Its list is there, and tells; the tables of before are gone from the place, so that only it has the others."""
    making.make(home, place)
    photo = home_photos(home)[0]
    wanted = scan.blocks(read_original(home.originals, photo)[700:-32])
    forgetting.forget(home, photo, "its owner asked")
    making.make(home, place)
    (place.root / "backups/000002.json").write_bytes(b"{")
    again = restore(place, tmp_path / "again", number=1)
    assert photo in tombstones.forgotten(again.store)
    assert scan.files_with(wanted, [again.root]) == []


def test_a_place_without_a_backup_that_can_be_read_is_refused(home, place, tmp_path):
    """Whose home it was of cannot be told; another's objects would be taken for this one's."""
    making.make(home, place)
    (place.root / "backups/000001.json").write_bytes(b"{")
    with pytest.raises(CorruptData, match="can be read any more: choose an empty place"):
        making.make(home, place)
    with pytest.raises(CorruptData, match=r"backups/000001\.json"):
        restoring.restore(place, tmp_path / "again", at)


def test_a_place_is_the_same_however_it_is_spelled(home, place, tmp_path, monkeypatch):
    """Else forgetting would name one that holds nothing of the photo any more, for ever."""
    photo = home_photos(home)[0]
    monkeypatch.setattr(files, "real_address", str, raising=False)  # as in events of before
    making.make(home, LocalStore(tmp_path / "park/../place"))
    monkeypatch.undo()
    making.make(home, place)
    assert forgetting.forget(home, photo, "its owner asked")["backups"] == [place.uri]
    (tmp_path / "link").symlink_to(place.root)
    assert making.make(home, LocalStore(tmp_path / "link"))["place"] == place.uri
    assert forgetting.forget(home, photo, "its owner asked")["backups"] == []


def test_what_would_overwrite_or_mix_is_refused(home, folder, place, tmp_path):
    """A home that is there, a place within what is copied, a folder of other things, another home's backups."""
    making.make(home, place)
    with pytest.raises(Conflict, match="is not empty, and nothing was written"):
        restoring.restore(place, home.root, at)
    for inside in (home.root / "backups", folder / "lake/backups"):
        with pytest.raises(InvalidInput, match="choose a place outside"):
            making.make(home, LocalStore(inside))
    with pytest.raises(InvalidInput, match="holds other things than backups"):
        making.make(home, LocalStore(folder.parent))
    with pytest.raises(NotFound, match="has nothing to back up"):
        making.make(at(tmp_path / "typo"), place)
    older = restore(place, tmp_path / "older")
    making.make(home, place)
    home.ledger.append("label_corrected", {})
    making.make(home, place)
    with pytest.raises(Conflict, match="of another home, or of a later state"):
        making.make(older, place)


def test_a_private_key_stays_where_it_is_and_is_named(home, place, tmp_path):
    """Whoever reads backups must not be able to sign in the park's name."""
    key = home.root / "keys/private_key.pem"
    key.parent.mkdir()
    key.write_text("-----BEGIN PRIVATE KEY-----\nkeep-me-here\n")
    (key.parent / "public_key.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    assert making.make(home, place)["private_keys_left_out"] == ["keys/private_key.pem"]
    assert all(b"keep-me-here" not in path.read_bytes() for path in place.root.rglob("*") if path.is_file())
    again = restore(place, tmp_path / "again")
    assert [path.name for path in (again.root / "keys").iterdir()] == ["public_key.pem"]


def test_a_record_that_its_event_announces_is_waited_for(home, place, tmp_path):
    """Between an event and its record a crash, or a backup, would find a ledger that says more than there is."""
    record = home.store.root / "raw_images/v0002.json"
    aside = record.rename(tmp_path / "aside.json")
    late = subprocess.Popen(["sh", "-c", f"sleep 0.7; mv {aside} {record}"])
    making.make(home, place)
    late.wait()
    restore(place, tmp_path / "again")


class Dies(FileLedger):
    """Its writer is killed before it can say that a version was made."""

    def append(self, event, subject):
        """See Ledger."""
        if event == "dataset_version_made":
            raise KeyboardInterrupt(event, subject)
        return super().append(event, subject)


def make_unrecorded(home, folder):
    """A version whose maker was killed right after its manifest."""
    dying = dataclasses.replace(home, ledger=Dies(home.root / "ledger.jsonl", "Kim"))
    with pytest.raises(KeyboardInterrupt):
        ingestion.new_dataset_version(dying, str(folder / "lake"), SIDE_PX)


def test_what_a_later_version_was_made_from_is_kept_without_its_record(home, folder, place, tmp_path, monkeypatch):
    """Its maker was killed; the restored home must not lack a version that the next one names."""
    (folder / "lake/dog/00001.jpg").unlink()
    make_unrecorded(home, folder)
    monkeypatch.setattr(ingestion, "_complete_versions", lambda *_, **__: None)
    grow(home, folder, tmp_path)
    making.make(home, place)
    assert not home.store.exists("raw_images/v0003.json")
    assert catalogue.list_versions(restore(place, tmp_path / "again").store) == ["v0001", "v0002", "v0003", "v0004"]


def test_a_version_that_is_being_made_waits_for_the_next_backup(home, folder, place, tmp_path):
    """Nothing tells of it yet: neither a record, nor an event, nor a version after it."""
    (folder / "lake/dog/00001.jpg").unlink()
    make_unrecorded(home, folder)
    making.make(home, place)
    assert catalogue.list_versions(home.store) == ["v0001", "v0002", "v0003"]
    assert catalogue.list_versions(restore(place, tmp_path / "again").store) == ["v0001", "v0002"]


def test_a_home_is_backed_up_while_it_grows_and_goes_on_after_all_is_deleted(home, folder, place, tmp_path):
    """The drill: another process makes versions, backups of meanwhile are proved, all is deleted, all comes back."""
    draw_lake(tmp_path / "more", num_images=36, num_broken=0)
    for known in range(0, 20, 2):
        (tmp_path / f"more/cat/{known:05}.jpg").unlink()
    command = [sys.executable, "-c", BUILDER, str(folder), str(tmp_path / "more")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        builder.stdout.readline()
        while builder.poll() is None:
            making.make(home, place)
            time.sleep(0.02)
        assert builder.returncode == 0
    making.make(home, place)
    versions = catalogue.list_versions(home.store)
    before = contents(home.store)
    shutil.rmtree(home.root)
    numbers, seen = places.numbers(place), set()
    for number in sorted({*numbers[:: len(numbers) // 4 or 1], numbers[-1]}):
        again = restore(place, tmp_path / f"again/{number}", number=number)
        seen.add(len(catalogue.list_versions(again.store)))
    assert len(seen) > 2, "no backup was made while it grew, so it proves nothing"
    assert contents(again.store) == before
    result = ingestion.new_dataset_version(again, str(folder / "lake"), SIDE_PX)
    assert (result.is_new, result.dataset_version) == (False, versions[-1])


def test_two_backups_at_once_are_one_too_many(home, place):
    """They would take each other's objects for leftovers."""
    with (
        files.alone(home.root / "backup.lock", "busy"),
        pytest.raises(TransientError, match=r"another backup of .* is being made"),
    ):
        making.make(home, place)


def test_two_restores_to_one_home_are_one_too_many(home, place, tmp_path, monkeypatch):
    """The second would empty the folder in which the first is making the home, which then ends without photos."""
    making.make(home, place)
    root, refused = tmp_path / "again", []

    def begin_another(_done, _all):
        with pytest.raises(TransientError, match=r"another restore to .*/again goes on: wait") as e:
            restoring.restore(place, root, at)
        refused.append(str(e.value))

    monkeypatch.setattr(restoring, "BATCH_BYTES", 1)
    restoring.restore(place, root, at, on_progress=begin_another)
    assert len(refused) > 10
    assert contents(at(root).store) == contents(home.store)
    assert verification.verify_versions(at(root))["offending"] == []
    assert [path.name for path in tmp_path.glob("*again*")] == ["again"]


@pytest.mark.debian
def test_a_bucket_is_a_place_and_a_store_in_a_bucket_is_backed_up(s3_server, bucket, home, tmp_path):
    """The same by one protocol, there and back: to a bucket, and into the store of a home that has it in a bucket."""

    def there(root):
        return open_home(root, actor="Kim", store_uri=f"s3://{bucket}/store", s3=s3_server.access)

    place = S3Store(f"s3://{bucket}/backups", s3_server.access(), tmp_path / "cache")
    making.make(home, place)
    kept = places.newest(place).files[MANIFEST]
    s3_server.client().put_object(Bucket=bucket, Key=f"backups/{places.object_key(MANIFEST, kept.sha256)}", Body=b"cut")
    assert is_damaged(place) == [True]
    assert making.make(home, place)["num_mended"] == 1
    restoring.restore(place, tmp_path / "there", there)
    assert contents(there(tmp_path / "there").store) == contents(home.store)
    assert verification.verify_versions(there(tmp_path / "there"))["offending"] == []
    assert making.make(there(tmp_path / "there"), place)["num_new"] < 10
    there(tmp_path / "there").store.write_new("more", b"1")
    with pytest.raises(Conflict, match="is not in the backup"):
        restoring.restore(place, tmp_path / "third", there)
    restore(place, tmp_path / "back")


def test_the_verbs_say_what_they_did(home, tmp_path):
    """From the terminal, as one document each."""

    def petpark(*words):
        command = [sys.executable, "-m", "petpark_assets.cli", *words, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    place = str(tmp_path / "place")
    where = ("--home", str(home.root))
    assert petpark("backup", place, *where)["number"] == 1
    assert [row["number"] for row in petpark("backup", place, "--list", *where)] == [1]
    lose(LocalStore(tmp_path / "place"), MANIFEST, "rotten")
    assert [row["num_lost"] for row in petpark("backup", place, "--list", "--verify", *where)] == [1]
    assert petpark("backup", place, "--verify", *where)["num_mended"] == 1
    shutil.rmtree(home.root)
    told = petpark("restore", place, "--number", "1", *where)
    assert (told["home"], told["number"], told["pages_not_drawn"]) == (str(home.root), 1, [])
