"""Claims about the store: one protocol, the same in a folder and in a bucket; and what only a bucket can get wrong."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound
from petpark_assets.domain.records import TrainSplit
from petpark_assets.domain.s3.store import S3Store
from petpark_assets_tests.faults import spoiling

SPLIT = TrainSplit(dataset_version="v0001", raw_images="a" * 64, members="b" * 64, images_by_label={"dog": 2, "cat": 1})


@pytest.fixture
def remote(s3_server, bucket, tmp_path):
    """An empty store in a bucket that has other things too."""
    s3_server.client().put_object(Bucket=bucket, Key="petparking/ticket", Body=b"")
    return S3Store(f"s3://{bucket}/petpark", s3_server.access(), tmp_path / "cache")


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.debian)])
def store(request, tmp_path):
    """An empty store of either kind."""
    return files.LocalStore(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("remote")


def test_a_key_is_taken_once(store):
    """What is stored never changes."""
    assert store.write_new("a/b.json", b"one")
    assert not store.write_new("a/b.json", b"two")
    assert store.read("a/b.json") == b"one"
    assert files.put(store, "a/b.json", b"one") == files.sha256(b"one")
    with pytest.raises(Conflict, match=r"a/b\.json is in the store"):
        files.put(store, "a/b.json", b"two")


def test_keys_are_listed_by_folder(store):
    """Versions and attempts are found by their folder, and `v0001` is no part of `v00010`."""
    for key in ("raw_images/v0001/x", "raw_images/v00010.json", "raw_images/v0001.json", "other"):
        store.write_new(key, b"")
    assert store.list_keys("raw_images") == ["raw_images/v0001.json", "raw_images/v0001/x", "raw_images/v00010.json"]
    assert store.list_keys("raw_images/v0001") == ["raw_images/v0001/x"]
    assert store.list_keys("nothing") == []


def test_a_missing_key_is_named(store):
    """Who reads it knows where to look."""
    assert not store.exists("a/b")
    for ask in (store.read, store.local_path):
        with pytest.raises(NotFound, match=rf"a/b is not in the store {store.uri}"):
            ask("a/b")


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store):
    """A forgetting that was stopped is run again."""
    store.write_new("originals/ab/abc", b"photo")
    copy = store.local_path("originals/ab/abc")
    for _ in range(2):
        store.delete("originals/ab/abc")
        assert not store.exists("originals/ab/abc")
        assert not copy.exists()
    assert store.write_new("originals/ab/abc", b"photo")


@pytest.mark.parametrize("key", ["/etc/passwd", "../other", "a/../../b"])
def test_no_key_leaves_the_store(store, key):
    """A key may come from a file that somebody wrote by hand."""
    for ask in (store.read, store.exists, store.local_path, store.delete):
        with pytest.raises(InvalidInput, match="is not a key of the store"):
            ask(key)


def test_records_are_kept_in_either_store(store):
    """Records, and all that lasts, know nothing of where they are."""
    digest = files.write_record(store, SPLIT, {"who": "anna"})
    assert files.write_record(store, SPLIT, {"who": "bert"}) == digest
    assert files.read_record(store, TrainSplit, "v0001") == SPLIT
    assert files.read_circumstances(store, TrainSplit, "v0001") == {"who": "anna"}


def test_workers_get_a_copy_of_the_store(store):
    """Originals are stored by those who read the photos, wherever they are."""
    assert pickle.loads(pickle.dumps(store)).write_new("a", b"1")  # noqa: S301 - our own
    assert store.read("a") == b"1"


@pytest.mark.debian
def test_two_stores_in_one_bucket_do_not_see_each_other(s3_server, bucket, tmp_path):
    """`petpark` is no part of `petpark2`."""
    first, second = (S3Store(f"s3://{bucket}/{name}", s3_server.access(), tmp_path) for name in ("petpark", "petpark2"))
    first.write_new("a", b"1")
    assert second.list_keys("") == []
    assert first.list_keys("") == ["a"]


@pytest.mark.debian
def test_a_local_copy_is_whole_whatever_happens_to_it(remote):
    """Libraries open it by its path; nobody checks it after us."""
    remote.write_new("package/model.onnx", b"model")
    path = remote.local_path("package/model.onnx")
    assert path.read_bytes() == b"model"
    path.write_bytes(b"mo")
    assert remote.local_path("package/model.onnx").read_bytes() == b"model"
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.debian
def test_a_local_copy_does_not_outlive_what_it_is_a_copy_of(s3_server, bucket, remote):
    """A photo may have been forgotten from another machine."""
    remote.write_new("originals/ab/abc", b"photo")
    remote.local_path("originals/ab/abc")
    s3_server.client().delete_object(Bucket=bucket, Key="petpark/originals/ab/abc")
    with pytest.raises(NotFound):
        remote.local_path("originals/ab/abc")


@pytest.mark.debian
def test_copies_are_whole_through_faults(s3_server, bucket, tmp_path):
    """Half of an answer must not become a file."""
    content = {f"file{number}": bytes([number]) * 50_000 for number in range(30)}
    with spoiling(s3_server.endpoint_url, one_in=4, delay_s=0.05) as proxy, ThreadPoolExecutor(8) as pool:
        store = S3Store(f"s3://{bucket}/p", s3_server.access(endpoint_url=proxy.endpoint_url), tmp_path)
        assert all(pool.map(lambda item: store.write_new(*item), content.items()))
        paths = list(pool.map(store.local_path, content))
    assert [path.read_bytes() for path in paths] == list(content.values())


@pytest.mark.debian
def test_an_object_that_was_changed_by_hand_is_noticed(s3_server, bucket, remote):
    """Whoever copies objects about copies what we noted of them too."""
    remote.write_new("a", b"one")
    client = s3_server.client()
    noted = client.head_object(Bucket=bucket, Key="petpark/a")["Metadata"]
    client.put_object(Bucket=bucket, Key="petpark/a", Body=b"two", Metadata=noted)
    with pytest.raises(CorruptData, match=r"a in s3://.* was changed after it was stored"):
        remote.local_path("a")


@pytest.mark.debian
def test_what_is_deleted_in_a_bucket_with_versions_is_gone(s3_server, bucket, remote):
    """A deletion there is only a mark: the photo's bytes would still be there."""
    client = s3_server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    remote.write_new("originals/ab/abc", b"photo")
    remote.delete("originals/ab/abc")
    answer = client.list_object_versions(Bucket=bucket, Prefix="petpark/")
    assert (answer.get("Versions"), answer.get("DeleteMarkers")) == (None, None)
    assert remote.write_new("originals/ab/abc", b"photo")


@pytest.mark.debian
def test_what_we_write_holds_no_secret(s3_server, bucket, remote):
    """Metadata of an object is read by everybody who may read the bucket."""
    remote.write_new("a", b"one")
    head = s3_server.client().head_object(Bucket=bucket, Key="petpark/a")
    assert set(head["Metadata"]) == {"petpark-sha256", "petpark-mark"}
    assert s3_server.secret_key not in str(head)
    assert s3_server.secret_key not in repr(remote) + repr(remote.bucket) + str(vars(remote))
