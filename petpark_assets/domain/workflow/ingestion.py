"""Data ingestion: extract, transform and load the lake; split it 80/20 into train and test; version the split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from petpark_assets.domain import splits
from petpark_assets.domain.errors import Conflict, InvalidInput, NotFound
from petpark_assets.domain.files import (
    digest,
    folder_key,
    has_record,
    read_circumstances,
    read_record,
    record_key,
    replace,
    write_new,
    write_record,
)
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import (
    catalogue,
    contact_sheets,
    corrections,
    croissant,
    diff,
    history,
    ingest,
    leakage,
    ownership,
)
from petpark_assets.domain.lake.labels import DEFAULT_LABELS, LabelBook, open_labels, settled
from petpark_assets.domain.lake.mapping import MapShards, map_in_threads
from petpark_assets.domain.lake.sources import Lake, open_lake
from petpark_assets.domain.records import RawImages, TestSplit, TrainSplit
from petpark_assets.domain.s3.bucket import read_address
from petpark_assets.domain.workflow import copies
from petpark_assets.domain.workflow.lookup import find_photo
from petpark_assets.domain.workflow.sides import open_side, read_manifest

_SHOWN = 40
"""Letters of a wrong name that a message repeats."""


def new_dataset_version(
    home: Home,
    lake_uri: str,
    resolution_px: int,
    *,
    labels: Sequence[str] = (),
    map_shards: MapShards = map_in_threads,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> ingest.IngestResult:
    """Make the next version of the lake, if anything changed: the one place where versions are made.

    `labels` are label sources by rank (labels.py), by default those of the newest version; `map_shards` says on which
    machines photos are read; `on_progress` is given the number of photos done and of all. Raises InvalidInput on a lake
    that cannot be used, Conflict when the store belongs to another one.
    """
    lake = open_lake(lake_uri, home.s3)
    ownership.refuse_inside(home.store.uri, home.root, lake)
    ownership.check(home.store, lake)
    copies.follow(home)
    with home.noting() as circumstances:
        _complete_versions(home, circumstances)
        source = {"lake": lake.uri, "labels": settled(labels, lake) if labels else _newest_labels(home)}

        def note_source(inputs: str) -> None:
            """Who completes a version that was stopped before its record could not tell where it came from."""
            home.ledger.append("lake_read", {"inputs": inputs, **source})

        book = _open_book(home, lake, source["labels"])
        result = ingest.new_dataset_version(
            lake,
            home.store,
            home.originals,
            home.pixels,
            book,
            cache=home.cache,
            resolution_px=resolution_px,
            assign_splits=splits.assign,
            map_shards=map_shards,
            on_progress=on_progress,
            before_commit=lambda: ownership.claim(home.store, lake),  # a mistyped folder must not bind the store
            before_version=note_source,
        )
        record = result.raw_images
        _complete_versions(home, circumstances, besides=record.dataset_version)  # another was stopped meanwhile
        if not has_record(home.store, RawImages, record.dataset_version):
            home.ledger.append("dataset_version_made", asdict(record))
            write_record(home.store, record, {**source, **circumstances()})
            _describe(home, record)
    return result


def newest_if_unchanged(home: Home, lake_uri: str, labels: Sequence[str] = ()) -> str | None:
    """The newest version where a look at the lake's names shows that it would be made again: seconds, and no run."""
    lake, book = look_at(home, lake_uri, labels)
    record = ingest.newest_if_unchanged(lake, home.store, book, cache=home.cache)
    return record.dataset_version if record is not None and not any(_left_undone(home)) else None


def look_at(home: Home, lake_uri: str, labels: Sequence[str] = ()) -> tuple[Lake, LabelBook]:
    """The lake of a home, opened, and what its label sources say. Raises InvalidInput, Conflict on another's lake."""
    lake = open_lake(lake_uri, home.s3)
    ownership.refuse_inside(home.store.uri, home.root, lake)
    ownership.check(home.store, lake)
    return lake, _open_book(home, lake, labels or _newest_labels(home))


def known_lake(home: Home) -> str | None:
    """The address under which the newest version that says so found its lake; None before the first."""
    noted = _newest_noted(home, "lake")
    return None if noted is None else str(noted)


def _newest_labels(home: Home) -> Sequence[str]:
    """The label sources of the newest version: a look that names none must not take its labels back."""
    return list(_newest_noted(home, "labels") or DEFAULT_LABELS)


def _newest_noted(home: Home, name: str) -> Any:
    """What the newest version notes under a name: not one that others recorded, who could not know it."""
    for version in reversed(catalogue.list_versions(home.store)):
        if has_record(home.store, RawImages, version):
            noted = read_circumstances(home.store, RawImages, version).get(name)
            if noted is not None:
                return noted
    return None


