"""Reading photos: bytes to sha256, facts, stored originals and pixels, shard by shard, on as many workers as wanted.

A worker stores what it reads and draws by itself, and answers with facts and some hundred bytes about what it wrote:
photos never pass through whoever sent it out. Memory is a shard for each worker.
Not here: which photos must be read (survey.py), and what a version makes of them (judgement.py).
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files, images
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake import catalogue, signatures
from petpark_assets.domain.lake.mapping import MapShards, Shard
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.photo_tables import Fragment, num_rows
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import FolderLake, Lake, LakeObject
from petpark_assets.domain.lake.squeezing import is_torch_worth_it, squeeze
from petpark_assets.domain.resizing import kept_memory

OnProgress = Callable[[int, int], None]
Finish = Callable[[], None]

SHARD_ROWS = 512
"""Photos that a worker takes at a time, at most: their pixels are one file of the table. Fewer ..."""
SHARD_BYTES = 32 * 2**20
"""... where their originals or their pixels would need more than this (one photo may); and fewer ..."""
NUM_SHARDS = 32
"""... where there would not be so many shards, so that all workers end together; but then no fewer than ..."""
FEWEST_ROWS = 128
"""... these, since small files slow reading down."""
SQUEEZED_BYTES = 2 * 2**20
"""Photos of one size are squeezed together, up to this: in a processor's cache."""
COMMIT_EVERY_S = 2.0
"""An ingestion that is killed draws again what it drew in the last seconds."""
MAX_FILE_BYTES = 256 * 2**20
"""Larger files are not read: a photo of the most pixels we decode has 192 MiB uncompressed, and 16 are read at once."""
NUM_READERS = 16
"""Requests at a time of one worker to a server, each of which waits some milliseconds."""

