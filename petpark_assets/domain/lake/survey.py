"""The lake as it is now: list it, and read what no version and no fingerprint can tell.

Not here: how one photo is read (inspection.py), what a version makes of it all (ingest.py).
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from petpark_assets.domain import images
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import fingerprints, inspection
from petpark_assets.domain.lake.inspection import Inspector, MapShards
from petpark_assets.domain.lake.labels import LabelBook
from petpark_assets.domain.lake.sources import Lake, LakeObject
from petpark_assets.domain.records import LABELS


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a look at the lake's names tells."""

    objects: Sequence[LakeObject]
    """Those seen, sorted by key."""
    num_ignored: int
    known: Mapping[str, str]
    """sha256 by key, of those that have not changed since they were read."""

    @property
    def is_all_known(self) -> bool:
        """Whether nothing has to be read to know the lake's content."""
        return len(self.known) == len(self.objects)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What can be said of each object by itself."""

    objects: Sequence[LakeObject]
    num_ignored: int
    sha256s: Mapping[str, str | None]
    """By key; None where an object could not be read."""
    inspected: pa.Table
    """What was read now: inspection.SCHEMA."""


def list_lake(lake: Lake, cache: Path) -> Listing:
    """The lake's objects, images by name or by their first bytes. Raises InvalidInput on a lake without photos."""
    objects = lake.list_objects()
    seen = [item for item in objects if _is_seen(lake, item)]
    if not seen:
        raise InvalidInput(
            f"the lake {lake.uri} has no photos ({len(objects)} other files): put them into cat/ and dog/ in it"
        )
    known = fingerprints.known_sha256s(cache, lake, seen)
    return Listing(objects=seen, num_ignored=len(objects) - len(seen), known=known)


def inputs_digest(
    objects: Sequence[LakeObject], sha256s: Mapping[str, str | None], book: LabelBook, forgotten: frozenset[str]
) -> str:
    """sha256 of all that a version is made from: keys and bytes, what is said of them, what must be forgotten.

    What sources say of photos that are not in the lake changes nothing.
    """
    digest = hashlib.sha256(f"{sorted(forgotten)}\n".encode())
    for item in objects:
        sha256 = sha256s[item.key]
        said = book.judge(item.key, sha256)
        digest.update(f"{item.key}\0{sha256}\0{said.label}\0{said.source}\0{said.claims}\n".encode())
    return digest.hexdigest()


def refuse_one_class(lake: Lake, listing: Listing, book: LabelBook) -> None:
    """Raises InvalidInput before anything is read where keys alone show that a class has no photo."""
    if book.judges_by_sha256:
        return
    claimed = {book.judge(item.key, None).label for item in listing.objects}
    for label in LABELS:
        if label not in claimed:
            raise InvalidInput(
                f"none of the {len(listing.objects)} photos in the lake {lake.uri} is labelled {label}: put some into "
                f"{label}/, or name them like {label}.1.jpg"
            )


def read_new(
    inspector: Inspector,
    listing: Listing,
    needless: frozenset[str],
    *,
    cache: Path,
    map_shards: MapShards,
    on_progress: Callable[[int, int], None],
) -> Survey:
    """Read what must be read; new photos have pixels and originals when this returns.

    `needless` are the sha256s of bytes that need no decoding: their facts are known, or they must be forgotten.
    """
    todo = [item for item in listing.objects if listing.known.get(item.key) not in needless]
    inspector = dataclasses.replace(inspector, known=needless)
    tables = list(inspection.inspect(inspector, todo, map_shards, on_progress))
    inspected = pa.concat_tables(tables) if tables else inspection.SCHEMA.empty_table()
    read = dict(zip(inspected["key"].to_pylist(), inspected["sha256"].to_pylist(), strict=True))
    sha256s = {**listing.known, **read}
    fingerprints.remember(cache, inspector.lake, listing.objects, sha256s)
    return Survey(objects=listing.objects, num_ignored=listing.num_ignored, sha256s=sha256s, inspected=inspected)


def _is_seen(lake: Lake, item: LakeObject) -> bool:
    if images.sniff(b"", item.key) or item.problem is not None:
        return images.sniff(b"", item.key)
    try:
        return images.sniff(lake.read(item.key, images.HEAD_BYTES), item.key)
    except images.UnreadablePhoto:
        return True  # it may be a photo: set aside and counted, not passed over
