"""Claims about requests: done in spite of faults, or one clear line; nothing secret in it, nor in what caused it."""

import contextlib
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from petpark_assets.domain.errors import InvalidInput, NotFound, TransientError
from petpark_assets.domain.s3 import answers
from petpark_assets.domain.s3.access import S3Access, parse_place
from petpark_assets.domain.s3.bucket import SMALL_BYTES, Bucket, UnreadableObject, read_address
from petpark_assets_tests.faults import spoiling
from petpark_assets_tests.servers import expired_access, new_bucket

REQUESTS = {
    "check": lambda bucket: bucket.check(),
    "list": lambda bucket: list(bucket.list_objects()),
    "read": lambda bucket: bucket.read("cat/1.jpg"),
    "read the head": lambda bucket: bucket.read("cat/1.jpg", 16),
    "describe": lambda bucket: bucket.describe("cat/1.jpg"),
    "create": lambda bucket: bucket.create("cat/new.jpg", b"new"),
    "delete": lambda bucket: bucket.delete("cat/1.jpg"),
}
WRONG_SECRET, WRONG_KEY = "wrong/secret+key", "WRONGACCESSKEY"
WRONG = {
    "wrong secret": ({"secret_access_key": WRONG_SECRET}, "SignatureDoesNotMatch, the secret key is not .*: check AWS"),
    "wrong key": ({"access_key_id": WRONG_KEY}, "InvalidAccessKeyId, it does not know the access key: check AWS"),
}  # fmt: skip


def open_bucket(name, access, prefix="photos"):
    """A part of a bucket, as a lake has it."""
    return Bucket(place=parse_place(f"s3://{name}/{prefix}", "lake"), access=access)


def refused(request, bucket, kind, words):
    """The line that a request ends in; checked to be one line, and all that was raised to hold no secret."""
    with pytest.raises(kind, match=words) as caught:
        REQUESTS[request](bucket)
    assert "\n" not in str(caught.value)
    raised = "".join(traceback.format_exception(caught.value))
    secrets = (bucket.access.secret_access_key, bucket.access.session_token, bucket.access.access_key_id)
    assert not any(secret in raised for secret in secrets if secret)
    return str(caught.value)


@pytest.mark.debian
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("what", WRONG)
def test_wrong_keys_end_in_one_clear_line(s3_server, bucket, request_name, what):
    """The real server checks signatures; HEAD's answer has no body, so the reason is asked for."""
    changes, words = WRONG[what]
    line = refused(request_name, open_bucket(bucket, s3_server.access(**changes)), InvalidInput, words)
    assert line.startswith(
        f"the lake s3://{bucket}/photos cannot be used: its server {s3_server.endpoint_url} says 403"
    )


@pytest.mark.debian
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_missing_bucket_ends_in_one_clear_line(s3_server, request_name):
    """To HEAD, a missing bucket and a missing key are the same 404: the store would look empty."""
    words = (
        "404 NoSuchBucket, there is no bucket no-such-bucket: check the name and AWS_ENDPOINT_URL, or make the bucket"
    )
    refused(request_name, open_bucket("no-such-bucket", s3_server.access()), InvalidInput, words)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_expired_token_ends_in_one_clear_line_without_the_token(aws_server, request_name):
    """AWS's answer repeats the token, and an error's causes are kept in Dagster's event log.

    It passes: a machine's role has new keys, so a step that is tried again goes on, and no trial has failed by it.
    """
    bucket = open_bucket(new_bucket(aws_server), expired_access(aws_server))
    refused(
        request_name,
        bucket,
        TransientError,
        r"ExpiredToken, the credentials have expired: log in again \(aws sso login\)",
    )


def test_a_token_that_has_not_expired_is_taken(aws_server):
    """The expired one is refused for its age alone."""
    access = aws_server.access(session_token="still-good")
    bucket = open_bucket(new_bucket(aws_server), access)
    assert bucket.create("1.jpg", b"one")
    assert [item.key for item in bucket.list_objects()] == ["1.jpg"]


def test_an_archived_object_is_that_objects_trouble(aws_server):
    """A photo moved to Glacier is set aside; the other 99,999 are ingested."""
    name = new_bucket(aws_server)
    aws_server.client().put_object(Bucket=name, Key="photos/old.jpg", Body=b"x", StorageClass="GLACIER")
    with pytest.raises(UnreadableObject, match="it is archived: restore it"):
        open_bucket(name, aws_server.access()).read("old.jpg")


