"""Claims about reconciling: whatever sensors saw, each photo of the lake is in the newest version once, or is named."""

import json
import subprocess
import sys

import pytest

from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.home import open_home
from petpark_assets.domain.workflow import ingestion, reconciliation
from petpark_assets_tests.domain.lake.test_ingest import make_lake, photo, put


@pytest.fixture
def home(tmp_path):
    """A home with v0001 of a lake of twenty photos."""
    home = open_home(tmp_path / "home", actor="tester")
    ingestion.new_dataset_version(home, str(make_lake(tmp_path / "lake")), 16)
    return home


@pytest.fixture
def lake(home):
    """Its lake."""
    return home.root.parent / "lake"


def test_unchanged_lake_is_reconciled_without_being_told_where_it_is(home, lake):
    """The version remembers its lake; a mistyped one would show everything as missing."""
    found = reconciliation.reconcile(home)
    assert found["is_reconciled"]
    assert (found["lake"], found["num_objects"]) == (str(lake), 20)


def test_each_difference_is_named(home, lake):
    """A number tells that something is wrong, a name what to look at."""
    put(lake, "cat/late.png", photo(500))
    put(lake, "dog/0.png", photo(501))
    (lake / "cat/1.png").unlink()
    found = reconciliation.reconcile(home)
    assert not found["is_reconciled"]
    assert [(item["kind"], item["key"]) for item in found["offending"]] == [
        ("gone", "cat/1.png"),
        ("missing", "cat/late.png"),
        ("changed", "dog/0.png"),
    ]


def test_photo_counted_twice_is_named():
    """The same bytes accepted under two keys would weigh double, and one might be learned and the other examined."""
    rows = [("a", "1", "accepted"), ("b", "1", "duplicate"), ("c", "1", "accepted"), ("d", None, "quarantined")]
    assert list(reconciliation._doubles([*rows, ("d", "2", "accepted")])) == ["c", "d"]


def test_empty_home_is_no_success(tmp_path):
    """Nothing compared with nothing must not look like 'all is well'."""
    with pytest.raises(NotFound, match="no dataset version yet"):
        reconciliation.reconcile(open_home(tmp_path, actor="tester"))


def test_the_command_exits_with_1_where_anything_differs(home, lake):
    """Cron reads exit codes."""
    command = [sys.executable, "-m", "petpark_assets.cli", "lake", "reconcile", "--home", str(home.root), "--json"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    put(lake, "cat/late.png", photo(500))
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["missing"] == 1
