"""Claims about ingestion: all photos are accounted for, versions are whole or not there, work is done once."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import files, images, splits
from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError
from petpark_assets.domain.lake import (
    catalogue,
    corrections,
    fingerprints,
    ingest,
    inspection,
    manifest_cache,
    sightings,
    sources,
)
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.labels import DEFAULT_LABELS, open_labels
from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets_tests.originals import damage, read_original

SIDE = 16
NOBODY = 65534


def photo(number):
    """The bytes of a small photo, different for every number."""
    picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def put(folder, key, data):
    """A file of the lake."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def make_lake(folder, num_photos=20):
    """A lake with as many cats as dogs."""
    for number in range(num_photos):
        put(folder, f"{'cat' if number % 2 else 'dog'}/{number}.png", photo(number))
    return folder


@pytest.fixture
def lake(tmp_path):
    """Ten cats and ten dogs."""
    return make_lake(tmp_path / "lake")


@pytest.fixture
def _settled(monkeypatch):
    """Let files count as settled at once, instead of waiting 2 s in each test."""
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", -10)


def run(lake, home, **options):
    """One ingestion into a home."""
    store = files.LocalStore(home / "store")
    opened = open_lake(str(lake))
    book = open_labels(options.pop("labels", DEFAULT_LABELS), opened, corrections.read_corrections(store), {})
    settings = {"cache": home / "cache", "resolution_px": SIDE, "assign_splits": splits.assign} | options
    return ingest.new_dataset_version(opened, *stores(home), book, **settings)


def stores(home):
    """The store of a home, its originals and its pixels."""
    store = files.LocalStore(home / "store")
    return store, OriginalStore(store), PixelStore(store.root / "pixels.lance")


def rows(home, version="v0001"):
    """A version's manifest by key."""
    table = catalogue.read_manifest(files.LocalStore(home / "store"), version)
    return {row["key"]: row for row in table.to_pylist()}


