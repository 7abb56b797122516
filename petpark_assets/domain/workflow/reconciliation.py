"""The lake and the newest version, compared object by object: nothing missing, nothing counted twice, or its name.

Not here: whether versions are sound in themselves (verification.py), or when the next one is made (sensors/).
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import arrivals, catalogue
from petpark_assets.domain.workflow import ingestion

KINDS = MappingProxyType(
    {
        "missing": "photos of the lake that the version does not have",
        "changed": "photos whose bytes or label are no longer as in the version",
        "gone": "photos of the version that are no longer in the lake",
        "double": "photos that the version has, or accepts, twice",
    }
)
"""What may be found."""

_NAMES = {"new": "missing", "changed": "changed", "removed": "gone"}


def reconcile(home: Home, lake_uri: str | None = None) -> dict[str, Any]:
    """Compare the lake, by default that of the newest version, with the newest version.

    Objects that no fingerprint proves are read. Labels count as by the sources of the version.

    Returns:
        is_reconciled: whether nothing was found; dataset_version, lake, num_objects.
        One field for each of KINDS: how many were found; offending: a row for each, with kind and key.

    Raises:
        NotFound: Before the first version.
        InvalidInput: No version says where the lake is; or as an ingestion.
    """
    version = ingestion.newest_version(home)
    uri = lake_uri or ingestion.known_lake(home)
    if uri is None:
        raise InvalidInput("no version says where its lake is: give it (--lake, PETPARK_LAKE)")
    lake, book = ingestion.look_at(home, uri)
    objects = {item.key: item for item in lake.iter_objects()}
    known = {item.key: item for item in arrivals.stream_known(home.store, version, home.cache, lake, book)}
    differences = arrivals.find_differences(lake, objects, known, book, itertools.count())
    offending = [{"kind": _NAMES[found.kind], "key": found.key} for found in differences]
    rows = catalogue.stream_rows(home.store, version, ("key", "sha256", "state"))
    offending += [{"kind": "double", "key": key} for key in _doubles(rows)]
    counts = Counter(found["kind"] for found in offending)
    return {
        "is_reconciled": not offending,
        "dataset_version": version,
        "lake": lake.uri,
        "num_objects": len(objects),
        **{kind: counts[kind] for kind in KINDS},
        "offending": offending,
    }


def _doubles(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Keys of rows that repeat a key, or accept bytes that were accepted before."""
    keys: set[str] = set()
    accepted: set[str] = set()
    for key, sha256, state in rows:
        if key in keys or (state == catalogue.ACCEPTED and sha256 in accepted):
            yield key
        keys.add(key)
        if state == catalogue.ACCEPTED:
            accepted.add(sha256)
