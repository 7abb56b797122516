"""Claims about the pixel store: what went in comes out, in any order, from many writers, or not at all."""

import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from petpark_assets.domain.errors import CorruptData, NotFound, TransientError
from petpark_assets.domain.files import sha256
from petpark_assets.domain.lake import photo_tables, pixels
from petpark_assets.domain.lake.pixels import PixelStore

SIDE = 16


def photos(*numbers):
    """sha256s and pixels of made-up photos, different in every number."""
    pixels = [np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8) for number in numbers]
    return [sha256(str(number).encode()) for number in numbers], np.stack(pixels)


@pytest.fixture
def store(tmp_path):
    """A pixel store with photos 0 to 4, stored in two appends."""
    pixels = PixelStore(tmp_path / "pixels.lance")
    pixels.append(*photos(0, 1, 2), SIDE)
    pixels.append(*photos(3, 4), SIDE)
    return pixels


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk (root): {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_pixels_come_back_in_the_order_asked_for(store):
    """Labels are matched to pixels by place: a wrong order would train on noise, silently."""
    wanted, expected = photos(4, 0, 3, 2)
    assert np.array_equal(store.read(wanted, SIDE), expected)
    assert store.read([], SIDE).shape == (0, SIDE, SIDE, 3)


def test_resolutions_do_not_know_each_other(store):
    """The same photo at another size is another array; asking for it must not find the first."""
    wanted, _ = photos(0)
    assert store.missing(wanted, SIDE) == []
    assert store.missing(wanted, 2 * SIDE) == wanted


def test_missing_photos_are_named_once_in_their_order(store):
    """What is missing is drawn from originals, each once."""
    wanted, _ = photos(9, 1, 8, 9)
    assert store.missing(wanted, SIDE) == [wanted[0], wanted[2]]


def test_nothing_is_made_before_something_is_stored(tmp_path):
    """Looking at a home must not change it."""
    pixels = PixelStore(tmp_path / "pixels.lance")
    assert pixels.missing(["a"], SIDE) == ["a"]
    pixels.forget(["a" * 64])
    pixels.tidy(SIDE)
    assert pixels.resolutions() == []
    assert list(tmp_path.iterdir()) == []


def test_a_photo_stored_twice_is_still_one_photo(store):
    """Two ingestions may both draw it; append-only tables keep both rows."""
    store.append(*photos(1, 5), SIDE)
    wanted, expected = photos(5, 1)
    assert np.array_equal(store.read(wanted, SIDE), expected)


def test_photos_that_are_not_there_are_refused_by_number_and_name(store, tmp_path):
    """Training on fewer photos than the record says is worse than not training; and no part of a copy may remain."""
    wanted, _ = photos(0, 9, 8)
    for ask in (lambda: store.read(wanted, SIDE), lambda: store.copy_to_npy(wanted, SIDE, tmp_path / "cache")):
        with pytest.raises(NotFound, match=f"2 of 3 photos have no pixels of {SIDE} px .* the first is {wanted[1]}"):
            ask()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_copy_is_in_the_order_given_across_batches(tmp_path, monkeypatch):
    """Rows are read in the table's order, which is faster, and must land in the asker's."""
    count = 1000
    monkeypatch.setattr(pixels, "BATCH_BYTES", 2 * 2 * 3 * 300)
    names = [sha256(str(number).encode()) for number in range(count)]
    drawn = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 2).repeat(6, axis=1).reshape(count, 2, 2, 3)
    store = PixelStore(tmp_path / "pixels.lance")
    store.append(names, drawn, 2)
    order = np.random.default_rng(0).permutation(count)
    copy = store.copy_to_npy([names[place] for place in order], 2, tmp_path / "cache")
    assert np.array_equal(np.load(copy, mmap_mode="r"), drawn[order])


