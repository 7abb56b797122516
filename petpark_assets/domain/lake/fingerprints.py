"""What a listing alone can tell: what was read of files that have not changed since.

A cache: it can be deleted at any time, and then every file of the lake is read again.
Not here: the reading (inspection.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from petpark_assets.domain import files
from petpark_assets.domain.lake.sources import Lake, LakeObject

FILE_NAME = "lake_fingerprints.arrow"
NO_IMAGE = "no image"
"""In place of a sha256: neither the name nor the first bytes are an image's."""

SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "fingerprint", "content")])
"""A row for each Entry."""
_LAKE = b"lake"


class Entry(NamedTuple):
    """What was read of one object."""

    key: str
    fingerprint: str
    content: str
    """The sha256 of its bytes, or NO_IMAGE."""


def stream(cache: Path, lake: Lake, where: pc.Expression | None = None) -> Iterator[Entry]:
    """All that is remembered of a lake, or of the entries that `where` picks, by key, in constant memory."""
    try:
        with pa.memory_map(str(cache / FILE_NAME)) as file:
            reader = pa.ipc.open_file(file)
            if not _is_of(reader.schema, lake):
                return
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                kept = batch if where is None else batch.filter(where)
                columns = [column.to_pylist() for column in kept.columns]
                yield from map(Entry._make, zip(*columns, strict=True))
    except (OSError, pa.ArrowException):  # none, or none of ours: then nothing is remembered
        return


def stamp(cache: Path) -> str:
    """Another one whenever something else is remembered."""
    try:
        status = (cache / FILE_NAME).stat()
    except OSError:
        return ""
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def recall(cache: Path, lake: Lake, objects: Iterable[LakeObject]) -> pa.Table:
    """The entries, of SCHEMA, of those objects whose fingerprint proves that they are as they were."""
    kept = _load(cache / FILE_NAME, lake)
    asked = [item for item in objects if item.is_settled and item.problem is None]
    places = pc.index_in(pa.array([item.key for item in asked], pa.string()), kept["key"])
    fingerprints = pa.array([item.fingerprint for item in asked], pa.string())
    is_same = pc.equal(fingerprints, kept["fingerprint"].take(places))  # null, and so not so, where nothing was kept
    return kept.take(places.filter(is_same))


def remember(cache: Path, lake: Lake, recalled: pa.Table, read: Sequence[tuple[LakeObject, str | None]]) -> None:
    """Keep what was recalled, and what objects that had settled before were found to have when they were read now.

    That is a sha256, or NO_IMAGE; None could not be read. Written only when it changes.
    """
    found = [(item.key, item.fingerprint, content) for item, content in read if item.is_settled and content is not None]
    columns = zip(*found, strict=True) if found else [()] * len(SCHEMA)
    new = pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)
    still = recalled.filter(pc.invert(pc.is_in(recalled["key"], pa.array([item.key for item, _ in read], pa.string()))))
    table = pa.concat_tables([still, new]).sort_by("key")
    if not table.equals(_load(cache / FILE_NAME, lake)):
        with files.replacing(cache / FILE_NAME) as file:
            noted = table.replace_schema_metadata({_LAKE: lake.identity.encode()})
            feather.write_feather(noted, file, compression="uncompressed")


def _load(path: Path, lake: Lake) -> pa.Table:
    """A table of SCHEMA. A file that is none of ours, or another lake's, is as good as none."""
    try:
        table = feather.read_table(path, memory_map=False)
    except (OSError, pa.ArrowException):
        return SCHEMA.empty_table()
    return table.replace_schema_metadata(None) if _is_of(table.schema, lake) else SCHEMA.empty_table()


def _is_of(schema: pa.Schema, lake: Lake) -> bool:
    return bool(schema.equals(SCHEMA)) and (schema.metadata or {}).get(_LAKE) == lake.identity.encode()
