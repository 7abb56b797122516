"""Claims about reading photos: a row for each object, nothing twice, nothing lost, and no photo in an answer."""

import dataclasses
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import CorruptData, TransientError
from petpark_assets.domain.lake import catalogue, history, inspection, signatures
from petpark_assets.domain.lake.inspection import Inspector, Redrawer, inspect, redraw
from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets_tests.originals import damage

SIDE = 16


def photo(number, size=(24, 20)):
    """The bytes of a small photo, different for every number."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A lake with twenty photos."""
    (tmp_path / "lake").mkdir()
    for number in range(20):
        (tmp_path / f"lake/{number:02d}.png").write_bytes(photo(number))
    return tmp_path / "lake"


@pytest.fixture
def inspector(folder, tmp_path):
    """An inspector of that lake with stores of its own."""
    store = files.LocalStore(tmp_path / "store")
    pixels = PixelStore(store.root / "pixels.lance")
    return Inspector(lake=open_lake(str(folder)), originals=OriginalStore(store), pixels=pixels, resolution_px=SIDE)


def inspect_all(inspector, map_shards=map_in_threads, on_progress=lambda _done, _total: None):
    """All rows of its lake, of which no version knows anything but what the inspector was told."""
    inspector = inspection.informed(inspector, history.SCHEMA.empty_table(), inspector.known)
    tables, finish = inspect(inspector, inspector.lake.list_objects(), map_shards, on_progress)
    finish()
    return pa.concat_tables([inspection.SCHEMA.empty_table(), *tables]).to_pylist()


def test_every_object_has_one_row_in_its_place(inspector, folder):
    """Rows that are missing, doubled or mixed up would end as photos that nobody accounts for."""
    (folder / "05.png").write_bytes(b"this is a text")
    (folder / "07.png").write_bytes(photo(3))
    (folder / "09.png").unlink()
    os.mkfifo(folder / "09.png")
    known = files.sha256(photo(11))
    rows = inspect_all(dataclasses.replace(inspector, known=frozenset({known})))
    assert [row["key"] for row in rows] == [f"{number:02d}.png" for number in range(20)]
    described = {row["key"][:2]: (row["sha256"], row["format"], row["reason"]) for row in rows}
    assert described["05"] == (files.sha256(b"this is a text"), None, "undecodable")
    assert described["03"] == (files.sha256(photo(3)), "PNG", None)
    assert described["07"] == (files.sha256(photo(3)), None, None)  # told already
    assert described["09"] == (None, None, "unreadable")
    assert described["11"] == (known, None, None)
    assert {reason for name, (_, _, reason) in described.items() if name not in {"05", "09"}} == {None}


def test_facts_are_those_of_each_photo_alone(inspector):
    """Workers measure whole shards at once: a photo's facts must not depend on its company."""
    rows = inspect_all(inspector)
    for number in (0, 7, 19):
        thumbnail = images.thumbnail(images.decode(photo(number)))[np.newaxis]
        signature = signatures.signatures(images.luminance(thumbnail))[0]
        measured = images.measure(thumbnail)
        assert (rows[number]["width_px"], rows[number]["height_px"], rows[number]["mode"]) == (20, 24, "RGB")
        assert rows[number]["channel_means"] == pytest.approx(measured.channel_means[0])
        assert rows[number]["sharpness"] == pytest.approx(measured.sharpness[0])
        assert rows[number]["signature"] == signature.tobytes()
        assert rows[number]["perceptual_hash"] == signatures.perceptual_hashes(signature[None])[0]


def test_tables_have_the_manifests_types(inspector):
    """Whatever a shard holds, its table must fit those of the others: a shard of nothing but texts, too."""
    for objects in (inspector.lake.list_objects(), []):
        assert inspector(objects).table.schema == inspection.SCHEMA
    assert set(inspection.SCHEMA.names) < set(catalogue.SCHEMA.names)


def test_originals_and_pixels_are_stored_for_every_photo_that_can_be_decoded(inspector, folder):
    """Old versions are rebuilt from them when the lake has moved on."""
    (folder / "05.png").write_bytes(b"this is a text")
    (folder / "07.png").write_bytes(photo(3))
    inspect_all(inspector)
    numbers = [number for number in range(20) if number not in {5, 7}]
    sha256s = [files.sha256(photo(number)) for number in numbers]
    assert sorted(inspector.originals.stored().to_pylist()) == sorted(sha256s)
    assert dict(inspector.originals.read_all(sha256s)) == dict(zip(sha256s, map(photo, numbers), strict=True))
    expected = np.stack([images.resize(images.decode(photo(number)), SIDE) for number in numbers])
    assert np.array_equal(inspector.pixels.read(sha256s, SIDE), expected)


def test_an_answer_holds_no_photo(inspector, folder):
    """On a cluster answers go through the driver: with photos in them it would be the whole lake."""
    (folder / "00.png").write_bytes(photo(0, (900, 900)))
    answer = dataclasses.replace(inspector, resolution_px=200)(inspector.lake.list_objects())
    assert len(pickle.dumps(answer)) < 1000 * answer.table.num_rows
    assert pickle.loads(pickle.dumps(inspector)).lake == inspector.lake  # noqa: S301  our own


