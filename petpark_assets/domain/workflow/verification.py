"""Proof over all versions: nothing was lost or changed, and no photo, nor a copy of one, is on both sides.

Everything is worked out again from manifests, stored bytes and pixels, and the pixels from the bytes; no cache is
trusted, nor looked at. Tables and photos that cannot be read are named, and all others are looked at. Sides are for
ever, so the search for copies across them runs once over all photos that any version accepted, also those that were
never in the lake together: a model of one version may be examined on another. In memory, beside the list of photos, are
a batch of originals and a shard's pixels for each thread.
Not here: what must be true of manifests alone (invariants.py), what a copy is (likeness.py, leakage.py), or how pixels
are drawn (images.py, squeezing.py).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain.errors import CorruptData, NotFound, PermanentError
from petpark_assets.domain.files import Store, read_circumstances
from petpark_assets.domain.home import Home
from petpark_assets.domain.images import Pixels, UnreadablePhoto, decode
from petpark_assets.domain.lake import catalogue, history, ingest, likeness, tombstones
from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.squeezing import is_torch_worth_it, squeeze
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.workflow import copies, invariants
from petpark_assets.domain.workflow.invariants import Finding, pair
from petpark_assets.domain.workflow.leak_check import check_sides

CLAIMS: Mapping[str, str] = MappingProxyType({
    "manifests_are_as_recorded": "each manifest has the digest of its record, and names the one before it",
    "every_photo_is_counted_once": "each row has one state, and what belongs to it; no bytes are accepted twice",
    "groups_stay_together": "no group of near-duplicates is on both sides, within a version or over versions",
    "photos_keep_their_side": "no photo is on different sides in any two versions",
    "sides_are_as_ruled": "each photo has the side that the rule gives it, from its version and those before alone",
    "copies_keep_one_side": "no two near-duplicates, by the rule of the grouping, are on different sides",
    "no_leak_by_another_signature": "nor are any two that the independent check verifies as copies",
    "split_is_80_to_20": "each class is within tolerance, or removals have put that out of reach",
    "originals_are_whole": "each accepted photo's own bytes are stored, and have their sha256",
    "pixels_are_there": "each accepted photo has pixels at one resolution at least",
    "pixels_are_as_drawn": "at every resolution they are what the photo's own bytes give, drawn again",
    "forgotten_is_gone": "of a forgotten photo no bytes and no pixels are left, and no later version accepts it",
    "ledger_is_whole": "the ledger's chain is unbroken, and each version that it says was made is there as it was made",
})  # fmt: skip
"""What is proven, in this order."""

Progress = Callable[[int, int], None]

_COLUMNS = ["key", "sha256", "label", "signature", "group", "split", "state", "reason"]
_SIGNED = pa.schema([catalogue.SCHEMA.field(name) for name in ("sha256", "signature")])
_SHARD_ROWS = 512
_SHARD_BYTES = 32 * 2**20
"""Photos that a thread takes at a time, and of their pixels, at all resolutions; one photo at least."""


def verify_versions(home: Home, *, on_progress: Progress = lambda _done, _all: None) -> dict[str, Any]:
    """Check every claim over all versions of a home.

    `on_progress` is given the number of originals read and of all.

    Returns:
        is_sound: whether nothing was found; num_versions, num_photos: how many were looked at.
        One field for each of CLAIMS: how many things were found against it.
        offending: a row for each of them, with its version, photo, and the other photo of a pair.
        suspects: pairs across the sides that look alike to the independent check, and that it could not verify.
        out_of_reach: classes of versions that removals keep from 80/20.
    """
    if not catalogue.list_versions(home.store) and not any(True for _ in home.ledger.events()):
        raise NotFound(f"the home {home.root} has no dataset version to verify: is it the right one (--home DIR)?")
    gone = tombstones.forgotten(home.store)
    members, signed, findings, out_of_reach = _read_versions(home.store, gone)
    findings += _against_ledger(home)
    findings += _copies_across(members, signed)
    present = members.filter(pc.invert(pc.is_in(members["sha256"], pa.array(sorted(gone), pa.string()))))
    leaks, suspects = check_sides(home, present)
    findings += leaks
    tables = _readable_tables(home)
    findings += tables.damaged
    findings += _without_pixels(home, present, tables)
    findings += _drawn_again(home, present, tables, on_progress)
    findings += _left_of_forgotten(home, gone, tables)
    counts = Counter(finding.claim for finding in findings)
    return {
        "is_sound": not findings,
        "num_versions": len(catalogue.list_versions(home.store)),
        "num_photos": len(set(members["sha256"].to_pylist())),
        **{claim: counts[claim] for claim in CLAIMS},
        "offending": [
            asdict(finding) for finding in sorted(findings, key=lambda found: list(CLAIMS).index(found.claim))
        ],
        "suspects": [asdict(suspect) for suspect in suspects],
        "out_of_reach": out_of_reach,
    }


def _against_ledger(home: Home) -> Iterator[Finding]:
    """What the ledger of this home tells otherwise than the store. Other homes' versions are in their ledgers."""
    claim, versions = "ledger_is_whole", set(catalogue.list_versions(home.store))
    try:
        made = [event.subject for event in home.ledger.events() if event.event == "dataset_version_made"]
    except CorruptData as error:
        yield Finding(claim=claim, detail=str(error))
        return
    for version, manifest in ((subject["dataset_version"], subject["manifest"]) for subject in made):
        if version not in versions:
            yield Finding(claim=claim, dataset_version=version, detail=f"{version} was made, and its manifest is gone")
        elif catalogue.manifest_sha256(home.store, version) != manifest:
            yield Finding(claim=claim, dataset_version=version, detail=f"{version} was made with {manifest[:12]}")


