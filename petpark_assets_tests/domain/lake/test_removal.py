"""Claims about photos forgotten while they are being written: nothing stays, and nobody else's is touched."""

import io

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import files
from petpark_assets.domain.lake import inspection, removal, tombstones
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.photo_tables import PhotoTable
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.tombstones import Tombstone

SIDE, OTHER_SIDE = 16, 24


def png(number):
    """A file of noise, another for every number."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = {files.sha256(png(number)): png(number) for number in range(4)}
VICTIM, *OTHERS = PHOTOS


@pytest.fixture
def store(tmp_path):
    """A store with four originals."""
    store = files.LocalStore(tmp_path / "store")
    OriginalStore(store).append(PHOTOS)
    return store


@pytest.fixture
def pixels(store):
    """Their pixels at one resolution."""
    pixels = PixelStore(store.root / "pixels.lance")
    redraw(store, pixels, SIDE)
    return pixels


def redraw(store, pixels, side_px, map_shards=map):
    """Draw all four from their originals."""
    redrawer = inspection.Redrawer(originals=OriginalStore(store), pixels=pixels, resolution_px=side_px)
    inspection.redraw(redrawer, list(PHOTOS), map_shards, lambda _done, _all: None)


def forget(store, pixels):
    """What forgetting does to a store."""
    fields = {"keys": (), "dataset_versions": (), "reason": "asked", "who": "Kim", "when": "2026-11-22T12:00:00+00:00"}
    tombstones.write(store, Tombstone(sha256=VICTIM, **fields))
    OriginalStore(store).forget([VICTIM])
    pixels.forget([VICTIM])


def test_a_photo_forgotten_while_it_is_redrawn_does_not_stay(store, pixels, monkeypatch):
    """Its original was read before the tombstone, its pixels are written after the deletion."""
    write = PixelStore.write

    def write_late(*arguments):
        forget(store, pixels)
        return write(*arguments)

    monkeypatch.setattr(PixelStore, "write", write_late)
    redraw(store, pixels, OTHER_SIDE)
    assert pixels.missing([VICTIM], OTHER_SIDE) == []
    assert removal.delete_again(store, OriginalStore(store), pixels, PHOTOS) == [VICTIM]
    for side_px in (SIDE, OTHER_SIDE):
        assert pixels.missing(list(PHOTOS), side_px) == [VICTIM]


def test_an_original_that_was_stored_again_goes_even_without_pixels(store, pixels):
    """A worker stores both, one after the other, and may be stopped between."""
    forget(store, pixels)
    OriginalStore(store).append({VICTIM: PHOTOS[VICTIM]})
    assert removal.delete_again(store, OriginalStore(store), pixels, PHOTOS) == [VICTIM]
    assert OriginalStore(store).missing(list(PHOTOS)) == [VICTIM]


def test_nothing_is_touched_where_nobody_was_forgotten(store, pixels, monkeypatch):
    """It runs after every ingestion; rewriting the table of pixels each time would cost minutes."""
    forget(store, pixels)
    monkeypatch.setattr(PhotoTable, "_compact", lambda *_: pytest.fail("it rewrites the table"))
    assert removal.delete_again(store, OriginalStore(store), pixels, OTHERS) == []
    assert removal.delete_again(store, OriginalStore(store), pixels, PHOTOS) == [VICTIM]
