"""Claims about the queue of a lake's bucket: all that waits is read, and each refusal is one clear line."""

import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.resources import lake_queue
from petpark_assets.resources.environments import read_environment
from petpark_assets.resources.lake_queue import LakeQueue


@pytest.fixture
def queue(aws_server, monkeypatch):
    """An empty queue of moto's."""
    import boto3

    monkeypatch.setattr(lake_queue, "WAIT_S", 0)
    keys = {"aws_access_key_id": aws_server.access_key, "aws_secret_access_key": aws_server.secret_key}
    client = boto3.client("sqs", endpoint_url=aws_server.endpoint_url, region_name="us-east-1", **keys)
    url = client.create_queue(QueueName="test-lake-queue")["QueueUrl"]
    yield LakeQueue(url, aws_server.access), lambda body: client.send_message(QueueUrl=url, MessageBody=body)
    client.delete_queue(QueueUrl=url)


def test_all_that_waits_is_read_and_what_is_deleted_stays_away(queue, monkeypatch):
    """SQS gives ten at a time; what was not deleted comes again when its time has come."""
    opened, send = queue
    monkeypatch.setattr(lake_queue, "HIDDEN_S", 5)  # less, and a busy machine is given one twice
    for number in range(25):
        send(str(number))
    taken = opened.receive()
    assert sorted(int(message.body) for message in taken) == list(range(25))
    opened.delete(taken[:20])
    found = []
    while not found:
        found = opened.receive()
    assert {message.body for message in found} <= {message.body for message in taken[20:]}


def test_what_cannot_be_read_is_one_line_with_its_remedy(queue, aws_server):
    """The sensor shows it to a person; the server's own text may hold a token and is never shown."""
    with pytest.raises(InvalidInput, match=r"400 AWS\S+NonExistentQueue, there is no such queue: make it, or mend"):
        LakeQueue(f"{queue[0].url}-none", aws_server.access).receive()
    with pytest.raises(TransientError, match=r"http://127\.0\.0\.1:1/1/park cannot be reached"):
        LakeQueue("http://127.0.0.1:1/1/park", aws_server.access).receive()


@pytest.mark.parametrize(
    ("code", "status", "kind", "words"),
    [
        ("AccessDenied", 403, InvalidInput, "grant them sqs:ReceiveMessage and sqs:DeleteMessage"),
        ("ExpiredToken", 403, TransientError, "log in again"),
        ("SomethingNew", 400, InvalidInput, "check PETPARK_LAKE_QUEUE and the keys"),
        ("RequestThrottled", 403, TransientError, "keeps failing"),
        ("InternalError", 500, TransientError, "keeps failing"),
    ],
)
def test_what_may_pass_is_told_from_what_a_person_must_mend(code, status, kind, words):
    """Moto refuses nobody; these are the codes that AWS documents."""
    error = lake_queue._explain("https://sqs.eu-central-1.amazonaws.com/1/park", code, status)
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/park", "eu-central-1"),
        ("https://vpce-0f.sqs.us-east-2.vpce.amazonaws.com/1/park", "us-east-2"),
        ("http://127.0.0.1:9324/1/park", "us-east-1"),
    ],
)
def test_a_queue_is_asked_where_its_address_says(aws_server, url, region):
    """The lake may be on another server, and AWS_ENDPOINT_URL is that one's; a signature is of one region."""
    client = lake_queue._client(url, aws_server.access())
    assert client.meta.region_name == region
    assert client.meta.endpoint_url == url.removesuffix("/1/park")


@pytest.mark.parametrize("value", ["park", "arn:aws:sqs:eu-central-1:1:park", "https://key:secret@sqs/1/park"])
def test_an_address_that_is_none_is_refused_and_not_repeated(value):
    """Before anything starts."""
    with pytest.raises(InvalidInput, match="PETPARK_LAKE_QUEUE must be a queue's address") as caught:
        read_environment({"PETPARK_LAKE_QUEUE": value})
    assert "secret" not in str(caught.value)
    assert read_environment({"PETPARK_LAKE_QUEUE": ""}).lake_queue is None