def contents(folder):
    """What is in a folder, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_object_seen_is_accepted_a_duplicate_or_quarantined(tmp_path):
    """The counts that people read must add up, whatever lies in the lake."""
    draw_lake(tmp_path / "lake", num_images=20, num_broken=8)
    result = run(tmp_path / "lake", tmp_path / "home")
    counted = result.raw_images.images
    assert (result.dataset_version, result.is_new) == ("v0001", True)
    assert counted["seen"] == counted["accepted"] + counted["duplicate"] + counted["quarantined"] == 28
    assert (counted["accepted"], counted["ignored"]) == (20, 1)
    assert sum(result.raw_images.quarantined_by_reason.values()) == counted["quarantined"] > 0
    assert result.raw_images.accepted_by_label == {"cat": 10, "dog": 10}


def test_whoever_asks_for_a_photo_need_not_read_what_an_ingestion_made(lake, tmp_path):
    """The index of sightings is written beside each version, and says what a reading of all manifests says."""
    run(lake, tmp_path / "home")
    put(lake, "cat/again.png", photo(1))
    (lake / "dog/0.png").unlink()
    run(lake, tmp_path / "home")
    store = files.LocalStore(tmp_path / "home/store")
    names, path = ["v0001", "v0002"], tmp_path / "home/cache" / sightings.FILE_NAME
    kept, num_versions = manifest_cache.load(path, sightings.SCHEMA, store, names)
    assert num_versions == 2
    assert (kept, names) == sightings.read_sightings(store, tmp_path / "empty")


def test_copies_of_known_and_of_new_photos_are_each_known(lake, tmp_path):
    """A later version knows most photos already; two that cannot be read at all are no copies of each other."""
    run(lake, tmp_path / "home")
    put(lake, "cat/again.png", photo(1))  # of one that the first version has
    for name in ("new", "newer"):
        put(lake, f"dog/{name}.png", photo(200))
    for name in ("pipe", "pipe-too"):
        os.mkfifo(lake / f"cat/{name}.jpg")
    result = run(lake, tmp_path / "home")
    found = rows(tmp_path / "home", "v0002")
    duplicates = {key: row["detail"] for key, row in found.items() if row["state"] == "duplicate"}
    assert duplicates == {
        "cat/again.png": "the same bytes as cat/1.png", "dog/newer.png": "the same bytes as dog/new.png",
    }  # fmt: skip
    assert result.raw_images.quarantined_by_reason == {"unreadable": 2}


def test_each_kind_of_trouble_has_its_reason(lake, tmp_path):
    """A person mends a lake by these words."""
    put(lake, "cat/copy-of-2.png", photo(1))
    put(lake, "cat/z.png", photo(100))
    put(lake, "dog/z.png", photo(100))
    put(lake, "mystery.png", photo(101))
    put(lake, "bird/1.png", photo(102))
    put(lake, "cat/text.jpg", b"this is a text")
    put(lake, "cat/cut.png", photo(103)[:-200])
    put(lake, "labels.csv", b"key,label")
    put(lake, "cat/no-extension", photo(104))
    os.mkfifo(lake / "cat/pipe.jpg")
    result = run(lake, tmp_path / "home")
    found = {key: (row["state"], row["reason"]) for key, row in rows(tmp_path / "home").items()}
    assert {key: states for key, states in found.items() if states != ("accepted", None)} == {
        "cat/copy-of-2.png": ("duplicate", None),
        "cat/z.png": ("quarantined", "conflicting_label"),
        "dog/z.png": ("quarantined", "conflicting_label"),
        "mystery.png": ("quarantined", "unlabelled"),
        "bird/1.png": ("quarantined", "unknown_label"),
        "cat/text.jpg": ("quarantined", "undecodable"),
        "cat/cut.png": ("quarantined", "truncated"),
        "cat/pipe.jpg": ("quarantined", "unreadable"),
    }
    details = {key: row["detail"] for key, row in rows(tmp_path / "home").items()}
    assert details["cat/z.png"] == "the same photo is cat (cat/z.png) and dog (dog/z.png)"
    assert details["cat/copy-of-2.png"] == "the same bytes as cat/1.png"
    assert result.raw_images.images["ignored"] == 1
    assert all((row["split"] is None) == (row["state"] != "accepted") for row in rows(tmp_path / "home").values())


def test_facts_pixels_and_bytes_are_those_of_the_photo(lake, tmp_path):
    """The manifest describes, the pixel table holds and the store keeps one and the same picture."""
    run(lake, tmp_path / "home")
    row, decoded = rows(tmp_path / "home")["cat/1.png"], images.decode(photo(1))
    store = files.LocalStore(tmp_path / "home/store")
    assert (row["width_px"], row["height_px"], row["format"], row["mode"]) == (24, 20, "PNG", "RGB")
    assert row["channel_means"] == pytest.approx(images.measure(images.thumbnail(decoded)[None]).channel_means[0])
    pixels = PixelStore(store.root / "pixels.lance").read([row["sha256"]], SIDE)
    assert np.array_equal(pixels[0], images.resize(decoded, SIDE))
    assert read_original(OriginalStore(store), row["sha256"]) == photo(1)


def lose_originals(home):
    """As a disk that loses files, or another home's forgetting, would."""
    for path in (home / "store/originals.lance/data").iterdir():
        path.unlink()


@pytest.mark.usefixtures("_settled")
def test_what_the_store_has_lost_and_the_lake_still_has_is_stored_again(lake, tmp_path):
    """With the next photos that come; a version's content is as it was."""
    run(lake, tmp_path / "home")
    before = rows(tmp_path / "home")
    lose_originals(tmp_path / "home")
    put(lake, "cat/new.png", photo(100))
    result = run(lake, tmp_path / "home")
    assert (result.dataset_version, result.num_decoded) == ("v0002", 21)
    store, originals, _ = stores(tmp_path / "home")
    assert originals.missing([row["sha256"] for row in rows(tmp_path / "home", "v0002").values()]) == []
    after = rows(tmp_path / "home", "v0002")
    assert all({**row, "signature": None} == after[key] for key, row in before.items())
    assert not store.exists("raw_images/v0003/manifest.parquet")


