"""Claims about what the UI shows: small, readable, and leading to the record."""

from pathlib import Path

import dagster as dg

from petpark_assets.assets.metadata import counts, materialized, table
from petpark_assets.domain.files import digest, write_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.records import TrainSplit

SPLIT = TrainSplit(dataset_version="v0001", raw_images="a" * 64, members="b" * 64, images_by_label={"cat": 1, "dog": 2})


def test_a_materialization_leads_to_its_record_and_its_parents(tmp_path: Path):
    """From the asset's page an auditor finds the file, its digest, and what it was made from."""
    home = open_home(tmp_path, actor="tester")
    write_record(home.store, SPLIT, {})
    shown = materialized(home, SPLIT, {})
    assert shown.asset_key == dg.AssetKey("train_split")
    assert shown.data_version == dg.DataVersion(digest(SPLIT))
    assert Path(shown.metadata["record"].value).is_file()
    assert shown.metadata["parent_raw_images"] == "a" * 64
    assert "parent_members" not in shown.metadata


def test_tables_keep_their_columns():
    """A bar in a cell would otherwise begin a new column."""
    shown = table([{"file": "a|b", "share": 0.123456}])
    assert shown.value.splitlines() == ["| file | share |", "| --- | --- |", "| a\\|b | 0.1235 |"]
    assert table([]).value == "none"
    assert "| cat | 1 |" in counts({"cat": 1}, of="label").value
