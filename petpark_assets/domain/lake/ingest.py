"""From a lake to the next dataset version: list, read what is new, judge every photo, split, write the manifest.

The manifest is the commit point: whatever stops an ingestion before it (a kill, a full disk) leaves no version, and the
next one goes on; pixels and originals stored by then are found again by their sha256.
Not here: listing and reading (survey.py, inspection.py), the manifest's form (catalogue.py), the rule of the sides
(splits.py, handed in).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, TransientError
from petpark_assets.domain.lake import catalogue, inspection
from petpark_assets.domain.lake.catalogue import ACCEPTED, DUPLICATE, QUARANTINED, Photo
from petpark_assets.domain.lake.inspection import MapShards, map_in_threads
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake, LakeObject, label_of
from petpark_assets.domain.lake.survey import Survey, take_survey
from petpark_assets.domain.records import LABELS, RawImages

AssignSplits = Callable[[Sequence[Photo], Mapping[str, str]], Mapping[str, str]]
Progress = Callable[[int, int], None]
Row = dict[str, Any]

SIDES = ("train", "test")
MIN_PHOTOS_A_CLASS = 5
"""The fewest that 80/20 divides: four to train on, one to test."""
MAX_RACES = 5
"""How often another writer may take the next number before we give up."""


@dataclass(frozen=True, kw_only=True)
class IngestResult:
    """What an ingestion came to."""

    dataset_version: str
    is_new: bool
    """False when the lake is as the newest version says: nothing was stored."""
    raw_images: RawImages
    """The version's record, for the caller to store."""
    num_read: int
    """Objects whose bytes were read."""
    num_decoded: int
    """Photos of those whose bytes no version knew."""
    seconds: float


def new_dataset_version(
    lake: Lake,
    store: files.Store,
    pixels: PixelStore,
    *,
    cache: Path,
    resolution_px: int,
    assign_splits: AssignSplits,
    map_shards: MapShards = map_in_threads,
    on_progress: Progress = lambda _done, _total: None,
    before_commit: Callable[[], None] = lambda: None,
) -> IngestResult:
    """Make the next version, or find that nothing changed; its record is the caller's to store.

    Only files that changed are read, and only bytes that no version knew are decoded; `on_progress` is told how many of
    how many are done. Pixels are stored at this resolution for new photos only: `ensure_pixels` sees to the others.
    `before_commit` is called when the lake is known to be one, before any version is made.
    Raises InvalidInput on a lake that no classifier can be trained on, TransientError on a full disk.
    """
    started = time.perf_counter()
    inspector = inspection.Inspector(lake=lake, store=store, resolution_px=resolution_px)
    lake_now = take_survey(inspector, pixels, cache, map_shards, on_progress)
    before_commit()
    is_new, raw_images = _commit(lake_now, store, assign_splits)
    return IngestResult(
        dataset_version=raw_images.dataset_version,
        is_new=is_new,
        raw_images=raw_images,
        num_read=lake_now.num_read,
        num_decoded=len(lake_now.new_facts),
        seconds=time.perf_counter() - started,
    )


def ensure_pixels(
    store: files.Store,
    pixels: PixelStore,
    manifest: pa.Table,
    resolution_px: int,
    *,
    map_shards: MapShards = map_in_threads,
    on_progress: Progress = lambda _done, _total: None,
) -> int:
    """Store what pixels a version's accepted photos lack at this resolution, from their originals; returns how many.

    Raises CorruptData or NotFound naming an original that is damaged or gone.
    """
    accepted = manifest.filter(pc.equal(manifest["state"], ACCEPTED))
    missing = pixels.missing(sorted(accepted["sha256"].to_pylist()), resolution_px)
    redrawer = inspection.Redrawer(store=store, resolution_px=resolution_px)
    inspection.redraw(redrawer, missing, pixels, map_shards, on_progress)
    return len(missing)


def verify(store: files.Store, version: str) -> RawImages:
    """A version's record, made again from its manifest; the lake is not looked at.

    Raises NotFound on no such version, CorruptData when the manifest is not the one that was recorded.
    """
    raw_images = catalogue.raw_images(
        catalogue.read_manifest(store, version), version, catalogue.manifest_sha256(store, version)
    )
    if files.has_record(store, RawImages, version):
        recorded = files.read_record(store, RawImages, version)
        if files.digest(recorded) != files.digest(raw_images):
            raise CorruptData(
                f"{catalogue.manifest_key(version)} in {store.uri} was changed after it was recorded: its sha256 is "
                f"{raw_images.manifest[:12]}…, recorded was {recorded.manifest[:12]}…"
            )
    return raw_images


def claim_home(home: Path, lake: Lake) -> None:
    """Bind a home to its lake on first use. Raises Conflict with the remedy when it belongs to another."""
    if not files.write_new(home / "home.json", files.canonical_json({"lake": lake.identity})):
        check_home(home, lake)


