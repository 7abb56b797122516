"""Claims about what becomes of photos: copies stay together for ever, and what would join both sides is set aside."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from petpark_assets.domain import files
from petpark_assets.domain.lake import corrections, inspection, sources, survey, tombstones
from petpark_assets.domain.lake.tombstones import Tombstone
from petpark_assets_tests.domain.lake.test_ingest import put, rows, run

SIDE_PX = 160


@pytest.fixture(autouse=True)
def _settled(monkeypatch):
    """Let files count as settled at once, instead of waiting 2 s in each test."""
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", -10)


def scene(number):
    """A picture with detail at every scale, as photos have, and like no other."""
    dice = np.random.default_rng(number)
    layers = [dice.uniform(0, 255, (size, size, 3)) for size in (3, 6, 12, 24, 48)]
    grown = [
        np.asarray(Image.fromarray(layer.astype(np.uint8)).resize((SIDE_PX, SIDE_PX), 3), float) for layer in layers
    ]
    mixed = sum(layer / 2**depth for depth, layer in enumerate(grown)) / 1.9375
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def png(image):
    """A picture's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image, quality=90):
    """The same as a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cropped(image, share):
    """Without this share of each side."""
    cut = round(share * SIDE_PX)
    return image.crop((cut, cut, SIDE_PX - cut, SIDE_PX - cut))


ALTERATIONS = {
    "quality_40": lambda image: jpeg(image, 40),
    "smaller": lambda image: png(image.resize((120, 120), Image.Resampling.LANCZOS)),
    "brighter": lambda image: png(ImageEnhance.Brightness(image).enhance(1.2)),
    "mirrored": lambda image: png(ImageOps.mirror(image)),
    "cropped": lambda image: png(cropped(image, 0.03)),
    "png": lambda image: png(Image.open(io.BytesIO(jpeg(image)))),
}


@pytest.fixture
def lake(tmp_path):
    """Twenty scenes of each class."""
    for number in range(40):
        put(tmp_path / "lake", f"{'cat' if number % 2 else 'dog'}/{number:02d}.jpg", jpeg(scene(number)))
    return tmp_path / "lake"


def test_every_kind_of_copy_is_on_the_side_of_its_photo(lake, tmp_path):
    """An exam question that was learned from, only brighter, is no exam. They come at once and one version later."""
    for place, (name, alter) in enumerate(ALTERATIONS.items()):
        for number in range(place, 40, 12):
            put(lake, f"{'cat' if number % 2 else 'dog'}/{number:02d}-{name}.img.png", alter(scene(number)))
    run(lake, tmp_path / "home")
    for place, (name, alter) in enumerate(ALTERATIONS.items()):
        for number in range(place + 6, 40, 12):
            put(lake, f"{'cat' if number % 2 else 'dog'}/{number:02d}-{name}.img.png", alter(scene(number)))
    run(lake, tmp_path / "home")
    for version in ("v0001", "v0002"):
        sides: dict[str, set[tuple[str, str]]] = {}
        for key, row in rows(tmp_path / "home", version).items():
            assert row["state"] == "accepted", (key, row["reason"])
            sides.setdefault(key.split("/")[1][:2], set()).add((row["group"], row["split"]))
        assert all(len(of_scene) == 1 for of_scene in sides.values())
        assert len({group for of_scene in sides.values() for group, _ in of_scene}) == 40
    assert len(rows(tmp_path / "home", "v0002")) == 40 + 40


def test_a_copy_of_a_photo_that_is_gone_goes_to_its_side(lake, tmp_path):
    """Somebody tidies the lake and saves every photo smaller: nothing may change sides by that."""
    run(lake, tmp_path / "home")
    before = {key.split("/")[1][:2]: row["split"] for key, row in rows(tmp_path / "home").items()}
    for path in lake.rglob("*.jpg"):
        path.write_bytes(jpeg(Image.open(path).resize((120, 120)), 70))
    run(lake, tmp_path / "home")
    after = {key.split("/")[1][:2]: row["split"] for key, row in rows(tmp_path / "home", "v0002").items()}
    assert after == before


def test_a_photo_that_would_join_both_sides_is_set_aside_as_a_bridge(lake, tmp_path):
    """A photo and a narrow crop of it are two photos to the grouping; what lies between them is a copy of both."""
    for number in range(100, 130):
        label = "cat" if number % 2 else "dog"
        put(lake, f"{label}/{number}-whole.png", png(scene(number)))
        put(lake, f"{label}/{number}-narrow.png", png(cropped(scene(number), 0.1)))
    run(lake, tmp_path / "home")
    first = rows(tmp_path / "home")
    sides = {key: row["split"] for key, row in first.items()}
    for number in range(100, 130):
        put(lake, f"{'cat' if number % 2 else 'dog'}/{number}-between.png", png(cropped(scene(number), 0.05)))
    run(lake, tmp_path / "home")
    second = rows(tmp_path / "home", "v0002")
    assert {key: second[key]["split"] for key in sides} == sides
    bridges = [key for key, row in second.items() if row["reason"] == "bridge"]
    assert bridges, "no scene had its two photos on two sides, or nothing lay between them"
    for key in bridges:
        pair = {sides[key.replace("between", name)] for name in ("whole", "narrow")}
        assert pair == {"train", "test"}
        assert (second[key]["state"], second[key]["split"], second[key]["group"]) == ("quarantined", None, None)
        assert all(side in second[key]["detail"] for side in ("(train)", "(test)"))
    put(lake, "cat/one-more.png", png(scene(999)))
    run(lake, tmp_path / "home")
    assert [key for key, row in rows(tmp_path / "home", "v0003").items() if row["reason"] == "bridge"] == bridges


def test_a_correction_overrules_the_folder_and_makes_a_version(lake, tmp_path):
    """A person looked; both claims stay in the row, and with them who and why."""
    run(lake, tmp_path / "home")
    store = files.LocalStore(tmp_path / "home/store")
    row = rows(tmp_path / "home")["cat/01.jpg"]
    corrections.correct(store, corrections.Correction(sha256=row["sha256"], label="dog", by="Ann", because="it barks"))
    assert run(lake, tmp_path / "home").is_new
    corrected = rows(tmp_path / "home", "v0002")["cat/01.jpg"]
    assert (corrected["label"], corrected["label_source"], corrected["split"]) == ("dog", "correction", row["split"])
    assert corrected["claims"] == ["correction by Ann (it barks): dog", "folder: cat"]
    assert not run(lake, tmp_path / "home").is_new


def test_a_table_that_changes_makes_a_version_and_rows_about_other_photos_do_not(lake, tmp_path):
    """A warehouse exports the labels of all its parks: only what it says of this lake's photos is this lake's."""
    labels = ("lake:labels.csv", "names")
    put(lake, "labels.csv", b"key,label\ndog/00.jpg,cat\n")
    assert run(lake, tmp_path / "home", labels=labels).dataset_version == "v0001"
    assert rows(tmp_path / "home")["dog/00.jpg"]["claims"] == ["labels.csv: cat", "folder: dog"]
    put(lake, "labels.csv", b"key,label\nelsewhere/9.jpg,dog\ndog/00.jpg,cat\n")
    assert not run(lake, tmp_path / "home", labels=labels).is_new
    put(lake, "labels.csv", b"key,label\ndog/00.jpg,dog\n")
    again = run(lake, tmp_path / "home", labels=labels)
    assert (again.dataset_version, again.num_decoded) == ("v0002", 0)


def test_a_forgotten_photo_is_quarantined_and_nothing_of_it_kept(lake, tmp_path):
    """Its bytes may come back under any name, in a home whose caches are long gone."""
    store = files.LocalStore(tmp_path / "home/store")
    sha256 = files.sha256((lake / "cat/01.jpg").read_bytes())
    tombstone = Tombstone(sha256=sha256, keys=(), dataset_versions=(), reason="asked", who="Ann", when="2026-01-01")
    tombstones.write(store, tombstone)
    put(lake, "dog/again.jpg", (lake / "cat/01.jpg").read_bytes())
    run(lake, tmp_path / "home")
    for key in ("cat/01.jpg", "dog/again.jpg"):
        row = rows(tmp_path / "home")[key]
        assert (row["state"], row["reason"], row["sha256"]) == ("quarantined", "forgotten", sha256)
        kept = {"key", "size_bytes", "sha256", "label", "label_source", "claims", "state", "reason", "detail"}
        assert {name for name, value in row.items() if value is not None} == kept
    assert not any(sha256 in key for key in store.list_keys("originals"))


def test_a_copy_of_a_contested_photo_does_not_get_round_the_conflict(lake, tmp_path):
    """Two sources disagree about a file; whoever copies it elsewhere must not have decided by that."""
    contested = png(scene(500))
    put(lake, "cat/dog.77.png", contested)
    put(lake, "cat/also.png", contested)
    run(lake, tmp_path / "home")
    contested, copy = (rows(tmp_path / "home")[key] for key in ("cat/dog.77.png", "cat/also.png"))
    assert contested["reason"] == copy["reason"] == "conflicting_label"
    assert copy["detail"] == f"the same photo as cat/dog.77.png, of which is said: {contested['detail']}"
    assert all(claim in copy["detail"] for claim in contested["claims"])


def test_what_is_larger_than_any_photo_is_set_aside_unread(lake, tmp_path):
    """A film named like a photo would fill the memory of every worker, and end every ingestion."""
    with (lake / "cat/film.jpg").open("wb") as film:
        film.truncate(inspection.MAX_FILE_BYTES + 1)
    run(lake, tmp_path / "home")
    row = rows(tmp_path / "home")["cat/film.jpg"]
    assert (row["state"], row["reason"], row["sha256"]) == ("quarantined", "too_large", None)
    assert run(lake, tmp_path / "home").num_read == 0


def test_a_lake_with_oddities_is_still_known_by_its_listing(lake, tmp_path, monkeypatch):
    """A broken link, a file from the future, notes beside the photos: none may cost a full look each time."""
    (lake / "cat/link.jpg").symlink_to(lake / "nowhere.jpg")
    put(lake, "notes", b"no photo")
    future = put(lake, "dog/future.png", png(scene(501)))
    os.utime(future, (2**32, 2**32))
    monkeypatch.setattr(sources, "SETTLED_AFTER_S", -10)
    run(lake, tmp_path / "home")
    monkeypatch.setattr(sources.FolderLake, "read", lambda *_: pytest.fail("something was read"))
    assert not run(lake, tmp_path / "home").is_new
    assert survey.list_lake(sources.open_lake(str(lake)), tmp_path / "home/cache").is_all_known
