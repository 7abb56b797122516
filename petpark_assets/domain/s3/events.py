"""What a bucket says of itself in messages of a queue: S3's event notifications, as such, by way of SNS or EventBridge.

Of an event only the bucket and the key are taken: events come twice, late, in another order or never, so an object is
looked at for what it is now, and neither the event's name nor its sequencer is believed.
Not here: where messages come from (resources/lake_queue.py), what is made of a key (workflow/arrivals_by_queue.py).
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote_plus


class Message(NamedTuple):
    """What a queue gave."""

    body: str
    receipt: str
    """By which it is deleted."""


class Queue(Protocol):
    """Keeps a message until it is deleted, and gives it again where that does not happen."""

    @property
    def url(self) -> str:
        """Which queue, for messages and the digest of what is known."""

    def receive(self) -> list[Message]:
        """Some messages, or none where there are none; bounded in number and time. Raises PetparkError."""

    def delete(self, messages: Sequence[Message]) -> None:
        """They need not come again; one that does is no harm. Raises PetparkError."""


class Named(NamedTuple):
    """An object that something happened to."""

    bucket: str
    key: str


def read_events(body: str) -> list[Named] | None:
    """What a message names: nothing where S3 only tries whether it may send; None where it is no event of S3."""
    try:
        named = _read(json.loads(body))
        "".join(one.key for one in named).encode()  # JSON can spell what is no text
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return named


def _read(event: dict[str, Any]) -> list[Named]:
    if event.get("Type") == "Notification":  # SNS's envelope
        return _read(json.loads(event["Message"]))
    if event.get("Event") == "s3:TestEvent":
        return []
    if event.get("source") == "aws.s3":  # EventBridge's, which alone does not encode keys
        return [Named(str(event["detail"]["bucket"]["name"]), str(event["detail"]["object"]["key"]))]
    told = [record["s3"] for record in event["Records"]]
    return [Named(str(one["bucket"]["name"]), unquote_plus(one["object"]["key"])) for one in told]
