"""Whether a bucket keeps what is deleted from it: the state of its versioning, and the versions in a folder.

Not here: what follows from it (bucket.py).
"""

from urllib.parse import unquote_plus

from petpark_assets.domain.s3.access import Place, S3Access
from petpark_assets.domain.s3.answers import Refused
from petpark_assets.domain.s3.listing import ask, space

NULL = "null"
"""The name of a version that nothing but itself replaces: written while versioning was off."""


_STATUS_ROOTS = ("VersioningConfiguration", "GetBucketVersioningResponse")
"""AWS's name of the answer, and moto's."""
_MARKERS = {"key-marker": "Key", "version-id-marker": "VersionId"}


def status(place: Place, access: S3Access) -> str | None:
    """`Enabled`, `Suspended`, or None where it never was. Raises Refused."""
    try:
        answer = ask(place, access, {"versioning": ""}, *_STATUS_ROOTS)
    except Refused as refused:
        if refused.answer.code == "NotImplemented":  # such a server has no versions
            return None
        raise
    return answer.findtext(f"{space(answer)}Status")


def has_kept(place: Place, access: S3Access, folder: str) -> bool:
    """Whether anything in a folder would outlive its deletion while versioning is suspended. Raises Refused."""
    query = {"prefix": f"{place.folder}{folder}/", "versions": "", "encoding-type": "url"}
    while True:
        page = ask(place, access, query, "ListVersionsResult")
        here = space(page)
        if any(found.findtext(f"{here}VersionId") != NULL for found in page.iter(f"{here}Version")):
            return True
        if page.findtext(f"{here}IsTruncated") != "true":
            return False
        markers = {name: page.findtext(f"{here}Next{part}Marker") or "" for name, part in _MARKERS.items()}
        query |= {"key-marker": unquote_plus(markers["key-marker"]), "version-id-marker": markers["version-id-marker"]}
