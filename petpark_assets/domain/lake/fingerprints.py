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


_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "fingerprint", "content")])
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


def recall(cache: Path, lake: Lake, objects: Iterable[LakeObject]) -> dict[str, str]:
    """By key, of the objects whose fingerprint proves that they are as they were, the sha256, or NO_IMAGE."""
    kept = _load(cache / FILE_NAME, lake)
    asked = [item for item in objects if item.is_settled and item.problem is None]
    keys = [item.key for item in asked]
    places = pc.index_in(pa.array(keys, pa.string()), kept["key"])
    fingerprints = pa.array([item.fingerprint for item in asked], pa.string())
    is_same = pc.equal(fingerprints, kept["fingerprint"].take(places))  # null, and so not so, where nothing was kept
    contents = pc.if_else(is_same, kept["content"].take(places), pa.scalar(None, pa.string())).to_pylist()
    return {key: content for key, content in zip(keys, contents, strict=True) if content is not None}


def remember(
    cache: Path,
    lake: Lake,
    objects: Sequence[LakeObject],
    sha256s: Sequence[str | None],
    ignored: Sequence[LakeObject] = (),
) -> None:
    """Keep by key the sha256 of all objects that were read, and which are no images, if they had settled before.

    Objects, whose sha256s these are, and ignored ones are sorted by key. Written only when it changes.
    """
    read = zip(objects, sha256s, strict=True)
    kept = [(item.key, item.fingerprint, sha256) for item, sha256 in read if item.is_settled and sha256 is not None]
    others = [(item.key, item.fingerprint, NO_IMAGE) for item in ignored if item.is_settled]
    columns = zip(*kept, *others, strict=True) if kept or others else [()] * len(_SCHEMA)
    table = pa.table([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA)
    table = table.sort_by("key") if others else table
    if not table.equals(_load(cache / FILE_NAME, lake)):
        with files.replacing(cache / FILE_NAME) as file:
            noted = table.replace_schema_metadata({_LAKE: lake.identity.encode()})
            feather.write_feather(noted, file, compression="uncompressed")


def _load(path: Path, lake: Lake) -> pa.Table:
    """A table of _SCHEMA. A file that is none of ours, or another lake's, is as good as none."""
    try:
        table = feather.read_table(path, memory_map=False)
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()
    return table.replace_schema_metadata(None) if _is_of(table.schema, lake) else _SCHEMA.empty_table()


def _is_of(schema: pa.Schema, lake: Lake) -> bool:
    return bool(schema.equals(_SCHEMA)) and (schema.metadata or {}).get(_LAKE) == lake.identity.encode()
