"""Claims about homes on several machines that share a store and a ledger: they are of one platform."""

import shutil

import pytest

from petpark_assets.domain.audit import proof
from petpark_assets.domain.backup import making, restoring
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.workflow import ingestion, verification
from petpark_assets_tests.domain.postgres.test_ledger import owner

pytestmark = pytest.mark.debian

SIDE_PX = 16


@pytest.fixture
def machines(tmp_path, ledger_url):
    """Opens the home of a machine."""

    def at(name):
        return open_home(
            tmp_path / name, actor=name, store_uri=str(tmp_path / "store"), ledger_url=ledger_url
        )  # fmt: skip

    return at


@pytest.fixture
def built(machines, tmp_path):
    """Two versions of a lake, each made on another machine."""
    draw_lake(tmp_path / "lake", num_images=20, num_broken=0)
    for name in ("one", "two"):
        home = machines(name)
        version = ingestion.new_dataset_version(home, str(tmp_path / "lake"), SIDE_PX).dataset_version
        ingestion.raw_images(home, version, SIDE_PX)
        ingestion.split(home, version)
        (tmp_path / "lake/cat/00000.jpg").unlink(missing_ok=True)
    return machines


def test_what_two_machines_made_is_proved_from_a_third(built, tmp_path):
    """An auditor's machine has no file of either home."""
    home = built("auditor")
    document = proof.verify(home)
    assert document["offending"] == []
    assert document["num_events_covered"] == document["num_events"] > 1
    assert verification.verify_versions(home)["offending"] == []
    assert {event.actor for event in home.ledger.events()} == {"one", "two"}
    assert not list(tmp_path.glob("*/ledger.jsonl*"))


def test_a_tail_that_an_administrator_cut_off_is_missed(built, postgres):
    """The chain is whole without it: a record remembers the head."""
    with owner(postgres) as connection:
        connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM ledger.events WHERE number > 1")
    document = proof.verify(built("auditor"))
    assert document["ledger_is_chained"] == 0
    assert document["ledger_reaches_its_witnesses"] > 0


def test_all_comes_back_from_a_backup_into_a_file_or_an_empty_database(built, postgres, tmp_path):
    """Also where the database was lost, or is not wanted any more."""
    making.make(built("one"), LocalStore(tmp_path / "place"))
    with built("one").ledger.held() as (lines, _):
        before = lines.splitlines()[:-1]  # without the backup's own event
    with owner(postgres) as connection:
        connection.execute("DROP SCHEMA ledger CASCADE")
    postgres.add_ledger("s3cret/+@word")
    shutil.rmtree(tmp_path / "store")
    restoring.restore(
        LocalStore(tmp_path / "place"), tmp_path / "alone", lambda root: open_home(root, actor="eva")
    )  # fmt: skip
    alone = open_home(tmp_path / "alone", actor="eva")
    assert alone.ledger.path.read_bytes().splitlines()[:-1] == before
    assert proof.verify(alone)["offending"] == []
    restoring.restore(
        LocalStore(tmp_path / "place"), tmp_path / "again", lambda root: built(root.name)
    )  # fmt: skip
    with built("again").ledger.held() as (lines, events):
        assert lines.splitlines()[:-1] == before
        assert events[-1].event == "home_restored"
    assert proof.verify(built("two"))["offending"] == []
