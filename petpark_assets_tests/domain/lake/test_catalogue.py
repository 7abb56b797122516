"""Claims about manifests: the same rows are the same bytes, and nothing changes unseen."""

import io
from datetime import datetime

import pyarrow.parquet as pq
import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.lake import catalogue


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return files.LocalStore(tmp_path)


def row(name, **fields):
    """An accepted cat of the train side, unless told otherwise."""
    facts = {
        "format": "JPEG", "width_px": 200, "height_px": 100, "mode": "RGB", "brightness": 0.5, "sharpness": 0.1,
        "channel_means": [0.1, 0.2, 0.3], "channel_squares": [0.01, 0.04, 0.09], "first_version": "v0001",
    }  # fmt: skip
    return {
        "key": f"cat/{name}.jpg", "size_bytes": 9, "sha256": files.sha256(name.encode()), "label": "cat",
        "label_source": "folder", "group": files.sha256(name.encode()), "split": "train", "state": "accepted",
        **facts, **fields,
    }  # fmt: skip


def quarantined(name, reason, **fields):
    """A row that was set aside."""
    return row(name, state="quarantined", reason=reason, split=None, format=None, **fields)


def table(*rows, num_ignored=0, previous_manifest=None, inputs=None):
    """A manifest of rows."""
    return catalogue.build_table(rows, num_ignored=num_ignored, previous_manifest=previous_manifest, inputs=inputs)


def test_the_same_rows_in_any_order_are_the_same_bytes():
    """A version's digest must not depend on how a file system lists or how many workers read."""
    rows = [row("a"), row("b", channel_means=[0.3, 0.3, 0.3]), quarantined("c", "truncated")]
    there, back = catalogue.to_parquet(table(*rows)), catalogue.to_parquet(table(*reversed(rows)))
    assert there == back
    assert there != catalogue.to_parquet(table(*rows[:2]))


def test_columns_of_few_values_have_each_value_once():
    """Ten times smaller; the others are half of a manifest, and a dictionary of them makes it larger."""
    taken = datetime(2026, 1, 1)  # noqa: DTZ001  a camera knows no time zone
    fields = {"claims": ["folder: cat"], "capture_time": taken, "reason": "unlabelled"}
    rows = [row(f"{number:04}", **fields) for number in range(1000)]
    group = pq.read_metadata(io.BytesIO(catalogue.to_parquet(table(*rows)))).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    once = {column.path_in_schema for column in columns if "RLE_DICTIONARY" in column.encodings}
    assert once == {
        "size_bytes", "label", "label_source", "claims.list.element", "first_version", "format", "width_px",
        "height_px", "mode", "capture_time", "split", "state", "reason",
    }  # fmt: skip


def test_a_manifest_is_read_as_it_was_written(store):
    """Counts, splits and statistics are all taken from what is read."""
    written = table(row("a"), row("b"), num_ignored=2)
    digest = catalogue.write_manifest(store, "v0001", written)
    read = catalogue.read_manifest(store, "v0001", digest)
    assert read.equals(written)
    assert catalogue.counts(read) == catalogue.counts(written)
    assert catalogue.manifest_sha256(store, "v0001") == digest


def test_a_taken_version_is_not_written_again(store):
    """Of two ingestions that end together one makes the version and the other is told."""
    first = catalogue.write_manifest(store, "v0001", table(row("a")))
    assert catalogue.write_manifest(store, "v0001", table(row("b"))) is None
    assert catalogue.manifest_sha256(store, "v0001") == first


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda _data: b"no parquet", lambda data: data[::-1]])
def test_a_damaged_manifest_is_named(store, damage):
    """Everything after ingestion trusts the manifest: it must not be half believed."""
    digest = catalogue.write_manifest(store, "v0001", table(row("a")))
    path = store.local_path(catalogue.manifest_key("v0001"))
    path.write_bytes(damage(path.read_bytes()))
    for expected in (digest, None):
        with pytest.raises(CorruptData, match=r"raw_images/v0001/manifest\.parquet"):
            catalogue.read_manifest(store, "v0001", expected)


