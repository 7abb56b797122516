"""The lake as it is now: list it, and read what no version and no fingerprint can tell.

Not here: how one photo is read (inspection.py), what a version makes of it all (ingest.py).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import catalogue, fingerprints, inspection
from petpark_assets.domain.lake.inspection import Inspector, MapShards
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake, LakeObject, label_of
from petpark_assets.domain.records import LABELS


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What can be said of each object by itself."""

    objects: Sequence[LakeObject]
    """Those seen, sorted by key."""
    num_ignored: int
    sha256s: Mapping[str, str | None]
    """By key; None where an object could not be read."""
    num_read: int = 0
    unreadable: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """By key: reason and detail of those."""
    new_facts: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """By sha256, of bytes that no version knew: columns of the manifest."""


def take_survey(
    inspector: Inspector,
    pixels: PixelStore,
    cache: Path,
    map_shards: MapShards,
    on_progress: Callable[[int, int], None],
) -> Survey:
    """List the lake and read what must be read; new photos have pixels and originals when this returns.

    Raises InvalidInput on a lake without photos, or with photos of one class.
    """
    lake, store = inspector.lake, inspector.store
    objects, num_ignored = _list_seen(lake)
    known = fingerprints.known_sha256s(cache, lake, objects)
    if _is_as_newest(store, objects, known):
        return Survey(objects=objects, num_ignored=num_ignored, sha256s=known)
    facts = catalogue.known_facts(store)
    todo = [item for item in objects if item.key not in known or _needs_facts(item, known[item.key], facts)]
    inspector = dataclasses.replace(inspector, known=frozenset(facts))
    inspected = list(inspection.inspect(inspector, todo, pixels, map_shards, on_progress))
    sha256s = known | {item.key: item.sha256 for item in inspected}
    fingerprints.remember(cache, lake, objects, sha256s)
    return Survey(
        objects=objects,
        num_ignored=num_ignored,
        sha256s=sha256s,
        num_read=len(todo),
        unreadable={item.key: item.facts or {} for item in inspected if item.sha256 is None},
        new_facts={item.sha256: item.facts for item in inspected if item.sha256 and item.facts},
    )


def _list_seen(lake: Lake) -> tuple[list[LakeObject], int]:
    """The objects that are images by name or by their first bytes, and the number of others."""
    objects = lake.list_objects()
    seen = [item for item in objects if _is_seen(lake, item)]
    if not seen:
        raise InvalidInput(
            f"the lake {lake.uri} has no photos ({len(objects)} other files): put them into cat/ and dog/ in it"
        )
    claimed = {label_of(item.key)[0] for item in seen}
    for label in LABELS:
        if label not in claimed:
            raise InvalidInput(
                f"none of the {len(seen)} photos in the lake {lake.uri} is labelled {label}: put some into {label}/, "
                f"or name them like {label}.1.jpg"
            )
    return seen, len(objects) - len(seen)


def _is_seen(lake: Lake, item: LakeObject) -> bool:
    if images.sniff(b"", item.key) or item.problem is not None:
        return images.sniff(b"", item.key)
    try:
        return images.sniff(lake.read(item.key, images.HEAD_BYTES), item.key)
    except images.UnreadablePhoto:
        return True  # it may be a photo: set aside and counted, not passed over


def _is_as_newest(store: files.Store, objects: Sequence[LakeObject], known: Mapping[str, str]) -> bool:
    """Whether the listing alone shows that the newest version would be made again."""
    versions = catalogue.list_versions(store)
    return len(known) == len(objects) and bool(versions) and catalogue.sha256_by_key(store, versions[-1]) == known


def _needs_facts(item: LakeObject, sha256: str, facts: Mapping[str, Any]) -> bool:
    """Whether a photo's bytes were hashed once but never decoded: an ingestion was stopped, or it had no label."""
    return label_of(item.key)[0] is not None and sha256 not in facts
