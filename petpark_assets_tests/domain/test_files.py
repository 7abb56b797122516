"""Claims about bytes on disk: what a reader sees is whole, and what is stored never changes."""

import dataclasses
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.records import EvaluationReport, RawImages, TrainedCnn, TrainSplit

SPLIT = TrainSplit(dataset_version="v0001", raw_images="a" * 64, members="b" * 64, images_by_label={"dog": 2, "cat": 1})


@pytest.fixture
def store(tmp_path: Path) -> files.LocalStore:
    """An empty store in a folder that does not exist yet."""
    return files.LocalStore(tmp_path / "store")


def test_canonical_json_has_one_spelling():
    """Digests compare meaning only while one value has one spelling."""
    spelled = files.canonical_json({"b": (1, 2.5), "a": {"é": None}})
    assert spelled == '{"a":{"é":null},"b":[1,2.5]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_canonical_json_refuses_what_json_cannot_say(value):
    """A NaN in a record would be unreadable for everybody else."""
    with pytest.raises((ValueError, TypeError)):
        files.canonical_json(value)


def test_a_name_is_taken_once(tmp_path: Path):
    """Creation by name is how a version's number is taken: two writers must never both win."""
    target = tmp_path / "a" / "file"
    assert files.write_new(target, b"first")
    assert not files.write_new(target, b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def _try(arguments: tuple[Path, int]) -> bool:
    return files.write_new(arguments[0], bytes(arguments[1]))


def test_of_many_writers_one_wins(tmp_path: Path):
    """The same claim with real processes at once."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_try, [(tmp_path / "one", number) for number in range(16)], chunksize=1)
        pool.close()  # they end by themselves: leaving would send SIGTERM, which whoever started the tests may ignore
        pool.join()
    assert sum(won) == 1


@pytest.mark.parametrize("is_taken", [False, True])
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, *, is_taken: bool):
    """Beside the files of a package it would be one too many: the package would be refused for ever."""
    script = """
import os, signal, sys
from pathlib import Path
from petpark_assets.domain import files
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write_new(Path(sys.argv[1]), b"first")
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "file"], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    if is_taken:
        (tmp_path / "file").write_bytes(b"first")
    assert files.write_new(tmp_path / "file", b"first") != is_taken
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_passing_lock_is_gone_afterwards_and_never_held_twice(tmp_path: Path, monkeypatch):
    """Who opened it before it was removed must not hold a file that nobody else finds."""
    lock, flock = tmp_path / "lock", fcntl.flock
    with (
        files.alone(lock, "busy", is_passing=True),
        pytest.raises(TransientError, match="busy"),
        files.alone(lock, "busy", is_passing=True),
    ):
        pytest.fail("two hold it")
    assert not lock.exists()

    def removed_meanwhile(file, operation):
        lock.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(TransientError, match="busy"), files.alone(lock, "busy", is_passing=True):
        pytest.fail("others may hold one of the same name")


def test_the_same_bytes_again_are_fine_and_others_are_refused(store: files.LocalStore):
    """A re-run stores what is there already; different work under the same name is a conflict, never an overwrite."""
    assert files.put(store, "a/b", b"one") == files.put(store, "a/b", b"one")
    with pytest.raises(Conflict, match="a/b is in the store"):
        files.put(store, "a/b", b"two")
    assert store.read("a/b") == b"one"


def test_many_files_are_all_there_and_damaged_ones_are_mended(store: files.LocalStore):
    """After a power cut an original may be there without its bytes: storing it again must not trust its name."""
    items = {f"originals/{number:02x}/{number}": bytes([number]) * 1000 for number in range(20)}
    store.write_many(dict(list(items.items())[:5]))
    store.local_path("originals/03/3").write_bytes(b"")
    store.write_many(items)
    store.write_many({})
    assert {key: store.read(key) for key in store.list_keys("originals")} == items


