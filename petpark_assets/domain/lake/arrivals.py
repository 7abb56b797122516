"""What has come to a lake, changed in it or left it since a version, found without holding the lake in memory.

Objects are dealt to buckets by their keys. A bucket's sum adds up 128 bits of digest for each object's key and
fingerprint, so it is the same in whatever order a lake is listed. What a version knows of the lake has such sums too:
the rows of its manifest, each with the fingerprint under which exactly these bytes were seen. Only buckets whose sums
differ are looked at object by object. What fingerprints do not prove is read, so that a photo that was only touched,
or was too young to be remembered when it was read, is no change.
Not here: which lake, and when what has come is enough (workflow/arrivals.py, sensors/).
"""

import heapq
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow.compute as pc

from petpark_assets.domain import files, images
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake import catalogue, fingerprints, inspection
from petpark_assets.domain.lake.fingerprints import NO_IMAGE, Entry
from petpark_assets.domain.lake.labels import LabelBook
from petpark_assets.domain.lake.sources import Lake, LakeObject

NUM_BUCKETS = 2**14
"""Of a million objects 61 share one."""
_SUM_BYTES = 16

REFUSED, UNPROVEN, UNSETTLED = "refused", "unproven", "unsettled"
"""In place of a fingerprint. A listing alone shows that it cannot be used; nothing proves the bytes (of a row: no
listing has this mark, so the bucket is looked at); it changed a moment ago (of an object: no row has this mark)."""


class Row(NamedTuple):
    """An object as a manifest has it."""

    key: str
    size_bytes: int
    sha256: str | None
    label: str | None


class Known(NamedTuple):
    """What is known of one key."""

    key: str
    row: Row | None
    """None: the version did not see it, since it is no image."""
    fingerprint: str | None
    """Under which an object is what the row says, or no image; None: that must be read."""


class Difference(NamedTuple):
    """One photo that the lake has otherwise than a version."""

    kind: Literal["new", "changed", "removed"]
    key: str
    is_labelled: bool
    """Whether it has a label, or had one."""


def lake_sums(lake: Lake) -> bytes:
    """The sums of a lake as it is listed now."""
    return _sums((item.key, _listed_mark(item)) for item in lake.iter_objects())


def known_sums(known: Iterable[Known]) -> bytes:
    """The sums that the listing has if nothing changed."""
    return _sums((item.key, _known_mark(item)) for item in known)


def differing(sums: bytes, others: bytes) -> frozenset[int]:
    """The buckets that are not equal."""
    starts = range(0, NUM_BUCKETS * _SUM_BYTES, _SUM_BYTES)
    return frozenset(
        start // _SUM_BYTES
        for start in starts
        if sums[start : start + _SUM_BYTES] != others[start : start + _SUM_BYTES]
    )


def bucket(key: str) -> int:
    """The bucket of a key, the same in every process."""
    return zlib.crc32(key.encode()) % NUM_BUCKETS


def stream_known(
    store: files.Store,
    version: str | None,
    cache: Path,
    lake: Lake,
    book: LabelBook,
    *,
    where: pc.Expression | None = None,
) -> Iterator[Known]:
    """What a version and the fingerprints know together, by key; of no version nothing but what is no image.

    `where` picks by the field `key`.

    A fingerprint alone proves nothing: it may be of a look whose version was never made.
    """
    columns = Row._fields
    rows = map(Row._make, catalogue.stream_rows(store, version, columns, where)) if version is not None else iter(())
    merged: Iterator[Row | Entry] = heapq.merge(rows, fingerprints.stream(cache, lake, where), key=itemgetter(0))
    for key, group in groupby(merged, key=itemgetter(0)):
        row, entry = None, None
        for item in group:
            if isinstance(item, Row):
                row = item
            else:
                entry = item
        if row is not None:
            yield Known(key, row, _proof(row, entry, book))
        elif entry is not None and entry.content == NO_IMAGE:
            yield Known(key, None, entry.fingerprint)