@pytest.mark.debian
@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_ends_in_one_clear_line(ceph, s3_server, bucket):
    """Killed while eight workers read and one lists: all end in bounded time, saying whom they cannot reach."""
    open_bucket(bucket, s3_server.access()).create("1.jpg", b"one")
    with ceph.serving() as server, ThreadPoolExecutor(9) as pool:
        remote = open_bucket(bucket, server.access())

        def work(request):
            while True:
                request()

        requests = [lambda: remote.read("1.jpg")] * 8 + [lambda: list(remote.list_objects())]
        working = [pool.submit(work, request) for request in requests]
        time.sleep(0.5)
        assert not any(future.done() for future in working)
        server.kill()
        killed = time.monotonic()
        for future in working:
            with pytest.raises(
                TransientError, match=rf"the lake s3://{bucket}/photos cannot be reached: .*{server.port}"
            ):
                future.result(timeout=30)
        assert time.monotonic() - killed < answers.PATIENCE_S + answers.STALL_S


@pytest.mark.parametrize("request_name", ["list", "read", "create"])
def test_a_server_that_never_answers_is_given_up(monkeypatch, request_name):
    """A machine that hangs takes connections and says nothing."""
    monkeypatch.setattr(answers, "STALL_S", 0.5)
    monkeypatch.setattr(answers, "PATIENCE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        port = server.getsockname()[1]
        access = S3Access(
            endpoint_url=f"http://127.0.0.1:{port}", access_key_id=WRONG_KEY, secret_access_key=WRONG_SECRET
        )
        started = time.monotonic()
        words = f"cannot be reached: no answer in time .*127.0.0.1:{port}.*: check AWS_ENDPOINT_URL and the network"
        refused(request_name, open_bucket("park", access), TransientError, words)
    assert time.monotonic() - started < 5


CANNED = {
    "another region": (301, "PermanentRedirect", InvalidInput, "another region than us-east-1: set AWS_REGION"),
    "signed for another": (400, "AuthorizationHeaderMalformed", InvalidInput, "another region than us-east-1"),
    "a wrong clock": (403, "RequestTimeTooSkewed", InvalidInput, "this machine's clock is wrong: set it"),
    "no right": (
        403,
        "AccessDenied",
        InvalidInput,
        r"may not do this: let its owner grant them s3:\w+ on the bucket park",
    ),
    "another word": (418, "Teapot", InvalidInput, "says 418 Teapot, it refuses the request: check the address"),
    "a busy server": (
        503,
        "SlowDown",
        TransientError,
        r"keeps failing \(503 SlowDown\): run the same command again later",
    ),
    "a broken server": (500, "InternalError", TransientError, r"keeps failing \(500 InternalError\)"),
}


@pytest.mark.parametrize("request_name", ["list", "read", "create"])
@pytest.mark.parametrize("what", CANNED)
def test_what_aws_may_also_say_is_said_in_plain_words(monkeypatch, what, request_name):
    """These cannot be had from a server on loopback."""
    status, code, kind, words = CANNED[what]
    monkeypatch.setattr(answers, "PATIENCE_S", 0.5)
    with answering(status, f"<Error><Code>{code}</Code><Message>{WRONG_SECRET}</Message></Error>") as endpoint:
        access = S3Access(endpoint_url=endpoint, access_key_id=WRONG_KEY, secret_access_key=WRONG_SECRET)
        refused(request_name, open_bucket("park", access), kind, words)


def test_a_web_page_is_not_taken_for_an_empty_bucket():
    """A wrong port may belong to any web server; a lake that looks empty would be a version without photos."""
    with answering(200, "<html><body>It works!</body></html>") as endpoint:
        access = S3Access(endpoint_url=endpoint, access_key_id=WRONG_KEY, secret_access_key=WRONG_SECRET)
        refused("list", open_bucket("park", access), InvalidInput, "which is no answer of S3: check AWS_ENDPOINT_URL")


@pytest.mark.debian
def test_one_request_in_five_may_fail_hang_or_break_off(s3_server, bucket):
    """Nothing is lost, doubled or cut short: four times the faults that we promise to bear."""
    photos = {f"{number:03d}.jpg": bytes([number]) * (5_000 + number) for number in range(100)}
    with spoiling(s3_server.endpoint_url, one_in=5, delay_s=0.1) as proxy, ThreadPoolExecutor(8) as pool:
        remote = open_bucket(bucket, s3_server.access(endpoint_url=proxy.endpoint_url))
        assert all(pool.map(lambda item: remote.create(*item), photos.items()))
        assert not any(pool.map(lambda key: remote.create(key, b"other"), photos))
        assert dict(zip(photos, pool.map(remote.read, photos), strict=True)) == photos
        assert [item.key for item in remote.list_objects()] == list(photos)
    assert {(fault.kind, fault.method) for fault in proxy.spoilt} >= {
        ("fail", "PUT"), ("delay", "PUT"), ("truncate", "PUT"), ("fail", "GET"), ("delay", "GET"), ("truncate", "GET"),
    }  # fmt: skip


@pytest.mark.debian
def test_a_creation_whose_answer_was_lost_is_known_for_our_own(s3_server, bucket):
    """Asked again, the server says that the key is taken: by us. Whoever finds it taken by others is told so."""
    with spoiling(s3_server.endpoint_url, one_in=3, kinds=["truncate"]) as proxy:
        remote = open_bucket(bucket, s3_server.access(endpoint_url=proxy.endpoint_url))
        assert [remote.create(f"{number}", b"same") for number in range(20)] == [True] * 20
        assert [remote.create(f"{number}", b"same") for number in range(20)] == [False] * 20
        assert sum(fault.method == "PUT" for fault in proxy.spoilt) > 10


@pytest.mark.debian
def test_of_many_writers_one_wins(s3_server, bucket):
    """Creation by name is how a version's number is taken, also through a bucket."""
    remote = open_bucket(bucket, s3_server.access())
    for number in range(5):
        barrier = threading.Barrier(8)

        def write(writer, key=f"v{number}", barrier=barrier):
            barrier.wait()
            return remote.create(key, str(writer).encode())

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert sum(won) == 1
        assert remote.read(f"v{number}") == str(won.index(True)).encode()


@pytest.mark.debian
def test_what_is_large_is_one_request_too(s3_server, bucket):
    """In parts, Ceph would forget the condition and overwrite."""
    remote, data = open_bucket(bucket, s3_server.access()), bytes(SMALL_BYTES + 1)
    assert remote.create("weights", data)
    assert not remote.create("weights", b"other" + data)
    assert remote.read("weights") == data


@pytest.mark.debian
def test_reading_gives_the_bytes_or_the_first_of_them(s3_server, bucket):
    """An empty object has no first byte, and S3 calls that an error."""
    remote = open_bucket(bucket, s3_server.access())
    remote.create("a b+ü~%20.jpg", b"0123456789")
    remote.create("empty", b"")
    assert [remote.read("a b+ü~%20.jpg", length) for length in (None, 4, 100)] == [
        b"0123456789",
        b"0123",
        b"0123456789",
    ]
    assert [remote.read("empty", length) for length in (None, 4)] == [b"", b""]
    with pytest.raises(NotFound, match=f"nothing is not in the lake s3://{bucket}/photos"):
        remote.read("nothing")
    assert read_address(f"s3://{bucket}/photos/a b+ü~%20.jpg", s3_server.access()) == b"0123456789"


@pytest.mark.debian
def test_variables_of_a_worker_lead_nobody_astray(s3_server, bucket, monkeypatch):
    """Keys travel with the work; another machine's settings must not be mixed with them."""
    strays = {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "stray", "AWS_ACCESS_KEY_ID": "stray", "AWS_SECRET_ACCESS_KEY": "stray",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_REGION": "eu-north-1",
    }  # fmt: skip
    for name, value in strays.items():
        monkeypatch.setenv(name, value)
    remote = open_bucket(bucket, s3_server.access())
    assert remote.create("1.jpg", b"one")
    assert remote.read("1.jpg") == b"one"
    assert [item.key for item in remote.list_objects()] == ["1.jpg"]


@contextlib.contextmanager
def answering(status, body):
    """A server that has one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = answer  # noqa: N815 - the base class named them

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
