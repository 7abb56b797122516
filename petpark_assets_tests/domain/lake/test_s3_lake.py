"""Claims about lakes on S3: every photo is listed and read as it is, through faults too."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake.labels import open_labels
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets_tests.faults import spoiling
from petpark_assets_tests.servers import new_bucket

pytestmark = pytest.mark.debian


@pytest.fixture
def put(s3_server, bucket):
    """Put an object into the bucket, by key and bytes."""
    client = s3_server.client()
    return lambda key, body=b"photo": client.put_object(Bucket=bucket, Key=key, Body=body)


@pytest.fixture
def lake(s3_server, bucket):
    """The lake below `photos` of the bucket."""
    return open_lake(f"s3://{bucket}/photos/", s3_server.access)


def test_a_listing_is_sorted_and_leaves_hidden_keys_and_folders_out(lake, put):
    """As of a folder: manifests are sorted by key, a Mac's `._1.jpg` is no photo, and consoles make `cat/`."""
    for key in ("dog/2.jpg", "cat/b.jpg", "cat/ü 1+1.jpg", "README.txt", "cat/._a.jpg", ".petpark/x.jpg"):
        put(f"photos/{key}")
    put("photos/", b"")
    put("photos/cat/", b"")
    put("photos2/cat/1.jpg")
    assert [item.key for item in lake.list_objects()] == ["README.txt", "cat/b.jpg", "cat/ü 1+1.jpg", "dog/2.jpg"]


def test_what_no_folder_could_hold_is_listed_with_its_problem(lake, put):
    """It counts as seen and says what to do; one such key must not hide all others."""
    for key in ("photos/cat//1.jpg", "photos/../1.jpg", "photos/cat/\x01.jpg", "photos/cat/2.jpg"):
        put(key)
    problems = {item.key: item.problem for item in lake.list_objects()}
    assert problems == {
        "../1.jpg": "its key has a part that is . or ..: rename it",
        "cat//1.jpg": "its key has an empty part (a slash too many): rename it",
        "cat/\x01.jpg": "its key has a control character: rename it",
        "cat/2.jpg": None,
    }
    with pytest.raises(UnreadablePhoto, match="slash too many"):
        lake.read("cat//1.jpg")


def test_a_fingerprint_sees_a_rewrite_of_the_same_size_and_trusts_the_rest(lake, put):
    """Only what changed is read again, and nothing has to settle: S3 lists what was last written."""
    put("photos/1.jpg", b"before")
    put("photos/2.jpg", b"before")
    first = lake.list_objects()
    put("photos/1.jpg", b"later!")
    second = lake.list_objects()
    assert all(item.is_settled for item in first)
    assert first[0].etag == first[1].etag is not None
    assert second[0].size_bytes == first[0].size_bytes
    assert second[0].fingerprint != first[0].fingerprint
    assert second[1] == first[1]


def test_one_object_is_found_as_its_listing_shows_it(lake, put):
    """This server lists parts of a second and tells one object's time without: it must not look rewritten."""
    put("photos/cat/ü 1+1%.jpg")
    put("photos/cat/._a.jpg")
    (listed,) = lake.list_objects()
    found = lake.find(listed.key, listed.fingerprint)
    assert found == listed
    put("photos/cat/ü 1+1%.jpg", b"other")
    assert lake.find(listed.key, listed.fingerprint).fingerprint != listed.fingerprint
    assert [lake.find(key) for key in ("cat/._a.jpg", "cat/none.jpg", "cat//odd.jpg")] == [None, None, None]


def test_a_listing_goes_on_after_a_key(lake, put):
    """A large lake is listed in parts, and the last key of one part need not be there any more."""
    for key in ("cat/1.jpg", "cat/ü 1+1.jpg", "dog/2.jpg"):
        put(f"photos/{key}")
    assert [item.key for item in lake.list_after("cat/1.jpg")] == ["cat/ü 1+1.jpg", "dog/2.jpg"]
    assert [item.key for item in lake.list_after("cat/ü 1+2.jpg")] == ["dog/2.jpg"]
    assert list(lake.list_after("dog/2.jpg")) == []