def suspects(objects: Mapping[str, LakeObject], known: Mapping[str, Known]) -> list[str]:
    """The keys, sorted, of which a listing does not prove that nothing changed: what differs is among them."""
    listed = {key: _listed_mark(item) for key, item in objects.items()}
    expected = {key: _known_mark(item) for key, item in known.items()}
    gone = {key for key, item in known.items() if item.row is not None} - objects.keys()
    return sorted(gone | {key for key, mark in listed.items() if mark != expected.get(key)})


def find_differences(
    lake: Lake,
    objects: Mapping[str, LakeObject],
    known: Mapping[str, Known],
    book: LabelBook,
    reads: Iterator[int],
) -> Iterator[Difference]:
    """What differs among the same keys' objects and what is known of them, by key.

    `reads` allows a read each: when it has ended, whatever would have to be read counts as different.
    """
    for key in sorted(objects.keys() | known.keys()):
        found = _difference(lake, objects.get(key), known.get(key), book, reads)
        if found is not None:
            yield found


def _difference(
    lake: Lake, item: LakeObject | None, was: Known | None, book: LabelBook, reads: Iterator[int]
) -> Difference | None:
    row = None if was is None else was.row
    if item is None:
        return None if row is None else Difference("removed", row.key, row.label is not None)
    if was is not None and item.is_settled and item.fingerprint == was.fingerprint:
        return None
    if row is None:
        if not _is_photo(lake, item, reads):
            return None
        return Difference("new", item.key, _label(lake, item, book, reads) is not None)
    if _is_as_recorded(lake, item, row, book, reads):
        return None
    return Difference("changed", item.key, row.label is not None or book.judge(item.key, None).label is not None)


def _is_as_recorded(lake: Lake, item: LakeObject, row: Row, book: LabelBook, reads: Iterator[int]) -> bool:
    if book.judge(row.key, row.sha256).label != row.label:
        return False
    if inspection.refuse_unread(item) is not None:
        return row.sha256 is None
    if item.size_bytes != row.size_bytes or next(reads, None) is None:
        return False
    return _sha256(lake, item) == row.sha256


def _is_photo(lake: Lake, item: LakeObject, reads: Iterator[int]) -> bool:
    """As survey.py tells images from other files."""
    if images.sniff(b"", item.key):
        return True
    if item.problem is not None:
        return False
    if next(reads, None) is None:
        return True
    try:
        return images.sniff(lake.read(item.key, images.HEAD_BYTES), item.key)
    except UnreadablePhoto:
        return True


def _label(lake: Lake, item: LakeObject, book: LabelBook, reads: Iterator[int]) -> str | None:
    label = book.judge(item.key, None).label
    is_asked = label is None and book.judges_by_sha256 and inspection.refuse_unread(item) is None
    return book.judge(item.key, _sha256(lake, item)).label if is_asked and next(reads, None) is not None else label


def _sha256(lake: Lake, item: LakeObject) -> str | None:
    try:
        return files.sha256(lake.read(item.key))
    except UnreadablePhoto:
        return None


def _proof(row: Row, entry: Entry | None, book: LabelBook) -> str | None:
    is_proven = entry is not None and entry.content == row.sha256 and book.judge(row.key, row.sha256).label == row.label
    return entry.fingerprint if entry is not None and is_proven else None


def _listed_mark(item: LakeObject) -> str:
    if inspection.refuse_unread(item) is not None and images.sniff(b"", item.key):
        return REFUSED
    return item.fingerprint if item.is_settled else f"{UNSETTLED} {item.fingerprint}"


def _known_mark(known: Known) -> str:
    if known.row is not None and known.row.sha256 is None:
        return REFUSED
    return UNPROVEN if known.fingerprint is None else known.fingerprint


def _sums(marks: Iterable[tuple[str, str]]) -> bytes:
    """uint128 [NUM_BUCKETS], little-endian."""
    sums = [0] * NUM_BUCKETS
    for key, mark in marks:
        name = key.encode()
        digest = blake2b(b"%b\0%b" % (name, mark.encode()), digest_size=_SUM_BYTES).digest()
        sums[zlib.crc32(name) % NUM_BUCKETS] += int.from_bytes(digest, "little")
    return b"".join((value % 2 ** (8 * _SUM_BYTES)).to_bytes(_SUM_BYTES, "little") for value in sums)