FACTS = tuple(name for name in catalogue.FACTS if name != "first_version")
SCHEMA = pa.schema([catalogue.SCHEMA.field(name) for name in ("key", "sha256", *FACTS, "reason", "detail")])
"""A row for each object. sha256: null when it could not be read. reason and detail: then, and when it could not be
decoded. FACTS: when it was. Neither of these two where nobody asked, or another row tells of the same bytes."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """A worker's answer about one shard."""

    table: pa.Table
    """Of SCHEMA, a row for each object in their order."""
    originals: Sequence[Fragment]
    pixels: Sequence[Fragment]
    """What it wrote, to be made part of the tables."""


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """The work on one shard; goes to the workers."""

    lake: Lake
    originals: OriginalStore
    pixels: PixelStore
    resolution_px: int
    known: frozenset[str] = frozenset()
    """sha256s of bytes that are not to be decoded, since their facts are known or they are not wanted."""
    kept: frozenset[str] = frozenset()
    drawn: frozenset[str] = frozenset()
    """Others whose bytes, or pixels, are stored already, by an ingestion that did not come to its end."""
    num_kept: int = 0
    num_drawn: int = 0
    """Photos whose bytes, and pixels, were stored when these were looked up."""
    by_torch: bool = False
    """See squeezing.py."""
    taken: set[str] = field(default_factory=set)
    """sha256s that some shard on this machine has begun to store: the same bytes again are not stored twice."""

    def __call__(self, shard: Sequence[LakeObject]) -> Inspected:
        """Read objects, each of them once."""
        drawing = _Drawing(len(shard), self.resolution_px, by_torch=self.by_torch)
        rows = [self._inspect(item.key, data, drawing) for item, data in zip(shard, self._read_all(shard), strict=True)]
        drawing.finish()
        new = {sha256: place for place, sha256 in enumerate(drawing.sha256s) if sha256 not in self.drawn}
        return Inspected(
            table=_table(rows, drawing),
            originals=self.originals.write(drawing.originals),
            pixels=self.pixels.write(list(new), drawing.pixels_at(list(new.values())), self.resolution_px),
        )

    def _read_all(self, shard: Sequence[LakeObject]) -> Iterator[bytes | UnreadablePhoto]:
        """A disk is read as it comes, a server asked for many at a time."""
        if isinstance(self.lake, FolderLake):
            yield from map(self._read, shard)
            return
        with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="read") as pool:
            yield from pool.map(self._read, shard)

    def _read(self, item: LakeObject) -> bytes | UnreadablePhoto:
        if (refusal := refuse_unread(item)) is not None:
            return refusal
        try:
            return self.lake.read(item.key)
        except UnreadablePhoto as error:
            return error

    def _inspect(self, key: str, data: bytes | UnreadablePhoto, drawing: "_Drawing") -> "_Row":
        if isinstance(data, UnreadablePhoto):
            return _Row(key=key, refusal=data)
        sha256 = files.sha256(data)
        if sha256 in self.known or sha256 in self.taken:
            return _Row(key=key, sha256=sha256)
        try:
            photo = images.decode_photo(data)
        except UnreadablePhoto as error:
            return _Row(key=key, sha256=sha256, refusal=error)
        self.taken.add(sha256)
        if sha256 not in self.kept:
            drawing.originals[sha256] = data
        return _Row(key=key, sha256=sha256, place=drawing.add(sha256, photo))


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What became of one object."""

    key: str
    sha256: str | None = None
    refusal: UnreadablePhoto | None = None
    place: int | None = None
    """Of its photo in the drawing."""


class _Drawing:
    """The photos of one shard that could be decoded."""

    def __init__(self, capacity: int, resolution_px: int, *, by_torch: bool) -> None:
        self.sha256s: list[str] = []
        self.headers: list[tuple[Any, ...]] = []
        self.originals: dict[str, bytes] = {}
        self._by_torch = by_torch
        self._waiting: list[images.Pixels] = []
        self._pixels: images.Pixels = kept_memory("pixels", (capacity, resolution_px, resolution_px, 3))
        self._thumbnails: images.Pixels = kept_memory(
            "thumbnails", (capacity, images.THUMBNAIL_PX, images.THUMBNAIL_PX, 3)
        )

    def add(self, sha256: str, photo: images.DecodedPhoto) -> int:
        """Draw a photo, now or with the next ones of its size; returns its place."""
        waiting = self._waiting
        if waiting and (waiting[0].shape != photo.pixels.shape or len(waiting) * waiting[0].nbytes > SQUEEZED_BYTES):
            self.finish()
        self._waiting.append(photo.pixels)
        self.sha256s.append(sha256)
        self.headers.append(_header(photo))
        return len(self.sha256s) - 1

    def finish(self) -> None:
        """Draw those that wait."""
        places = slice(len(self.sha256s) - len(self._waiting), len(self.sha256s))
        if self._waiting:
            squeeze(self._waiting, [self._pixels[places], self._thumbnails[places]], by_torch=self._by_torch)
        self._waiting = []

    def pixels_at(self, places: list[int]) -> images.Pixels:
        """uint8 [N, R, R, 3]; not copied when all are wanted."""
        return self._pixels[: len(places)] if len(places) == len(self.sha256s) else self._pixels[places]

    def facts(self) -> pa.Table:
        """FACTS, a row a photo."""
        thumbnails = self._thumbnails[: len(self.sha256s)]
        light = images.luminance(thumbnails)
        found = signatures.signatures(light)
        headers = zip(*self.headers, strict=True) if self.headers else [()] * len(_OF_THE_HEADER)
        columns = {
            **dict(zip(_OF_THE_HEADER, headers, strict=True)),
            "perceptual_hash": signatures.perceptual_hashes(found),
            "signature": _binary(found),
            **{name: _numbers(values) for name, values in vars(images.measure(thumbnails, light)).items()},
        }
        return pa.table([pa.array(columns[name], SCHEMA.field(name).type) for name in FACTS], names=list(FACTS))


def _binary(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Each row of [N, bytes] as one value; Arrow makes them far faster than of Python's bytes."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(rows))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), buffers).cast(pa.binary())


def _numbers(values: npt.NDArray[np.float64]) -> pa.Array:
    """float32 of [N], or lists of them of [N, numbers]."""
    flat = pa.array(values.ravel(), pa.float32())
    if values.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]).cast(pa.list_(pa.float32()))


_OF_THE_HEADER = ("format", "width_px", "height_px", "mode", "capture_time")
_header = attrgetter(*_OF_THE_HEADER)


def _table(rows: Sequence[_Row], drawing: _Drawing) -> pa.Table:
    facts = drawing.facts().take(pa.array([row.place for row in rows], pa.int64()))
    columns = {
        "key": [row.key for row in rows],
        "sha256": [row.sha256 for row in rows],
        "reason": [row.refusal and row.refusal.reason for row in rows],
        "detail": [row.refusal and str(row.refusal) for row in rows],
    }
    texts = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return pa.table([texts[name] if name in texts else facts[name] for name in SCHEMA.names], schema=SCHEMA)


@dataclass(frozen=True, kw_only=True)
class Redrawer:
    """The work on one shard of photos that are known but have no pixels at this resolution."""

    originals: OriginalStore
    pixels: PixelStore
    resolution_px: int
    by_torch: bool = False

    def __call__(self, shard: Sequence[str]) -> list[Fragment]:
        """Draw photos from their originals. Raises CorruptData, NotFound."""
        sha256s = []
        drawn = np.empty((len(shard), self.resolution_px, self.resolution_px, 3), np.uint8)
        for place, (sha256, data) in enumerate(self.originals.read_all(shard)):
            photo = images.decode_photo(data)
            squeeze([photo.pixels], [drawn[place : place + 1]], by_torch=self.by_torch)
            sha256s.append(sha256)
        return self.pixels.write(sha256s, drawn, self.resolution_px)


def informed(inspector: Inspector, known: pa.Table, forgotten: frozenset[str]) -> Inspector:
    """An inspector that has been told what is known, and what is stored already: by one look at each table, at once.

    `known` has sha256 and format, null where bytes cannot be decoded; `forgotten` are sha256s too.
    """
    sha256s, wanted = known["sha256"], known["sha256"].filter(pc.is_valid(known["format"]))

    def look_at_originals() -> tuple[frozenset[str], list[str], int]:
        stored = pc.unique(inspector.originals.stored())
        return _besides(stored, sha256s), inspector.originals.missing(wanted, stored), len(stored)

    def look_at_pixels() -> tuple[frozenset[str], pa.Array]:
        stored = pc.unique(inspector.pixels.stored(inspector.resolution_px))
        return _besides(stored, sha256s), stored

    with ThreadPoolExecutor(2, thread_name_prefix="stored") as pool:
        looks = pool.submit(look_at_originals), pool.submit(look_at_pixels)
        needless = forgotten.union(sha256s.to_pylist())
        (kept, lost, num_kept), (drawn, squares) = looks[0].result(), looks[1].result()
    if lost:  # a disk may lose photos that the lake still has: they are read again, but not drawn twice
        needless = needless.difference(lost) | forgotten
        drawn = drawn.union(squares.filter(pc.is_in(squares, pa.array(lost))).to_pylist())
    return dataclasses.replace(
        inspector, known=needless, kept=kept, drawn=drawn, num_kept=num_kept, num_drawn=len(squares)
    )


def _besides(stored: pa.Array, known: pa.ChunkedArray) -> frozenset[str]:
    """The photos that are stored though no version has them; mostly none."""
    return frozenset(stored.filter(pc.invert(pc.is_in(stored, known))).to_pylist())


def inspect(
    inspector: Inspector, objects: Sequence[LakeObject], map_shards: MapShards, on_progress: OnProgress
) -> tuple[list[pa.Table], Finish]:
    """Read objects in their order: tables of SCHEMA, and what is still to be done for their photos to last."""
    inspector = dataclasses.replace(inspector, by_torch=is_torch_worth_it(len(objects)), taken=set())
    shards = _shards(objects, [item.size_bytes for item in objects], inspector.resolution_px)
    tables: list[pa.Table] = []
    num_done = 0
    with _storing(inspector, num_kept=inspector.num_kept, num_drawn=inspector.num_drawn) as stored:
        for inspected in map_shards(inspector, shards):
            stored.add(inspected.originals, inspected.pixels)
            tables.append(inspected.table)
            num_done += inspected.table.num_rows
            on_progress(num_done, len(objects))
    return tables, stored.finish


def redraw(redrawer: Redrawer, sha256s: Sequence[str], map_shards: MapShards, on_progress: OnProgress) -> None:
    """Store pixels of known photos."""
    if not sha256s:
        return
    redrawer = dataclasses.replace(redrawer, by_torch=is_torch_worth_it(len(sha256s)))
    shards = _shards(sha256s, [0] * len(sha256s), redrawer.resolution_px)
    num_done = 0
    with _storing(redrawer, num_kept=0, num_drawn=0) as stored:
        for shard, fragments in zip(shards, map_shards(redrawer, shards), strict=True):
            stored.add([], fragments)
            num_done += len(shard)
            on_progress(num_done, len(sha256s))
    stored.finish()


@contextlib.contextmanager
def _storing(work: "Inspector | Redrawer", *, num_kept: int, num_drawn: int) -> Iterator["_Stored"]:
    """What is done when a failure or a person stops the work is kept; else whoever does it has to finish.

    At least so many photos' originals and pixels were there before.
    """
    stored = _Stored(work, num_kept, num_drawn)
    try:
        yield stored
    except BaseException:
        stored.commit()
        raise


class _Stored:
    """Makes what workers wrote a part of the tables: now and then, and when it is finished."""

    def __init__(self, work: "Inspector | Redrawer", num_kept: int, num_drawn: int) -> None:
        self._originals = work.originals
        self._pixels = work.pixels
        self._resolution_px = work.resolution_px
        self._num_kept = num_kept
        self._num_drawn = num_drawn
        self._kept: list[Fragment] = []
        self._drawn: list[Fragment] = []
        self._last = time.monotonic()

    def add(self, of_originals: Sequence[Fragment], of_pixels: Sequence[Fragment]) -> None:
        """What a worker wrote."""
        self._kept.extend(of_originals)
        self._drawn.extend(of_pixels)
        if time.monotonic() > self._last + COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """All of it so far."""
        self._num_kept += num_rows(self._kept)
        self._num_drawn += num_rows(self._drawn)
        self._originals.commit(self._kept)
        self._kept.clear()  # at once: where the next one fails, these are not to be committed again
        self._pixels.commit(self._drawn, self._resolution_px)
        self._drawn.clear()
        self._last = time.monotonic()

    def finish(self) -> None:
        """The rest, which waits for the disk."""
        self.commit()
        self._originals.tidy(self._num_kept)
        self._pixels.tidy(self._resolution_px, self._num_drawn)


def _shards(items: Sequence[Shard], sizes_bytes: Sequence[int], resolution_px: int) -> list[Sequence[Shard]]:
    """Items in their order, divided as SHARD_ROWS and the constants below it say."""
    most = min(SHARD_ROWS, SHARD_BYTES // (resolution_px**2 * 3), max(FEWEST_ROWS, -(-len(items) // NUM_SHARDS)))
    shards: list[Sequence[Shard]] = []
    start, bytes_left = 0, SHARD_BYTES
    for end, size_bytes in enumerate(sizes_bytes):
        if end > start and (end - start >= most or size_bytes > bytes_left):
            shards.append(items[start:end])
            start, bytes_left = end, SHARD_BYTES
        bytes_left -= size_bytes
    return [*shards, items[start:]] if items else []


def refuse_unread(item: LakeObject) -> UnreadablePhoto | None:
    """What a listing alone shows to be unusable: a broken link, an odd key, a film named like a photo."""
    if item.problem is not None:
        return UnreadablePhoto("unreadable", item.problem)
    if item.size_bytes > MAX_FILE_BYTES:
        return UnreadablePhoto("too_large", f"the file has {item.size_bytes} bytes, more than {MAX_FILE_BYTES}")
    return None