def _complete_versions(home: Home, circumstances: Callable[[], dict[str, Any]], *, besides: str | None = None) -> None:
    """Record and describe what was stopped after its manifest: also versions that others have overtaken since."""
    unrecorded, undescribed = _left_undone(home)
    for version in undescribed:
        _describe(home, read_record(home.store, RawImages, version))
    left = [version for version in unrecorded if version != besides]
    if not left:
        return
    made = [event.subject for event in home.ledger.events() if event.event == "dataset_version_made"]
    told = {subject["dataset_version"] for subject in made}
    for version in left:
        record = ingest.verify(home.store, version)
        if version not in told:
            home.ledger.append("dataset_version_made", asdict(record))
        write_record(home.store, record, {**_noted_source(home, version), **circumstances()})
        _describe(home, record)


def _noted_source(home: Home, version: str) -> Mapping[str, Any]:
    """The lake and the label sources of a version that has no record; nothing where an older release made it."""
    inputs = catalogue.inputs(home.store, version)
    reads = [event.subject for event in home.ledger.events() if event.event == "lake_read"]
    last: Mapping[str, Any] = next((subject for subject in reversed(reads) if subject["inputs"] == inputs), {})
    return {name: last[name] for name in ("lake", "labels") if name in last}


def _left_undone(home: Home) -> tuple[list[str], list[str]]:
    """The versions without a record, and others without their description, by a listing."""
    versions = catalogue.list_versions(home.store)
    keys = set(home.store.list_keys(RawImages.asset))
    unrecorded = [version for version in versions if record_key(RawImages, version, None) not in keys]
    recorded = [version for version in versions if version not in unrecorded]
    return unrecorded, [version for version in recorded if croissant_key(version) not in keys]


def _open_book(home: Home, lake: Lake, labels: Sequence[str]) -> LabelBook:
    return open_labels(
        labels,
        lake,
        corrections.read_corrections(home.store),
        home.variables,
        read_bytes=lambda uri: read_address(uri, home.s3()),
    )


def raw_images(home: Home, dataset_version: str, resolution_px: int) -> RawImages:
    """Verify a version's manifest, have its pixels at this resolution, describe it. The lake is not looked at."""
    copies.follow(home)
    with home.noting() as circumstances:
        record = ingest.verify(home.store, dataset_version)
        manifest = catalogue.read_manifest(home.store, dataset_version, record.manifest)
        ingest.ensure_pixels(home.store, home.originals, home.pixels, manifest, resolution_px)
        source = {} if has_record(home.store, RawImages, dataset_version) else _noted_source(home, dataset_version)
        write_record(home.store, record, {**source, **circumstances()})
        _describe(home, record)
    return record


def croissant_key(dataset_version: str) -> str:
    """Where a version's description in the field's standard metadata is stored."""
    return f"{folder_key(RawImages.asset, dataset_version)}/croissant.json"


def _describe(home: Home, record: RawImages) -> None:
    """Store a version's Croissant metadata, once: of another release's wording the first stays."""
    version = record.dataset_version
    made = read_circumstances(home.store, RawImages, version)["when"]
    manifest = home.store.read(catalogue.manifest_key(version))
    published = datetime.fromisoformat(made).date()
    home.store.write_new(croissant_key(version), croissant.croissant(record, manifest, published=published))


def split(home: Home, dataset_version: str) -> tuple[TrainSplit, TestSplit]:
    """The two sides of a version, as its manifest assigned them."""
    with home.noting() as circumstances:
        parent = read_record(home.store, RawImages, dataset_version)
        manifest = read_manifest(home, dataset_version)
        train = splits.train_split_record(parent, manifest)
        test = splits.test_split_record(parent, manifest)
        if not has_record(home.store, TestSplit, dataset_version):
            parts = {"train_split": digest(train), "test_split": digest(test)}
            home.ledger.append("split_made", {"dataset_version": dataset_version, **parts})
        write_record(home.store, train, circumstances())
        write_record(home.store, test, circumstances())
    return train, test


def require_no_leaks(home: Home, dataset_version: str, resolution_px: int) -> None:
    """That the sides share no photo and no copy: what their blocking checks ask, which some runs pass by.

    Of 20,000 photos of 112 px it took 21 s of a processor. Raises InvalidInput with what was found and the remedy, in
    the check's words.
    """
    mixed = find_mixed(home, dataset_version)
    verified = [] if mixed else find_leaks(home, dataset_version, resolution_px)[0]
    if mixed or verified:
        said = describe_mixed(mixed) if mixed else describe_leaks(verified)
        raise InvalidInput(f"no model is examined on {dataset_version}: {said}")


