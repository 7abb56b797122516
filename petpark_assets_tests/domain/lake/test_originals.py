"""Claims about originals: kept byte for byte, never lost in silence, gone when they are forgotten."""

import pickle
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, NotFound, TransientError
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import originals as room
from petpark_assets.domain.lake import photo_tables
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.originals import TABLE, OriginalStore, key_of_before
from petpark_assets_tests.originals import damage, read_original


def photo(number, num_bytes=3000):
    """Bytes that nothing can compress, others for each number."""
    return np.random.default_rng(number).bytes(num_bytes)


def named(*numbers):
    """Photos by sha256."""
    return {files.sha256(photo(number)): photo(number) for number in numbers}


@pytest.fixture
def store(tmp_path):
    """A store in a folder."""
    return files.LocalStore(tmp_path / "store")


@pytest.fixture
def originals(store):
    """Photos 0 to 4, kept in two appends."""
    originals = OriginalStore(store)
    originals.append(named(0, 1, 2))
    originals.append(named(3, 4))
    return originals


def test_photos_come_back_under_their_own_names(originals, monkeypatch):
    """Whoever takes an exam from them, or draws pixels again, matches by sha256; also where they do not fit a batch."""
    monkeypatch.setattr(room, "BATCH_BYTES", 7000)
    wanted = list(named(4, 0, 3, 4))
    assert dict(originals.read_all(wanted)) == named(0, 3, 4)
    assert len(list(originals.find(wanted))) == 3
    assert list(originals.find([])) == []


def test_nothing_is_made_before_something_is_stored(tmp_path):
    """Looking at a home must not change it."""
    originals = OriginalStore(files.LocalStore(tmp_path / "store"))
    assert originals.missing(["a" * 64]) == ["a" * 64]
    assert list(originals.find(["a" * 64])) == [("a" * 64, None)]
    originals.tidy()
    originals.forget(["a" * 64])
    originals.append({})
    assert list(tmp_path.iterdir()) == []


def test_what_is_gone_or_changed_is_named(originals, store):
    """Old versions are built again from them: another picture under a photo's name would be trained on."""
    absent, changed = (files.sha256(photo(number)) for number in (9, 1))
    with pytest.raises(NotFound, match=f"the original {absent} is not in the store {store.uri}"):
        list(originals.read_all([absent]))
    damage(store.root, photo(1))
    with pytest.raises(CorruptData, match=f"the original {changed} .* was changed after it was stored"):
        list(originals.read_all([changed]))
    assert dict(originals.read_all(list(named(0, 2)))) == named(0, 2)


def test_photos_are_stored_as_they_are(originals, store, tmp_path):
    """They are compressed already; and a search for a forgotten one's bytes must be able to see them."""
    draw_lake(tmp_path / "lake", num_images=60, num_broken=8)
    drawn = [path.read_bytes() for path in sorted((tmp_path / "lake").rglob("*.*"))]
    originals.append({files.sha256(data): data for data in drawn})
    stored = [path.read_bytes() for path in (store.root / TABLE / "data").iterdir()]
    assert all(any(data in part for part in stored) for data in drawn)


def test_homes_of_before_have_files_that_are_read_and_forgotten(originals, store):
    """Until 2026-11-30 each photo was kept in a file of its own: nothing of such homes is lost, nor stays for ever."""
    of_before = named(7, 8)
    store.write_many({key_of_before(sha256): data for sha256, data in of_before.items()})
    everything = of_before | named(0, 1, 2, 3, 4)
    assert originals.missing(list(everything)) == []
    assert dict(originals.read_all(list(everything))) == everything
    first, second = of_before
    originals.forget([first])
    assert originals.missing(list(everything)) == [first]
    assert read_original(originals, second) == of_before[second]


