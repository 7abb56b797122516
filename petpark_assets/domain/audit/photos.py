"""Which versions, models, reports and predictions a photo touched, named by key, by sha256 or by the file itself."""

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from petpark_assets.domain.audit.trail import (
    MIN_DIGITS,
    Document,
    file_keys,
    list_attempts,
    read_document,
    registered,
)
from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.files import Store, arrow_reader, sha256_file
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import corrections, sightings, tombstones
from petpark_assets.domain.registry import decisions

_DIGITS = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")


def describe_photo(home: Home, photo: str) -> dict[str, Any]:
    """All that a photo touched, as a JSON document.

    Returns:
        sha256; forgotten: its tombstone, or None; corrections: of its label, by whom and why.
        dataset_versions: a row for each run of versions that say the same of it: first, last, key, label, state,
            split, reason.
        models: a row for each model that learned from it or was examined on it: model_version (None where it is not
            registered), dataset_version, attempt, side, and, where it was examined, the report's digest, the label of
            then, predicted, probability (of dog, 0 to 1), is_right; and who let it through the gate.

    Raises NotFound, InvalidInput when the name fits several photos.
    """
    seen, versions = sightings.read_sightings(home.store, home.cache)
    sha256 = find_photo(seen, photo)
    rows = seen.filter(pc.equal(seen["sha256"], sha256)).to_pylist()
    gone = sha256 in tombstones.forgotten(home.store)
    fixed = (asdict(found) for found in corrections.read_corrections(home.store) if found.sha256 == sha256)
    return {
        "sha256": sha256,
        "forgotten": asdict(tombstones.read(home.store, sha256)) if gone else None,
        "corrections": list(fixed),
        "dataset_versions": [row | {name: versions[row[name]] for name in ("first", "last")} for row in rows],
        "models": _models(home, sha256, _sides(rows, versions)),
    }


def find_photo(seen: pa.Table, photo: str) -> str:
    """The sha256 of a photo: of a key of any version, of the first digits (8 or more), or of a file on this machine."""
    found = _distinct(seen.filter(pc.equal(seen["key"], photo)))
    if len(found) > 1:
        raise InvalidInput(f"{photo} named {len(found)} photos in turn: name one by its sha256, {' or '.join(found)}")
    if found:
        return found[0]
    if _DIGITS.fullmatch(photo.lower()):
        found = _distinct(seen.filter(pc.starts_with(seen["sha256"], photo.lower())))
        if len(found) > 1:
            raise InvalidInput(f"{photo} begins the sha256 of {len(found)} photos: give more digits")
    elif Path(photo).is_file():
        sha256 = sha256_file(Path(photo))
        found = _distinct(seen.filter(pc.equal(seen["sha256"], sha256)))
        if not found:
            raise NotFound(f"no dataset version has seen the photo {photo} (sha256 {sha256})")
    if not found:
        raise NotFound(
            f"no dataset version has seen {photo!r}: give its path in the lake, {MIN_DIGITS} or more digits of its "
            "sha256, or the photo file itself"
        )
    return found[0]


def _distinct(rows: pa.Table) -> list[str]:
    return [sha256 for sha256 in rows["sha256"].unique().to_pylist() if sha256 is not None]


def _sides(rows: list[dict[str, Any]], versions: list[str]) -> dict[str, str]:
    """The side of the photo in each version that accepted it."""
    return {
        version: row["split"]
        for row in rows
        if row["split"] is not None
        for version in versions[row["first"] : row["last"] + 1]
    }


def _models(home: Home, sha256: str, sides: Mapping[str, str]) -> list[dict[str, Any]]:
    """Hundreds of models may have been examined on one photo: their answers are read side by side."""
    events = list(home.ledger.events())
    numbers = {subject["attempt"]: number for number, subject in registered(events).items()}
    overrides = decisions.overrides(events)

    def describe(record: Document) -> dict[str, Any]:
        version, attempt = record.content["dataset_version"], record.content["attempt"]
        row = {"model_version": numbers.get(attempt), "dataset_version": version, "attempt": attempt}
        examined = _answer(home.store, record, sha256) if record.asset == "evaluation_report" else {}
        return {**row, "side": sides[version], **examined, **decisions.told(overrides.get(attempt))}

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="answers") as pool:
        return list(pool.map(describe, _used_by(home.store, sha256, sides)))


def _used_by(store: Store, sha256: str, sides: Mapping[str, str]) -> Iterator[Document]:
    """The record of each training that learned from a photo, and of each exam that asked for it."""
    used = {"train": "trained_cnn", "test": "evaluation_report"}
    for version, attempt in list_attempts(store, *used.values()):
        asset = used.get(sides.get(version, ""))
        if asset is not None and store.exists(f"{asset}/{version}/{attempt}.json"):
            record = read_document(store, asset, version, attempt)
            if sha256 not in record.content.get("forgotten", ()):
                yield record


def _answer(store: Store, report: Document, sha256: str) -> dict[str, Any]:
    """What a model answered about one photo of its exam, from the stored predictions."""
    name = "predictions.parquet"
    content = report.content
    expected = content["files"].get(name)
    if expected is None:
        return {"evaluation_report": report.digest}
    keys = file_keys(report.asset, content["dataset_version"], content["attempt"], name, expected)
    key = next((key for key in keys if store.exists(key)), keys[0])
    try:
        file = pq.ParquetFile(arrow_reader(store.read(key)))  # pq.read_table takes 1.3 times as long
        table = file.read(use_threads=False)
        place = pc.index(table["sha256"], sha256).as_py()
        row = table.slice(place, 1).to_pylist() if place >= 0 else []
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{key} in {store.uri} is no Parquet file any more: put it back from a backup") from error
    found = {name: row[0][name] if row else None for name in ("label", "predicted", "probability")}
    is_right = found["label"] == found["predicted"] if row else None
    return {"evaluation_report": report.digest, **found, "is_right": is_right}