def test_no_version_is_made_of_photos_that_are_gone_since_they_were_stored(lake, tmp_path, monkeypatch):
    """A version lists nothing that it cannot be built of again: the same command, run again, makes it."""
    with monkeypatch.context() as patch:
        patch.setattr(OriginalStore, "tidy", lambda *_: lose_originals(tmp_path / "home"))
        with pytest.raises(TransientError, match=r"20 of 20 photos are gone since .* run the same"):
            run(lake, tmp_path / "home")
    assert catalogue.list_versions(files.LocalStore(tmp_path / "home/store")) == []
    assert run(lake, tmp_path / "home").dataset_version == "v0001"
    assert stores(tmp_path / "home")[1].missing([row["sha256"] for row in rows(tmp_path / "home").values()]) == []


def test_photos_that_were_stored_twice_are_stored_once_after_the_next_ingestion(lake, tmp_path):
    """Whatever left them so, two ingestions of which one was killed, say, or a release that did not look."""
    run(lake, tmp_path / "home")
    _, originals, pixels = stores(tmp_path / "home")
    some = [row["sha256"] for row in rows(tmp_path / "home").values()][3:9]
    originals.append(dict(originals.read_all(some)))
    pixels.append(some, pixels.read(some, SIDE), SIDE)
    put(lake, "cat/new.jpg", photo(99))
    run(lake, tmp_path / "home")
    for stored in (originals.stored(), pixels.stored(SIDE)):
        assert len(stored) == len(stored.unique()) == 21


@pytest.mark.usefixtures("_settled")
def test_an_unchanged_lake_makes_no_version_and_reads_nothing(lake, tmp_path):
    """The platform looks often; looking must cost a listing, and write nothing."""
    first = run(lake, tmp_path / "home")
    before = contents(tmp_path / "home")
    again = run(lake, tmp_path / "home")
    assert (again.is_new, again.num_read, again.num_decoded) == (False, 0, 0)
    assert again.raw_images == first.raw_images
    assert contents(tmp_path / "home") == before


@pytest.mark.usefixtures("_settled")
def test_a_touched_lake_reads_only_the_newest_manifest(lake, tmp_path, monkeypatch):
    """What a new version needs is not made for none: without its cache a home has hundreds of manifests to read."""
    for number in range(3):
        put(lake, f"cat/new-{number}.png", photo(50 + number))
        run(lake, tmp_path / "home")
    (tmp_path / "home/cache" / sightings.FILE_NAME).unlink()
    put(lake, "cat/new-0.png", photo(50))
    read, real = [], catalogue.read_manifest
    monkeypatch.setattr(catalogue, "read_manifest", lambda *told, **more: read.append(told[1]) or real(*told, **more))
    assert not run(lake, tmp_path / "home").is_new
    assert {*read} == {"v0003"}


@pytest.mark.usefixtures("_settled")
def test_one_more_photo_is_one_photos_work(lake, tmp_path):
    """A lake of 100,000 grows by a few photos a day."""
    first = run(lake, tmp_path / "home")
    put(lake, "cat/new.png", photo(50))
    second = run(lake, tmp_path / "home")
    assert (second.dataset_version, second.is_new, second.num_read, second.num_decoded) == ("v0002", True, 1, 1)
    assert second.raw_images.previous_manifest == first.raw_images.manifest
    before, after = rows(tmp_path / "home"), rows(tmp_path / "home", "v0002")
    assert after["cat/new.png"]["first_version"] == "v0002"
    assert [key for key, row in after.items() if row.pop("signature") is not None] == ["cat/new.png"]
    assert all(row.pop("signature") is not None for row in before.values())
    after.pop("cat/new.png")
    assert after == before


