"""A look at the lake: what has come, changed or gone since the newest version, and whether that version is built.

Stateless: the same lake and the same manifests give the same answer, whatever was seen or asked for before. The one
file that is kept, the sums of what is known, can be deleted at any time.
Not here: how differences are found (lake/arrivals.py), when they are enough and who makes the version (sensors/).
"""

from collections import Counter
from dataclasses import dataclass

from petpark_assets.domain import files
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import arrivals, catalogue, fingerprints
from petpark_assets.domain.lake.labels import LabelBook
from petpark_assets.domain.lake.sources import Lake
from petpark_assets.domain.records import EvaluationReport, RawImages, RegisteredModel
from petpark_assets.domain.workflow import ingestion

FILE_NAME = "lake_sums"
"""In the cache: a digest of what the sums are of, then the sums."""

MAX_READS = 200
"""In one look. More that no fingerprint proves counts as changed, and the ingestion that follows reads it."""

_DIGEST_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at the lake showed."""

    dataset_version: str | None
    """The newest; None before the first."""
    manifest: str
    """Its digest; empty before the first."""
    snapshot: str
    """sha256 of the lake as it was listed: equal where no key and no fingerprint changed."""
    num_new: int
    """Labelled photos of the lake that the version does not have; below, those that it has otherwise, and no more."""
    num_changed: int
    num_removed: int
    is_more: bool = False
    """There may be more of them than could be kept."""
    note: str = ""
    """How the lake was looked at, where a person should know."""

    @property
    def num_photos(self) -> int:
        """Labelled photos that are new, changed or removed."""
        return self.num_new + self.num_changed + self.num_removed


def look(home: Home, lake_uri: str) -> Look:
    """Compare the lake with the newest version; its labels are by the sources of that version.

    Of an unchanged lake nothing is read, and memory does not depend on its size. Otherwise it holds what shares a
    bucket with a difference. Raises InvalidInput, Conflict, TransientError as an ingestion does.
    """
    lake, book = ingestion.look_at(home, lake_uri)
    version = catalogue.newest_version(home.store)
    manifest = "" if version is None else manifest_digest(home, version)
    known, listed = _known_sums(home, lake, book, version, manifest), arrivals.lake_sums(lake)
    buckets = arrivals.differing(known, listed)
    found = _count(home, lake, book, version, buckets) if buckets else Counter[str]()
    return Look(
        dataset_version=version,
        manifest=manifest,
        snapshot=files.sha256(listed),
        num_new=found["new"],
        num_changed=found["changed"],
        num_removed=found["removed"],
    )


def is_recorded(home: Home, version: str) -> bool:
    """Whether the ingestion that made a version came to its end, with its record and its line in the ledger."""
    return files.has_record(home.store, RawImages, version)


def manifest_digest(home: Home, version: str) -> str:
    """The digest of a version, from its record where it has one: a manifest may be large."""
    if is_recorded(home, version):
        return files.read_record(home.store, RawImages, version).manifest
    return catalogue.manifest_sha256(home.store, version)


def is_built(home: Home, version: str) -> bool:
    """Whether an attempt at this version has come to its end: a registered model, or one that was rejected."""
    if files.list_attempts(home.store, RegisteredModel, version):
        return True
    examined = files.list_attempts(home.store, EvaluationReport, version)
    return any(
        not files.read_record(home.store, EvaluationReport, version, attempt).is_accepted for attempt in examined
    )


def _known_sums(home: Home, lake: Lake, book: LabelBook, version: str | None, manifest: str) -> bytes:
    """Worked out anew only when something else is known."""
    what = [lake.identity, manifest, fingerprints.stamp(home.cache), book.digest, arrivals.NUM_BUCKETS]
    digest, path = files.digest(what).encode(), home.cache / FILE_NAME
    kept = path.read_bytes() if path.is_file() else b""
    if kept[:_DIGEST_BYTES] != digest:
        sums = arrivals.known_sums(arrivals.stream_known(home.store, version, home.cache, lake, book))
        kept = digest + sums
        files.replace(path, kept)
    return kept[_DIGEST_BYTES:]


def _count(home: Home, lake: Lake, book: LabelBook, version: str | None, buckets: frozenset[int]) -> Counter[str]:
    objects = {item.key: item for item in lake.iter_objects() if arrivals.bucket(item.key) in buckets}
    known = {
        item.key: item
        for item in arrivals.stream_known(home.store, version, home.cache, lake, book)
        if arrivals.bucket(item.key) in buckets
    }
    differences = arrivals.find_differences(lake, objects, known, book, iter(range(MAX_READS)))
    return Counter(found.kind for found in differences if found.is_labelled)
