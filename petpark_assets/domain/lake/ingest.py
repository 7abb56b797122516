"""From a lake to the next dataset version: list, read what is new, judge every photo, split, write the manifest.

The manifest is the commit point: whatever stops an ingestion before it (a kill, a full disk) leaves no version, and the
next one goes on; pixels and originals stored by then are found again by their sha256.
Not here: reading and decoding (inspection.py), the manifest's form (catalogue.py), sides (handed in: splits.py).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, TransientError
from petpark_assets.domain.lake import catalogue, fingerprints, inspection
from petpark_assets.domain.lake.catalogue import ACCEPTED, DUPLICATE, QUARANTINED, Photo
from petpark_assets.domain.lake.inspection import MapShards, map_in_threads
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake, LakeObject, label_of
from petpark_assets.domain.records import LABELS, RawImages

AssignSplits = Callable[[Sequence[Photo], Mapping[str, str]], Mapping[str, str]]
Progress = Callable[[int, int], None]
Row = dict[str, Any]

MIN_PHOTOS_A_CLASS = 5
"""The fewest that 80/20 divides: four to train on, one to test."""
MAX_RACES = 5
"""How often another writer may take the next number before we give up."""

_FACTS = [
    "format", "width_px", "height_px", "mode", "brightness", "sharpness", "channel_means", "channel_squares",
    "first_version",
]  # fmt: skip
_DECODER_REASONS = ["undecodable", "truncated", "too_large", "too_small"]
"""Verdicts on the bytes alone: the same bytes are not decoded again."""


@dataclass(frozen=True, kw_only=True)
class IngestResult:
    """What an ingestion came to."""

    dataset_version: str
    is_new: bool
    """False when the lake is as the newest version says: nothing was stored."""
    raw_images: RawImages
    """The version's record, for the caller to store."""
    num_read: int
    """Objects whose bytes were read."""
    num_decoded: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """The lake as it is now, judged photo by photo but not yet against each other."""

    objects: Sequence[LakeObject]
    """Those seen, sorted by key."""
    num_ignored: int
    sha256s: Mapping[str, str | None]
    """By key; None where an object could not be read."""
    unreadable: Mapping[str, str]
    """Why, by key."""
    facts: Mapping[str, Row]
    """By sha256: of every photo that was ever decoded, or refused by the decoder."""


def new_dataset_version(
    lake: Lake,
    store: files.Store,
    pixels: PixelStore,
    *,
    cache: Path,
    resolution_px: int,
    assign_splits: AssignSplits,
    map_shards: MapShards = map_in_threads,
    on_progress: Progress = lambda _done, _total: None,
) -> IngestResult:
    """Make the next version, or find that nothing changed; its record is the caller's to store.

    Only files that changed are read, and only bytes that no version knew are decoded; `on_progress` is told how many of
    them are done. Raises InvalidInput on a lake that no classifier can be trained on, TransientError on a full disk.
    """
    started = time.perf_counter()
    objects, num_ignored = _list(lake)
    known = fingerprints.known_sha256s(cache, lake, objects)
    num_read = num_decoded = 0
    unchanged = _unchanged(store, [(item.key, known.get(item.key)) for item in objects], known)
    if unchanged is None:
        facts = _known_facts(store)
        todo = [item for item in objects if _must_read(item, known, facts)]
        inspector = inspection.Inspector(
            lake=lake, store=store, known=frozenset(facts), resolution_px=resolution_px
        )
