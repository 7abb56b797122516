"""Tables that are derived from all manifests, kept in a cache so that only new versions need be read again.

A file says of which store and versions it is; one that is another store's, or damaged, is as good as none, and any of
them can be deleted at any time. Not here: what is derived (history.py, sightings.py).
"""

import json
from pathlib import Path

import pyarrow as pa
from pyarrow import feather

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue

_SOURCE = b"petpark"
_RULES = 2
"""By which tables are derived: one that was kept by others is as good as none. 2: groups of photos that are away."""


def load(
    path: Path, schema: pa.Schema, store: files.Store, versions: list[str], *, memory_map: bool = False
) -> tuple[pa.Table, int]:
    """What was kept, and how many of the store's versions, from the first, it covers; an empty table and 0 for none.

    Memory-mapped, it stays as it was when the file is replaced.
    """
    nothing = schema.empty_table(), 0
    if not path.is_file():
        return nothing
    try:
        table = feather.read_table(path, memory_map=memory_map)
        source = json.loads(table.schema.metadata[_SOURCE])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return nothing
    seen = source.get("versions") or [None]
    is_ours = table.schema.equals(schema) and source.get("store") == store.uri and seen == versions[: len(seen)]
    is_ours = is_ours and source.get("rules") == _RULES
    is_ours = is_ours and source.get("manifest") == catalogue.manifest_sha256(store, seen[-1])
    return (table.replace_schema_metadata(None), len(seen)) if is_ours else nothing


def keep(path: Path, table: pa.Table, store: files.Store, versions: list[str], manifest: str | None = None) -> None:
    """Save what follows from these versions, which must be the first of the store's.

    `manifest` is the newest one's sha256, where the caller has it.
    """
    manifest = manifest or catalogue.manifest_sha256(store, versions[-1])
    source = {"rules": _RULES, "store": store.uri, "versions": versions, "manifest": manifest}
    noted = table.replace_schema_metadata({_SOURCE: files.canonical_json(source)})
    with files.replacing(path) as file:
        feather.write_feather(noted, file, compression="uncompressed")  # compressing would take longer than writing
