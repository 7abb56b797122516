"""The photos that a training reads: which are learnt from, and batches of them on the device that learns.

Not here: what is done to a batch (augmentation.py), which photos judge (validation.py).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from petpark_assets.domain.errors import InvalidInput

Indices = npt.NDArray[np.int64]

NUM_READERS = 4
"""Threads that read batches ahead; each copies at memory's speed once the pages are in memory."""
BATCHES_AHEAD = 6
"""Batches that are being read, or wait on the card; 256 photos of 176 px are 24 MB."""
RESIDENT_SHARE = 1 / 3
"""Of the memory that a training may use of a card, the largest part for photos: the rest is the network's."""
PHOTOS_A_COPY = 1024
"""So many are moved to the card at a time: 95 MB of 176 px."""


@dataclass(frozen=True)
class TrainingData:
    """The train side's photos at the recipe's resolution R."""

    images: npt.NDArray[np.uint8]
    """[N, R, R, 3]; may be a memory map: only the photos of a batch are read."""
    labels: npt.NDArray[np.uint8]
    """[N], index of the label."""
    validation: npt.NDArray[np.bool_]
    """[N], true where a photo belongs to the part that chooses the epoch and is never learnt from."""
    left_out: npt.NDArray[np.bool_] | None = None
    """[N], true where a photo is used for nothing, as in trials that learn from a share; None: nowhere."""


def sides(data: TrainingData) -> tuple[Indices, Indices]:
    """Indices of the photos to learn from and of those to validate on. Raises InvalidInput on too few."""
    is_learnt = ~data.validation if data.left_out is None else ~(data.validation | data.left_out)
    learnt, validated = np.flatnonzero(is_learnt), np.flatnonzero(data.validation)
    if len(learnt) < 2 or len(validated) < 1:  # batch statistics need two
        raise InvalidInput(
            f"{len(learnt)} photos to learn from and {len(validated)} to validate on are too few: "
            "it takes at least 2 and 1; add photos to the lake"
        )
    return learnt, validated


class Photos:
    """Batches of photos and labels on the device that learns.

    On a GPU all photos are moved to the card once, where they fit. Otherwise threads read them ahead, on a GPU into
    pinned memory and on to the card while it computes.
    """

    def __init__(
        self, data: TrainingData, device: torch.device, *, gpu_share: float = 1.0, is_resident: bool | None = None
    ) -> None:
        """Move the photos to the device if they fit there.

        Args:
            data: the train side.
            device: that learns.
            gpu_share: of the GPU, the part that is this training's; above 0, at most 1.
            is_resident: whether all photos are kept on the device; None: where it is a GPU that has room.
        """
        self.device = device
        self.images = data.images
        self.labels = torch.from_numpy(data.labels.astype(np.int64)).to(device)
        self.resident: Tensor | None = None
        if _fits(data.images.nbytes, device, gpu_share) if is_resident is None else is_resident:
            self.resident = _moved(data.images, device)
        self.copying = _new_stream(device) if device.type == "cuda" and self.resident is None else None

    def batches(self, order: Indices, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Photos uint8 [n, R, R, 3] and labels int64 [n], in this order; the last batch may be smaller.

        The device is never waited for.
        """
        on_device = _sent(order, self.device)
        labels = torch.split(self.labels[on_device], batch_size)
        if self.resident is not None:
            for indices, some in zip(torch.split(on_device, batch_size), labels, strict=True):
                yield self.resident[indices], some
        else:
            parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
            yield from zip(self._streamed(parts), labels, strict=True)

    def _streamed(self, parts: Sequence[Indices]) -> Iterator[Tensor]:
        with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="photos") as pool:
            reading: deque[Future[tuple[Tensor, torch.cuda.Event | None]]] = deque()
            try:
                for part in parts:
                    reading.append(pool.submit(self._read, part))
                    if len(reading) == BATCHES_AHEAD:
                        yield self._arrived(*reading.popleft().result())
                while reading:
                    yield self._arrived(*reading.popleft().result())
            finally:
                for future in reading:
                    future.cancel()

    def _read(self, part: Indices) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """In a thread: photos on the device, and what says when a card's copy of them is complete."""
        if self.copying is None:
            return torch.from_numpy(self.images[part]).to(self.device), None
        pinned = torch.empty((len(part), *self.images.shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(self.images, part, axis=0, out=pinned.numpy(), mode="clip")  # another mode would buffer it all
        with torch.cuda.stream(self.copying):
            photos = pinned.to(self.device, non_blocking=True)
            return photos, self.copying.record_event()

    def _arrived(self, photos: Tensor, complete: "torch.cuda.Event | None") -> Tensor:
        """The photos, which the computing stream waits for, and whose memory stays until it has used them."""
        if complete is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(complete)
            photos.record_stream(computing)
        return photos


def _sent(order: Indices, device: torch.device) -> Tensor:
    """On the device, without waiting for what it still computes: to a GPU from pinned memory."""
    indices = torch.from_numpy(order)
    return (indices.pin_memory() if device.type == "cuda" else indices).to(device, non_blocking=True)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _fits(size_bytes: int, device: torch.device, gpu_share: float) -> bool:
    """By this training's part of the whole memory: trials that begin together find all of it free, each of them."""
    if device.type != "cuda":
        return False
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return size_bytes < RESIDENT_SHARE * min(free_bytes, gpu_share * total_bytes)


def _moved(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor | None:
    """All photos on the device; None where others took the room meanwhile."""
    try:
        moved = torch.empty(images.shape, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        return None
    for start in range(0, len(images), PHOTOS_A_COPY):  # in parts: whole, they would be in the host's memory twice
        part = np.array(images[start : start + PHOTOS_A_COPY])  # torch takes no read-only memory map
        moved[start : start + PHOTOS_A_COPY] = torch.from_numpy(part)
    return moved
