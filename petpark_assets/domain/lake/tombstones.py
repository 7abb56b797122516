"""What must never come back: one small file in the store for each forgotten photo, by the sha256 of its bytes.

A tombstone is written before anything is deleted, and never changes. Ingestion quarantines these bytes as `forgotten`
under whatever name they arrive, and keeps neither them nor their pixels.
Not here: what is deleted, and where (workflow/forgetting.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData

FOLDER = "tombstones"


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """Who had a photo forgotten, when and why."""

    sha256: str
    keys: tuple[str, ...]
    """Under which it lay in any version, sorted."""
    dataset_versions: tuple[str, ...]
    """That saw it before it was forgotten, oldest first; no other may ever accept it."""
    reason: str
    who: str
    when: str
    """ISO 8601, UTC."""


def tombstone_key(sha256: str) -> str:
    """Where a photo's tombstone is stored."""
    return f"{FOLDER}/{sha256}.json"


def write(store: files.Store, tombstone: Tombstone) -> bool:
    """Store a tombstone; False when the photo has one already, which stays as it is."""
    return store.write_new(tombstone_key(tombstone.sha256), files.canonical_json(tombstone))


def forgotten(store: files.Store) -> frozenset[str]:
    """The sha256 of every forgotten photo, from a listing alone."""
    names = (key.removeprefix(f"{FOLDER}/") for key in store.list_keys(FOLDER))
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))


def parse(fields: Mapping[str, Any]) -> Tombstone:
    """From JSON: a tombstone's own, or what the ledger's event `photo_forgotten` says of it."""
    return Tombstone(**{name: _frozen(value) for name, value in fields.items()})


def read(store: files.Store, sha256: str) -> Tombstone:
    """One tombstone. Raises NotFound when the photo was never forgotten, CorruptData when the file was changed."""
    key = tombstone_key(sha256)
    try:
        found = parse(json.loads(store.read(key)))
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptData(f"{key} in {store.uri} is no tombstone any more: restore it from a backup") from error
    if found.sha256 != sha256:
        raise CorruptData(f"{key} in {store.uri} is the tombstone of {found.sha256[:12]}…: restore it from a backup")
    return found


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