def test_reading_gives_the_bytes_or_the_first_of_them(lake, put):
    """Whether an object is an image is asked with its first bytes only."""
    put("photos/1.jpg", b"0123456789")
    put("photos/empty.jpg", b"")
    assert (lake.read("1.jpg"), lake.read("1.jpg", 4)) == (b"0123456789", b"0123")
    assert (lake.read("empty.jpg"), lake.read("empty.jpg", 4)) == (b"", b"")


def test_a_photo_that_vanished_is_a_reason_to_try_again(lake):
    """It was listed a moment ago: neither a broken photo nor an error for ever."""
    with pytest.raises(
        TransientError, match=r"cat/1\.jpg was taken out of the lake s3://.* run the same command again"
    ):
        lake.read("cat/1.jpg")


def test_a_table_of_labels_that_is_not_beside_the_photos_is_named(lake):
    """Not as a photo that was taken out meanwhile: to run the same command again would help nobody."""
    with pytest.raises(InvalidInput, match=r"the labels lake:lables\.csv do not exist"):
        open_labels(["lake:lables.csv"], lake)


def test_trouble_with_keys_is_not_a_photos(s3_server, bucket, put):
    """Keys that were withdrawn in the middle must not set aside every photo of a lake."""
    put("photos/1.jpg")
    stranger = open_lake(f"s3://{bucket}/photos", lambda: s3_server.access(secret_access_key="another"))
    with pytest.raises(InvalidInput, match="SignatureDoesNotMatch"):
        stranger.read("1.jpg")


def test_workers_get_a_copy_of_the_lake(lake, put):
    """Photos are read by the workers of a cluster and never go through the driver."""
    put("photos/1.jpg", b"photo")
    copy = pickle.loads(pickle.dumps(lake))  # noqa: S301 - our own
    assert copy == lake
    assert copy.read("1.jpg") == b"photo"


def test_every_spelling_of_a_bucket_is_the_same_lake(s3_server, bucket):
    """A home belongs to a lake, not to the way its address was typed."""
    spellings = [f"s3://{bucket}/photos", f"s3://{bucket}/photos/", f"s3://{bucket}//photos//"]
    assert {open_lake(uri, s3_server.access).identity for uri in spellings} == {f"s3://{bucket}/photos"}


def test_a_lake_is_read_through_faults(s3_server, bucket, put):
    """One request in four fails, hangs or breaks off: the same photos come, each of them whole."""
    photos = {f"cat/{number:03d}.jpg": bytes([number]) * (3_000 + number) for number in range(120)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(f"photos/{key}", photos[key]), photos))
        with spoiling(s3_server.endpoint_url, one_in=4, delay_s=0.05) as proxy:
            lake = open_lake(f"s3://{bucket}/photos", lambda: s3_server.access(endpoint_url=proxy.endpoint_url))
            for _ in range(40):
                assert [item.key for item in lake.list_objects()] == list(photos)
            assert dict(zip(photos, pool.map(lake.read, photos), strict=True)) == photos
    assert {fault.kind for fault in proxy.spoilt if "list-type" in fault.path} == {"fail", "delay", "truncate"}
    assert {fault.kind for fault in proxy.spoilt if ".jpg" in fault.path} == {"fail", "delay", "truncate"}


def test_an_archived_photo_is_set_aside(aws_server):
    """It comes back by itself once it is restored."""
    name = new_bucket(aws_server)
    aws_server.client().put_object(Bucket=name, Key="1.jpg", Body=b"x", StorageClass="GLACIER")
    with pytest.raises(UnreadablePhoto, match="it is archived: restore it"):
        open_lake(f"s3://{name}", aws_server.access).read("1.jpg")