def find_mixed(home: Home, dataset_version: str) -> list[str]:
    """sha256s of a version that are on both sides, by their group too, or on another than in any other version."""
    others = history.read_history(home.store, besides=dataset_version)
    return splits.leaks(read_manifest(home, dataset_version), history.sides(others))


def describe_mixed(sha256s: Sequence[str]) -> str:
    """What find_mixed found, and the remedy, in one line."""
    return (
        f"{len(sha256s)} photos on both sides, the first is {sha256s[0][:12]}…: take them out of the lake, and ingest "
        "again (petpark lake verify names them)"
    )


def describe_leaks(verified: Sequence[Mapping[str, str]]) -> str:
    """The verified pairs of find_leaks, and the remedy, in one line."""
    pairs = "; ".join(f"{pair['test']} is a copy of {pair['train']}" for pair in verified[:3])
    return f"{len(verified)} leaks: {pairs}: take one of each pair out of the lake, and ingest again"


def find_leaks(
    home: Home, dataset_version: str, resolution_px: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Copies of train photos on the test side, by the independent check (leakage.py): verified pairs, and suspects.

    Pixels of the two sides are compared, no model is asked: no opening of the test side is noted. Each pair has train,
    test (keys), train_sha256, test_sha256; suspects also their distance, the nearest first.
    """
    train, test = (open_side(home, dataset_version, side, resolution_px) for side in splits.SIDES)
    leaks = leakage.find_leaks(train.images, test.images)
    manifest = catalogue.read_manifest(home.store, dataset_version, columns=["key", "sha256", "split"])
    accepted = manifest.filter(pc.is_valid(manifest["split"]))
    keys = dict(zip(accepted["sha256"].to_pylist(), accepted["key"].to_pylist(), strict=True))

    def describe(pair: Sequence[int]) -> dict[str, str]:
        one, other = train.sha256s[pair[0]], test.sha256s[pair[1]]
        return {"train": keys[one], "test": keys[other], "train_sha256": one, "test_sha256": other}

    suspects = zip(leaks.suspects.tolist(), leaks.suspect_distances.tolist(), strict=True)
    return (
        [describe(pair) for pair in leaks.verified.tolist()],
        [{**describe(pair), "distance": f"{distance:.3f}"} for pair, distance in suspects],
    )


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


def compare_versions(home: Home, old: str, new: str) -> dict[str, Any]:
    """What changed between two versions: a JSON document (diff.py). Raises NotFound on no such version."""
    return diff.diff(home.store, find_version(home, old), find_version(home, new))


def correct_label(home: Home, photo: str, label: str, *, by: str, because: str) -> dict[str, Any]:
    """Note a person's correction of a photo's label; the next version has it.

    `photo` is a key of any version, or a sha256 or its first digits. Raises NotFound, InvalidInput.
    """
    with home.noting() as circumstances:
        sha256 = find_photo(home.store, home.originals, photo)
        correction = corrections.Correction(sha256=sha256, label=label, by=by, because=because)
        corrections.correct(home.store, correction, circumstances())
    home.ledger.append("label_corrected", asdict(correction))
    return {**asdict(correction), "next": "petpark lake ingest makes a version with it"}


def draw_quarantine(home: Home, dataset_version: str) -> Path:
    """Draw the page of a version's quarantined photos under the home's reports, where forgetting finds it."""
    return contact_sheets.write_page(home.store, home.originals, home.reports, dataset_version)


def write_status_page(home: Home, to: Path) -> None:
    """The page of the newest version's quarantine, as a file anywhere. Raises NotFound before the first version."""
    replace(to, contact_sheets.draw_page(home.store, home.originals, newest_version(home)))


def export_manifest(home: Home, dataset_version: str, to: Path) -> dict[str, Any]:
    """Copy a version's manifest to a Parquet file. Raises NotFound on no such version, Conflict when `to` exists."""
    version = find_version(home, dataset_version)
    record = ingest.verify(home.store, version)
    if not write_new(to, home.store.read(catalogue.manifest_key(version))):
        raise Conflict(f"{to} exists already: choose another name")
    return {"dataset_version": version, "file": str(to), "rows": record.images["seen"], "sha256": record.manifest}


def newest_version(home: Home) -> str:
    """The newest dataset version. Raises NotFound before the first."""
    version = catalogue.newest_version(home.store)
    if version is None:
        raise NotFound(f"the home {home.root} has no dataset version yet: petpark lake ingest makes the first")
    return version


def find_version(home: Home, name: str) -> str:
    """A dataset version by its name, with or without the v and the zeros. Raises NotFound listing what there is."""
    known = catalogue.list_versions(home.store)
    number = name.removeprefix("v")
    version = f"v{number.lstrip('0'):0>4}" if number.isdecimal() else name
    if version not in known:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        raise NotFound(f"there is no dataset version {shown!r}: there is {', '.join(known) or 'none yet'}")
    return version