def test_a_copy_is_made_once_and_a_damaged_one_again(store, tmp_path):
    """Every trial of a search asks for it; a file cut short by a full disk elsewhere must not be trained on."""
    wanted, expected = photos(2, 0)
    copy = store.copy_to_npy(wanted, SIDE, tmp_path / "cache")
    made = copy.stat().st_ino
    assert store.copy_to_npy(wanted, SIDE, tmp_path / "cache").stat().st_ino == made
    assert store.copy_to_npy(list(reversed(wanted)), SIDE, tmp_path / "cache") != copy
    copy.write_bytes(copy.read_bytes()[:200])
    assert np.array_equal(np.load(store.copy_to_npy(wanted, SIDE, tmp_path / "cache")), expected)


def test_writers_that_start_together_lose_nothing(tmp_path):
    """Lance's own creation of a table loses one of two writers now and then, and tells both that it worked."""
    failures = []

    def write(number, start):
        try:
            start.wait()
            PixelStore(tmp_path / "pixels.lance").append(*photos(number), SIDE)
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)

    start = threading.Barrier(4)
    writers = [threading.Thread(target=write, args=(number, start)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert PixelStore(tmp_path / "pixels.lance").missing(photos(0, 1, 2, 3)[0], SIDE) == []
    assert [path.name for path in (tmp_path / "pixels.lance").iterdir()] == [f"{SIDE}px.lance"]


def test_a_writer_that_is_killed_leaves_the_table_as_it_was(store):
    """A power cut during ingestion must cost that ingestion and nothing else."""
    script = f"""
import itertools, pathlib, numpy as np
from petpark_assets.domain.lake.pixels import PixelStore
store = PixelStore(pathlib.Path({str(store.root)!r}))
for number in itertools.count(100):
    store.append([str(number)] , np.zeros((1, {SIDE}, {SIDE}, 3), np.uint8), {SIDE})
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        done = [next(writer.stdout).strip() for _ in range(3)]
        writer.kill()
    wanted, expected = photos(0, 4)
    assert np.array_equal(store.read(wanted, SIDE), expected)
    assert store.missing(done, SIDE) == []
    store.append(*photos(6), SIDE)
    assert store.missing(photos(6)[0], SIDE) == []


def test_a_full_disk_is_one_clear_line_and_no_row(small_disk, tmp_path):
    """Lance reports it as a text of its own, with the place in its source; a person needs to know what to free."""
    wanted, expected = photos(0, 1)
    store = PixelStore(small_disk / "pixels.lance")
    store.append(wanted, expected, SIDE)
    too_many = np.random.default_rng(0).integers(0, 256, (400, 64, 64, 3), np.uint8)
    names = [sha256(f"many {number}".encode()) for number in range(400)]
    with pytest.raises(TransientError, match=r"no space left on the disk while writing .*64px\.lance") as caught:
        store.append(names, too_many, 64)
    assert "\n" not in str(caught.value)
    assert store.missing(names[:1], 64) == names[:1]
    assert np.array_equal(store.read(wanted, SIDE), expected)

    elsewhere = PixelStore(tmp_path / "elsewhere.lance")
    elsewhere.append(names, too_many, 64)
    with pytest.raises(TransientError, match=r"no space left on the disk while writing .*npy"):
        elsewhere.copy_to_npy(names, 64, small_disk / "cache")
    assert list((small_disk / "cache").iterdir()) == []


def files_with(folder, data):
    """Names of the files in which these bytes lie."""
    return [path.name for path in folder.rglob("*") if path.is_file() and data in path.read_bytes()]


def test_of_a_forgotten_photo_no_byte_is_left_in_any_file(store, tmp_path):
    """People have a right to it; Lance keeps old versions, and rows that are only marked as deleted."""
    gone, kept = photos(1), photos(0, 2, 3, 4)
    store.append(*photos(1, 5), SIDE)  # a second row
    store.append(gone[0], np.zeros((1, 32, 32, 3), np.uint8), 32)
    cut_off = photos(1, 6)
    store.write(*cut_off, SIDE)  # by an ingestion that was killed
    assert len(files_with(tmp_path, gone[1].tobytes())) == 3

    store.forget(gone[0])

    assert files_with(tmp_path, gone[1].tobytes()) == []
    assert [name for name in files_with(tmp_path, gone[0][0].encode()) if name.endswith(".lance")] == []
    assert [store.missing(gone[0], side_px) for side_px in (SIDE, 32)] == [gone[0], gone[0]]
    assert np.array_equal(store.read(kept[0], SIDE), kept[1])
    store.append(*photos(7), SIDE)
    assert np.array_equal(store.read(*photos(7)[:1], SIDE), photos(7)[1])
    store.forget(gone[0])  # again is fine


def test_the_last_photo_can_be_forgotten(tmp_path):
    """A table without rows is still a table."""
    store = PixelStore(tmp_path / "pixels.lance")
    store.append(*photos(0), SIDE)
    store.forget(photos(0)[0])
    assert files_with(tmp_path, photos(0)[1].tobytes()) == []
    store.append(*photos(1), SIDE)
    assert store.missing(photos(0, 1)[0], SIDE) == photos(0)[0]


def test_an_ingestion_that_forgetting_overtakes_is_told_to_start_again(store):
    """What it wrote was cleaned up with the rest: rows whose file is gone would be found at training."""
    fragments = store.write(*photos(8), SIDE)
    store.forget(photos(0)[0])
    with pytest.raises(TransientError, match="as they do when a photo is forgotten: run the same command again"):
        store.commit(fragments, SIDE)
    assert store.missing(photos(8)[0], SIDE) == photos(8)[0]
    store.append(*photos(8), SIDE)
    assert store.missing(photos(8)[0], SIDE) == []


def forget_at_the_next_commit(monkeypatch, store, *, before_it_opens):
    """Somebody else forgets photo 0 after a commit has checked its files, before it is done."""
    real = photo_tables.PhotoTable._commit

    def commit(table, operation, dataset):
        monkeypatch.setattr(photo_tables.PhotoTable, "_commit", real)
        store.forget(photos(0)[0])
        real(table, operation, table.open() if before_it_opens else dataset)

    monkeypatch.setattr(photo_tables.PhotoTable, "_commit", commit)


def check_that_a_commit_survives_forgetting(monkeypatch, store, *, before_it_opens):
    """The same in a folder and in a bucket, of a store of photos 0 to 2."""
    forget_at_the_next_commit(monkeypatch, store, before_it_opens=before_it_opens)
    with pytest.raises(TransientError, match="as they do when a photo is forgotten: run the same command again"):
        store.append(*photos(8, 9), SIDE)
    assert store.missing(photos(0, 1, 2, 8, 9)[0], SIDE) == photos(0, 8, 9)[0]
    store.append(*photos(8, 9), SIDE)
    assert np.array_equal(store.read(photos(9, 1)[0], SIDE), photos(9, 1)[1])
    store.forget(photos(1)[0])


@pytest.mark.parametrize("before_it_opens", [True, False])
def test_forgetting_at_the_moment_of_a_commit_breaks_no_table(store, monkeypatch, before_it_opens):
    """Rows whose file is gone would make every later reading of the whole table fail, in every home."""
    check_that_a_commit_survives_forgetting(monkeypatch, store, before_it_opens=before_it_opens)


def test_forgetting_takes_out_what_came_in_while_it_cleaned_up(store, monkeypatch):
    """The other order of the same: the commit found its files, and then they were cleaned up as nobody's."""
    import lance

    real = lance.LanceDataset.cleanup_old_versions

    def clean_up(dataset, **how):
        fragments = store.write(*photos(8), SIDE)
        names = [file["path"] for fragment in fragments for file in json.loads(fragment)["files"]]
        store.commit(fragments, SIDE)
        real(dataset, **how)
        for name in names:
            (Path(store.root) / f"{SIDE}px.lance" / "data" / name).unlink()

    monkeypatch.setattr(lance.LanceDataset, "cleanup_old_versions", clean_up)
    store.forget(photos(0)[0])
    assert store.missing(photos(0, 3, 8)[0], SIDE) == photos(0, 8)[0]


def lose_a_file(store):
    """As a forgetting that was killed at the worst moment, or a backup restored in part, would."""
    lost = fragments_of(store)[0].data_files()[0].path
    (Path(store.root) / f"{SIDE}px.lance" / "data" / lost).unlink()


def test_photos_of_a_file_that_is_not_there_are_missing_for_as_long(store, monkeypatch, tmp_path):
    """A disk that is away for a moment, or a backup restored in part: nothing else is lost, and nothing for good."""
    monkeypatch.setattr(photo_tables, "MANY_FRAGMENTS", 1)
    path = Path(store.root) / f"{SIDE}px.lance" / "data" / fragments_of(store)[0].data_files()[0].path
    path.rename(tmp_path / "away")
    wanted = photos(0, 3)[0]
    assert store.missing(wanted, SIDE) == photos(0)[0]
    with pytest.raises(NotFound, match="1 of 2 photos have no pixels"):
        store.read(wanted, SIDE)
    assert np.array_equal(store.read(*photos(4, 3)[:1], SIDE), photos(4, 3)[1])
    store.append(*photos(8), SIDE)
    (tmp_path / "away").rename(path)
    assert np.array_equal(store.read(wanted, SIDE), photos(0, 3)[1])


def test_photos_of_a_lost_file_are_stored_again(store, monkeypatch):
    """Pixels can be drawn again from originals, and originals read again from the lake."""
    monkeypatch.setattr(photo_tables, "MANY_FRAGMENTS", 1)
    lose_a_file(store)
    assert store.missing(photos(0, 3)[0], SIDE) == photos(0)[0]
    store.tidy(SIDE)
    store.append(*photos(0), SIDE)
    assert np.array_equal(store.read(photos(0, 3)[0], SIDE), photos(0, 3)[1])


def test_a_photo_can_be_forgotten_although_files_are_lost(store, tmp_path):
    """The right to be forgotten does not wait for a table to be mended."""
    lose_a_file(store)
    store.forget(photos(3)[0])
    assert files_with(tmp_path, photos(3)[1].tobytes()) == []
    assert store.missing(photos(0, 3, 4)[0], SIDE) == photos(0, 3)[0]


def test_what_was_written_is_there_only_when_it_is_committed(store):
    """A worker that dies half-way must leave nothing that a reader sees; all workers' shares come in by one commit."""
    shares = [store.write(*photos(number), SIDE) for number in (10, 11, 12)]
    assert store.missing(photos(10, 11, 12)[0], SIDE) == photos(10, 11, 12)[0]
    store.commit([*shares[0], *shares[2]], SIDE)
    assert store.missing(photos(10, 11, 12)[0], SIDE) == photos(11)[0]
    assert np.array_equal(store.read(photos(12, 10)[0], SIDE), photos(12, 10)[1])


def test_many_small_appends_are_joined_and_whole_ones_left_alone(tmp_path, monkeypatch):
    """A park that adds photos daily would have a file a day; joining all files each time would copy the whole lake."""
    monkeypatch.setattr(photo_tables, "WHOLE_ROWS", 10)
    monkeypatch.setattr(photo_tables, "MANY_FRAGMENTS", 5)
    store = PixelStore(tmp_path / "pixels.lance")
    store.append(*photos(*range(100, 120)), SIDE)
    whole = [item.path for item in fragments_of(store)[0].data_files()]
    for number in range(5):
        store.append(*photos(number), SIDE)
    store.tidy(SIDE)
    assert len(fragments_of(store)) == 6
    store.append(*photos(5), SIDE)
    store.tidy(SIDE)
    assert len(fragments_of(store)) == 2
    assert [item.path for item in fragments_of(store)[0].data_files()] == whole
    wanted, expected = photos(3, 110, 5)
    assert np.array_equal(store.read(wanted, SIDE), expected)


def test_what_two_writers_stored_is_kept_once(store):
    """Pixels are most of a store: twice, whenever two ingestions ran at once, they would double it."""
    store.append(*photos(5, 1, 2, 6, 0), SIDE)
    store.append(*photos(7, 6), SIDE)
    table = store._table(SIDE)
    before = table.open()
    store.tidy(SIDE)
    assert sorted(store.stored(SIDE).to_pylist()) == sorted(photos(*range(8))[0])
    assert np.array_equal(store.read(photos(*range(8))[0], SIDE), photos(*range(8))[1])
    assert sum(item.physical_rows for item in fragments_of(store)) == 8  # nor are they in its files any more
    assert table.take(before, [0]).flatten().to_pylist() == photos(0)[1].flatten().tolist()


def test_nothing_is_looked_for_twice_in_a_table_of_the_expected_size(store, monkeypatch):
    """A look takes 0.05 s for 100,000 photos, and hundreds of requests where they are on S3."""
    monkeypatch.setattr(photo_tables.PhotoTable, "_drop_repeated", None)
    store.tidy(SIDE, 5)
    with pytest.raises(TypeError):
        store.tidy(SIDE, 4)


def test_rows_are_dropped_in_runs_however_many(store, monkeypatch):
    """The rows that two writers share may lie scattered."""
    monkeypatch.setattr(photo_tables, "RUNS_A_COMMIT", 2)
    store.append(*photos(10, 0, 11, 1, 2, 12, 3, 13, 4), SIDE)
    store.tidy(SIDE)
    assert sorted(store.stored(SIDE).to_pylist()) == sorted(photos(*range(5), *range(10, 14))[0])


def test_none_is_dropped_while_a_file_is_away(store, tmp_path):
    """The first row of a photo may be in it: of two, the one that is there has to stay."""
    store.append(*photos(0, 1, 2), SIDE)
    path = Path(store.root) / f"{SIDE}px.lance" / "data" / fragments_of(store)[0].data_files()[0].path
    path.rename(tmp_path / "away")
    store.tidy(SIDE)
    assert store.missing(photos(*range(5))[0], SIDE) == []
    (tmp_path / "away").rename(path)
    store.tidy(SIDE)
    assert len(store.stored(SIDE)) == 5


def fragments_of(store):
    """Lance's own list of the files of a table."""
    return store._table(SIDE).open().get_fragments()


def test_a_reader_goes_on_while_the_table_is_joined(store, monkeypatch):
    """Joining happens at the end of an ingestion, when a training may be copying its side."""
    monkeypatch.setattr(photo_tables, "MANY_FRAGMENTS", 1)
    table = store._table(SIDE)
    before = table.open()
    store.tidy(SIDE)
    assert len(fragments_of(store)) == 1
    assert table.take(before, range(5)).flatten().to_pylist() == photos(*range(5))[1].flatten().tolist()


def test_resolutions_are_listed(store):
    """Whoever forgets a photo or verifies a home must look at every table, whatever recipes there were."""
    store.append(photos(0)[0], np.zeros((1, 8, 8, 3), np.uint8), 8)
    assert store.resolutions() == [8, SIDE]


def test_a_pickled_store_is_the_same_store_and_its_text_shows_no_key():
    """Workers on other machines get a copy; its text may come into logs."""
    options = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI"}
    store = pickle.loads(pickle.dumps(PixelStore("s3://bucket/home/pixels.lance", options)))  # noqa: S301  our own
    assert store.root == "s3://bucket/home/pixels.lance"
    assert store._table(SIDE).options == options
    assert "AKID" not in repr(store) + repr(store._table(SIDE))
    assert "wJal" not in repr(store) + repr(store._table(SIDE))


def test_a_table_that_is_none_is_named(tmp_path):
    """A folder restored in part must not read as an empty table, or every photo would be drawn again."""
    (tmp_path / f"{SIDE}px.lance").mkdir()
    with pytest.raises(CorruptData, match=rf"{SIDE}px\.lance cannot be opened"):
        PixelStore(tmp_path).missing(["a"], SIDE)
