"""Claims about a version's standard metadata: its own library finds nothing wrong, and reads the photos by side."""

import json
import re
from datetime import date, datetime

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue, croissant

DAY = date(2026, 11, 22)

# mlcroissant 1.1 uses parts of rdflib and pandas that these deprecate; nothing of ours is called meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def row(number, label, split):
    """An accepted photo with a value of every type that the manifest knows."""
    sha256 = files.sha256(str(number).encode())
    return {
        "key": f"{label}/{number}.jpg", "sha256": sha256, "label": label, "size_bytes": 7, "group": sha256,
        "state": "accepted", "split": split, "claims": [f"folder: {label}", f"labels.csv: {label}"],
        "width_px": 640, "brightness": 0.5, "capture_time": datetime(2020, 1, 2, 3, 4, 5),  # noqa: DTZ001 - EXIF's
    }  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    """A version's manifest with its metadata beside it: the record and the folder."""
    rows = [row(number, ("cat", "dog")[number % 2], "test" if number < 2 else "train") for number in range(10)]
    unlabelled = {"key": "x.jpg", "sha256": "ab" * 32, "size_bytes": 1, "state": "quarantined", "reason": "unlabelled"}
    table = catalogue.build_table([*rows, unlabelled], num_ignored=0, previous_manifest="cd" * 32)
    manifest = catalogue.to_parquet(table)
    record = catalogue.raw_images(table, "v0012", files.sha256(manifest))
    (tmp_path / "manifest.parquet").write_bytes(manifest)
    (tmp_path / croissant.FILE_NAME).write_bytes(croissant.croissant(record, manifest, published=DAY))
    return record, tmp_path


def test_croissants_own_library_finds_nothing_wrong_and_reads_the_photos_by_side(exported):
    """A standard is worth what its tools can do with it: load, verify the file's sha256, and hand out a side."""
    import mlcroissant  # seconds, and warnings that only these tests pass over

    _, folder = exported
    dataset = mlcroissant.Dataset(jsonld=str(folder / croissant.FILE_NAME))
    assert (dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.warnings) == (set(), set())
    read = {name: list(dataset.records(name)) for name in ("photos", "train", "test", "splits", "labels")}
    assert {name: len(records) for name, records in read.items()} == {
        "photos": 11, "train": 8, "test": 2, "splits": 2, "labels": 2,
    }  # fmt: skip
    assert {photo["test/key"] for photo in read["test"]} == {b"cat/0.jpg", b"dog/1.jpg"}
    assert {photo["train/split"] for photo in read["train"]} == {b"train"}
    photo = read["test"][0]
    assert photo["test/claims"] == [b"folder: cat", b"labels.csv: cat"]
    assert (photo["test/width_px"], photo["test/brightness"]) == (640, 0.5)
    assert photo["test/capture_time"].isoformat() == "2020-01-02T03:04:05"
    (unlabelled,) = [photo for photo in read["photos"] if photo["photos/state"] == b"quarantined"]
    assert (unlabelled["photos/split"], unlabelled["photos/reason"]) == (None, b"unlabelled")


def test_a_changed_manifest_is_noticed_by_the_library(exported):
    """The file's sha256 is in the metadata: who loads it from a copy gets this version or an error."""
    import mlcroissant  # seconds, and warnings that only these tests pass over

    _, folder = exported
    data = (folder / "manifest.parquet").read_bytes()
    (folder / "manifest.parquet").write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    dataset = mlcroissant.Dataset(jsonld=str(folder / croissant.FILE_NAME))
    with pytest.raises(Exception, match=r"Download\(manifest\)") as caught:
        list(dataset.records("photos"))
    assert "hash" in str(caught.value.__cause__).lower()


def test_a_version_can_be_followed_to_the_one_before(exported):
    """Croissant's provenance is PROV-O: the dataset's own name is its manifest's digest, and so is its parent's."""
    record, folder = exported
    document = json.loads((folder / croissant.FILE_NAME).read_bytes())
    assert document["@id"] == f"hash://sha256/{record.manifest}"
    assert document["prov:wasDerivedFrom"] == {"@id": f"hash://sha256/{'cd' * 32}"}
    assert document["version"] == "12.0.0"
    values = {item["propertyID"]: item["value"] for item in document["identifier"]}
    assert values == {"manifest sha256": record.manifest, "raw_images record sha256": files.digest(record)}


def test_the_same_version_gives_the_same_bytes(exported):
    """No clock, host or address: metadata can be made again anywhere, and compared."""
    record, folder = exported
    manifest = (folder / "manifest.parquet").read_bytes()
    again = croissant.croissant(record, manifest, published=DAY)
    assert again == (folder / croissant.FILE_NAME).read_bytes()
    without_day = json.loads(croissant.croissant(record, manifest))
    assert json.loads(again) == {**without_day, "datePublished": "2026-11-22"}


def test_every_column_for_people_is_described(exported):
    """A column that is added to the manifest must be described here, or named as one for machines only."""
    _, folder = exported
    for_machines = {"etag", "signature", "channel_means", "channel_squares"}
    assert set(catalogue.SCHEMA.names) - set(croissant.FIELDS) == for_machines
    assert set(croissant.FIELDS) <= set(catalogue.SCHEMA.names)
    named = set(re.findall(r'"column":"(\w+)"', (folder / croissant.FILE_NAME).read_text()))
    assert named == set(croissant.FIELDS)
