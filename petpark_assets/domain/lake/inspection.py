"""Reading photos: bytes to sha256, facts and pixels, in batches that bound the memory, on as many workers as wanted.

A photo that is decoded here has its bytes stored under originals/ before anyone hears of it.
Not here: which photos must be read, and what a version makes of them (ingest.py).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from petpark_assets.domain import files, images
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake, LakeObject, label_of

Item = TypeVar("Item")
Shard = TypeVar("Shard")
Result = TypeVar("Result")

BATCH_ROWS = 2000
"""Photos between two appends to the pixels, unless they are so large that ..."""
BATCH_BYTES = 128 * 2**20
"""... their pixels need more than this."""
SHARD_ROWS = 50
"""Photos that a worker takes at a time."""


class MapShards(Protocol):
    """Like the built-in `map`: results in the order of the shards, wherever the function runs (it can be pickled)."""

    def __call__(self, function: Callable[[Shard], Result], shards: Iterable[Shard], /) -> Iterable[Result]:
        """Apply the function to every shard."""


def map_in_threads(function: Callable[[Shard], Result], shards: Iterable[Shard], /) -> Iterator[Result]:
    """On this machine's processors. Threads, since Pillow and hashing let go of the interpreter's lock.

    At least 8: photos are synced to the disk one by one, which takes a disk 5 ms alone and 0.4 ms in such company.
    """
    with ThreadPoolExecutor(max(8, os.cpu_count() or 1), thread_name_prefix="photos") as pool:
        yield from pool.map(function, shards)


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What reading one object told."""

    key: str
    sha256: str | None = None
    """None when it could not be read."""
    facts: dict[str, Any] | None = None
    """Of a photo that was decoded, or could not be: columns of the manifest; None where nobody asked."""
    pixels: images.Pixels | None = None


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """The work on one shard; goes to the workers."""

    lake: Lake
    store: files.Store
    resolution_px: int
    known: frozenset[str] = frozenset()
    """sha256s whose facts are known already."""

    def __call__(self, shard: Sequence[LakeObject]) -> list[Inspected]:
        """Read objects, each of them once."""
        return [self._inspect(item) for item in shard]

    def _inspect(self, item: LakeObject) -> Inspected:
        if item.problem is not None:
            return Inspected(key=item.key, facts={"reason": "unreadable", "detail": item.problem})
        try:
            data = self.lake.read(item.key)
        except images.UnreadablePhoto as error:
            return Inspected(key=item.key, facts=_refusal(error))
        sha256 = files.sha256(data)
        is_wanted = label_of(item.key)[0] is not None and sha256 not in self.known
        return self._decode(item.key, sha256, data) if is_wanted else Inspected(key=item.key, sha256=sha256)

    def _decode(self, key: str, sha256: str, data: bytes) -> Inspected:
        try:
            photo = images.decode_photo(data)
        except images.UnreadablePhoto as error:
            return Inspected(key=key, sha256=sha256, facts=_refusal(error))
        self.store.write_new(original_key(sha256), data)
        return Inspected(
            key=key, sha256=sha256, facts=_facts(photo), pixels=images.resize(photo.pixels, self.resolution_px)
        )


def _refusal(error: images.UnreadablePhoto) -> dict[str, Any]:
    return {"reason": error.reason, "detail": str(error)}


def _facts(photo: images.DecodedPhoto) -> dict[str, Any]:
    statistics = images.measure(photo.pixels)
    return {
        "format": photo.format,
        "mode": photo.mode,
        "width_px": photo.width_px,
        "height_px": photo.height_px,
        "brightness": statistics.brightness,
        "sharpness": statistics.sharpness,
        "channel_means": list(statistics.channel_means),
        "channel_squares": list(statistics.channel_squares),
    }


@dataclass(frozen=True, kw_only=True)
class Redrawer:
    """The work on one shard of photos that are known but have no pixels at this resolution."""

    store: files.Store
    resolution_px: int

    def __call__(self, shard: Sequence[str]) -> images.Pixels:
        """Pixels uint8 [N, R, R, 3] from the originals. Raises CorruptData, NotFound."""
        originals = (files.get_verified(self.store, original_key(sha256), sha256) for sha256 in shard)
        return np.stack([images.resize(images.decode(data), self.resolution_px) for data in originals])


def inspect(
    inspector: Inspector,
    objects: Sequence[LakeObject],
    pixels: PixelStore,
    map_shards: MapShards,
    on_progress: Callable[[int, int], None],
) -> Iterator[Inspected]:
    """Read objects in their order; pixels are stored on the way and not handed on."""
    num_done = 0
    for batch in _parts(objects, batch_rows(inspector.resolution_px)):
        drawn: dict[str, images.Pixels] = {}
        for inspected in map_shards(inspector, _parts(batch, SHARD_ROWS)):
            num_done += len(inspected)
            on_progress(num_done, len(objects))
            for item in inspected:
                if item.sha256 is not None and item.pixels is not None:
                    drawn[item.sha256] = item.pixels
                yield Inspected(key=item.key, sha256=item.sha256, facts=item.facts)
        _append_missing(pixels, drawn, inspector.resolution_px)
    pixels.sync(inspector.resolution_px)


def redraw(
    redrawer: Redrawer,
    sha256s: Sequence[str],
    pixels: PixelStore,
    map_shards: MapShards,
    on_progress: Callable[[int, int], None],
) -> None:
    """Store pixels of known photos."""
    num_done = 0
    for batch in _parts(sha256s, batch_rows(redrawer.resolution_px)):
        drawn = np.concatenate(list(map_shards(redrawer, _parts(batch, SHARD_ROWS))))
        pixels.append(batch, drawn, redrawer.resolution_px)
        num_done += len(batch)
        on_progress(num_done, len(sha256s))
    pixels.sync(redrawer.resolution_px)


def _append_missing(pixels: PixelStore, drawn: dict[str, images.Pixels], resolution_px: int) -> None:
    """Without those that an ingestion which did not come to its end has stored."""
    missing = pixels.missing(list(drawn), resolution_px) if drawn else []
    if missing:
        pixels.append(missing, np.stack([drawn[sha256] for sha256 in missing]), resolution_px)


def original_key(sha256: str) -> str:
    """Where a photo's own bytes are stored."""
    return f"originals/{sha256[:2]}/{sha256}"


def batch_rows(resolution_px: int) -> int:
    """How many photos are in memory at once."""
    return max(SHARD_ROWS, min(BATCH_ROWS, BATCH_BYTES // (resolution_px**2 * 3)))


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