def test_a_parquet_file_with_other_columns_is_no_manifest(store):
    """A well-formed file of something else would fail far from here, and without a name."""
    foreign = table(row("a")).drop_columns(["split"])
    store.write_new(catalogue.manifest_key("v0001"), catalogue.to_parquet(foreign))
    with pytest.raises(CorruptData, match="does not have the columns"):
        catalogue.read_manifest(store, "v0001")


def test_a_missing_version_is_answered_with_those_there_are(store):
    """The most likely mistake is a number that does not exist."""
    with pytest.raises(NotFound, match="none yet"):
        catalogue.read_manifest(store, "v0001")
    catalogue.write_manifest(store, "v0001", table(row("a")))
    with pytest.raises(NotFound, match=r"there is no dataset version v0002 .* there is: v0001"):
        catalogue.manifest_sha256(store, "v0002")


@pytest.mark.parametrize("name", ["1", "v1", "v00x1", "../v0001", "latest", ""])
def test_what_is_no_version_is_refused(store, name):
    """A version's name becomes a path."""
    with pytest.raises(InvalidInput, match="write it like v0001"):
        catalogue.read_manifest(store, name)


def test_versions_are_listed_by_number_and_only_with_a_manifest(store):
    """v10000 comes after v9999, and a folder whose ingestion was stopped is no version."""
    for number in (10000, 2, 9999):
        catalogue.write_manifest(store, catalogue.version_name(number), table(row("a")))
    store.write_new("raw_images/v0003/something-else", b"")
    assert catalogue.list_versions(store) == ["v0002", "v9999", "v10000"]


def test_what_a_version_was_made_from_is_read_from_its_footer_alone(store):
    """An unchanged lake of 100,000 photos must be known by a listing, not by reading its rows again."""
    catalogue.write_manifest(store, "v0001", table(row("a"), inputs="f" * 64))
    assert catalogue.inputs(store, "v0001") == "f" * 64
    assert catalogue.has_rows(store, "v0001", 1)
    assert not catalogue.has_rows(store, "v0001", 2)


def test_manifests_that_differ_in_what_is_no_content_say_the_same():
    """A signature is kept once, and a bucket may give the same bytes another etag: neither is a new version."""
    first = table(row("a", signature=b"12", etag="x"), num_ignored=1)
    assert catalogue.says_the_same(first, table(row("a", signature=None, etag="y"), num_ignored=2))
    assert not catalogue.says_the_same(first, table(row("a", label="dog")))
    assert not catalogue.says_the_same(first, table(row("a"), row("b")))


def test_the_record_is_told_by_the_manifest_alone(store):
    """After a crash between the two, the record is made again without looking at a lake that has moved on."""
    rows = [
        row("a"), row("b", label="dog"), row("a2", state="duplicate", split=None), quarantined("c", "truncated"),
        quarantined("d", "unlabelled"), quarantined("e", "truncated"),
    ]  # fmt: skip
    digest = catalogue.write_manifest(store, "v0001", table(*rows, num_ignored=3, previous_manifest="f" * 64))
    record = catalogue.raw_images(catalogue.read_manifest(store, "v0001"), "v0001", digest)
    assert record.images == {"seen": 6, "accepted": 2, "duplicate": 1, "quarantined": 3, "ignored": 3}
    assert record.accepted_by_label == {"cat": 1, "dog": 1}
    assert record.quarantined_by_reason == {"truncated": 2, "unlabelled": 1}
    assert (record.manifest, record.previous_manifest) == (digest, "f" * 64)


def test_a_photo_without_a_state_is_a_bug_and_not_a_count():
    """Always seen = accepted + duplicate + quarantined."""
    with pytest.raises(AssertionError, match="have no state"):
        catalogue.counts(table(row("a", state="lost")))