def test_of_many_files_those_that_are_there_are_whole_when_one_cannot_be_written(store: files.LocalStore):
    """A shard that failed is done again; what is visible of it is whole, and nothing else lies about."""
    store.write_new("taken", b"")
    with pytest.raises(OSError, match="Not a directory"):
        store.write_many({"originals/aa/1": b"1", "taken/2": b"2"})
    with pytest.raises(InvalidInput, match="would leave"):
        store.write_many({"originals/aa/1": b"1", "../2": b"2"})
    store.sync()
    assert store.read("originals/aa/1") == b"1"
    assert len([path for path in store.root.rglob("*") if path.is_file()]) == 2


def test_arrow_reads_from_memory_of_its_own():
    """Its threads let go of Python's bytes when they like: at a process's end that is an abort, after all was done."""
    data = bytes(1000)
    before = sys.getrefcount(data)
    reader = files.arrow_reader(data)
    assert sys.getrefcount(data) == before
    assert reader.read() == data


def test_changed_bytes_are_named(store: files.LocalStore):
    """An auditor must learn which file was changed."""
    digest = files.put(store, "a/b", b"one")
    store.local_path("a/b").write_bytes(b"ONE")
    with pytest.raises(CorruptData, match=r"a/b in .* was changed"):
        files.get_verified(store, "a/b", digest)


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../outside"])
def test_no_key_leaves_the_store(store: files.LocalStore, key: str):
    """Keys come from records and archives: none may reach a file elsewhere."""
    with pytest.raises(InvalidInput, match="not a key"):
        store.write_new(key, b"")


def test_a_missing_key_is_named(store: files.LocalStore):
    """The message says what was looked for, and where."""
    with pytest.raises(NotFound, match=r"a/b is not in the store"):
        store.read("a/b")


def test_a_folder_that_vanishes_while_it_is_listed_has_no_keys(store: files.LocalStore, monkeypatch):
    """A table is made below a hidden name and renamed: a backup of meanwhile must not end with an error."""
    store.write_new("a/b.json", b"{}")
    store.write_new("tables/.making/rows", b"")
    store.write_new("tables/vanishing/rows", b"")
    scandir, gone = os.scandir, store.root / "tables/vanishing"

    def scan(folder):
        if Path(folder) == gone:
            gone.rename(store.root / ".elsewhere")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert store.list_keys("") == ["a/b.json"]
    assert store.list_keys("nowhere") == store.list_keys("a/b.json") == []


