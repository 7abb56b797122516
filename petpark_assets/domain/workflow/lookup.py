"""Finding a photo in all versions by what a person types: its key, its sha256, or the first digits of that."""

import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain.errors import InvalidInput, NotFound
from petpark_assets.domain.files import Store
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.originals import OriginalStore

MIN_DIGITS = 8
"""Of a sha256, to name a photo by."""

_COLUMNS = ["key", "sha256", "label", "group", "state", "split"]
_DIGITS = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")


def find_photo(store: Store, originals: OriginalStore, photo: str) -> str:
    """The sha256 of a photo, named by its key in any version, or by its sha256 or the first digits of it (8 or more).

    Raises InvalidInput when the name fits several photos, NotFound when it fits none.
    """
    rows = find_rows(store, lambda table: pc.equal(table["key"], photo))
    found = _first_versions(rows)
    if len(found) > 1:
        raise InvalidInput(f"{photo} named {len(found)} photos in turn: name one by its sha256, {_listed(found)}")
    if found:
        return next(iter(found))
    if rows.num_rows:
        raise NotFound(f"the bytes of {photo} could never be read, so nothing of them was ever kept")
    return _find_by_digits(store, originals, photo)


def find_rows(store: Store, is_wanted: Callable[[pa.Table], pa.Array]) -> pa.Table:
    """The rows of all versions that are wanted, oldest first; one version at a time in memory.

    Columns: dataset_version, key, sha256, label, group, state, split.
    """
    version_field = pa.field("dataset_version", pa.string())
    schema = pa.schema([version_field, *(catalogue.SCHEMA.field(name) for name in _COLUMNS)])
    parts = [schema.empty_table()]
    for version in catalogue.list_versions(store):
        table = catalogue.read_manifest(store, version, columns=_COLUMNS)
        wanted = table.filter(is_wanted(table))
        names = pa.array([version] * wanted.num_rows, pa.string())
        parts.append(wanted.add_column(0, version_field, names).replace_schema_metadata(None))
    return pa.concat_tables(parts)


def _find_by_digits(store: Store, originals: OriginalStore, photo: str) -> str:
    digits = photo.lower()
    if not _DIGITS.fullmatch(digits):
        raise NotFound(
            f"no version has a photo {photo!r}: give its path in the lake, as `petpark lake export` lists it, or "
            f"{MIN_DIGITS} or more digits of its sha256"
        )
    found = _first_versions(find_rows(store, lambda table: pc.starts_with(table["sha256"], digits)))
    if len(found) > 1:
        raise InvalidInput(f"{photo} begins the sha256 of {len(found)} photos: give more digits, {_listed(found)}")
    if found:
        return next(iter(found))
    if len(digits) == 64 and not originals.missing([digits]):
        return digits  # an ingestion stored it and was stopped before it made a version
    raise NotFound(f"no version has a photo whose sha256 begins with {photo}")


def _first_versions(rows: pa.Table) -> dict[str, str]:
    """Which version was the first to have each photo, by sha256."""
    pairs = zip(rows["sha256"].to_pylist(), rows["dataset_version"].to_pylist(), strict=True)
    return {sha256: version for sha256, version in reversed(list(pairs)) if sha256 is not None}


def _listed(found: dict[str, str]) -> str:
    return " or ".join(f"{sha256[:16]} (since {version})" for sha256, version in sorted(found.items()))
