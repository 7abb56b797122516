"""What a server of S3 answers when it does not do what it was asked, in one line; and asking again where that helps.

Servers' own texts are never shown or chained: AWS repeats an expired session token in its refusal, and whatever is
raised may be kept, with all its causes, in Dagster's event log. Only the status and the code are taken from them.
Not here: the requests (bucket.py, listing.py).
"""

import random
import re
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import TypeVar

from petpark_assets.domain.errors import InvalidInput, PetparkError, TransientError
from petpark_assets.domain.s3.access import Place, S3Access

Result = TypeVar("Result")

MAX_TRIES = 9
PATIENCE_S = 12.0
"""How long a request is tried again. When one try in twenty fails, all of nine do once in 5e11."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0
STALL_S = 10.0
"""How long a server may say nothing. A server that hangs is given up after PATIENCE_S + STALL_S at the latest."""

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_PASSING_CODES = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
}  # fmt: skip

_KEYS = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = (
    "the credentials have expired",
    "log in again (aws sso login) or give new keys, then run the same command again",
)
EXPIRED_CODES = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
"""A machine's role has new keys by then: who opens the home again has them, and goes on."""
_REGION = "the bucket is in another region than {region}", "set AWS_REGION, or AWS_ENDPOINT_URL, to the bucket's"
_REFUSALS = {
    "InvalidAccessKeyId": ("it does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key is not the access key's", _KEYS),
    **dict.fromkeys(EXPIRED_CODES, _EXPIRED),
    "InvalidToken": ("it does not accept the session token", "check AWS_SESSION_TOKEN, or log in again"),
    "AccessDenied": ("these keys may not do this", "let its owner grant them {permission} on the bucket {bucket}"),
    "AllAccessDisabled": ("access to the bucket is switched off", "ask its owner"),
    "AccountProblem": ("there is a problem with the account", "ask its owner"),
    "NoSuchBucket": ("there is no bucket {bucket}", "check the name and AWS_ENDPOINT_URL, or make the bucket first"),
    "InvalidBucketName": ("{bucket} cannot be a bucket's name", "check the address"),
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it, then run the same command again"),
    "NotS3": ("which is no answer of S3", "check AWS_ENDPOINT_URL"),
    "NotImplemented": ("it does not know this request", "use a server that honours If-None-Match on PutObject"),
    "KeyTooLongError": ("a key is longer than it takes", "use a shorter prefix"),
    "QuotaExceeded": ("its quota is used up", "free some space, then run the same command again"),
}
"""By the server's code: what it says in plain words, and the remedy."""

_UNREACHABLE = {
    "connection refused": ("Connection refused", "ConnectionRefusedError"),
    "unknown host name": ("dns error", "gaierror", "failed to lookup"),
    "no answer in time": ("TimedOut", "timed out", "TimeoutError"),
    "no TLS that both sides trust": ("certificate", "Certificate", "SSLError", "InvalidContentType"),
    "the connection broke off": (),
}
"""By words of ours: words of obstore's, Lance's and Python's own errors; the last stands for all others."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came instead of what was asked for."""

    status: int | None
    """Of HTTP; None when no answer came, or not all of it."""
    code: str = ""
    """S3's word for it; empty where the answer had no body, as to HEAD."""
    trouble: str = ""
    """Without an answer: why not."""

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        return self.status is None or self.status >= 500 or self.status in {408, 429} or self.code in _PASSING_CODES


class Refused(Exception):  # never leaves this room
    """A request that will not be tried again."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.code}")
        self.answer = answer


def request_errors() -> tuple[type[Exception], ...]:
    """What a request to S3 may raise, by obstore (which has some of Python's own) or by urllib."""
    from obstore.exceptions import BaseError

    return BaseError, OSError, HTTPException


def understand(error: Exception) -> Answer:
    """What an error of obstore, of Lance or of urllib says: both of the first two give their answer as text only."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return Answer(status=error.code, code=_code(error.read(10_000).decode("utf-8", "replace")))
    text = f"{type(error).__name__} {error!r} {error}"
    if status := _STATUS.search(text):
        return Answer(status=int(status[1]), code=_code(text))
    if "without LOCATION" in text:
        return Answer(status=301, code="PermanentRedirect")
    trouble = (ours for ours, theirs in _UNREACHABLE.items() if not theirs or any(word in text for word in theirs))
    return Answer(status=None, trouble=next(trouble))


def _code(body: str) -> str:
    found = _CODE.search(body)
    return found[1] if found else ""


def patiently(request: Callable[[], Result]) -> Result:
    """What a request gives, asked again while its trouble may pass; pauses grow and are drawn by chance.

    Takes at most PATIENCE_S and one request more. Raises Refused, with nothing of the server's text in its causes.
    """
    started = time.monotonic()
    errors = request_errors()
    for number in range(1, MAX_TRIES + 1):
        try:
            return request()
        except errors as error:
            answer = understand(error)
        if not answer.is_passing or number == MAX_TRIES:
            break
        pause_s = min(FIRST_PAUSE_S * 2 ** (number - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        if time.monotonic() + pause_s > started + PATIENCE_S:
            break
        time.sleep(pause_s)
    raise Refused(answer)


def explain(answer: Answer, place: Place, access: S3Access, permission: str) -> PetparkError:
    """The error a person sees: which lake or store, what its server said, and the remedy.

    Args:
        answer: What came.
        place: What was asked for.
        access: Who asked whom.
        permission: S3's name of what the request needs, as `s3:GetObject`.
    """
    whose = f"the {place.role} {place.uri}"
    if answer.status is None:
        return TransientError(
            f"{whose} cannot be reached: {answer.trouble} ({access.endpoint}): check AWS_ENDPOINT_URL and the "
            "network, then run the same command again"
        )
    said = " ".join(str(word) for word in (answer.status, answer.code) if word)
    if answer.is_passing:
        return TransientError(
            f"{whose} cannot be used now: its server {access.endpoint} keeps failing ({said}): run the same command "
            "again later"
        )
    code = answer.code or {301: "PermanentRedirect", 307: "TemporaryRedirect", 403: "AccessDenied"}.get(answer.status)
    meaning, remedy = _REFUSALS.get(
        code or "", ("it refuses the request", "check the address, AWS_ENDPOINT_URL and the keys")
    )
    words = {"bucket": place.bucket, "region": access.region, "permission": permission}
    kind = TransientError if code in EXPIRED_CODES else InvalidInput
    return kind(
        f"{whose} cannot be used: its server {access.endpoint} says {said}, {meaning.format(**words)}: "
        f"{remedy.format(**words)}"
    )
