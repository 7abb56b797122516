"""All keys of a place, as S3 lists them: ListObjectsV2, signed by botocore and read here.

Not by obstore, which takes keys for paths: a single `a//b.jpg` or `..` among 100,000 makes its whole listing fail
(obstore 0.12.1, issue 429), and keys that end in a slash come back without it. Not by boto3's client either: it takes
2 s to load, and its retries would come on top of ours.
Not here: which keys are photos (lake/sources.py).
"""

import urllib.request
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from petpark_assets.domain.s3 import answers
from petpark_assets.domain.s3.access import Place, S3Access
from petpark_assets.domain.s3.answers import Answer, Refused, patiently

PAGE_KEYS = 1000
"""The most that S3 gives at once."""
_ROOT = "ListBucketResult"


class Listed(NamedTuple):
    """One object as a listing shows it."""

    key: str
    """Below the place's prefix."""
    size_bytes: int
    etag: str
    """Without its quotes. The server's, and never compared with a sha256."""
    last_modified: str
    """As the server spells it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer: a signature is good for one host only."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """None follows no redirection."""


def list_objects(place: Place, access: S3Access, folder: str = "", after: str = "") -> Iterator[Listed]:
    """Every object below the prefix, or in a folder there, after a key if any, in the order of the keys' UTF-8.

    Raises Refused.
    """
    prefix, token = place.folder + (f"{folder}/" if folder else ""), None
    while True:
        page = _page(place, access, prefix, token=token, after=place.folder + after if after else None)
        yield from _objects(page, len(place.folder))
        token = _text(page, "NextContinuationToken") if _text(page, "IsTruncated") == "true" else None
        if token is None:
            return


def ask_for_one(place: Place, access: S3Access) -> None:
    """The smallest request whose refusal says why: answers to HEAD have no body. Raises Refused."""
    _page(place, access, place.folder, num_keys=1)


def _page(
    place: Place,
    access: S3Access,
    prefix: str,
    *,
    token: str | None = None,
    after: str | None = None,
    num_keys: int = PAGE_KEYS,
) -> ET.Element:
    query = {
        "continuation-token": token,
        "encoding-type": "url",  # XML cannot hold every key
        "list-type": "2",
        "max-keys": str(num_keys),
        "prefix": prefix or None,
        "start-after": after if token is None else None,
    }
    return ask(place, access, {name: value for name, value in query.items() if value is not None}, _ROOT)


def ask(place: Place, access: S3Access, query: Mapping[str, str], *roots: str) -> ET.Element:
    """What a bucket answers to a query: an element of one of these names. Raises Refused."""
    url = f"{access.endpoint}/{place.bucket}?" + "&".join(
        f"{name}={_encoded(value)}" for name, value in sorted(query.items())
    )
    return patiently(lambda: _parsed(send("GET", url, access), roots))


def space(answer: ET.Element) -> str:
    """The namespace of an answer, which servers differ in: it stands before the names of its elements."""
    return answer.tag[: answer.tag.find("}") + 1]


def send(method: str, url: str, access: S3Access) -> bytes:
    """The body of an answer, through the proxy that the environment names, if any. For `patiently`."""
    request = urllib.request.Request(url, headers=_signed(method, url, access), method=method)  # noqa: S310 - http(s)
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=answers.STALL_S) as answer:
        body = answer.read()  # raises on fewer bytes than announced
    return bytes(body)


def _parsed(body: bytes, roots: tuple[str, ...]) -> ET.Element:
    try:
        page = ET.fromstring(body)  # noqa: S314 - expat bounds its expansions, and the server has our photos
    except ET.ParseError:
        page = ET.Element("unreadable")
    if not page.tag.endswith(roots):  # a web server's page, which would be taken for an empty bucket
        raise Refused(Answer(status=200, code="NotS3"))
    return page


def _objects(page: ET.Element, num_skipped: int) -> Iterator[Listed]:
    here = space(page)
    names = [f"{here}{name}" for name in ("Key", "Size", "ETag", "LastModified")]
    for item in page.iter(f"{here}Contents"):
        values = {child.tag: child.text or "" for child in item}
        key, size, etag, last_modified = (values.get(name, "") for name in names)
        yield Listed(unquote_plus(key)[num_skipped:], int(size), etag.strip('"'), last_modified)


def _text(page: ET.Element, name: str) -> str | None:
    return page.findtext(space(page) + name)


def _signed(method: str, url: str, access: S3Access) -> dict[str, str]:
    """Headers of a request without a body, signed by botocore."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

    request = AWSRequest(method=method, url=url)
    keys = ReadOnlyCredentials(access.access_key_id, access.secret_access_key, access.session_token)
    S3SigV4Auth(keys, "s3", access.region).add_auth(request)
    return dict(request.headers)


def _encoded(value: str) -> str:
    return quote(value, safe="-_.~")