def _read_versions(
    store: Store, gone: frozenset[str]
) -> tuple[pa.Table, pa.Table, list[Finding], list[dict[str, Any]]]:
    """All members (invariants.MEMBER), their signatures, and what manifests show by themselves; one at a time."""
    members, signed = invariants.MEMBER.empty_table(), _SIGNED.empty_table()
    findings: list[Finding] = []
    out_of_reach = []
    previous: str | None = None
    is_all_read = True
    for version in catalogue.list_versions(store):
        digest, previous = previous, catalogue.manifest_sha256(store, version)
        about = {"claim": "manifests_are_as_recorded", "dataset_version": version}
        try:
            record = ingest.verify(store, version)
            manifest = catalogue.read_manifest(store, version, record.manifest, columns=_COLUMNS)
        except PermanentError as error:
            findings.append(Finding(**about, detail=str(error)))
            is_all_read = False
            continue
        if record.previous_manifest != digest:
            findings.append(Finding(**about, detail=_gap(record.previous_manifest, digest)))
        findings += invariants.within(version, manifest)
        findings += invariants.against_earlier(members, version, manifest)
        if is_all_read:  # else nobody knows what it followed from
            findings += invariants.assigned_otherwise(members, version, manifest)
        findings += _accepted_again(store, version, manifest, gone)
        for found in invariants.unbalanced(members, version, manifest):
            if found.pop("is_reachable"):
                detail = f"{found['test_share']:.4f} of {found['label']} are on the test side"
                findings.append(Finding(claim="split_is_80_to_20", dataset_version=version, detail=detail))
            else:
                out_of_reach.append(found)
        members = invariants.fold(members, version, manifest)
        signed = _fold_signatures(signed, manifest)
    return members, signed, findings, out_of_reach


def _gap(named: str | None, there: str | None) -> str:
    return (
        f"it was made after the manifest {(named or 'none')[:12]}, the one before it here is {(there or 'none')[:12]}: "
        "a version is missing, was changed, or was put in"
    )


def _fold_signatures(signed: pa.Table, manifest: pa.Table) -> pa.Table:
    rows = manifest.filter(pc.is_valid(manifest["signature"])).select(_SIGNED.names)
    new = rows.filter(pc.invert(pc.is_in(rows["sha256"], signed["sha256"].combine_chunks())))
    return pa.concat_tables([signed, history.first_of_each(new).cast(_SIGNED)]).combine_chunks()


