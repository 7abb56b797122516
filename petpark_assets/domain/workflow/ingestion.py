"""Data ingestion: extract, transform and load the lake; split it 80/20 into train and test; version the split."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from petpark_assets.domain import splits
from petpark_assets.domain.errors import Conflict, NotFound
from petpark_assets.domain.files import has_record, read_record, write_new, write_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, ingest
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.records import RawImages, TestSplit, TrainSplit
from petpark_assets.domain.workflow.sides import read_manifest


def new_dataset_version(
    home: Home, lake_uri: str, resolution_px: int, *, on_progress: Callable[[int, int], None] | None = None
) -> ingest.IngestResult:
    """Make the next version of the lake, if anything changed: the one place where versions are made.

    `on_progress` is given the number of photos done and of all. Raises InvalidInput on a lake that cannot be used,
    Conflict when the home belongs to another one.
    """
    lake = open_lake(lake_uri)
    ingest.check_home(home.root, lake)
    with home.noting() as circumstances:
        result = ingest.new_dataset_version(
            lake,
            home.store,
            home.pixels,
            cache=home.cache,
            resolution_px=resolution_px,
            assign_splits=splits.assign,
            on_progress=on_progress or (lambda _done, _all: None),
            before_commit=lambda: ingest.claim_home(home.root, lake),  # a mistyped folder must not bind the home
        )
        record = result.raw_images
        if not has_record(home.store, RawImages, record.dataset_version):
            home.ledger.append("dataset_version_made", asdict(record))
            write_record(home.store, record, {"lake": lake.uri, **circumstances()})
    return result


def raw_images(home: Home, dataset_version: str, resolution_px: int) -> RawImages:
    """Verify a version's manifest and have its pixels at this resolution. The lake is not looked at."""
    with home.noting() as circumstances:
        record = ingest.verify(home.store, dataset_version)
        manifest = catalogue.read_manifest(home.store, dataset_version, record.manifest)
        ingest.ensure_pixels(home.store, home.pixels, manifest, resolution_px)
        write_record(home.store, record, circumstances())
    return record


def split(home: Home, dataset_version: str) -> tuple[TrainSplit, TestSplit]:
    """The two sides of a version, as its manifest assigned them."""
    with home.noting() as circumstances:
        parent = read_record(home.store, RawImages, dataset_version)
        manifest = read_manifest(home, dataset_version)
        train = splits.train_split_record(parent, manifest)
        test = splits.test_split_record(parent, manifest)
        write_record(home.store, train, circumstances())
        write_record(home.store, test, circumstances())
    return train, test


def describe_versions(home: Home) -> list[dict[str, Any]]:
    """Every dataset version in order: its counts, what was set aside, and its digest."""
    records = (ingest.verify(home.store, version) for version in catalogue.list_versions(home.store))
    return [
        {
            "dataset_version": record.dataset_version,
            **record.images,
            "quarantined_by_reason": dict(record.quarantined_by_reason),
            "manifest": record.manifest,
        }
        for record in records
    ]


def export_manifest(home: Home, dataset_version: str, to: Path) -> dict[str, Any]:
    """Copy a version's manifest to a Parquet file. Raises NotFound on no such version, Conflict when `to` exists."""
    version = find_version(home, dataset_version)
    record = ingest.verify(home.store, version)
    if not write_new(to, home.store.read(catalogue.manifest_key(version))):
        raise Conflict(f"{to} exists already: choose another name")
    return {"dataset_version": version, "file": str(to), "rows": record.images["seen"], "sha256": record.manifest}


def find_version(home: Home, name: str) -> str:
    """A dataset version by its name, with or without the v and the zeros. Raises NotFound listing what there is."""
    known = catalogue.list_versions(home.store)
    number = name.removeprefix("v")
    version = f"v{int(number):04d}" if number.isdecimal() else name
    if version not in known:
        raise NotFound(f"there is no dataset version {name!r}: there is {', '.join(known) or 'none yet'}")
    return version
