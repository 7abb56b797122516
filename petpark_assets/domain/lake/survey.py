"""The lake as it is now: list it, and read what no version and no fingerprint can tell.

Not here: how one photo is read (inspection.py), what a version makes of it all (ingest.py).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress
from pathlib import Path

import pyarrow as pa

from petpark_assets.domain import images
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import fingerprints, inspection
from petpark_assets.domain.lake.inspection import Finish, Inspector
from petpark_assets.domain.lake.labels import Judgement, LabelBook
from petpark_assets.domain.lake.mapping import MapShards
from petpark_assets.domain.lake.sources import Lake, LakeObject
from petpark_assets.domain.records import LABELS

NUM_READERS = 16
"""Files without an image's name whose first bytes are asked for at a time."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a look at the lake's names tells."""

    objects: Sequence[LakeObject]
    """Those seen, sorted by key."""
    ignored: Sequence[LakeObject]
    known: Mapping[str, str | None]
    """sha256 by key, of those that have not changed since they were read; None for what cannot be read anyway."""
    recalled: pa.Table
    """What was read of those and of ignored ones: fingerprints.SCHEMA."""
    sniffed: Sequence[LakeObject]
    """Ignored ones of which nothing was known: whose first bytes were read now, or which lead nowhere."""

    @property
    def is_all_known(self) -> bool:
        """Whether nothing has to be read to know the lake's content."""
        return len(self.known) == len(self.objects)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What can be said of each object by itself."""

    objects: Sequence[LakeObject]
    keys: Sequence[str]
    """Theirs."""
    sha256s: Sequence[str | None]
    """Theirs; None where an object could not be read."""
    ignored: Sequence[LakeObject]
    inspected: pa.Table
    """What was read now: inspection.SCHEMA."""
    read: Sequence[tuple[LakeObject, str | None]]
    """Which objects those are, and ignored ones: what fingerprints.remember is to be told of them."""
    recalled: pa.Table
    """What had been read of others before: fingerprints.SCHEMA."""


def list_lake(lake: Lake, cache: Path) -> Listing:
    """The lake's objects, images by name or by their first bytes. Raises InvalidInput on a lake without photos."""
    objects = lake.list_objects()
    recalled = fingerprints.recall(cache, lake, objects)
    known: dict[str, str | None] = dict(zip(recalled["key"].to_pylist(), recalled["content"].to_pylist(), strict=True))
    seen, ignored = _sort_out(lake, objects, known)
    if not seen:
        raise InvalidInput(
            f"the lake {lake.uri} has no photos ({len(objects)} other files): put them into cat/ and dog/ in it"
        )
    sniffed = [item for item in ignored if known.pop(item.key, None) is None]
    known |= {item.key: None for item in seen if inspection.refuse_unread(item) is not None}
    return Listing(objects=seen, ignored=ignored, known=known, recalled=recalled, sniffed=sniffed)


def inputs_digest(
    objects: Sequence[LakeObject],
    sha256s: Sequence[str | None],
    judgements: Sequence[Judgement],
    forgotten: frozenset[str],
) -> str:
    """sha256 of all that a version is made from: keys and bytes, what is said of them, what must be forgotten.

    What sources say of photos that are not in the lake changes nothing.
    """
    each_once = {id(one): one for one in judgements}  # most photos share one of a few
    said = {at: f"{one.label}\0{one.source}\0{one.claims}\0{one.reason}" for at, one in each_once.items()}
    digest = hashlib.sha256()
    for item, sha256, judgement in zip(objects, sha256s, judgements, strict=True):
        line = f"{item.key}\0{sha256}\0{sha256 in forgotten}\0{item.problem}\0{said[id(judgement)]}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def refuse_one_class(lake: Lake, listing: Listing, book: LabelBook) -> None:
    """Raises InvalidInput before anything is read where keys alone show that a class has no photo."""
    if book.judges_by_sha256:
        return
    claimed: set[str | None] = set()
    # From both ends, since folders are sorted: the first two objects show both classes of most lakes.
    for item in chain.from_iterable(zip(listing.objects, reversed(listing.objects), strict=True)):
        claimed.add(book.judge(item.key, None).label)
        if claimed.issuperset(LABELS):
            return
    unused = book.num_unused([item.key for item in listing.objects], [])
    misses = "".join(f"; {rows} rows of {name} are about no photo of it" for name, rows in unused.items() if rows)
    for label in LABELS:
        if label not in claimed:
            raise InvalidInput(
                f"none of the {len(listing.objects)} photos in the lake {lake.uri} is labelled {label}: put some into "
                f"{label}/, or name them like {label}.1.jpg{misses} (a photo's key is like {listing.objects[0].key})"
            )


def read_new(
    inspector: Inspector, listing: Listing, *, map_shards: MapShards, on_progress: Callable[[int, int], None]
) -> tuple[Survey, Finish]:
    """Read what must be read. Until what is returned second was called, originals and pixels do not last.

    What was read is not remembered yet (`remember`).
    """
    todo = [item for item in listing.objects if listing.known.get(item.key) not in inspector.known]  # None never is
    tables, finish = inspection.inspect(inspector, todo, map_shards, on_progress)
    inspected = pa.concat_tables(tables) if tables else inspection.SCHEMA.empty_table()
    found = inspected["sha256"].to_pylist()
    known = {**listing.known, **dict(zip(inspected["key"].to_pylist(), found, strict=True))}
    keys = [item.key for item in listing.objects]
    survey = Survey(
        objects=listing.objects,
        keys=keys,
        sha256s=[known[key] for key in keys],
        ignored=listing.ignored,
        inspected=inspected,
        read=[*zip(todo, found, strict=True), *((item, fingerprints.NO_IMAGE) for item in listing.sniffed)],
        recalled=listing.recalled,
    )
    return survey, finish


def remember(cache: Path, lake: Lake, lake_now: Survey) -> None:
    """Keep what was read of each file, so that no other look reads it again while it stays as it is."""
    fingerprints.remember(cache, lake, lake_now.recalled, lake_now.read)


def _sort_out(
    lake: Lake, objects: Sequence[LakeObject], recalled: Mapping[str, str | None]
) -> tuple[list[LakeObject], list[LakeObject]]:
    """Images, by name or by their first bytes, and other files. First bytes are read once, of many at a time."""
    is_seen = [
        recalled.get(item.key, fingerprints.NO_IMAGE) != fingerprints.NO_IMAGE or images.sniff(b"", item.key)
        for item in objects
    ]
    others = [place for place, seen in enumerate(is_seen) if not seen]
    unclear = [place for place in others if objects[place].problem is None and objects[place].key not in recalled]
    with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="sniff") as pool:
        found = pool.map(partial(_is_seen, lake), [objects[place] for place in unclear])
        for place, seen in zip(unclear, found, strict=True):
            is_seen[place] = seen
    return list(compress(objects, is_seen)), [objects[place] for place in others if not is_seen[place]]


def _is_seen(lake: Lake, item: LakeObject) -> bool:
    try:
        return images.sniff(lake.read(item.key, images.HEAD_BYTES), item.key)
    except images.UnreadablePhoto:
        return True  # it may be a photo: set aside and counted, not passed over
