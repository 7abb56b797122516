"""The manifest of a dataset version: one row for each object seen, sorted by key, immutable, digested.

A version exists from the moment its manifest does. Not here: how rows come about (ingest.py), pixels (pixels.py).
The same rows give the same Parquet bytes: no clock, no writer's choice of the day, one thread's order.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.records import LABELS, RawImages

ACCEPTED, DUPLICATE, QUARANTINED = STATES = ("accepted", "duplicate", "quarantined")

SCHEMA = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("etag", pa.string()),  # as the bucket gave it; null in a folder
    pa.field("sha256", pa.string()),  # null: the bytes could not be read
    pa.field("label", pa.string()),
    pa.field("label_source", pa.string()),  # the source that won
    pa.field("claims", pa.list_(pa.string())),  # what each source said, by rank: `folder: cat`
    pa.field("first_version", pa.string()),  # that read these bytes; null: they could not be, or were forgotten
    pa.field("format", pa.string()),  # from here to channel_squares: null where it could not be decoded
    pa.field("width_px", pa.int32()),  # of the upright picture, as stored in the lake
    pa.field("height_px", pa.int32()),
    pa.field("mode", pa.string()),
    pa.field("capture_time", pa.timestamp("ms")),  # EXIF's, which knows no time zone; null: it says nothing
    pa.field("perceptual_hash", pa.string()),  # 16 hexadecimal digits: a few bits differ between copies of one photo
    pa.field("signature", pa.binary()),  # signatures.py; only in the first version, or every version would cost it
    pa.field("brightness", pa.float32()),
    pa.field("sharpness", pa.float32()),
    pa.field("channel_means", pa.list_(pa.float32())),
    pa.field("channel_squares", pa.list_(pa.float32())),
    pa.field("group", pa.string()),  # of near-duplicates, which stay on one side; null where quarantined
    pa.field("split", pa.string()),  # train, test; null unless accepted
    pa.field("state", pa.string(), nullable=False),
    pa.field("reason", pa.string()),  # one of images.QUARANTINE_REASONS; null unless quarantined
    pa.field("detail", pa.string()),  # for people: more about the reason, or which photo this is a duplicate of
])  # fmt: skip

FACTS = (
    "first_version", "format", "width_px", "height_px", "mode", "capture_time", "perceptual_hash", "signature",
    "brightness", "sharpness", "channel_means", "channel_squares",
)  # fmt: skip
"""Columns that depend on the bytes alone."""

NOT_CONTENT = ("signature", "etag", "detail")
"""Columns that may differ between manifests that say the same: kept once, the bucket's own affair, our words."""

_REPEATED = [
    "size_bytes", "label", "label_source", "claims.list.element", "first_version", "format", "width_px", "height_px",
    "mode", "capture_time", "split", "state", "reason",
]  # fmt: skip
"""Columns of few values, as Parquet names them: the file has each value once."""
_VERSION = re.compile(r"v\d{4,}")
_NOTES = b"petpark"
_STREAMED_ROWS = 8192


def version_name(number: int) -> str:
    """`v0001` for 1."""
    return f"v{number:04d}"


def manifest_key(version: str) -> str:
    """Where a version's manifest is stored. Raises InvalidInput for what is no version's name."""
    if not _VERSION.fullmatch(version):
        raise InvalidInput(f"{version!r} is not a dataset version: write it like v0001")
    return f"{files.folder_key(RawImages.asset, version)}/manifest.parquet"


def list_versions(store: files.Store) -> list[str]:
    """The versions whose manifest exists, first to newest."""
    names = (key.split("/") for key in store.list_keys(RawImages.asset) if key.endswith("/manifest.parquet"))
    return sorted((name[1] for name in names if _VERSION.fullmatch(name[1])), key=lambda version: int(version[1:]))


def newest_version(store: files.Store) -> str | None:
    """The newest of them; None before the first."""
    return next(reversed(list_versions(store)), None)


def build_table(
    rows: Sequence[Mapping[str, Any]], *, num_ignored: int, previous_manifest: str | None, inputs: str | None = None
) -> pa.Table:
    """`finish` for rows in any order, with null for every column that a row does not have."""
    by_key = sorted(rows, key=lambda row: str(row["key"]))
    return finish(
        pa.Table.from_pylist(by_key, schema=SCHEMA),
        num_ignored=num_ignored,
        previous_manifest=previous_manifest,
        inputs=inputs,
    )


def finish(table: pa.Table, *, num_ignored: int, previous_manifest: str | None, inputs: str | None = None) -> pa.Table:
    """A manifest from its rows, a column of SCHEMA each, with what belongs to the listing as a whole beside them.

    `inputs` is the digest of all that the rows were made from (survey.py): the same again needs no second judgement.
    """
    notes = {"num_ignored": num_ignored, "previous_manifest": previous_manifest, "inputs": inputs}
    schema = SCHEMA.with_metadata({_NOTES: files.canonical_json(notes)})
    return table.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata(schema.metadata)


def says_the_same(table: pa.Table, other: pa.Table) -> bool:
    """Whether two manifests have the same content, wherever their signatures are kept and whatever was ignored."""
    return bool(table.drop_columns(NOT_CONTENT).equals(other.drop_columns(NOT_CONTENT)))


def has_rows(store: files.Store, version: str, number: int) -> bool:
    """Whether a manifest has so many rows, which its footer tells in a tenth of the time that reading them takes."""
    return _footer(store, version)[0] == number


