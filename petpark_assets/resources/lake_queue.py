"""The queue that a lake's bucket tells what happens in it: Amazon's SQS, or a server that speaks as it does.

Its server and region are those of its address, its keys those of S3. Servers' texts are never shown (s3/answers.py).
Not here: what messages say (domain/s3/events.py) and what is made of them (domain/workflow/arrivals_by_queue.py).
"""

import functools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from petpark_assets.domain.errors import InvalidInput, PetparkError, TransientError
from petpark_assets.domain.s3.access import S3Access
from petpark_assets.domain.s3.answers import EXPIRED_CODES
from petpark_assets.domain.s3.events import Message

AT_ONCE = 10
"""The most that SQS gives or deletes by one request."""
MAX_MESSAGES = 10_000
"""In one reading: some 20 MB."""
READ_FOR_S = 10.0
HIDDEN_S = 90
"""How long a message that we took is kept from others: longer than a tick, and then it comes again."""
WAIT_S = 1
"""SQS asks all of its servers only when it may wait (long polling)."""
NUM_THREADS = 8

_KEYS = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_MISSING = "there is no such queue", "make it, or mend PETPARK_LAKE_QUEUE"
_DENIED = "these keys may not do this", "grant them sqs:ReceiveMessage and sqs:DeleteMessage on it"
_UNKNOWN = "it does not know the access key", _KEYS
_EXPIRED = "the credentials have expired", "log in again (aws sso login) or give new keys"
_REFUSALS = {
    "AWS.SimpleQueueService.NonExistentQueue": _MISSING,
    "QueueDoesNotExist": _MISSING,
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "InvalidClientTokenId": _UNKNOWN,
    "UnrecognizedClientException": _UNKNOWN,
    "SignatureDoesNotMatch": ("the secret key is not the access key's", _KEYS),
    **dict.fromkeys(EXPIRED_CODES, _EXPIRED),
}
"""By SQS's code: what it says in plain words, and the remedy."""
_PASSING = {"RequestThrottled", "ThrottlingException", "Throttling", "ServiceUnavailable", "InternalError", "OverLimit"}
_REGION = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.")


@dataclass(frozen=True)
class LakeQueue:
    """A queue by its address, and whoever looks the keys up when it is asked."""

    url: str
    access: Callable[[], S3Access] = field(repr=False)

    def receive(self) -> list[Message]:
        """Some thousand messages at most, in some seconds. Raises InvalidInput, TransientError."""
        end = time.monotonic() + READ_FOR_S
        with self._refusals_explained(), ThreadPoolExecutor(NUM_THREADS) as threads:
            client = _client(self.url, self.access())
            found = more = self._receive_some(client)
            while more and len(found) < MAX_MESSAGES and time.monotonic() < end:
                batches = threads.map(lambda _: self._receive_some(client), range(NUM_THREADS))
                more = [message for batch in batches for message in batch]
                found = found + more
        return found

    def delete(self, messages: Sequence[Message]) -> None:
        """What SQS does not delete, it gives again. Raises InvalidInput, TransientError."""
        starts = range(0, len(messages), AT_ONCE)
        with self._refusals_explained(), ThreadPoolExecutor(NUM_THREADS) as threads:
            client = _client(self.url, self.access())
            list(threads.map(lambda start: self._delete_some(client, messages[start : start + AT_ONCE]), starts))

    def _receive_some(self, client: Any) -> list[Message]:
        answer = client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=AT_ONCE, WaitTimeSeconds=WAIT_S, VisibilityTimeout=HIDDEN_S
        )
        return [Message(item["Body"], item["ReceiptHandle"]) for item in answer.get("Messages", ())]

    def _delete_some(self, client: Any, messages: Sequence[Message]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": item.receipt} for number, item in enumerate(messages)]
        client.delete_message_batch(QueueUrl=self.url, Entries=entries)

    @contextmanager
    def _refusals_explained(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        except BotoCoreError as error:
            code, status = type(error).__name__, None
        else:
            return
        raise _explain(self.url, str(code), status)


def _explain(url: str, code: str, status: int | None) -> PetparkError:
    if status is None:
        return TransientError(f"the queue {url} cannot be reached ({code}): check PETPARK_LAKE_QUEUE and the network")
    if status >= 500 or code in _PASSING:
        return TransientError(f"the queue {url} cannot be read now: its server keeps failing ({status} {code})")
    meaning, remedy = _REFUSALS.get(code, ("it refuses the request", "check PETPARK_LAKE_QUEUE and the keys"))
    kind = TransientError if code in EXPIRED_CODES else InvalidInput
    return kind(f"the queue {url} cannot be read: its server says {status} {code}, {meaning}: {remedy}")


@functools.lru_cache(maxsize=4)
def _client(url: str, access: S3Access) -> Any:
    """A client of this process, told all that it would otherwise take from the environment."""
    import boto3
    from botocore.config import Config

    parts = urlsplit(url)
    region = _REGION.search(parts.netloc)
    return boto3.session.Session().client(
        "sqs",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",  # AWS_ENDPOINT_URL is that of S3
        region_name=region[1] if region else access.region,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        aws_session_token=access.session_token,
        config=Config(
            connect_timeout=3,
            read_timeout=5,
            max_pool_connections=NUM_THREADS,
            retries={"mode": "standard", "total_max_attempts": 2},
        ),
    )
