"""From a lake to the next dataset version: list, read what is new, judge every photo, write the manifest.

The manifest is the commit point: whatever stops an ingestion before it (a kill, a full disk) leaves no version, and the
next one goes on; pixels and originals stored by then are found again by their sha256.
Not here: listing and reading (survey.py, inspection.py), what becomes of each photo (judgement.py), the manifest's form
(catalogue.py), the rule of the sides (splits.py, handed in).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, TransientError
from petpark_assets.domain.lake import (
    catalogue,
    history,
    inspection,
    judgement,
    removal,
    sightings,
    survey,
    tombstones,
)
from petpark_assets.domain.lake.catalogue import ACCEPTED
from petpark_assets.domain.lake.inspection import Inspector
from petpark_assets.domain.lake.judgement import AssignSplits
from petpark_assets.domain.lake.labels import Judgement, LabelBook
from petpark_assets.domain.lake.mapping import MapShards, map_in_threads
from petpark_assets.domain.lake.memory import (
    collecting_no_garbage,
    give_back_what_is_free,
    keeping_memory,
    passing_over_what_is_there,
)
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake
from petpark_assets.domain.lake.survey import Listing, Survey
from petpark_assets.domain.records import RawImages

Progress = Callable[[int, int], None]

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
    """Photos of those whose bytes no version knew, mostly each once."""
    seconds: float


@keeping_memory()
def new_dataset_version(
    lake: Lake,
    store: files.Store,
    originals: OriginalStore,
    pixels: PixelStore,
    book: LabelBook,
    *,
    cache: Path,
    resolution_px: int,
    assign_splits: AssignSplits,
    map_shards: MapShards = map_in_threads,
    on_progress: Progress = lambda _done, _total: None,
    before_commit: Callable[[], None] = lambda: None,
    before_version: Callable[[str], None] = lambda _inputs: None,
) -> IngestResult:
    """Make the next version, or find that nothing changed; its record is the caller's to store.

    Only files that changed are read, and only bytes that no version knew are decoded; `on_progress` is told how many of
    how many are done. Pixels are stored at this resolution for new photos only: `ensure_pixels` sees to the others.
    `before_commit` is called when the lake is known to be one, before any version is made; `before_version` with the
    digest of what one is made from (catalogue.inputs), when it is.
    Raises InvalidInput on a lake that no classifier can be trained on, TransientError on a full disk.
    """
    started = time.perf_counter()
    with collecting_no_garbage():
        listing = survey.list_lake(lake, cache)
        unchanged = _find_unchanged(listing, store, book)
    if unchanged is not None:
        before_commit()
        return _result(unchanged, inspection.SCHEMA.empty_table(), started, is_new=False)
    survey.refuse_one_class(lake, listing, book)
    with passing_over_what_is_there(), ThreadPoolExecutor(1, thread_name_prefix="store") as beside:
        known = history.read_history(store, cache)
        inspector = Inspector(lake=lake, originals=originals, pixels=pixels, resolution_px=resolution_px)
        inspector = inspection.informed(inspector, known, tombstones.forgotten(store))
        lake_now, finish = survey.read_new(inspector, listing, map_shards=map_shards, on_progress=on_progress)
        give_back_what_is_free()

        def store_photos() -> None:
            finish()
            survey.remember(cache, lake, lake_now)
            _refuse_lost(store, originals, lake_now.inspected)
            removal.delete_again(store, originals, pixels, [sha256 for sha256 in lake_now.sha256s if sha256])

        stored = beside.submit(store_photos)  # it waits for the disk, so photos are judged meanwhile

        def commit_may_begin() -> None:
            stored.result()  # a version must not be there before its photos are
            before_commit()

        is_new, raw_images = _commit(
            lake_now,
            book.judge_all(lake_now.keys, lake_now.sha256s),
            store,
            cache,
            assign_splits,
            before_commit=commit_may_begin,
            before_version=before_version,
        )
    return _result(raw_images, lake_now.inspected, started, is_new=is_new)


def _refuse_lost(store: files.Store, originals: OriginalStore, inspected: pa.Table) -> None:
    """Raises TransientError where photos that were just stored are gone, unless forgotten: no version may have them."""
    drawn = inspected["sha256"].filter(pc.is_valid(inspected["format"]))
    missing = originals.missing(drawn) if len(drawn) else []
    if missing and (lost := set(missing) - tombstones.forgotten(store)):
        raise TransientError(
            f"{len(lost)} of {len(drawn)} photos are gone since they were stored, the first is {min(lost)[:12]}…: run "
            "the same command again"
        )


@collecting_no_garbage()
def newest_if_unchanged(lake: Lake, store: files.Store, book: LabelBook, *, cache: Path) -> RawImages | None:
    """The newest version where a listing alone shows that it would be made again; None where more must be known."""
    return _find_unchanged(survey.list_lake(lake, cache), store, book)


def _find_unchanged(listing: Listing, store: files.Store, book: LabelBook) -> RawImages | None:
    versions = catalogue.list_versions(store)
    if not versions or not listing.is_all_known:
        return None
    keys = [item.key for item in listing.objects]
    sha256s = [listing.known[key] for key in keys]
    inputs = survey.inputs_digest(listing.objects, sha256s, book.judge_all(keys, sha256s), tombstones.forgotten(store))
    return verify(store, versions[-1]) if catalogue.inputs(store, versions[-1]) == inputs else None


def _result(raw_images: RawImages, inspected: pa.Table, started: float, *, is_new: bool) -> IngestResult:
    return IngestResult(
        dataset_version=raw_images.dataset_version,
        is_new=is_new,
        raw_images=raw_images,
        num_read=inspected.num_rows,
        num_decoded=inspected.num_rows - inspected["format"].null_count,
        seconds=time.perf_counter() - started,
    )


def ensure_pixels(
    store: files.Store,
    originals: OriginalStore,
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
    wanted = sorted(set(accepted["sha256"].to_pylist()) - tombstones.forgotten(store))
    missing = pixels.missing(wanted, resolution_px)
    redrawer = inspection.Redrawer(originals=originals, pixels=pixels, resolution_px=resolution_px)
    inspection.redraw(redrawer, missing, map_shards, on_progress)
    removal.delete_again(store, originals, pixels, accepted["sha256"].to_pylist())
    return len(missing)


def verify(store: files.Store, version: str) -> RawImages:
    """A version's record, made again from its manifest; the lake is not looked at.

    Raises NotFound on no such version, CorruptData when the manifest is not the one that was recorded.
    """
    table, manifest = catalogue.read_with_sha256(store, version)
    raw_images = catalogue.raw_images(table, version, manifest)
    if files.has_record(store, RawImages, version):
        recorded = files.read_record(store, RawImages, version)
        if files.digest(recorded) != files.digest(raw_images):
            raise CorruptData(
                f"{catalogue.manifest_key(version)} in {store.uri} was changed after it was recorded: its sha256 is "
                f"{raw_images.manifest[:12]}…, recorded was {recorded.manifest[:12]}…"
            )
    return raw_images


@collecting_no_garbage()
def _commit(
    lake_now: Survey,
    judgements: Sequence[Judgement],
    store: files.Store,
    cache: Path,
    assign_splits: AssignSplits,
    *,
    before_commit: Callable[[], None],
    before_version: Callable[[str], None],
) -> tuple[bool, RawImages]:
    """Take the next number, unless the newest version says the same; judged again whenever another writer took it."""
    for _ in range(MAX_RACES):
        versions = catalogue.list_versions(store)
        newest = versions[-1] if versions else None
        version = catalogue.version_name(int(newest[1:]) + 1 if newest else 1)
        known, forgotten = history.read_history(store, cache), tombstones.forgotten(store)
        with ThreadPoolExecutor(2, thread_name_prefix="commit") as beside:  # on idle processors: mostly Arrow's work
            digesting = beside.submit(survey.inputs_digest, lake_now.objects, lake_now.sha256s, judgements, forgotten)
            table = judgement.judge(
                lake_now, known, judgements, forgotten, version=version, assign_splits=assign_splits
            )
            give_back_what_is_free()
            before_commit()
            if newest is not None and _is_said_by(store, newest, table):
                return False, verify(store, newest)
            folding = beside.submit(history.fold, known, table)
            seeing = beside.submit(sightings.with_next, store, cache, versions, table)
            finished = catalogue.finish(
                table,
                num_ignored=len(lake_now.ignored),
                previous_manifest=None if newest is None else catalogue.manifest_sha256(store, newest),
                inputs=digesting.result(),
            )
            before_version(digesting.result())
            manifest = catalogue.write_manifest(store, version, finished)
            if manifest is not None:
                # The next ingestion, and whoever asks for a photo, need not read it.
                keeping = beside.submit(sightings.keep, cache, seeing.result(), store, [*versions, version], manifest)
                history.keep(cache, folding.result(), store, [*versions, version], manifest)
                keeping.result()
                return True, catalogue.raw_images(finished, version, manifest)
    raise TransientError(
        f"other ingestions took the next version {MAX_RACES} times in a row: run the same command again"
    )


def _is_said_by(store: files.Store, version: str, table: pa.Table) -> bool:
    """Whether a version has this content already."""
    if not catalogue.has_rows(store, version, table.num_rows):
        return False
    return catalogue.says_the_same(table, catalogue.read_manifest(store, version))