def _copies_across(members: pa.Table, signed: pa.Table) -> Iterator[Finding]:
    """Near-duplicates on different sides, found again among all photos by the grouping's own rule."""
    claim = "copies_keep_one_side"
    places = pc.index_in(members["sha256"], signed["sha256"].combine_chunks())
    for row in members.filter(pc.is_null(places)).to_pylist():
        yield Finding(
            claim=claim, dataset_version=row["dataset_version"], sha256=row["sha256"], key=row["key"],
            detail="no manifest has its signature, so its copies cannot be found",
        )  # fmt: skip
    known = members.filter(pc.is_valid(places))
    signatures = history.stack(signed["signature"].take(places.drop_null()))
    pairs = likeness.near_duplicates(signatures, np.ones(len(signatures), dtype=bool))
    is_test = np.asarray(pc.equal(known["split"], "test"))
    for one, other in pairs[is_test[pairs[:, 0]] != is_test[pairs[:, 1]]].tolist():
        train, test = (other, one) if is_test[one] else (one, other)
        yield pair(claim, known, known, (train, test), "near-duplicates")


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """Which tables of photos tell what is in them; of the others' photos nothing else can be said."""

    has_originals: bool
    has_all_pixels: bool
    resolutions: Sequence[int]
    """Of the tables of pixels."""
    damaged: Sequence[Finding]
    """One for each that does not."""


def _readable_tables(home: Home) -> _Tables:
    damaged: list[Finding] = []

    def is_readable(claim: str, stored: Callable[[], pa.Array]) -> bool:
        try:
            stored()
        except CorruptData as error:
            damaged.append(Finding(claim=claim, detail=str(error)))
            return False
        return True

    has_originals, sides = is_readable("originals_are_whole", home.originals.stored), home.pixels.resolutions()
    readable = [side for side in sides if is_readable("pixels_are_there", partial(home.pixels.stored, side))]
    return _Tables(has_originals=has_originals, has_all_pixels=readable == sides, resolutions=readable, damaged=damaged)


def _without_pixels(home: Home, present: pa.Table, tables: _Tables) -> Iterator[Finding]:
    photos = {row["sha256"]: row for row in _each_once(present)}
    missing: Sequence[str] = list(photos) if tables.has_all_pixels else []
    for resolution_px in tables.resolutions:
        missing = home.pixels.missing(missing, resolution_px)
    for sha256 in missing:
        yield _about(photos[sha256], "pixels_are_there", "it has pixels at no resolution")


def _drawn_again(home: Home, present: pa.Table, tables: _Tables, on_progress: Progress) -> Iterator[Finding]:
    """Every accepted photo's bytes, read once and hashed, and what is drawn of them beside what is stored."""
    if not tables.has_originals:
        return
    photos = {row["sha256"]: row for row in _each_once(present)}
    stored = {side: photos.keys() - home.pixels.missing(list(photos), side) for side in tables.resolutions}
    comparer = _Comparer(home.originals, home.pixels, stored, by_torch=is_torch_worth_it(len(photos)))
    shards = _shards(home.originals, photos, tables.resolutions)
    num_done = 0
    for shard, found in zip(shards, map_in_threads(comparer, shards), strict=True):
        for sha256, claim, detail in found:
            yield _about(photos[sha256], claim, detail)
        num_done += len(shard)
        on_progress(num_done, len(photos))