@pytest.mark.usefixtures("_settled")
def test_a_photo_that_returns_is_known_and_on_its_old_side(lake, tmp_path):
    """Sides are for ever: otherwise the exam would hold photos that an earlier network has learned."""
    run(lake, tmp_path / "home")
    old = {row["sha256"]: row["split"] for row in rows(tmp_path / "home").values()}
    away = [lake / key for key, row in rows(tmp_path / "home").items() if row["split"] == "test"][::3]
    for path in away:
        path.rename(tmp_path / path.name)
    assert run(lake, tmp_path / "home").raw_images.images["seen"] == 18
    for path in away:
        (tmp_path / path.name).rename(path.with_name("back-" + path.name))
    third = run(lake, tmp_path / "home")
    assert (third.dataset_version, third.num_decoded) == ("v0003", 0)
    assert {row["sha256"]: row["split"] for row in rows(tmp_path / "home", "v0003").values()} == old


@pytest.mark.usefixtures("_settled")
def test_a_photo_that_was_set_aside_for_its_label_is_taken_when_it_is_mended(lake, tmp_path):
    """Moving a file is how people label it; its bytes are known already."""
    path = put(lake, "mystery.png", photo(60))
    run(lake, tmp_path / "home")
    path.rename(lake / "dog/rex.png")
    assert run(lake, tmp_path / "home").num_decoded == 0
    row = rows(tmp_path / "home", "v0002")["dog/rex.png"]
    assert (row["state"], row["reason"], row["detail"]) == ("accepted", None, None)
    assert (row["label"], row["first_version"]) == ("dog", "v0001")


@pytest.mark.usefixtures("_settled")
def test_bytes_that_could_not_be_decoded_are_so_under_any_name(lake, tmp_path):
    """The decoder's verdict is about bytes: it is neither asked for again nor mixed up with a label's trouble."""
    for key in ("a-text.jpg", "cat/text.jpg"):
        put(lake, key, b"this is a text")
    for number, version in ((80, "v0001"), (81, "v0002")):
        put(lake, f"dog/{number}.png", photo(number))
        result = run(lake, tmp_path / "home")
        texts = [row["reason"] for key, row in rows(tmp_path / "home", version).items() if "text" in key]
        assert texts == ["undecodable", "undecodable"]
    assert result.num_decoded == 1


def test_a_rewrite_within_one_tick_of_the_clock_is_seen(lake, tmp_path):
    """A fingerprint of a file that has just changed proves nothing, and is not kept."""
    run(lake, tmp_path / "home")
    path, status = lake / "cat/1.png", (lake / "cat/1.png").stat()
    path.write_bytes(photo(70)[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(lake, tmp_path / "home").is_new


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("cached", [b"", b"[]", b"{}", b'{"lake": "another", "entries": {"cat/1.png": ["", "f"]}}'])
def test_a_lost_or_foreign_cache_costs_time_and_nothing_else(lake, tmp_path, cached):
    """Everything under cache/ can be deleted; what is there instead must not become a photo's sha256."""
    run(lake, tmp_path / "home")
    (tmp_path / "home/cache" / fingerprints.FILE_NAME).write_bytes(cached)
    again = run(lake, tmp_path / "home")
    assert (again.is_new, again.num_read, again.num_decoded) == (False, 20, 0)


def test_the_manifest_does_not_depend_on_order_or_workers(lake, tmp_path):
    """The version's digest is the photos', not the machine's."""

    def backwards(function, shards):
        return reversed([function(shard) for shard in reversed(list(shards))])

    for key in ("cat/1.png", "dog/0.png"):  # another order in the folder
        shutil.copy(lake / key, tmp_path / "photo")
        (lake / key).unlink()
        shutil.move(tmp_path / "photo", lake / key)
    digests = {
        run(lake, tmp_path / name, map_shards=map_shards).raw_images.manifest
        for name, map_shards in (("one", map), ("two", backwards), ("three", map_in_threads))
    }
    assert len(digests) == 1


def test_progress_is_told_up_to_the_last_photo(lake, tmp_path, monkeypatch):
    """A bar that stops at 90 % looks like a crash."""
    monkeypatch.setattr(inspection, "SHARD_ROWS", 8)
    told = []
    run(lake, tmp_path / "home", on_progress=lambda done, total: told.append((done, total)))
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_of_two_ingestions_at_once_the_later_compares_again(lake, tmp_path):
    """Another writer may take the number in the last moment: the same photos are then its version, others the next."""

    def overtaken_by(other):
        def assign(photos, history):
            if not history.num_rows:
                run(other, tmp_path / "home")
            return splits.assign(photos, history)

        return assign

    same = run(lake, tmp_path / "home", assign_splits=overtaken_by(lake))
    assert (same.dataset_version, same.is_new) == ("v0001", False)
    shutil.rmtree(tmp_path / "home")
    other = make_lake(tmp_path / "other", 24)
    later = run(lake, tmp_path / "home", assign_splits=overtaken_by(other))
    assert (later.dataset_version, later.is_new) == ("v0002", True)
    assert {row["first_version"] for row in rows(tmp_path / "home", "v0002").values()} == {"v0001"}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (shutil.rmtree, "has no photos"),
        (lambda lake: shutil.rmtree(lake / "dog"), "none of the 10 photos .* is labelled dog"),
        (lambda lake: [put(lake, f"dog/{n}.png", b"x") for n in range(0, 18, 2)], "only 1 photos .* usable as dog"),
    ],
)
def test_a_lake_that_nothing_can_be_learned_from_is_refused(lake, tmp_path, prepare, words):
    """One line now, rather than a strange network an hour later; and no version that must be explained."""
    prepare(lake)
    lake.mkdir(exist_ok=True)
    put(lake, "README.txt", b"no photo")
    with pytest.raises(InvalidInput, match=words) as caught:
        run(lake, tmp_path / "home")
    assert "\n" not in str(caught.value)
    assert catalogue.list_versions(files.LocalStore(tmp_path / "home/store")) == []


