"""Claims about forgetting: nothing of the photo is left anywhere, all that it touched is named, it never returns."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import InvalidInput, NotFound
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue, contact_sheets, ownership, tombstones
from petpark_assets.domain.lake.originals import key_of_before
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.workflow import forgetting, ingestion, sides
from petpark_assets_tests.domain.workflow import scan

SIDE = 16
OTHER_SIDE = 24
REASON = "its owner asked"


def picture(number):
    """A picture of noise, different for every number."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8))


def png(image):
    """A picture's bytes; noise hardly shrinks, so these are found wherever they lie."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def traces(data):
    """What must not be found any more: the body of the file, and its pixels as they are stored at each resolution."""
    pixels = images.decode(data)
    stored = (images.resize(pixels, side).tobytes() for side in (SIDE, OTHER_SIDE))
    return {block for part in (data[64:-32], *stored) for block in scan.blocks(part)}


def thumbnail_traces(data):
    """Of the photo's thumbnail as text within a page; the head of a JPEG is the same in all."""
    text = base64.b64encode(contact_sheets.thumbnail(images.decode(data)))
    return scan.blocks(text[len(text) // 2 : -32])


def put(lake, key, data):
    """A file of the lake."""
    path = lake / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def first_home(tmp_path_factory):
    """24 photos, copies of one of them, and one without a class, in two versions.

    A copy is the same bytes, two are of other brightness, one of these without a class.
    """
    folder = tmp_path_factory.mktemp("forgetting")
    lake = folder / "lake"
    for number in range(24):
        put(lake, f"{'cat' if number % 2 else 'dog'}/{number}.png", png(picture(number)))
    put(lake, "cat/copy-of-1.png", png(picture(1)))
    put(lake, "cat/like-1.png", png(ImageEnhance.Brightness(picture(1)).enhance(0.9)))
    put(lake, "nobody-knows.png", png(picture(100)))
    put(lake, "like-1-too.png", png(ImageEnhance.Brightness(picture(1)).enhance(1.1)))
    home = open_home(folder / "home", actor="Kim")
    for version in ("v0001", "v0002"):
        ingestion.new_dataset_version(home, str(lake), SIDE)
        ingestion.raw_images(home, version, SIDE)
        ingestion.split(home, version)
        put(lake, "cat/later.png", png(picture(200)))
    return folder


@pytest.fixture
def folder(first_home, tmp_path):
    """A copy of that home and its lake, with everything that may hold photos: caches, pages, an unfinished write."""
    shutil.copytree(first_home, tmp_path / "copy", symlinks=True)
    home = open_home(tmp_path / "copy/home", actor="Kim")
    home.store.delete("lake.json")  # it belonged to the lake that was copied
    for version in ("v0001", "v0002"):
        manifest = sides.read_manifest(home, version)
        ingestion.ingest.ensure_pixels(home.store, home.originals, home.pixels, manifest, OTHER_SIDE)
        for side in ("train", "test"):
            sides.open_side(home, version, side, SIDE)
        contact_sheets.write_page(home.store, home.originals, home.reports, version)
    search = home.cache / "search/attempt"
    search.mkdir(parents=True)
    np.save(search / "images.npy", home.pixels.read([files.sha256(png(picture(1)))], SIDE))
    of_before = key_of_before(files.sha256(png(picture(1))))  # homes of before 2026-11-30 have a file a photo
    home.store.write_new(of_before, png(picture(1)))
    original = home.store.local_path(of_before)
    original.with_name(f".{original.name}.abcd.part").write_bytes(png(picture(1))[:1000])
    return tmp_path / "copy"


@pytest.fixture
def home(folder):
    """The home of that copy."""
    return open_home(folder / "home", actor="Kim")


def in_lake(home, key):
    """The sha256 of a file of the lake."""
    return files.sha256((home.root.parent / "lake" / key).read_bytes())


def left(home, wanted):
    """Where something of a photo is left, as paths below the home."""
    return [path.removeprefix(f"{home.root}/") for path in scan.files_with(wanted, [home.root])]


def test_nothing_of_a_forgotten_photo_is_left_in_any_file(home):
    """Looked for in every file there is: what a person asked to be removed must not turn up in a backup of the home."""
    wanted = traces(png(picture(1)))
    before = left(home, wanted)
    for part in ("store/originals.lance/", "store/originals/", "store/pixels.lance/16px", "store/pixels.lance/24px",
                 "cache/pixels/", ".part", "cache/search/"):  # fmt: skip
        assert any(part in path for path in before), f"the scan does not see {part}, so it proves nothing"
    forgetting.forget(home, "cat/1.png", REASON)
    assert left(home, wanted) == []
    assert left(home, traces(png(picture(2)))) != []


def test_a_quarantined_photo_goes_from_the_contact_sheets_too(home):
    """A page holds its thumbnail; the page is drawn again without, so that links to it still work."""
    data = png(picture(100))
    wanted = traces(data) | thumbnail_traces(data)
    assert any("quarantine.html" in path for path in left(home, wanted))
    forgetting.forget(home, "nobody-knows.png", REASON)
    assert left(home, wanted) == []
    assert b"nobody-knows.png" in contact_sheets.page_path(home.reports, "v0001").read_bytes()


def test_all_that_the_photo_touched_is_named(home):
    """Who asks to be forgotten is owed the answer where their photo was; near-duplicates are a person's decision."""
    document = json.loads(json.dumps(forgetting.forget(home, "cat/1.png", f"  {REASON}\n")))
    sha256 = files.sha256(png(picture(1)))
    assert (document["sha256"], document["reason"], document["who"]) == (sha256, REASON, "Kim")
    assert document["is_new"]
    assert document["keys"] == document["still_in_lake"] == ["cat/1.png", "cat/copy-of-1.png"]
    rows = [(row["dataset_version"], row["key"], row["state"]) for row in document["dataset_versions"]]
    assert rows == [
        ("v0001", "cat/1.png", "accepted"), ("v0001", "cat/copy-of-1.png", "duplicate"),
        ("v0002", "cat/1.png", "accepted"), ("v0002", "cat/copy-of-1.png", "duplicate"),
    ]  # fmt: skip
    since = {"first_version": "v0001", "last_version": "v0002"}
    copies = [("cat/like-1.png", "cat"), ("like-1-too.png", None)]
    assert sorted(document["near_duplicates"], key=lambda found: found["key"]) == [
        {"sha256": in_lake(home, key), **since, "key": key, "label": label} for key, label in copies
    ]
    assert (document["models"], document["pages_not_drawn"]) == ([], [])
    assert tombstones.read(home.store, sha256).keys == ("cat/1.png", "cat/copy-of-1.png")
    (event,) = [event for event in home.ledger.events() if event.event == "photo_forgotten"]
    assert (event.subject["sha256"], event.subject["reason"], event.actor) == (sha256, REASON, "Kim")


def test_the_copies_of_a_quarantined_photo_are_named_too(home):
    """It is in no group: whoever asks for it to be forgotten is owed those as well."""
    found = forgetting.forget(home, "like-1-too.png", REASON)["near_duplicates"]
    assert {copy["key"] for copy in found} == {"cat/copy-of-1.png", "cat/like-1.png"}
    assert forgetting.forget(home, "nobody-knows.png", REASON)["near_duplicates"] == []


@pytest.mark.debian
def test_a_locked_bucket_is_refused_before_anything_is_said(tmp_path, s3_server, bucket):
    """No tombstone: else the command, run again, would say done with the photo in old versions."""
    s3_server.client().create_bucket(Bucket=f"{bucket}-locked", ObjectLockEnabledForBucket=True)
    home = open_home(tmp_path / "home", actor="Kim", store_uri=f"s3://{bucket}-locked/store", s3=s3_server.access)
    with pytest.raises(InvalidInput, match="its bucket keeps old versions under Object Lock") as e:
        forgetting.forget(home, "cat/1.png", REASON)
    assert "\n" not in str(e.value)
    assert tombstones.forgotten(home.store) == frozenset()


@pytest.mark.debian
@pytest.mark.parametrize("status", ["never versioned", "Enabled", "Suspended"])
def test_nothing_is_left_in_a_bucket_or_on_this_machine(first_home, tmp_path, s3_server, bucket, status):
    """The same with the store on S3: every version of every object is looked through, and every file of the home."""
    lake, client = tmp_path / "lake", s3_server.client()
    shutil.copytree(first_home / "lake", lake)
    home = open_home(tmp_path / "home", actor="Kim", store_uri=f"s3://{bucket}/store", s3=s3_server.access)
    if status != "never versioned":
        ownership.claim(home.store, open_lake(str(lake)))  # later, Ceph would be refused
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ingestion.new_dataset_version(home, str(lake), SIDE)
    for side_px in (SIDE, OTHER_SIDE):
        ingestion.raw_images(home, "v0001", side_px)
    for side in ("train", "test"):
        sides.open_side(home, "v0001", side, SIDE)
    sha256 = files.sha256(png(picture(1)))
    home.store.write_new(key_of_before(sha256), png(picture(1)))
    home.store.local_path(key_of_before(sha256))  # a copy on this machine
    wanted = traces(png(picture(1)))
    if status != "never versioned":  # a resolution that nobody needs any more, dropped by hand
        for key in home.store.list_keys(f"pixels.lance/{OTHER_SIDE}px.lance"):
            client.delete_object(Bucket=bucket, Key=f"store/{key}")
    if status == "Suspended":
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

    def left_anywhere():
        return [*objects_with(client, bucket, wanted), *left(home, wanted)]

    before = left_anywhere()
    for part in ("store/originals.lance/", "store/originals/", "store/pixels.lance/", "cache/pixels/", "cache/store/"):
        assert any(path.startswith(part) for path in before), f"the scan does not see {part}, so it proves nothing"
    forgetting.forget(home, "cat/1.png", REASON)
    assert left_anywhere() == []
    assert tombstones.forgotten(home.store) == {sha256}
    assert len(home.pixels.stored(SIDE)) > 10


def objects_with(client, bucket, wanted):
    """Keys of the versions of objects, deleted ones too, that hold one of the blocks."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
    versions = [(item["Key"], item["VersionId"]) for page in pages for item in page.get("Versions", [])]
    return [
        key
        for key, number in versions
        if scan.holds(client.get_object(Bucket=bucket, Key=key, VersionId=number)["Body"].read(), wanted)
    ]


def test_old_manifests_stay_as_they_were_and_other_photos_are_all_there(home):
    """Forgetting touches bytes, not history; and not a single pixel of anybody else."""
    versions = catalogue.list_versions(home.store)
    before = {version: catalogue.manifest_sha256(home.store, version) for version in versions}
    rows = sides.read_manifest(home, "v0002").to_pylist()
    accepted = {row["sha256"] for row in rows if row["state"] == "accepted"}
    gone = files.sha256(png(picture(1)))
    pixels = home.pixels.read(sorted(accepted - {gone}), SIDE)
    forgetting.forget(home, gone, REASON)
    assert {version: catalogue.manifest_sha256(home.store, version) for version in versions} == before
    assert np.array_equal(home.pixels.read(sorted(accepted - {gone}), SIDE), pixels)
    assert {sha256 for sha256, _ in home.originals.read_all(sorted(accepted - {gone}))} == accepted - {gone}
    with pytest.raises(NotFound):
        home.pixels.read([gone], SIDE)


@pytest.mark.parametrize("new_name", ["cat/1.png", "cat/another-name.png"])
def test_a_forgotten_photo_never_comes_back(home, new_name):
    """It still lies in the lake, or somebody puts it there again: the next version sets it aside, and keeps nothing."""
    lake = home.root.parent / "lake"
    forgetting.forget(home, files.sha256(png(picture(1))), REASON)
    put(lake, new_name, png(picture(1)))
    (home.cache / "lake_fingerprints.arrow").unlink(missing_ok=True)  # so that every file is read again
    result = ingestion.new_dataset_version(home, str(lake), SIDE)
    ingestion.raw_images(home, result.dataset_version, OTHER_SIDE)
    rows = catalogue.read_manifest(home.store, result.dataset_version).to_pylist()
    states = {row["key"]: (row["state"], row["reason"]) for row in rows}
    assert states[new_name] == ("quarantined", "forgotten")
    assert states["cat/like-1.png"] == ("accepted", None)
    contact_sheets.write_page(home.store, home.originals, home.reports, result.dataset_version)
    assert left(home, traces(png(picture(1))) | thumbnail_traces(png(picture(1)))) == []


def test_an_old_version_is_opened_without_it(home):
    """An old version can be trained again; who does so is told what is missing, and the others keep their order."""
    gone = files.sha256(png(picture(1)))
    side = _side_of(home, gone)
    before = sides.open_side(home, "v0001", side, SIDE)
    place = before.sha256s.index(gone)
    expected = np.delete(np.array(before.images), place, axis=0)
    forgetting.forget(home, gone, REASON)
    after = sides.open_side(home, "v0001", side, SIDE)
    assert after.sha256s == before.sha256s[:place] + before.sha256s[place + 1 :]
    assert np.array_equal(after.images, expected)
    assert np.array_equal(after.labels, np.delete(before.labels, place))
    assert (dict(before.forgotten), dict(after.forgotten)) == ({}, {gone: "cat"})


def _side_of(home, sha256):
    rows = catalogue.read_manifest(home.store, "v0001", columns=["sha256", "split"]).to_pylist()
    return next(row["split"] for row in rows if row["sha256"] == sha256 and row["split"])


STEPS = ("store.delete", "pixels.forget", "copies.delete", "note", "_draw_pages")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_stopped_anywhere_and_run_again_it_ends_the_same(folder, home, step, when, monkeypatch):
    """A machine may stop in the middle: what was begun must be finished by the same command, and done once."""
    owner, _, name = step.rpartition(".")
    owner = (getattr(home, owner, None) or getattr(forgetting, owner)) if owner else forgetting
    real = getattr(owner, name)

    def stopped(*arguments):
        if when == "after":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopped, raising=True)
        with pytest.raises(KeyboardInterrupt):
            forgetting.forget(home, "cat/1.png", REASON)
    again = forgetting.forget(open_home(folder / "home", actor="Lee"), "cat/1.png", "another reason")
    assert (again["is_new"], again["reason"], again["who"]) == (False, REASON, "Kim")
    assert left(home, traces(png(picture(1)))) == []
    assert [event.event for event in home.ledger.events()].count("photo_forgotten") == 1
    assert contact_sheets.page_path(home.reports, "v0001").is_file()


def test_it_needs_a_reason_and_a_photo(home):
    """It cannot be undone, so nothing is done on half a sentence."""
    with pytest.raises(InvalidInput, match="needs a reason"):
        forgetting.forget(home, "cat/1.png", "  ")
    with pytest.raises(NotFound, match=r"no version has a photo 'cat/x\.png'"):
        forgetting.forget(home, "cat/x.png", REASON)
    assert tombstones.forgotten(home.store) == frozenset()


def test_an_unknown_cache_or_page_is_taken_to_hold_the_photo(home):
    """Whoever adds a cache will not think of this; what is known to be free of photos is kept, all else goes."""
    for name in ("cache/new-cache/data", "reports/new-page/x.html", "reports/x.html", "cache/models/abc/model.onnx"):
        path = home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"?")
    kept = {
        "cache/forgotten.json", "cache/lake_fingerprints.arrow", "cache/lake_history.arrow",
        "cache/lake_sightings.arrow", "cache/models/abc/model.onnx",
    }  # fmt: skip
    for name in kept:
        (home.root / name).touch()
    forgetting.forget(home, "cat/1.png", REASON)
    below = {path.relative_to(home.root).as_posix() for path in _files(home.cache)}
    assert below == kept
    assert {path.name for path in _files(home.reports)} == {"quarantine.html"}


def _files(folder: Path):
    return [path for path in folder.rglob("*") if path.is_file()]