@dataclass(frozen=True)
class _Comparer:
    """The work on one shard of photos, by sha256."""

    originals: OriginalStore
    pixels: PixelStore
    stored: Mapping[int, Collection[str]]
    """Photos that have pixels, by resolution."""
    by_torch: bool

    def __call__(self, shard: Sequence[str]) -> list[tuple[str, str, str]]:
        """What is not as claimed: the photo's sha256, the claim, and a line about it."""
        found, drawn = list[tuple[str, str, str]](), list[str]()
        squares = {side: np.empty((len(shard), side, side, 3), np.uint8) for side in self.stored}
        for sha256, data in self._find(shard, found):
            try:
                photo = decode(self.originals.verified(sha256, data))
            except UnreadablePhoto as error:
                found.append((sha256, "pixels_are_as_drawn", f"its original cannot be drawn any more: {error}"))
                continue
            except (NotFound, CorruptData) as error:
                found.append((sha256, "originals_are_whole", str(error)))
                continue
            place = slice(len(drawn), len(drawn) + 1)
            squeeze([photo], [square[place] for square in squares.values()], by_torch=self.by_torch)
            drawn.append(sha256)
        for side, square in squares.items():
            found += [(sha256, "pixels_are_as_drawn", self._told(side)) for sha256 in self._others(drawn, square, side)]
        return found

    def _find(self, shard: Sequence[str], found: list[tuple[str, str, str]]) -> Iterator[tuple[str, bytes | None]]:
        """The originals of a shard; those that damage keeps from being read are `found`, by halves of what is left."""
        left = dict.fromkeys(shard)
        try:
            for sha256, data in self.originals.find(shard):
                yield sha256, data
                del left[sha256]
        except CorruptData as error:
            names = list(left)
            if len(names) <= 1:
                found += [(sha256, "originals_are_whole", str(error)) for sha256 in names]
                return
            for half in (names[: len(names) // 2], names[len(names) // 2 :]):
                yield from self._find(half, found)

    def _others(self, drawn: Sequence[str], squares: Pixels, side: int) -> list[str]:
        """Those whose stored pixels of a resolution are not these; all, where they cannot be read together."""
        places = [place for place, sha256 in enumerate(drawn) if sha256 in self.stored[side]]
        names = [drawn[place] for place in places]
        try:
            try:
                stored = self.pixels.read(names, side)
            except NotFound:  # photos were forgotten meanwhile
                gone = set(self.pixels.missing(names, side))
                places = [place for place, sha256 in zip(places, names, strict=True) if sha256 not in gone]
                names = [drawn[place] for place in places]
                stored = self.pixels.read(names, side)
        except CorruptData:
            return names
        is_other = (stored != squares[places]).any(axis=(1, 2, 3))
        return [names[place] for place in np.flatnonzero(is_other).tolist()]

    def _told(self, side: int) -> str:
        return f"its pixels of {side} px are not those of its bytes, or cannot be read: {self.pixels.mending(side)}"


def _shards(originals: OriginalStore, photos: Collection[str], sides: Sequence[int]) -> list[Sequence[str]]:
    """Photos in the order of the table, which is by far the fastest to read; then those that are not in it."""
    in_order = [sha256 for sha256 in originals.stored().unique().to_pylist() if sha256 in photos]
    names = list(dict.fromkeys([*in_order, *photos]))
    rows = min(_SHARD_ROWS, max(1, _SHARD_BYTES // max(1, sum(side**2 * 3 for side in sides))))
    return [names[start : start + rows] for start in range(0, len(names), rows)]


def _accepted_again(store: Store, version: str, manifest: pa.Table, gone: frozenset[str]) -> Iterator[Finding]:
    """Forgotten photos that a version accepted which began after they were forgotten."""
    is_back = pc.and_(pc.is_valid(manifest["split"]), pc.is_in(manifest["sha256"], pa.array(sorted(gone), pa.string())))
    for row in manifest.filter(is_back).select(["sha256", "key"]).to_pylist():
        about = {"claim": "forgotten_is_gone", "dataset_version": version, **row}
        try:
            tombstone = tombstones.read(store, row["sha256"])
        except PermanentError as error:
            yield Finding(**about, detail=str(error))
            continue
        if version not in tombstone.dataset_versions and _began(store, version) > tombstone.when:
            yield Finding(**about, detail=f"accepted although it was forgotten on {tombstone.when}")


def _began(store: Store, version: str) -> str:
    """When an ingestion began, ISO 8601 in UTC; a last day where nobody noted it, which excuses nothing."""
    try:
        return str(read_circumstances(store, RawImages, version)["when"])
    except (NotFound, KeyError):
        return "9999"


def _left_of_forgotten(home: Home, gone: frozenset[str], tables: _Tables) -> Iterator[Finding]:
    """Of forgotten photos: brought back by an ingestion that ran meanwhile, or forgotten in another home."""
    names = sorted(gone)
    for sha256 in sorted(gone - set(home.originals.missing(names))) if tables.has_originals else ():
        yield Finding(claim="forgotten_is_gone", sha256=sha256, detail="its original is stored: forget it again")
    for resolution_px in tables.resolutions:
        for sha256 in sorted(gone - set(home.pixels.missing(names, resolution_px))):
            detail = f"its pixels of {resolution_px} px are stored: forget it again"
            yield Finding(claim="forgotten_is_gone", sha256=sha256, detail=detail)
    for sha256, paths in copies.left(home).items():
        detail = f"{paths[0]} and what is beside it may hold copies of it: forget it again"
        yield Finding(claim="forgotten_is_gone", sha256=sha256, detail=detail)


def _each_once(members: pa.Table) -> list[dict[str, Any]]:
    """The first row of each photo, by sha256."""
    photos = {row["sha256"]: row for row in reversed(members.to_pylist())}
    return [photos[sha256] for sha256 in sorted(photos)]


def _about(row: Mapping[str, Any], claim: str, detail: str) -> Finding:
    return Finding(
        claim=claim, detail=detail, dataset_version=row["dataset_version"], sha256=row["sha256"], key=row["key"]
    )
