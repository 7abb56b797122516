"""Claims about ingestion under fire, at a size that every run of the tests can afford.

benchmarks/faults.py has the functions, with their assertions, and runs them at full size.
"""

import pytest

from petpark_assets.domain.errors import CorruptData, NotFound
from petpark_assets_tests.benchmarks import faults
from petpark_assets_tests.originals import damage, read_original


def test_a_killed_ingestion_leaves_nothing_half_done_and_the_next_is_as_if_nothing_had_been(tmp_path):
    """Machines lose power; a catalogue that depended on when would be audited in vain."""
    tried = faults.kill_at_random(faults.in_folders(tmp_path, 120), num_kills=5)
    assert tried["num_while_running"] >= 1


def test_two_ingestions_at_once_make_one_version(tmp_path):
    """A sensor and a person may start together; half of each would be a version that nobody made."""
    faults.run_two_at_once(faults.in_folders(tmp_path, 60), num_rounds=1)


def test_damaged_photos_of_every_format_are_counted_and_none_stops_it(tmp_path):
    """A lake has whatever cameras, disks and downloads made of its photos."""
    came_of_it = faults.ingest_damaged(tmp_path, num_mutations=200)
    assert came_of_it["images"]["quarantined"] > 20
    assert came_of_it["images"]["accepted"] > 40


@pytest.mark.slow
def test_real_photos_that_are_damaged_are_counted(tmp_path, photos):
    """Drawings have few details, and headers of our own; cameras' files are longer, and break elsewhere."""
    some = faults.some_photos(photos, 50)
    assert faults.ingest_damaged(tmp_path, num_mutations=300, photos=some)["images"]["quarantined"] > 30


@pytest.mark.slow
def test_a_thousand_damaged_photos_are_counted(tmp_path):
    """The same, over enough of them that each format meets each wound."""
    assert len(faults.ingest_damaged(tmp_path, num_mutations=1000)["quarantined_by_reason"]) >= 3


def test_half_of_a_version_would_be_noticed(tmp_path):
    """The proof above must be able to fail: pixels that changed, an original that changed or is gone, are found."""
    faults.draw_lake(tmp_path / "lake", num_images=20, num_broken=0)
    faults.run(tmp_path / "lake", tmp_path / "home")
    stores = store, originals, pixels = faults.open_home(tmp_path / "home")
    before, victim = faults.contents(stores), originals.stored()[0].as_py()
    square = pixels.read([victim], faults.RESOLUTION_PX).tobytes()
    for path in (store.root / f"pixels.lance/{faults.RESOLUTION_PX}px.lance/data").iterdir():
        path.write_bytes(path.read_bytes().replace(square, bytes(len(square))))
    after = faults.contents(stores)
    assert {name for name in before if before[name] != after[name]} == {"pixels"}
    damage(store.root, read_original(originals, victim))
    with pytest.raises(CorruptData, match=victim):
        faults.contents(stores)
    originals.forget([victim])
    with pytest.raises(NotFound, match=victim):
        faults.contents(stores)