@pytest.mark.parametrize("moment", ["on_progress", "assign_splits"])
def test_a_killed_ingestion_leaves_no_version_and_the_next_completes(lake, tmp_path, moment):
    """Killed after the first photos are stored, and just before the manifest is."""
    script = f"""
import os, signal
from pathlib import Path
from petpark_assets.domain.lake import inspection
from petpark_assets_tests.domain.lake.test_ingest import run
inspection.BATCH_ROWS = inspection.SHARD_ROWS = 8
def kill(*arguments):
    if arguments[0] != 8:
        os.kill(os.getpid(), signal.SIGKILL)
run(Path({str(lake)!r}), Path({str(tmp_path / "home")!r}), {moment}=kill)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    store = files.LocalStore(tmp_path / "home/store")
    assert moment == "on_progress" or len(OriginalStore(store).stored()) == 20
    assert catalogue.list_versions(store) == []
    again, whole = run(lake, tmp_path / "home"), run(lake, tmp_path / "other")
    assert (again.dataset_version, again.raw_images) == ("v0001", whole.raw_images)
    sha256s = [row["sha256"] for row in rows(tmp_path / "home").values()]
    assert PixelStore(store.root / "pixels.lance").missing(sha256s, SIDE) == []


def test_a_full_disk_is_one_clear_line_and_no_version(lake, tmp_path):
    """Whatever it was writing; with more space the same command completes."""
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", home]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk (root): {made.stderr.decode().strip()}")
    try:
        with pytest.raises(TransientError, match=r"no space left on the disk .*run the same command again") as caught:
            run(lake, home)
        assert "\n" not in str(caught.value)
        assert catalogue.list_versions(files.LocalStore(home / "store")) == []
        subprocess.run(["mount", "-o", "remount,size=20m", home], check=True)
        assert run(lake, home).raw_images.images["accepted"] == 20
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


@pytest.fixture
def others_folder():
    """A folder that another user can reach and write to; pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="petpark-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def run_as_nobody(lake, home):
    """One ingestion in a process that is not root, which reads everything: the counts, or the error."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who may not read everything")
    script = f"""
import json, os
from pathlib import Path
import lance
from petpark_assets.domain.errors import PetparkError
from petpark_assets_tests.domain.lake.test_ingest import run
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
try:
    result = run(Path({str(lake)!r}), Path({str(home)!r}))
    print(json.dumps([result.is_new, dict(result.raw_images.quarantined_by_reason)]))
except PetparkError as error:
    print(json.dumps(str(error)))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    return json.loads(answer.stdout)


