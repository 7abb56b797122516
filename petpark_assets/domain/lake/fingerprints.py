"""What a listing alone can tell: what was read of files that have not changed since.

A cache: it can be deleted at any time, and then every file of the lake is read again.
Not here: the reading (inspection.py).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from petpark_assets.domain import files
from petpark_assets.domain.lake.sources import Lake, LakeObject

FILE_NAME = "lake_fingerprints.json"
NO_IMAGE = "no image"
"""In place of a sha256: neither the name nor the first bytes are an image's."""


def recall(cache: Path, lake: Lake, objects: Iterable[LakeObject]) -> dict[str, str]:
    """By key, of the objects whose fingerprint proves that they are as they were, the sha256, or NO_IMAGE."""
    known = _load(cache / FILE_NAME, lake)
    return {
        item.key: known[item.key][1]
        for item in objects
        if item.is_settled and item.problem is None and known.get(item.key, ["", ""])[0] == item.fingerprint
    }


def remember(
    cache: Path,
    lake: Lake,
    objects: Iterable[LakeObject],
    sha256s: Mapping[str, str | None],
    ignored: Iterable[LakeObject] = (),
) -> None:
    """Keep by key the sha256 of all objects that were read, and which are no images, if they had settled before.

    Written only when it changes.
    """
    entries = {
        item.key: [item.fingerprint, sha256s[item.key]]
        for item in objects
        if item.is_settled and sha256s[item.key] is not None
    }
    entries |= {item.key: [item.fingerprint, NO_IMAGE] for item in ignored if item.is_settled}
    if entries != _load(cache / FILE_NAME, lake):
        files.replace(cache / FILE_NAME, files.canonical_json({"lake": lake.identity, "entries": entries}))


def _load(path: Path, lake: Lake) -> dict[str, list[str]]:
    """Entries by key: fingerprint and sha256. A file that is none of ours, or another lake's, is as good as none."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return {}
    is_ours = isinstance(document, dict) and document.get("lake") == lake.identity
    return dict(document["entries"]) if is_ours else {}
