"""Claims about the messages of a bucket: read in every form that S3 sends, and nothing else taken for one."""

import json

import pytest

from petpark_assets.domain.s3.events import read_events

S3_EVENT = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "eu-central-1",
            "eventTime": "2026-11-22T10:15:30.123Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "192.0.2.7"},
            "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZ"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "photos",
                "bucket": {
                    "name": "park",
                    "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                    "arn": "arn:aws:s3:::park",
                },
                "object": {
                    "key": "lake/cat/b%C3%A4r+1%2B1.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}
REMOVED = {  # has neither size nor ETag
    **S3_EVENT["Records"][0],
    "eventName": "ObjectRemoved:Delete",
    "s3": {**S3_EVENT["Records"][0]["s3"], "object": {"key": "lake/dog/2.jpg", "sequencer": "0055AED6DCD90281E6"}},
}
TEST_EVENT = {
    "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-22T10:15:30.123Z", "Bucket": "park",
    "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}  # fmt: skip
BRIDGED = {
    "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Created", "source": "aws.s3",
    "account": "111122223333", "time": "2026-11-22T10:15:30Z", "region": "eu-central-1",
    "resources": ["arn:aws:s3:::park"],
    "detail": {
        "version": "0", "bucket": {"name": "park"}, "object": {"key": "lake/cat/bär 1+1.jpg", "size": 5, "etag": "b1"},
        "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "reason": "PutObject",
    },
}  # fmt: skip


def by_sns(event):
    """The envelope of SNS."""
    told = {"Type": "Notification", "MessageId": "22b8", "TopicArn": "arn:aws:sns:eu-central-1:1:park"}
    return {**told, "Subject": "Amazon S3 Notification", "Message": json.dumps(event), "SignatureVersion": "1"}


@pytest.mark.parametrize("event", [S3_EVENT, by_sns(S3_EVENT), BRIDGED, by_sns(BRIDGED)])
def test_each_way_to_the_queue_names_the_same_object(event):
    """S3 encodes keys as forms do, `+` for a blank; EventBridge does not. A wrong key is a photo that never comes."""
    assert read_events(json.dumps(event)) == [("park", "lake/cat/bär 1+1.jpg")]


def test_a_message_may_name_several_objects():
    """S3 says that it may, though it sends one by one."""
    named = read_events(json.dumps({"Records": [*S3_EVENT["Records"], REMOVED]}))
    assert [one.key for one in named] == ["lake/cat/bär 1+1.jpg", "lake/dog/2.jpg"]


@pytest.mark.parametrize("event", [TEST_EVENT, by_sns(TEST_EVENT)])
def test_the_message_with_which_s3_tries_a_queue_names_nothing(event):
    """It comes once, when notifications are set up, and is no fault."""
    assert read_events(json.dumps(event)) == []


@pytest.mark.parametrize(
    "body",
    [
        "", "hello", "[]", "3", "null", "{}", '{"Records": [{"sns": {}}]}', '{"Type": "Notification", "Message": 1}',
        '{"source": "aws.s3", "detail": {"bucket": {"name": "park"}, "object": {"key": "\\ud800"}}}', "[" * 100_000,
        '{"Records": [{"s3": {"bucket": {"name": "park"}, "object": {"key": 5}}}]}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_told_apart(body):
    """Somebody else's message must neither stop the sensor nor be deleted."""
    assert read_events(body) is None