def inputs(store: files.Store, version: str) -> str | None:
    """The digest of what a version was made from, out of the file's footer."""
    noted = _footer(store, version)[1]["inputs"]
    return None if noted is None else str(noted)


def _footer(store: files.Store, version: str) -> tuple[int, dict[str, Any]]:
    """Rows and notes."""
    try:
        footer = pq.read_metadata(files.arrow_reader(_read(store, version)))
        return footer.num_rows, _notes_of(footer.metadata)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptData(
            f"{manifest_key(version)} in {store.uri} is no manifest any more: put it back from a backup"
        ) from error


def write_manifest(store: files.Store, version: str, table: pa.Table) -> str | None:
    """Make a version: its manifest's sha256, or None if another writer has taken the name. Appears whole or not."""
    data = to_parquet(table)
    return files.sha256(data) if store.write_new(manifest_key(version), data) else None


def to_parquet(table: pa.Table) -> bytes:
    """A manifest's bytes, the same for the same rows; what is said here and not left to pyarrow stays the same."""
    buffer = io.BytesIO()
    # Level 3, and dictionaries of what differs in each row, took three times as long for a larger file.
    pq.write_table(
        table.combine_chunks(), buffer, version="2.6", data_page_version="1.0", compression="zstd",
        compression_level=1, row_group_size=100_000, use_dictionary=_REPEATED, write_statistics=True,
    )  # fmt: skip
    return buffer.getvalue()


def read_manifest(
    store: files.Store, version: str, expected_sha256: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """A version's manifest, or some of its columns. Raises NotFound listing what there is, CorruptData."""
    data = _read(store, version)
    if expected_sha256 is not None and files.sha256(data) != expected_sha256:
        raise CorruptData(
            f"{manifest_key(version)} in {store.uri} was changed after it was stored: its sha256 is "
            f"{files.sha256(data)[:12]}…, recorded was {expected_sha256[:12]}…"
        )
    return _parse(store, version, data, columns)


def read_with_sha256(store: files.Store, version: str) -> tuple[pa.Table, str]:
    """A version's manifest and the sha256 of its bytes, which are fetched once. Raises NotFound, CorruptData."""
    data = _read(store, version)
    return _parse(store, version, data, None), files.sha256(data)


def _parse(store: files.Store, version: str, data: bytes, columns: Sequence[str] | None) -> pa.Table:
    try:
        table = pq.read_table(files.arrow_reader(data), columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{manifest_key(version)} in {store.uri} is no Parquet file any more: {error}") from error
    expected = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    if not table.schema.equals(expected):
        raise CorruptData(
            f"{manifest_key(version)} in {store.uri} does not have the columns of a manifest: it may be another "
            "release's, which needs a home of its own"
        )
    return table


def stream_rows(
    store: files.Store, version: str, columns: Sequence[str], where: pc.Expression | None = None
) -> Iterator[tuple[Any, ...]]:
    """Some columns of a manifest's rows, by key, some thousand at a time in memory beside the file's bytes.

    `where` picks rows by those columns.
    """
    try:
        file = pq.ParquetFile(files.arrow_reader(_read(store, version)))
        for batch in file.iter_batches(batch_size=_STREAMED_ROWS, columns=list(columns), use_threads=False):
            kept = batch if where is None else batch.filter(where)
            yield from zip(*(kept.column(name).to_pylist() for name in columns), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{manifest_key(version)} in {store.uri} is no Parquet file any more: {error}") from error


def manifest_sha256(store: files.Store, version: str) -> str:
    """The digest of a version: sha256 of its manifest's bytes. Raises NotFound."""
    return files.sha256(_read(store, version))


def _read(store: files.Store, version: str) -> bytes:
    try:
        return store.read(manifest_key(version))
    except NotFound as error:
        existing = ", ".join(list_versions(store)[-5:]) or "none yet"
        raise NotFound(f"there is no dataset version {version} in {store.uri}; there is: {existing}") from error


def raw_images(table: pa.Table, version: str, manifest: str) -> RawImages:
    """The record of a manifest, from the manifest alone."""
    counted = counts(table)
    return RawImages(
        dataset_version=version,
        manifest=manifest,
        previous_manifest=_notes(table)["previous_manifest"],
        images={name: counted[name] for name in ("seen", *STATES, "ignored")},
        accepted_by_label=counted["accepted_by_label"],
        quarantined_by_reason=counted["quarantined_by_reason"],
    )


def counts(table: pa.Table) -> dict[str, Any]:
    """How many: seen, accepted, duplicate, quarantined, ignored, accepted_by_label, quarantined_by_reason."""
    by_state = _count(table["state"])
    if table.num_rows != sum(by_state[state] for state in STATES):
        raise AssertionError(f"{table.num_rows} seen, but {dict(by_state)}: some photos have no state")
    by_label = _count(table["label"].filter(pc.equal(table["state"], ACCEPTED)))
    by_reason = _count(table["reason"].drop_null())
    return {
        "seen": table.num_rows,
        **{state: by_state[state] for state in STATES},
        "ignored": _notes(table)["num_ignored"],
        "accepted_by_label": {label: by_label[label] for label in LABELS},
        "quarantined_by_reason": dict(sorted(by_reason.items())),
    }


def _count(values: pa.ChunkedArray) -> Counter[Any]:
    return Counter({one["values"]: one["counts"] for one in pc.value_counts(values).to_pylist()})


def _notes(table: pa.Table) -> dict[str, Any]:
    return _notes_of(table.schema.metadata)


def _notes_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads((metadata or {})[_NOTES])
    return notes
