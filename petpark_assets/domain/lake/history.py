"""What all versions together know of each photo: its facts, its group, and the side on which it stays for ever.

Derived from the manifests; the copy in a cache saves reading them all again and can be deleted at any time.
Not here: one version's rows (catalogue.py).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue, likeness, manifest_cache, signatures

FILE_NAME = "lake_history.arrow"
COLUMNS = ["sha256", *catalogue.FACTS, "reason", "detail", "group", "split"]
SCHEMA = pa.schema([catalogue.SCHEMA.field(name) for name in COLUMNS])
"""A row for each sha256 that any version read, sorted by it. reason and detail: only where the bytes cannot be decoded.
group and split: as in the newest version that accepted it; null where none did."""


def read_history(store: files.Store, cache: Path | None = None, *, besides: str | None = None) -> pa.Table:
    """All versions, or all besides one, as a table of SCHEMA; one version at a time in memory.

    With a cache only the versions that it has not seen are read.
    """
    versions = [version for version in catalogue.list_versions(store) if version != besides]
    is_cached = cache is not None and besides is None
    known, num_known = (
        manifest_cache.load(cache / FILE_NAME, SCHEMA, store, versions, memory_map=True)
        if cache and is_cached
        else (SCHEMA.empty_table(), 0)
    )
    for version in versions[num_known:]:
        known = fold(known, catalogue.read_manifest(store, version, columns=COLUMNS))
    if cache and is_cached and num_known < len(versions):
        keep(cache, known, store, versions)
    return known


def sides(history: pa.Table) -> dict[str, str]:
    """The side of every photo that was ever accepted, by sha256."""
    settled = history.filter(pc.is_valid(history["split"]))
    return dict(zip(settled["sha256"].to_pylist(), settled["split"].to_pylist(), strict=True))


def copies_of(known: pa.Table, sha256: str) -> list[str]:
    """The near-duplicates of a photo among all that any version decoded, whatever became of them."""
    signed = known.select(["sha256", "signature"]).filter(pc.is_valid(known["signature"])).combine_chunks()
    is_asked = pc.equal(signed["sha256"], sha256).to_numpy(zero_copy_only=False)
    pairs = likeness.near_duplicates(stack(signed["signature"]), is_asked)
    others = pairs[~is_asked[pairs]]  # at least one of a pair is asked about
    return sorted(signed["sha256"].take(pa.array(np.unique(others))).to_pylist())


def stack(column: pa.ChunkedArray) -> signatures.Signatures:
    """uint8 [N, SIGNATURE_BYTES] of a column of signatures."""
    fixed = column.combine_chunks().cast(pa.binary(signatures.SIGNATURE_BYTES))
    if not len(fixed):
        return np.empty((0, signatures.SIGNATURE_BYTES), np.uint8)
    data = np.frombuffer(fixed.buffers()[1], np.uint8).reshape(-1, signatures.SIGNATURE_BYTES)
    return data[fixed.offset : fixed.offset + len(fixed)]


def fold(known: pa.Table, manifest: pa.Table) -> pa.Table:
    """What is known, and what one more version says."""
    new = manifest.select(COLUMNS).take(_first_read(known, manifest))
    is_decoded = pc.is_valid(new["format"])
    for name in ("reason", "detail"):  # where it was decoded they say what that version made of it
        new = _with(new, name, pc.if_else(is_decoded, pa.scalar(None, pa.string()), new[name]))
    for name in ("group", "split"):
        new = _with(new, name, pa.nulls(new.num_rows, pa.string()))
    known = pa.concat_tables([known, new.cast(SCHEMA)]).sort_by("sha256")
    accepted = manifest.select(["sha256", "group", "split"]).filter(pc.is_valid(manifest["split"]))
    places = pc.index_in(known["sha256"], accepted["sha256"])
    known = _with(known, "group", pc.coalesce(_went_with(known, accepted, manifest), known["group"]))
    for name in ("group", "split"):
        known = _with(known, name, pc.coalesce(accepted[name].take(places), known[name]))
    return known.combine_chunks()


def _went_with(known: pa.Table, accepted: pa.Table, manifest: pa.Table) -> pa.ChunkedArray:
    """Of each known photo that is not accepted the group that the others of its group are in by now, if in another.

    No group is parted: where some of its photos went over to another, those that were away or set aside went too. Only
    a bridge did not, which is a group of its own.
    """
    before = known["group"].take(pc.index_in(accepted["sha256"], known["sha256"]))
    moved = accepted.append_column("before", before).filter(pc.not_equal(before, accepted["group"]))
    found = moved["group"].take(pc.index_in(known["group"], moved["before"]))
    bridges = manifest["sha256"].filter(pc.equal(manifest["reason"], "bridge"))
    return pc.if_else(pc.is_in(known["sha256"], bridges), pa.scalar(None, pa.string()), found)


def _first_read(known: pa.Table, manifest: pa.Table) -> pa.Array:
    """Places of a manifest's rows about bytes that are not known yet, of the same bytes the first."""
    is_new = pc.invert(pc.is_in(manifest["sha256"], known["sha256"]))
    return places_of_first(manifest["sha256"], pc.and_(is_new, pc.is_valid(manifest["first_version"])))


def first_of_each(table: pa.Table) -> pa.Table:
    """Without the later of several rows with the same sha256."""
    return table.take(places_of_first(table["sha256"], pa.repeat(True, table.num_rows)))  # noqa: FBT003 - Arrow's own


def places_of_first(sha256s: pa.ChunkedArray, is_wanted: pa.ChunkedArray) -> pa.Array:
    """Rising places of those that are wanted, of several with the same sha256 the first."""
    positions = pa.table({"sha256": sha256s, "place": np.arange(len(sha256s))}).filter(is_wanted)
    return positions.group_by("sha256").aggregate([("place", "min")]).column("place_min").sort()


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)


def keep(cache: Path, known: pa.Table, store: files.Store, versions: list[str], manifest: str | None = None) -> None:
    """Save what these versions, which must be the first of the store's, together know; manifest_cache.keep."""
    manifest_cache.keep(cache / FILE_NAME, known, store, versions, manifest)
