"""Claims about pixels in a bucket: the same as in a folder, and a server that refuses is one clear line."""

import threading
import traceback

import numpy as np
import pyarrow as pa
import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.s3.access import S3Access, access_of, storage_options
from petpark_assets_tests.domain.lake.test_pixels import SIDE, check_that_a_commit_survives_forgetting, photos

pytestmark = pytest.mark.debian


def open_pixels(bucket, access):
    """Pixels below an address with a prefix."""
    return PixelStore(f"s3://{bucket}/home/store/pixels.lance", storage_options(access))


def objects_with(server, bucket, data):
    """Keys of the objects in which these bytes lie."""
    client = server.client()
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return [key for key in keys if data in client.get_object(Bucket=bucket, Key=key)["Body"].read()]


def test_pixels_in_a_bucket_are_those_in_a_folder(s3_server, bucket, tmp_path):
    """A park that keeps its store in a bucket trains on the same photos."""
    store = open_pixels(bucket, s3_server.access())
    assert store.missing(["a" * 64], SIDE) == ["a" * 64]
    assert store.resolutions() == []
    store.append(*photos(0, 1, 2), SIDE)
    store.append(*photos(3, 4), SIDE)
    store.append(photos(0)[0], np.zeros((1, 8, 8, 3), np.uint8), 8)
    wanted, expected = photos(4, 0, 3)
    assert np.array_equal(store.read(wanted, SIDE), expected)
    assert np.array_equal(np.load(store.copy_to_npy(wanted, SIDE, tmp_path)), expected)
    assert store.missing(photos(9, 1)[0], SIDE) == photos(9)[0]
    assert store.resolutions() == [8, SIDE]


def test_writers_that_start_together_lose_nothing(s3_server, bucket):
    """Workers of a cluster find no table, and each makes it."""
    failures = []

    def write(number, start):
        try:
            start.wait()
            open_pixels(bucket, s3_server.access()).append(*photos(number), SIDE)
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)

    start = threading.Barrier(4)
    writers = [threading.Thread(target=write, args=(number, start)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert open_pixels(bucket, s3_server.access()).missing(photos(0, 1, 2, 3)[0], SIDE) == []


def test_of_a_forgotten_photo_no_byte_is_left_in_the_bucket(s3_server, bucket):
    """As in a folder: not in old versions of the table, nor in what a killed worker has sent."""
    store = open_pixels(bucket, s3_server.access())
    store.append(*photos(0, 1, 2), SIDE)
    store.write(*photos(1, 5), SIDE)
    gone, pixels = photos(1)
    assert len(objects_with(s3_server, bucket, pixels.tobytes())) == 2
    store.forget(gone)
    assert objects_with(s3_server, bucket, pixels.tobytes()) == []
    assert np.array_equal(store.read(photos(2, 0)[0], SIDE), photos(2, 0)[1])


@pytest.mark.parametrize("ask", ["missing", "append", "resolutions"])
def test_wrong_keys_are_one_clear_line(s3_server, bucket, ask):
    """Lance answers with a page of its own source's places and the server's text, which may repeat a key."""
    access = s3_server.access(secret_access_key="another+accounts/secret")
    store = open_pixels(bucket, access)
    asked = {
        "missing": lambda: store.missing(photos(0)[0], SIDE),
        "append": lambda: store.append(*photos(0), SIDE),
        "resolutions": store.resolutions,
    }
    with pytest.raises(InvalidInput, match="says 403 SignatureDoesNotMatch, the secret key is not") as caught:
        asked[ask]()
    assert "\n" not in str(caught.value)
    assert f"s3://{bucket}" in str(caught.value)
    assert "another+accounts" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("ask", ["missing", "append"])
def test_what_a_server_says_to_lance_is_never_passed_on(s3_server, bucket, ask):
    """Keys expire while an ingestion works: AWS's refusal repeats the session token, and causes are kept in logs."""
    store = open_pixels(bucket, s3_server.access())
    store.append(*photos(0), SIDE)
    table = store._table(SIDE)
    assert table.open() is not None
    table.options["aws_secret_access_key"] = "another+accounts/secret"
    names, drawn = photos(1)
    squares = pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), SIDE**2 * 3)
    with pytest.raises(InvalidInput, match="says 403 SignatureDoesNotMatch") as caught:
        {"missing": table.open, "append": lambda: table.write(names, squares)}[ask]()
    shown = "".join(traceback.format_exception(caught.value))
    assert "<Error>" not in shown
    assert "LanceError" not in shown


def test_a_missing_bucket_is_one_clear_line(s3_server):
    """Lance takes it for a table that nobody has made yet: everything would be drawn, and then lost."""
    store = open_pixels("no-such-bucket", s3_server.access())
    with pytest.raises(InvalidInput, match="says 404 NoSuchBucket, there is no bucket no-such-bucket"):
        store.missing(photos(0)[0], SIDE)


def test_keys_that_expire_keep_their_session_token():
    """Without it, the check that goes before Lance would be refused."""
    access = S3Access(access_key_id="ASIAEXAMPLE", secret_access_key="wJalr", session_token="FwoGZXIv")
    assert access_of(storage_options(access)).session_token == "FwoGZXIv"


@pytest.mark.parametrize("before_it_opens", [True, False])
def test_a_commit_survives_forgetting_in_another_home(s3_server, bucket, monkeypatch, before_it_opens):
    """A bucket is one store of many homes; nothing keeps their commands apart."""
    store = open_pixels(bucket, s3_server.access())
    store.append(*photos(0, 1, 2), SIDE)
    check_that_a_commit_survives_forgetting(monkeypatch, store, before_it_opens=before_it_opens)


def test_what_another_home_cleaned_up_is_not_committed(s3_server, bucket):
    """What is written and not yet committed looks like what a killed worker has left."""
    store = open_pixels(bucket, s3_server.access())
    store.append(*photos(0, 1), SIDE)
    fragments = store.write(*photos(8), SIDE)
    open_pixels(bucket, s3_server.access()).forget(photos(0)[0])
    with pytest.raises(TransientError, match="as they do when a photo is forgotten: run the same command again"):
        store.commit(fragments, SIDE)
    assert store.missing(photos(1, 8)[0], SIDE) == photos(8)[0]


def test_photos_of_an_object_that_is_lost_are_stored_again(s3_server, bucket):
    """As in a folder: they are missing, and no other is."""
    store = open_pixels(bucket, s3_server.access())
    store.append(*photos(0, 1), SIDE)
    store.append(*photos(2), SIDE)
    [lost] = objects_with(s3_server, bucket, photos(2)[1].tobytes())
    s3_server.client().delete_object(Bucket=bucket, Key=lost)
    assert store.missing(photos(1, 2)[0], SIDE) == photos(2)[0]
    store.append(*photos(2), SIDE)
    assert np.array_equal(store.read(photos(0, 2)[0], SIDE), photos(0, 2)[1])


@pytest.mark.slow
def test_a_server_that_is_gone_is_one_clear_line(s3_server, bucket):
    """It may come back: a person is told to run the same again."""
    store = open_pixels(bucket, s3_server.access(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(TransientError, match=f"s3://{bucket}.* cannot be reached: .*run the same command again"):
        store.missing(photos(0)[0], SIDE)
