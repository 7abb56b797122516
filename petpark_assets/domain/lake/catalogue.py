"""The manifest of a dataset version: one row for each object seen, sorted by key, immutable, digested.

A version exists from the moment its manifest does. Not here: how rows come about (ingest.py), pixels (pixels.py).
The same rows give the same Parquet bytes: no clock, no writer's choice of the day, one thread's order.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    pa.field("sha256", pa.string()),  # null: the bytes could not be read
    pa.field("label", pa.string()),
    pa.field("label_source", pa.string()),  # folder, file_name
    pa.field("first_version", pa.string()),  # that read these bytes as a labelled photo; null before
    pa.field("format", pa.string()),  # from here to channel_squares: null where it was never decoded
    pa.field("width_px", pa.int32()),  # of the upright picture, as stored in the lake
    pa.field("height_px", pa.int32()),
    pa.field("mode", pa.string()),
    pa.field("brightness", pa.float32()),
    pa.field("sharpness", pa.float32()),
    pa.field("channel_means", pa.list_(pa.float32())),
    pa.field("channel_squares", pa.list_(pa.float32())),
    pa.field("group", pa.string()),  # photos of one group stay on one side; the photo's own sha256 for now
    pa.field("split", pa.string()),  # train, test; null unless accepted
    pa.field("state", pa.string(), nullable=False),
    pa.field("reason", pa.string()),  # one of images.QUARANTINE_REASONS; null unless quarantined
    pa.field("detail", pa.string()),  # for people: more about the reason, or which photo this is a duplicate of
])  # fmt: skip

FACTS = (
    "first_version", "format", "width_px", "height_px", "mode", "brightness", "sharpness", "channel_means",
    "channel_squares",
)  # fmt: skip
"""Columns that depend on the bytes alone."""

_VERSION = re.compile(r"v\d{4,}")
_NOTES = b"petpark"


@dataclass(frozen=True, kw_only=True)
class Photo:
    """An accepted photo, as the split sees it."""

    sha256: str
    label: str
    group: str


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


def build_table(rows: Sequence[Mapping[str, Any]], *, num_ignored: int, previous_manifest: str | None) -> pa.Table:
    """A manifest of SCHEMA from its rows in any order, with what belongs to the listing as a whole beside them."""
    notes = {"num_ignored": num_ignored, "previous_manifest": previous_manifest}
    schema = SCHEMA.with_metadata({_NOTES: files.canonical_json(notes)})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["key"])), schema=schema)


def write_manifest(store: files.Store, version: str, table: pa.Table) -> str | None:
    """Make a version: its manifest's sha256, or None if another writer has taken the name. Appears whole or not."""
    data = to_parquet(table)
    return files.sha256(data) if store.write_new(manifest_key(version), data) else None


def to_parquet(table: pa.Table) -> bytes:
    """A manifest's bytes, the same for the same rows; what is said here and not left to pyarrow stays the same."""
    buffer = io.BytesIO()
    pq.write_table(
        table.combine_chunks(), buffer, version="2.6", data_page_version="1.0", compression="zstd",
        compression_level=3, row_group_size=100_000, use_dictionary=True, write_statistics=True,
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
    try:
        table = pq.read_table(pa.BufferReader(data), columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{manifest_key(version)} in {store.uri} is no Parquet file any more: {error}") from error
    expected = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    if not table.schema.equals(expected):
        raise CorruptData(f"{manifest_key(version)} in {store.uri} does not have the columns of a manifest")
    return table


def manifest_sha256(store: files.Store, version: str) -> str:
    """The digest of a version: sha256 of its manifest's bytes. Raises NotFound."""
    return files.sha256(_read(store, version))


def _read(store: files.Store, version: str) -> bytes:
    try:
        return store.read(manifest_key(version))
    except NotFound as error:
        existing = ", ".join(list_versions(store)[-5:]) or "none yet"
        raise NotFound(f"there is no dataset version {version} in {store.uri}; there is: {existing}") from error


def sha256_by_key(store: files.Store, version: str) -> dict[str, str | None]:
    """Which bytes a version saw under which key: what two versions are compared by."""
    table = read_manifest(store, version, columns=["key", "sha256"])
    return dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))


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
    by_state = Counter(table.column("state").to_pylist())
    if table.num_rows != sum(by_state[state] for state in STATES):
        raise AssertionError(f"{table.num_rows} seen, but {dict(by_state)}: some photos have no state")
    accepted = table.filter(pc.equal(table.column("state"), ACCEPTED))
    by_label = Counter(accepted.column("label").to_pylist())
    by_reason = Counter(reason for reason in table.column("reason").to_pylist() if reason is not None)
    return {
        "seen": table.num_rows,
        **{state: by_state[state] for state in STATES},
        "ignored": _notes(table)["num_ignored"],
        "accepted_by_label": {label: by_label[label] for label in LABELS},
        "quarantined_by_reason": dict(sorted(by_reason.items())),
    }


def _notes(table: pa.Table) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads((table.schema.metadata or {})[_NOTES])
    return notes


def side_history(store: files.Store, *, besides: str | None = None) -> dict[str, str]:
    """Of every photo that any version (besides one) accepted, by sha256: the side on which it stays for ever."""
    sides: dict[str, str] = {}
    versions = [version for version in list_versions(store) if version != besides]
    for table in _newest_rows(store, versions, ["sha256", "split"], lambda rows: pc.is_valid(rows["split"])):
        sides.update(zip(table["sha256"].to_pylist(), table["split"].to_pylist(), strict=True))
    return sides


def known_facts(store: files.Store) -> dict[str, dict[str, Any]]:
    """What any version learned from bytes, by sha256: the columns FACTS, and reason and detail if it was refused."""
    facts: dict[str, dict[str, Any]] = {}
    columns = ["sha256", *FACTS, "reason", "detail"]
    for table in _newest_rows(store, list_versions(store), columns, lambda rows: pc.is_valid(rows[FACTS[0]])):
        for row in table.to_pylist():
            wanted = FACTS if row["format"] is not None else (*FACTS, "reason", "detail")
            facts[row["sha256"]] = {name: row[name] for name in wanted}
    return facts


def _newest_rows(
    store: files.Store, versions: Sequence[str], columns: Sequence[str], is_wanted: Callable[[pa.Table], pa.Array]
) -> Iterator[pa.Table]:
    """Over versions, newest first: of each sha256 its first row that is wanted; one version in memory at a time."""
    known = pa.array([], pa.string())
    for version in reversed(versions):
        table = read_manifest(store, version, columns=columns)
        is_new = pc.and_(is_wanted(table), pc.invert(pc.is_in(table["sha256"], known)))
        table = _first_of_each(table.filter(is_new))
        known = pa.concat_arrays([known, *table["sha256"].chunks])
        yield table


def _first_of_each(table: pa.Table) -> pa.Table:
    """Without the later of several rows with the same sha256."""
    positions = table.select(["sha256"]).append_column("position", pa.array(range(table.num_rows), pa.int64()))
    first = positions.group_by("sha256").aggregate([("position", "min")])
    return table.take(first.column("position_min").sort())