def test_a_folder_that_may_not_be_listed_is_an_error(store: files.LocalStore, monkeypatch):
    """What it holds would be missing from a backup, and nobody would know."""
    store.write_new("a/b.json", b"{}")

    def refuse(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        store.list_keys("")


def test_a_record_reads_back_equal(store: files.LocalStore):
    """What was digested is what is read, so the digest can be trusted."""
    digest = files.write_record(store, SPLIT, {"who": "me"})
    read = files.read_record(store, TrainSplit, "v0001")
    assert files.digest(read) == digest == files.digest(SPLIT)
    assert files.read_circumstances(store, TrainSplit, "v0001") == {"who": "me"}


def test_a_field_that_came_later_leaves_older_digests_as_they_were(store: files.LocalStore):
    """Children hold the digests of their parents: a new release must not break the chain of what older ones made."""
    facts = {"trained_cnn": "a" * 64, "test_split": "b" * 64, "is_accepted": True, "verdict": "yes", "targets": {}}
    content = {"dataset_version": "v0001", "attempt": "c" * 16, **facts, "default_targets": {}, "metrics": {}}
    before = {**content, "files": {}, "forgotten": []}
    document = {"asset": "evaluation_report", "digest": files.digest(before), "content": before, "circumstances": {}}
    key = files.record_key(EvaluationReport, "v0001", "c" * 16)
    store.write_new(key, files.canonical_json(document))
    record = files.read_record(store, EvaluationReport, "v0001", "c" * 16)
    assert files.digest(record) == files.digest(before)
    assert files.digest(dataclasses.replace(record, comparison={})) != files.digest(before)


def test_circumstances_are_not_part_of_the_digest(store: files.LocalStore):
    """The same work tomorrow has the same digest; the first circumstances stay."""
    first = files.write_record(store, SPLIT, {"when": "today"})
    assert files.write_record(store, SPLIT, {"when": "tomorrow"}) == first
    assert files.read_circumstances(store, TrainSplit, "v0001") == {"when": "today"}


@pytest.mark.parametrize("damage", [b"", b"\x80\x04.", b"[]", b"{}", b'{"content": {}}'])
def test_what_is_no_record_is_named(store: files.LocalStore, damage: bytes):
    """A disk may give back anything: an auditor is told which file it is."""
    key = files.record_key(RawImages, "v0001", None)
    store.write_new(key, damage)
    with pytest.raises(CorruptData, match=f"{key} in .* was changed after it was recorded"):
        files.read_record(store, RawImages, "v0001")


def test_a_record_is_never_rewritten(store: files.LocalStore):
    """Other content under the same version is refused with both digests."""
    files.write_record(store, SPLIT, {})
    with pytest.raises(Conflict, match="records never change"):
        files.write_record(store, TrainSplit(**{**vars(SPLIT), "members": "c" * 64}), {})


def test_an_edited_record_is_noticed(store: files.LocalStore):
    """One changed number in a record's file must not pass."""
    files.write_record(store, SPLIT, {})
    path = store.local_path("train_split/v0001.json")
    document = json.loads(path.read_bytes())
    document["content"]["images_by_label"]["cat"] = 99
    path.write_bytes(files.canonical_json(document))
    with pytest.raises(CorruptData, match=r"train_split/v0001.json .* was changed"):
        files.read_record(store, TrainSplit, "v0001")


def test_attempts_are_listed_without_their_folders(store: files.LocalStore):
    """An attempt's record and its folder of files share a prefix; only the record makes it an attempt."""
    store.write_new("trained_cnn/v0001/aa.json", b"{}")
    store.write_new("trained_cnn/v0001/bb/weights.safetensors", b"")
    assert files.list_attempts(store, TrainedCnn, "v0001") == ["aa"]
    assert not files.has_record(store, RawImages, "v0001")


def test_a_file_that_is_replaced_bit_by_bit_is_the_old_one_until_the_end(tmp_path: Path):
    """A cache of 65 MB is never in memory as bytes; a writer that fails on the way must leave the last one whole."""
    path = tmp_path / "cache" / "file"
    files.replace(path, b"old")

    def fail_on_the_way() -> None:
        with files.replacing(path) as file:
            file.write(b"half")
            assert path.read_bytes() == b"old"
            raise KeyError

    with pytest.raises(KeyError):
        fail_on_the_way()
    assert [(item.name, item.read_bytes()) for item in path.parent.iterdir()] == [("file", b"old")]
    with files.replacing(path) as file:
        file.write(b"new")
    assert [(item.name, item.read_bytes()) for item in path.parent.iterdir()] == [("file", b"new")]


def test_only_a_file_is_replaced(tmp_path: Path, monkeypatch):
    """A page written to a device by an administrator would leave the machine without it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InvalidInput, match=f"{name} is a device or a pipe, which a file would replace: name a"):
            files.replace(tmp_path / name, b"page")
    assert (tmp_path / "pipe").is_fifo()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path()):
        with pytest.raises(InvalidInput, match="is a folder: name a file"):
            files.replace(folder, b"page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path):
    """Whoever made it wants the page where it leads, be there one already or not."""
    (tmp_path / "site").mkdir()
    link = tmp_path / "page.html"
    link.symlink_to("site/index.html")
    for page in (b"first", b"second"):
        files.replace(link, page)
        assert link.is_symlink()
        assert (tmp_path / "site/index.html").read_bytes() == page


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    """On a disk of 64 KB a file of 1 MB is refused in one line, and no part of it stays."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    try:
        with pytest.raises(TransientError, match=r"no space left on the disk while writing .*/big"):
            files.write_new(mount / "big", bytes(1 << 20))
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", mount], check=True)