def test_a_file_that_may_not_be_read_is_set_aside_and_tried_again(others_folder):
    """Permissions are mended without touching the file: its fingerprint alone must not keep it out."""
    lake, home = make_lake(others_folder / "lake"), others_folder / "home"
    (lake / "cat/1.png").chmod(0)
    assert run_as_nobody(lake, home) == [True, {"unreadable": 1}]
    row = rows(home)["cat/1.png"]
    assert (row["sha256"], row["detail"]) == (None, "the file cannot be read: permission denied")
    assert run_as_nobody(lake, home) == [False, {"unreadable": 1}]
    result = run(lake, home)  # as root, who may read it; its fingerprint is as it was
    assert (result.is_new, result.raw_images.images["accepted"]) == (True, 20)


def test_a_folder_that_may_not_be_read_refuses_the_whole_ingestion(others_folder):
    """Otherwise a thousand photos would look removed, and a version without them be made."""
    lake, home = make_lake(others_folder / "lake"), others_folder / "home"
    (lake / "cat").chmod(0)
    message = run_as_nobody(lake, home)
    assert f"the folder {lake}/cat of the lake" in message
    assert "permission denied" in message
    assert not home.exists()


@pytest.mark.usefixtures("_settled")
def test_pixels_of_another_resolution_come_from_originals(lake, tmp_path):
    """A recipe with a larger picture is trained on old versions too, when the lake has long moved on."""
    run(lake, tmp_path / "home")
    shutil.rmtree(lake)
    store, originals, pixels = stores(tmp_path / "home")
    manifest = catalogue.read_manifest(store, "v0001")
    assert ingest.ensure_pixels(store, originals, pixels, manifest, 2 * SIDE) == 20
    assert ingest.ensure_pixels(store, originals, pixels, manifest, 2 * SIDE) == 0
    expected = images.resize(images.decode(photo(1)), 2 * SIDE)
    assert np.array_equal(pixels.read([files.sha256(photo(1))], 2 * SIDE)[0], expected)


def test_a_damaged_original_is_named_and_not_drawn(lake, tmp_path):
    """Pixels of a changed file would be trained on under the old photo's name."""
    run(lake, tmp_path / "home")
    store, originals, pixels = stores(tmp_path / "home")
    damage(store.root, photo(1))
    manifest = catalogue.read_manifest(store, "v0001")
    with pytest.raises(CorruptData, match=files.sha256(photo(1))):
        ingest.ensure_pixels(store, originals, pixels, manifest, 2 * SIDE)


def test_a_version_is_verified_without_its_lake(lake, tmp_path):
    """Materializing a version again must give the record it has, and find a manifest that was exchanged."""
    result = run(lake, tmp_path / "home")
    store = files.LocalStore(tmp_path / "home/store")
    shutil.rmtree(lake)
    assert ingest.verify(store, "v0001") == result.raw_images
    files.write_record(store, result.raw_images, {})
    table = catalogue.read_manifest(store, "v0001")
    store.local_path(catalogue.manifest_key("v0001")).write_bytes(catalogue.to_parquet(table.slice(1)))
    with pytest.raises(CorruptData, match=r"raw_images/v0001/manifest\.parquet .* was changed after it was recorded"):
        ingest.verify(store, "v0001")


@pytest.mark.photos
def test_real_photos_are_ingested_within_the_promise(photos, tmp_path):
    """20,000 photos in 30 s on two idle cores, of which this part has its share."""
    for label in ("cat", "dog"):
        (tmp_path / "lake" / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:100]:
            (tmp_path / "lake" / label / path.name).symlink_to(path)
    run(lake=make_lake(tmp_path / "warm-up"), home=tmp_path / "warm-up-home")  # imports of Lance
    before = time.process_time()
    result = run(tmp_path / "lake", tmp_path / "home", resolution_px=96)
    assert result.raw_images.images["accepted"] + result.raw_images.images["duplicate"] == 200
    assert (time.process_time() - before) / 200 < 3 * 2 * 30 / 20_000  # thrice, for busy machines