def test_nothing_of_a_forgotten_photo_is_left_and_others_stay(originals, store):
    """A row that is only marked as deleted still has its bytes; so has a write that was cut off."""
    originals.write(named(5))
    gone = named(1, 5)
    originals.forget(list(gone))
    stored = [path.read_bytes() for path in store.root.rglob("*") if path.is_file()]
    assert not any(data[10:-10] in part for data in gone.values() for part in stored)
    assert dict(originals.read_all(list(named(0, 2, 3, 4)))) == named(0, 2, 3, 4)


def test_forgetting_writes_only_files_again_that_held_the_photo(originals, store):
    """A lake of terabytes must not be copied because one visitor asks."""
    before = {path.name for path in (store.root / TABLE / "data").iterdir()}
    originals.forget(list(named(4)))
    after = {path.name for path in (store.root / TABLE / "data").iterdir()}
    assert (len(before & after), len(after)) == (1, 2)


def test_what_was_cleaned_away_before_its_commit_is_no_secret(originals):
    """A version whose originals are gone could never be built again: its ingestion must fail, and be run again."""
    fragments = originals.write(named(6))
    originals.forget(list(named(0)))
    with pytest.raises(TransientError, match="as they do when a photo is forgotten: run the same command again"):
        originals.commit(fragments)
    assert originals.missing(list(named(1, 6))) == list(named(6))


def test_no_photo_is_committed_while_another_is_forgotten(store):
    """What forgetting took for nobody's would be deleted though it is a version's by then."""
    held = []

    @contextmanager
    def alone():
        held.append(len(OriginalStore(store).stored()))
        yield
        held.append(len(OriginalStore(store).stored()))

    originals = OriginalStore(store, None, alone)
    originals.append(named(0, 1))
    originals.forget(list(named(0)))
    assert held == [0, 2, 2, 1]


def test_small_appends_are_joined_while_nobody_forgets(store, monkeypatch):
    """What is joined lies in a file that is no part of the table yet, and forgetting deletes such files."""
    monkeypatch.setattr(photo_tables, "MANY_FRAGMENTS", 1)
    held = []

    @contextmanager
    def alone():
        held.append(len(OriginalStore(store)._table.open().get_fragments()))
        yield
        held.append(len(OriginalStore(store)._table.open().get_fragments()))

    for number in range(3):
        OriginalStore(store).append(named(number))
    OriginalStore(store, None, alone).tidy()
    assert held == [3, 1]


def test_homes_that_share_a_store_share_its_lock(tmp_path):
    """What one home's forgetting takes for nobody's may be what the other is about to commit."""
    first, second = (
        open_home(tmp_path / name, actor="tester", store_uri=str(tmp_path / "store")) for name in ("first", "second")
    )
    with ThreadPoolExecutor() as pool:
        with first.originals._alone():
            appending = pool.submit(second.originals.append, named(0))
            assert not wait([appending], timeout=1).done
        appending.result(timeout=30)
    assert first.originals.missing(list(named(0))) == []


def test_a_batch_is_bounded_by_what_its_own_photos_have(store, monkeypatch):
    """Some large photos beside thousands of small ones: by the mean of all of them, all large ones came at once."""
    monkeypatch.setattr(room, "BATCH_BYTES", 250_000)
    small, large = (
        named(*range(200)),
        {files.sha256(data): data for data in (photo(n, 100_000) for n in range(300, 310))},
    )
    originals = OriginalStore(store)
    originals.append(small)
    originals.append(large)
    batches = []
    take = photo_tables.PhotoTable.take

    def taking(table, dataset, places):
        found = take(table, dataset, places)
        batches.append(sum(len(one.as_py()) for one in found))
        return found

    monkeypatch.setattr(photo_tables.PhotoTable, "take", taking)
    assert dict(originals.read_all([*small, *large])) == small | large
    assert sum(batches) == 200 * 3000 + 10 * 100_000
    assert max(batches) <= 400_000


def test_a_workers_copy_reads_and_writes(originals):
    """On another machine; what it wrote is committed here."""
    copy = pickle.loads(pickle.dumps(originals))  # noqa: S301  our own
    originals.commit(copy.write(named(5)))
    assert dict(copy.read_all(list(named(0, 5)))) == named(0, 5)
