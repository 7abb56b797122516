"""Which versions saw which photo, under which key and how: a row for each run of versions that say the same of a key.

Derived from the manifests; the copy in a cache answers for hundreds of versions of 100,000 photos at once, where
reading their manifests would take minutes. It can be deleted at any time, and holds no photo.
Not here: what is known of a photo's bytes (history.py), one version's rows (catalogue.py).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue, manifest_cache

FILE_NAME = "lake_sightings.arrow"
COLUMNS = ["key", "sha256", "label", "state", "split", "reason"]
SCHEMA = pa.schema([
    *(catalogue.SCHEMA.field(name) for name in COLUMNS),
    pa.field("first", pa.int32(), nullable=False),
    pa.field("last", pa.int32(), nullable=False),
])  # fmt: skip
"""first, last: places in the list of versions, both included. Rows come in the order in which they were first seen."""


def read_sightings(store: files.Store, cache: Path) -> tuple[pa.Table, list[str]]:
    """A table of SCHEMA, and the versions that first and last count; only what the cache has not seen is read."""
    versions = catalogue.list_versions(store)
    known, num_known = _read(store, cache, versions)
    if num_known < len(versions):
        keep(cache, known, store, versions)
    return known, versions


def with_next(store: files.Store, cache: Path, versions: list[str], manifest: pa.Table) -> pa.Table:
    """What these versions, which must be the store's first, say, and one after them, which need not be stored yet."""
    return fold(_read(store, cache, versions)[0], manifest.select(COLUMNS), len(versions))


def keep(cache: Path, known: pa.Table, store: files.Store, versions: list[str], manifest: str | None = None) -> None:
    """Save what these versions, which must be the first of the store's, say; manifest_cache.keep."""
    manifest_cache.keep(cache / FILE_NAME, known, store, versions, manifest)


def _read(store: files.Store, cache: Path, versions: list[str]) -> tuple[pa.Table, int]:
    """What these versions say, and how many of them the cache knew."""
    known, num_known = manifest_cache.load(cache / FILE_NAME, SCHEMA, store, versions, memory_map=True)
    for number, version in enumerate(versions[num_known:], start=num_known):
        known = fold(known, catalogue.read_manifest(store, version, columns=COLUMNS), number)
    return known, num_known


def fold(known: pa.Table, manifest: pa.Table, number: int) -> pa.Table:
    """What is known, and what one more version, the one with this number, says: keys are unique within it."""
    last = known["last"].to_numpy().copy()
    is_open = np.flatnonzero(last == number - 1)
    newest = known.select(COLUMNS).take(pa.array(is_open))
    places = pc.index_in(manifest["key"], newest["key"].combine_chunks())
    is_same = _is_same(manifest, newest.take(places.combine_chunks()))
    last[is_open[places.filter(is_same).to_numpy()]] = number
    new = manifest.filter(pc.invert(is_same))
    numbers = pa.array(np.full(new.num_rows, number, dtype=np.int32))
    new = new.select(COLUMNS).append_column("first", numbers).append_column("last", numbers)
    known = known.set_column(known.schema.get_field_index("last"), SCHEMA.field("last"), pa.array(last))
    return pa.concat_tables([known.cast(SCHEMA), new.cast(SCHEMA)]).combine_chunks()


def _is_same(rows: pa.Table, others: pa.Table) -> pa.Array:
    """Rows that say the same as those beside them; nulls are equal to nulls, and a key to no null."""
    is_same = pc.is_valid(others["key"])
    for name in COLUMNS[1:]:
        are_null = pc.and_(pc.is_null(rows[name]), pc.is_null(others[name]))
        is_same = pc.and_(is_same, pc.fill_null(pc.equal(rows[name], others[name]), are_null))
    return is_same