def test_what_a_worker_drew_is_kept_when_another_fails(inspector, monkeypatch):
    """A full disk or a lost server after an hour must not cost the hour."""
    monkeypatch.setattr(inspection, "SHARD_ROWS", 5)
    told = []

    def failing(function, shards):
        yield function(shards[0])
        yield function(shards[1])
        raise TransientError("the server went away")

    with pytest.raises(TransientError, match="went away"):
        inspect_all(inspector, failing, lambda *progress: told.append(progress))
    assert told == [(5, 20), (10, 20)]
    assert len(inspector.pixels.stored(SIDE)) == 10

    inspect_all(inspector)
    for stored in (inspector.pixels.stored(SIDE), inspector.originals.stored()):
        assert len(stored) == len(stored.unique()) == 20  # none was put into a table again


def test_a_reader_sees_what_is_drawn_while_the_work_goes_on(inspector, monkeypatch):
    """What is committed at the end only would be lost to a power cut just before it."""
    monkeypatch.setattr(inspection, "SHARD_ROWS", 5)
    monkeypatch.setattr(inspection, "COMMIT_EVERY_S", 0)
    seen = []
    inspect_all(inspector, map, lambda done, _: seen.append((done, len(inspector.pixels.stored(SIDE)))))
    assert seen == [(5, 5), (10, 10), (15, 15), (20, 20)]


def test_shards_are_bounded_by_photos_and_by_bytes(monkeypatch):
    """A worker holds one shard in memory: 512 photos of 50 MB would be 25 GB."""
    monkeypatch.setattr(inspection, "SHARD_ROWS", 4)
    monkeypatch.setattr(inspection, "SHARD_BYTES", 100 * SIDE**2 * 3)
    assert [len(shard) for shard in inspection._shards("abcdefghij", [1] * 10, SIDE)] == [4, 4, 2]
    large = 60 * SIDE**2 * 3
    sizes = [1, large, 1, large, large, 2 * large, 1, 1]
    assert inspection._shards("abcdefgh", sizes, SIDE) == ["abc", "d", "e", "f", "gh"]
    assert inspection._shards("", [], SIDE) == []


def test_a_large_resolution_makes_small_shards():
    """At 1000 px a photo's pixels are 3 MB."""
    assert len(inspection._shards("x" * 10_000, [0] * 10_000, 1000)[0]) == 11


def test_copies_in_one_lake_are_stored_once(inspector, folder, monkeypatch):
    """A folder with a backup of the others would double what the store holds, and nothing joins rows later."""
    monkeypatch.setattr(inspection, "FEWEST_ROWS", 4)
    for path in list(folder.iterdir()):
        (folder / f"copy of {path.name}").write_bytes(path.read_bytes())
    for _ in range(2):
        rows = inspect_all(inspector)
        described = {row["sha256"] for row in rows if row["format"]}
        assert described == {row["sha256"] for row in rows} == {files.sha256(photo(number)) for number in range(20)}
        assert len(inspector.originals.stored()) == len(inspector.pixels.stored(SIDE)) == 20


def test_photos_of_many_sizes_keep_their_own_pixels(tmp_path, monkeypatch):
    """Photos of one size are squeezed together: neither a change of size nor a full batch may shift them."""
    monkeypatch.setattr(inspection, "SQUEEZED_BYTES", 3 * 40 * 40 * 3)
    (tmp_path / "lake").mkdir()
    sizes = [(40, 40)] * 7 + [(40, 50), (40, 40), (50, 40), (50, 40)]
    for number, size in enumerate(sizes):
        (tmp_path / "lake" / f"{number:02d}.png").write_bytes(photo(number, size))
    store, lake = files.LocalStore(tmp_path / "store"), open_lake(str(tmp_path / "lake"))
    for by_torch in (False, True):
        pixel_store = PixelStore(tmp_path / f"pixels-{by_torch}")
        stores = {"originals": OriginalStore(store), "pixels": pixel_store}
        inspected = Inspector(lake=lake, **stores, resolution_px=SIDE, by_torch=by_torch)(lake.list_objects())
        pixel_store.commit(inspected.pixels, SIDE)
        sha256s = inspected.table["sha256"].to_pylist()
        expected = [images.resize(images.decode(lake.read(item.key)), SIDE) for item in lake.list_objects()]
        assert np.array_equal(pixel_store.read(sha256s, SIDE), np.stack(expected))


def test_a_few_photos_are_shared_out_too():
    """A thousand photos in one shard would keep one processor busy and the others waiting."""
    sizes = [len(shard) for shard in inspection._shards("x" * 1000, [0] * 1000, SIDE)]
    assert len(sizes) == 8
    assert max(sizes) == 128


def test_photos_are_drawn_again_from_originals_at_another_resolution(inspector):
    """A recipe asks for larger pictures when the lake has long moved on."""
    inspect_all(inspector)
    sha256s = [files.sha256(photo(number)) for number in range(20)]
    redrawer = Redrawer(originals=inspector.originals, pixels=inspector.pixels, resolution_px=2 * SIDE)
    redraw(redrawer, sha256s, map_in_threads, lambda _done, _total: None)
    expected = images.resize(images.decode(photo(4)), 2 * SIDE)
    assert np.array_equal(inspector.pixels.read(sha256s[4:5], 2 * SIDE)[0], expected)

    damage(Path(inspector.pixels.root).parent, photo(3))
    with pytest.raises(CorruptData, match=sha256s[3]):
        redraw(dataclasses.replace(redrawer, resolution_px=8), sha256s, map_in_threads, lambda _done, _total: None)
