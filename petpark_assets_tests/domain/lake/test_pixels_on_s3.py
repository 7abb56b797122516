"""Claims about pixels in a bucket: the same as in a folder, and a server that refuses is one clear line."""

import threading

import numpy as np
import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.s3.access import storage_options
from petpark_assets_tests.domain.lake.test_pixels import SIDE, photos

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
    assert "another+accounts" not in repr(caught.value) + repr(caught.value.__context__)


@pytest.mark.slow
def test_a_server_that_is_gone_is_one_clear_line(s3_server, bucket):
    """It may come back: a person is told to run the same again."""
    store = open_pixels(bucket, s3_server.access(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(TransientError, match=f"s3://{bucket}.* cannot be reached: .*run the same command again"):
        store.missing(photos(0)[0], SIDE)