def check_home(home: Path, lake: Lake) -> None:
    """Raises Conflict with the remedy when a home belongs to another lake; one that belongs to none is fine."""
    path = home / "home.json"
    if not path.exists():
        return
    try:
        owner = json.loads(path.read_bytes())["lake"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f'{path} does not name a lake any more: write {{"lake":"{lake.identity}"}} to it') from error
    if owner != lake.identity:
        raise Conflict(
            f"the home {home} belongs to the lake {owner}, not to {lake.identity}: choose another home (--home DIR, "
            f"PETPARK_HOME), or, if the lake has moved, write its new address to {path}"
        )


def _commit(lake_now: Survey, store: files.Store, assign_splits: AssignSplits) -> tuple[bool, RawImages]:
    """Take the next number, unless the newest version says the same; compared again whenever another writer took it."""
    for _ in range(MAX_RACES):
        versions = catalogue.list_versions(store)
        newest = versions[-1] if versions else None
        if newest is not None and catalogue.sha256_by_key(store, newest) == lake_now.sha256s:
            return False, verify(store, newest)
        version = catalogue.version_name(int(newest[1:]) + 1 if newest else 1)
        table = _judge(lake_now, store, version, newest, assign_splits)
        manifest = catalogue.write_manifest(store, version, table)
        if manifest is not None:
            return True, catalogue.raw_images(table, version, manifest)
    raise TransientError(
        f"other ingestions took the next version {MAX_RACES} times in a row: run the same command again"
    )


def _judge(
    lake_now: Survey, store: files.Store, version: str, newest: str | None, assign_splits: AssignSplits
) -> pa.Table:
    """The manifest: every object seen with its state, every accepted photo with its side."""
    new_facts = {sha256: {**facts, "first_version": version} for sha256, facts in lake_now.new_facts.items()}
    facts = new_facts | catalogue.known_facts(store)
    rows = [_row(item, lake_now, facts) for item in lake_now.objects]
    _settle_copies([row for row in rows if row["state"] == ACCEPTED])
    _assign_sides([row for row in rows if row["state"] == ACCEPTED], catalogue.side_history(store), assign_splits)
    previous = None if newest is None else catalogue.manifest_sha256(store, newest)
    return catalogue.build_table(rows, num_ignored=lake_now.num_ignored, previous_manifest=previous)


def _row(item: LakeObject, lake_now: Survey, facts: Mapping[str, Row]) -> Row:
    """One object by itself: accepted, or quarantined with its reason."""
    label, label_source, label_problem = label_of(item.key)
    sha256 = lake_now.sha256s[item.key]
    row: Row = {
        **(facts.get(sha256, {}) if sha256 else lake_now.unreadable[item.key]),
        "key": item.key, "size_bytes": item.size_bytes, "sha256": sha256, "group": sha256,
        "label": label, "label_source": label_source,
    }  # fmt: skip
    if label_problem is not None and not row.get("reason"):  # what the decoder found is the same under any name
        row |= {"reason": label_problem, "detail": images.QUARANTINE_REASONS[label_problem]}
    return row | {"state": QUARANTINED if row.get("reason") else ACCEPTED}


def _settle_copies(rows: Sequence[Row]) -> None:
    """Of photos with the same bytes the first key is accepted; under two labels none is."""
    copies: dict[str, list[Row]] = {}
    for row in rows:
        copies.setdefault(row["sha256"], []).append(row)
    for first, *others in copies.values():
        claims = {row["label"]: row["key"] for row in reversed([first, *others])}
        if len(claims) > 1:
            words = " and ".join(f"{label} ({claims[label]})" for label in sorted(claims))
            conflict = {"state": QUARANTINED, "reason": "conflicting_label", "detail": f"the same photo is {words}"}
            for row in (first, *others):
                row.update(conflict)
        for row in others if len(claims) == 1 else []:
            row.update(state=DUPLICATE, detail=f"the same bytes as {first['key']}")


def _assign_sides(rows: Sequence[Row], history: Mapping[str, str], assign_splits: AssignSplits) -> None:
    """Give every accepted photo its side. Raises InvalidInput when a class is too small to be split."""
    for label in LABELS:
        num_photos = sum(row["label"] == label for row in rows)
        if num_photos < MIN_PHOTOS_A_CLASS:
            raise InvalidInput(
                f"only {num_photos} photos of the lake are usable as {label}, at least {MIN_PHOTOS_A_CLASS} are "
                f"needed: add photos to {label}/; no version was made"
            )
    sides = assign_splits(
        [Photo(sha256=row["sha256"], label=row["label"], group=row["group"]) for row in rows], history
    )
    for row in rows:
        row["split"] = sides[row["sha256"]]
    for label in LABELS:
        if len({row["split"] for row in rows if row["label"] == label}) < len(SIDES):
            raise InvalidInput(
                f"all {label} photos that are left in the lake are on one side of the split, and photos never change "
                f"sides: add {label} photos; no version was made"
            )
