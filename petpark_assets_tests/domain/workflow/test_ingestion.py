"""Claims about versions whose maker was killed between manifest and record: whoever comes next records them."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.audit import proof
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import sources
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.workflow import ingestion, verification

SIDE = 16
LABELS = ("folders",)


@pytest.fixture
def lake(tmp_path):
    """20 drawn photos, and one that a test adds."""
    draw_lake(tmp_path / "lake", num_images=21, num_broken=0)
    (tmp_path / "lake/cat/00020.jpg").rename(tmp_path / "more.jpg")
    return tmp_path / "lake"


@pytest.fixture
def home(tmp_path):
    """A home that is not there yet."""
    return open_home(tmp_path / "home", actor="Kim")


def ingest(home, lake, **options):
    """The version that an ingestion comes to."""
    return ingestion.new_dataset_version(home, str(lake), SIDE, **options).dataset_version


def lose_record(home, version):
    """Leave a version as its maker does who is killed right after its manifest."""
    home.store.delete(f"raw_images/{version}.json")
    home.store.delete(ingestion.croissant_key(version))


def grow(lake):
    """A photo more."""
    shutil.copy(lake.parent / "more.jpg", lake / "cat/more.jpg")


def recorded(home):
    """The versions that have their record and their description."""
    versions = [f"v{number:04d}" for number in range(1, 9)]
    return [
        version
        for version in versions
        if files.has_record(home.store, RawImages, version) and home.store.exists(ingestion.croissant_key(version))
    ]


def told(home):
    """The versions of which the ledger has an event."""
    return [event.subject["dataset_version"] for event in home.ledger.events() if event.event == "dataset_version_made"]


def test_a_version_that_another_overtook_gets_its_record(home, lake, monkeypatch):
    """Else it has none for ever, and each backup lacks what the later versions were made from."""
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", -10)  # a listing alone shows that nothing changed
    ingest(home, lake)
    grow(lake)
    ingest(home, lake)
    assert ingestion.newest_if_unchanged(home, str(lake)) == "v0002"
    lose_record(home, "v0001")
    assert ingestion.newest_if_unchanged(home, str(lake)) is None, "nobody would come to record it"
    assert ingest(home, lake) == "v0002"
    assert recorded(home) == told(home) == ["v0001", "v0002"]
    assert ingestion.newest_if_unchanged(home, str(lake)) == "v0002"


def test_a_version_that_overtakes_another_records_it_first(home, lake):
    """Both ingestions had begun; the one that was killed took the first number."""

    def overtaken(read, shards):
        yield from map_in_threads(read, shards)
        (lake / "cat/more.jpg").unlink()
        ingest(open_home(home.root, actor="Robin"), lake)
        grow(lake)
        home.root.joinpath("ledger.jsonl").unlink()
        lose_record(home, "v0001")

    grow(lake)
    assert ingest(home, lake, map_shards=overtaken) == "v0002"
    assert recorded(home) == told(home) == ["v0001", "v0002"]
    assert verification.verify_versions(home)["is_sound"]
    assert proof.verify(home)["is_sound"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # see test_croissant.py
def test_a_description_that_a_kill_kept_back_comes_with_the_next_look(home, lake, monkeypatch):
    """The record was written, and the lake has not changed since; what is stored is Croissant to its own library."""
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", -10)
    ingest(home, lake)
    home.store.delete(ingestion.croissant_key("v0001"))
    assert ingestion.newest_if_unchanged(home, str(lake)) is None
    assert ingest(home, lake) == "v0001"
    assert recorded(home) == told(home) == ["v0001"]
    assert ingestion.newest_if_unchanged(home, str(lake)) == "v0001"
    import mlcroissant  # seconds

    path = home.store.local_path(ingestion.croissant_key("v0001"))
    assert mlcroissant.Dataset(jsonld=str(path)).metadata.name == "pet-park-photos-v0001"


def test_label_sources_outlive_a_version_that_others_recorded(home, lake):
    """Who records another's version does not know them; the next look that names none must not take labels back."""
    ingest(home, lake, labels=LABELS)
    grow(lake)
    ingest(home, lake, labels=LABELS)
    lose_record(home, "v0002")
    ingest(home, lake)
    assert ingestion.known_lake(home) == str(lake)
    (lake / "cat/more.jpg").unlink()
    assert ingest(home, lake) == "v0003"
    assert files.read_circumstances(home.store, RawImages, "v0003")["labels"] == list(LABELS)


def test_label_sources_and_lake_outlive_a_kill_before_the_record(home, lake):
    """The same command again, or a plain one, records the version: with what the killed one read it by."""
    ingest(home, lake, labels=LABELS)
    lose_record(home, "v0001")
    ingest(home, lake)
    noted = files.read_circumstances(home.store, RawImages, "v0001")
    assert (noted["lake"], noted["labels"]) == (str(lake), list(LABELS))
    grow(lake)
    assert ingest(home, lake) == "v0002"
    assert files.read_circumstances(home.store, RawImages, "v0002")["labels"] == list(LABELS)


def test_whoever_materializes_a_version_that_was_stopped_notes_where_it_came_from(home, lake):
    """Dagster's asset may be the first to record it."""
    ingest(home, lake, labels=LABELS)
    lose_record(home, "v0001")
    ingestion.raw_images(home, "v0001", SIDE)
    assert ingestion.known_lake(home) == str(lake)
    assert files.read_circumstances(home.store, RawImages, "v0001")["labels"] == list(LABELS)


def test_label_sources_are_found_from_any_folder(home, lake, tmp_path, monkeypatch):
    """A service that looks again runs elsewhere, where a table of the same name may say other things."""
    first, second, *_ = (f"cat/{path.name}" for path in sorted(lake.glob("cat/*.jpg")))
    for folder, label in ((tmp_path / "here", "cat"), (tmp_path / "there", "dog")):
        folder.mkdir()
        (folder / "words.csv").write_text(f"key,label\n{first},{label}\n")
        with closing(sqlite3.connect(folder / "park.db")) as database, database:
            database.execute("CREATE TABLE labels AS SELECT ? AS key, ? AS label", (second, label))
    (lake / "beside.csv").write_text(f"key,label\n{first},cat\n")
    monkeypatch.chdir(tmp_path / "here")
    query = "SELECT key, label FROM labels"
    ingest(home, lake, labels=("words.csv?key=key", f"+sql:sqlite:///park.db#{query}", "beside.csv", "names"))
    noted = files.read_circumstances(home.store, RawImages, "v0001")["labels"]
    assert noted == [
        f"{tmp_path}/here/words.csv?key=key",
        f"+sql:sqlite:///{tmp_path}/here/park.db#{query}",
        "lake:beside.csv",
        "names",
    ]
    monkeypatch.chdir(tmp_path / "there")
    assert ingest(home, lake) == "v0001"


def test_a_version_is_found_however_its_number_is_written(home, lake):
    """And one that is none is refused in a line, however long it is."""
    ingest(home, lake)
    assert [ingestion.find_version(home, name) for name in ("1", "v1", "01", "v0001", "0000001")] == ["v0001"] * 5
    for name in ("2", "0", "v", "9" * 5000, "vv1", "x" * 5000):
        with pytest.raises(NotFound, match=r"there is no dataset version .*: there is v0001") as e:
            ingestion.find_version(home, name)
        assert len(str(e.value)) < 120
