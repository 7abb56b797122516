"""Claims about batches: read ahead or kept on the device, they are the same photos in the same order."""

import contextlib
import dataclasses
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from petpark_assets.domain.model import photos as photos_module
from petpark_assets.domain.model import train
from petpark_assets.domain.model.photos import Photos
from petpark_assets.domain.model.train import fit
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_resident", [True, False])
def test_batches_come_whole_and_in_order(data, monkeypatch, is_resident):
    """Threads that read ahead finish in any order; a photo with another's label teaches nonsense."""
    monkeypatch.setattr(photos_module, "PHOTOS_A_COPY", 40)
    order = np.random.default_rng(0).permutation(len(data.images))
    found = list(Photos(data, CPU, is_resident=is_resident).batches(order, 7))
    assert [len(labels) for _, labels in found] == [7] * 13 + [5]
    assert np.array_equal(torch.cat([images for images, _ in found]).numpy(), data.images[order])
    assert np.array_equal(torch.cat([labels for _, labels in found]).numpy(), data.labels[order])


class Card:
    """Stands for a GPU, which is not here, that copies as late as it may: zeros, until an event is waited for."""

    def __init__(self, monkeypatch):
        self.log, self.pinned, self.thread = [], [], threading.local()
        plain_empty, computing = torch.empty, SimpleNamespace(wait_event=self.wait)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _device: self)
        monkeypatch.setattr(torch.cuda, "stream", self.in_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: computing)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda _photos, stream: self.keep(stream is computing))
        monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: self.send(tensor))

        def empty(shape, *, dtype, pin_memory):
            self.pinned.append(pin_memory)
            return plain_empty(shape, dtype=dtype)

        monkeypatch.setattr(torch, "empty", empty)

    @contextlib.contextmanager
    def in_stream(self, stream):
        """Copies of this thread are the copying stream's."""
        assert stream is self
        self.thread.copying = True
        yield
        self.thread.copying = False

    def send(self, tensor):
        """At once in the computing stream, which is the caller's."""
        if not getattr(self.thread, "copying", False):
            return tensor.clone()
        late = torch.zeros_like(tensor)
        self.thread.event = lambda: late.copy_(tensor)
        return late

    def record_event(self):
        """What a copy that this thread began is complete with."""
        return self.thread.event

    def wait(self, event):
        """In the computing stream."""
        event()
        self.log.append("waited for")

    def keep(self, is_for_computing):
        """Torch gives no other batch this memory before the stream has used it."""
        self.log.append("kept" if is_for_computing else "kept for another stream")


def test_a_batch_is_handed_out_when_its_copy_to_the_card_is_waited_for_and_its_memory_kept(data, monkeypatch):
    """Else the card computes with what is not there yet, or is another batch's already; no error would say so.

    By a fake card: streams, events and pinned memory of a real one are `make bench-gpu`'s.
    """
    order = np.random.default_rng(0).permutation(len(data.images))
    card, taken = Card(monkeypatch), []
    for batch in Photos(data, torch.device("cuda"), is_resident=False).batches(order, 7):
        card.log.append("handed out")
        taken.append(batch)
    assert card.log == ["waited for", "kept", "handed out"] * 14
    assert card.pinned == [True] * 14
    assert np.array_equal(torch.cat([images for images, _ in taken]).numpy(), data.images[order])
    assert np.array_equal(torch.cat([labels for _, labels in taken]).numpy(), data.labels[order])


def test_a_side_that_does_not_fit_is_learnt_to_the_same_bits(data, fitted, monkeypatch):
    """Whether a card had room decides speed, never what is learnt."""

    class ResidentPhotos(Photos):
        def __init__(self, given, device, **told):
            super().__init__(given, device, **told, is_resident=True)

    monkeypatch.setattr(train, "Photos", ResidentPhotos)
    assert weights_bytes(fit(data, PREPROCESSING, TINY, seed=0, device="cpu")) == weights_bytes(fitted)


GIB = 2**30


@pytest.mark.parametrize(
    ("gpu_share", "free_gib", "is_there_room"),
    [(1.0, 24, True), (0.25, 24, False), (1.0, 12, False), (0.5, 24, False), (1.0, 22, True)],
)
def test_a_trial_takes_room_by_its_share_of_the_card(monkeypatch, gpu_share, free_gib, is_there_room):
    """Four trials that begin together all find the card empty; photos for each, and it is full. The card is made up."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_gib * GIB, 24 * GIB))
    train_side_bytes = 80_000 * 176 * 176 * 3  # 6.9 GiB
    assert photos_module._fits(train_side_bytes, torch.device("cuda"), gpu_share) is is_there_room
    assert not photos_module._fits(1, CPU, gpu_share)


def test_where_others_took_the_room_meanwhile_photos_are_read_ahead(data, monkeypatch):
    """A trial need not fail for what only makes it faster. The error is a fake: there is no card here to fill."""

    def refuse(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", refuse)
        photos = Photos(data, CPU, is_resident=True)
    assert photos.resident is None
    (batch,) = (images for images, _ in photos.batches(np.arange(96), 96))
    assert np.array_equal(batch.numpy(), data.images)


def test_a_read_that_fails_ends_the_epoch_with_its_own_error(data):
    """The store's file was deleted meanwhile: nobody waits for a thread that died."""

    class Gone:
        nbytes, shape = data.images.nbytes, data.images.shape

        def __getitem__(self, _):
            raise OSError(5, "Input/output error")

    broken = Photos(dataclasses.replace(data, images=Gone()), CPU)
    with pytest.raises(OSError, match="Input/output"):
        list(broken.batches(np.arange(96), 8))


def test_leaving_in_the_middle_stops_the_readers(data, monkeypatch):
    """A trial is stopped between batches: no thread may go on reading for it."""
    monkeypatch.setattr(photos_module, "NUM_READERS", 1)
    read = []
    photos = Photos(data, CPU)
    plainly = photos._read
    monkeypatch.setattr(photos, "_read", lambda part: (read.append(len(part)), plainly(part))[1])
    batches = photos.batches(np.arange(96), 4)
    next(batches)
    batches.close()
    assert len(read) <= photos_module.BATCHES_AHEAD
