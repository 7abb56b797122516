"""Old versions of objects, which a bucket may keep of what is deleted from it: listed, and deleted for good.

Not here: what has to go (bucket.py).
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from petpark_assets.domain.s3.access import Place, S3Access
from petpark_assets.domain.s3.answers import Refused, patiently
from petpark_assets.domain.s3.listing import ask, send, space

_STATUS_ROOTS = ("VersioningConfiguration", "GetBucketVersioningResponse")
"""AWS's name of the answer, and moto's."""
_LOCK_ROOT = "ObjectLockConfiguration"
_WITHOUT_LOCKS = {"ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed"}
_MARKERS = {"key-marker": "Key", "version-id-marker": "VersionId"}


class Version(NamedTuple):
    """One version of an object, or the mark of its deletion."""

    key: str
    """Whole, with the place's prefix."""
    id: str
    """`null` where it was written while versioning was off or suspended."""
    is_current: bool
    """Whether it is what a reader gets."""


def has_versions(place: Place, access: S3Access) -> bool:
    """Whether the bucket keeps old versions, or did so once. Raises Refused."""
    try:
        answer = ask(place, access, {"versioning": ""}, *_STATUS_ROOTS)
    except Refused as refused:
        if refused.answer.code == "NotImplemented":  # such a server has no versions
            return False
        raise
    return answer.findtext(f"{space(answer)}Status") is not None


def what_protects(place: Place, access: S3Access) -> str | None:
    """What keeps a bucket's versions from being deleted by whoever may delete them; None for nothing. Raises Refused.

    A bucket with Object Lock is taken to use it: its objects are not asked one by one.
    """
    answer = ask(place, access, {"versioning": ""}, *_STATUS_ROOTS)
    if answer.findtext(f"{space(answer)}MfaDelete") == "Enabled":
        return "MFA Delete"
    try:
        ask(place, access, {"object-lock": ""}, _LOCK_ROOT)
    except Refused as refused:
        if refused.answer.code in _WITHOUT_LOCKS:
            return None
        raise
    return "Object Lock"


def list_versions(place: Place, access: S3Access, prefix: str) -> Iterator[Version]:
    """All versions, and marks of deletions, of the keys that start with a prefix below the place. Raises Refused."""
    query = {"prefix": place.folder + prefix, "versions": "", "encoding-type": "url"}
    while True:
        page = ask(place, access, query, "ListVersionsResult")
        here = space(page)
        for item in page:
            if item.tag in {f"{here}Version", f"{here}DeleteMarker"}:
                told = {child.tag.removeprefix(here): child.text or "" for child in item}
                is_mark = item.tag == f"{here}DeleteMarker"
                is_current = told["IsLatest"] == "true" and not is_mark
                yield Version(unquote_plus(told["Key"]), told["VersionId"], is_current)
        if page.findtext(f"{here}IsTruncated") != "true":
            return
        markers = {name: page.findtext(f"{here}Next{part}Marker") or "" for name, part in _MARKERS.items()}
        query |= {"key-marker": unquote_plus(markers["key-marker"]), "version-id-marker": markers["version-id-marker"]}


def delete_version(place: Place, access: S3Access, version: Version) -> None:
    """Delete one version for good; one that is not there is fine. Raises Refused."""
    key, number = quote(version.key, safe="/-_.~"), quote(version.id, safe="-_.~")
    url = f"{access.endpoint}/{place.bucket}/{key}?versionId={number}"
    patiently(lambda: send("DELETE", url, access))
