"""Proof of the whole chain, from the files alone: the ledger, the records, and every file that they name by digest.

The ledger's chain shows a flipped byte, a dropped line and a reordered one. A tail that was cut off, or written anew,
shows where something outside the ledger remembers an event of it: each record carries the ledger's head of its time,
and each registered version the event of its registration. What lies after the newest of these is not covered, and
`num_events_not_covered` says how much that is; nor are circumstances, which are beside what is digested.
Not here: the lake's own proof over all versions and photos (workflow/verification.py).
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.compute as pc

from petpark_assets.domain import splits
from petpark_assets.domain.audit.trail import (
    OF_VERSION,
    RECORDED,
    Trail,
    aliases,
    file_keys,
    list_attempts,
    read_trail,
)
from petpark_assets.domain.errors import CorruptData, NotFound, PermanentError
from petpark_assets.domain.files import get_verified
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.ledger import START, Event
from petpark_assets.domain.registry.decisions import overrides
from petpark_assets.domain.registry.mlflow_store import RegisteredVersion
from petpark_assets.domain.registry.versions import CHAMPION

CLAIMS: Mapping[str, str] = MappingProxyType({
    "ledger_is_chained": "no line of the ledger was changed, dropped, added or moved",
    "ledger_reaches_its_witnesses": "each event that a record or a registered version remembers is in the ledger",
    "records_are_whole": "each record has the digest of its content, and each that an event names is there",
    "records_follow_each_other": "each record's parents are the records that are there",
    "files_are_whole": "each file that a record names is there, with its sha256",
    "splits_are_the_manifests": "the members of both sides are those of the manifest",
    "verdict_is_obeyed": "nothing was packaged or registered without a verdict of yes, or a person's word",
    "registry_is_whole": "each registered version is the package of its record, and all its files have their sums",
    "aliases_are_as_told": "each alias of the registry names the version that its last move in the ledger names",
})  # fmt: skip
"""What is proven, in this order."""

NAMED_BY_EVENTS = {
    "dataset_version_made": ("raw_images", "manifest"),
    "verdict": ("evaluation_report", "evaluation_report"),
    "gate_overridden": ("gate_override", "gate_override"),
    "package_made": ("onnx_package", "onnx_package"),
}
"""By event: the asset whose record it announces, and the field of its subject that says which."""


_OF_MEMBERS = ["sha256", "label", "split"]
"""The columns of a manifest that tell who is on a side."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    claim: str
    """One of CLAIMS."""
    where: str
    """The record, file, line or version."""
    detail: str


def verify(home: Home) -> dict[str, Any]:
    """Check every claim.

    Returns:
        is_sound: whether nothing was found; num_events, num_records, num_files, num_registered: what was looked at.
        ledger_head; newest_witness: what remembers the newest event of all, None without any;
        num_events_covered, num_events_not_covered: up to that event, and after it.
        One field for each of CLAIMS: how many findings; offending: a row for each of them.

    Raises NotFound when there is nothing to verify.
    """
    trails = [read_trail(home.store, *pair) for pair in list_attempts(home.store)]
    versions = catalogue.list_versions(home.store)
    if not trails and not versions and not home.ledger.is_begun():
        raise NotFound(f"the home {home.root} has nothing to verify: is it the right one (--home DIR)?")
    known = home.registry.list_versions()
    events, findings = _read_ledger(home)
    bare = [read_trail(home.store, version, "none") for version in versions]
    heads = {**_heads([*bare, *trails]), **_registered_heads(known)}
    covered, newest, lost = _compare_heads(events, heads)
    findings += lost if events is not None else []
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="proof") as pool:  # reading and hashing are C's work
        jobs = [*((trail, True) for trail in bare), *((trail, False) for trail in trails)]
        findings += chain.from_iterable(pool.map(lambda job: list(_whole(home, job[0], is_version=job[1])), jobs))
    findings += _announced(home, events or [])
    findings += [found for trail in trails for found in _obeyed(trail, events or [])]
    findings += [found for version in known for found in _registered(home, version, trails)]
    findings += _aliases(home, known, events) if events is not None else []
    counts = Counter(finding.claim for finding in findings)
    num_events = len(events or [])
    return {
        "is_sound": not findings,
        "num_events": num_events,
        "num_records": len({document.key for trail in (*bare, *trails) for document in trail.documents.values()}),
        "num_files": len({(*found,) for trail in (*bare, *trails) for found in trail.files()}),
        "num_registered": len(known),
        "ledger_head": events[-1].digest if events else START,
        "newest_witness": newest,
        "num_events_covered": covered,
        "num_events_not_covered": num_events - covered,
        **{claim: counts[claim] for claim in CLAIMS},
        "offending": [asdict(finding) for finding in findings],
    }


def _read_ledger(home: Home) -> tuple[list[Event] | None, list[Finding]]:
    """The events, or None and what is wrong: behind a broken link nothing can be told."""
    try:
        home.ledger.verify()
        return list(home.ledger.events()), []
    except CorruptData as error:
        return None, [Finding(claim="ledger_is_chained", where="ledger.jsonl", detail=str(error))]


def _heads(trails: Iterable[Trail]) -> dict[str, str]:
    """The ledger's head that each record carries, by the record's key."""
    return {
        document.key: str(document.circumstances["ledger_head"])
        for trail in trails
        for document in trail.documents.values()
        if "ledger_head" in document.circumstances
    }


def _registered_heads(known: Iterable[RegisteredVersion]) -> dict[str, str]:
    return {
        f"registered version {found.version}": found.tags["ledger_event"]
        for found in known
        if "ledger_event" in found.tags
    }


def _compare_heads(events: Sequence[Event] | None, heads: Mapping[str, str]) -> tuple[int, str | None, list[Finding]]:
    """The number of the newest event that is remembered, what remembers it, and what remembers one that is gone."""
    numbers = {START: 0} | {event.digest: event.number for event in events or []}
    found = {where: numbers[head] for where, head in heads.items() if head in numbers}
    lost = [
        Finding(
            claim="ledger_reaches_its_witnesses",
            where=where,
            detail=f"it remembers event {head[:12]}…, which the ledger does not have: it was cut off or rewritten",
        )
        for where, head in heads.items()
        if head not in numbers
    ]
    newest = max(found, key=found.__getitem__, default=None)
    return found[newest] if newest else 0, newest, lost


def _whole(home: Home, trail: Trail, *, is_version: bool) -> Iterator[Finding]:
    """A trail's own records and files: those of a version once, not again with each of its attempts."""
    for document in trail.documents.values():
        if (document.asset in OF_VERSION) == is_version:
            yield from _record(trail, document.asset)
    for asset, name, sha256 in trail.files():
        if (asset in OF_VERSION) == is_version:
            yield from _file(home, trail, asset, name, sha256)
    if is_version:
        yield from _members(home, trail)


def _record(trail: Trail, asset: str) -> Iterator[Finding]:
    document = trail.documents[asset]
    if not document.is_whole:
        detail = "its content does not have its digest: it was changed after it was written"
        yield Finding(claim="records_are_whole", where=document.key, detail=detail)
    for parent, recorded in document.parents.items():
        there = trail.documents.get(parent)
        if there is None or there.digest != recorded:
            found = f"the one that is there is {there.digest[:12]}…" if there else "there is none"
            detail = f"it was made from {parent} {recorded[:12]}…, and {found}"
            yield Finding(claim="records_follow_each_other", where=document.key, detail=detail)


def _file(home: Home, trail: Trail, asset: str, name: str, sha256: str) -> Iterator[Finding]:
    keys = file_keys(asset, trail.dataset_version, trail.attempt, name, sha256)
    key = next((key for key in keys if home.store.exists(key)), keys[0])
    try:
        get_verified(home.store, key, sha256)
    except (NotFound, CorruptData) as error:
        yield Finding(claim="files_are_whole", where=key, detail=str(error))


def _members(home: Home, trail: Trail) -> Iterator[Finding]:
    """Both sides again, from the manifest."""
    sides = [name for name in ("train_split", "test_split") if name in trail.documents]
    if not sides:
        return
    try:
        manifest = catalogue.read_manifest(home.store, trail.dataset_version, columns=_OF_MEMBERS)
    except PermanentError as error:
        yield Finding(claim="splits_are_the_manifests", where=trail.dataset_version, detail=str(error))
        return
    for name in sides:
        side: splits.Side = "train" if name == "train_split" else "test"
        members = manifest.filter(pc.equal(manifest["split"], side)).sort_by("sha256")
        if splits.members_digest(members) != trail.content(name)["members"]:
            where, detail = trail.documents[name].key, f"the manifest has other members of the {side} side"
            yield Finding(claim="splits_are_the_manifests", where=where, detail=detail)


def _announced(home: Home, events: Iterable[Event]) -> Iterator[Finding]:
    """What the ledger says was made must be there as it was made; the last event of an attempt counts.

    A crash may leave an event twice, or of bits that were never recorded.
    """
    last = {
        (event.event, event.subject["dataset_version"], event.subject.get("attempt")): event
        for event in events
        if event.event in NAMED_BY_EVENTS
    }
    for (name, version, attempt), event in last.items():
        asset, field = NAMED_BY_EVENTS[name]
        trail = read_trail(home.store, version, attempt or "none")
        document = trail.documents.get(asset)
        there = None if document is None else document.content[field] if field == "manifest" else document.digest
        if there != event.subject[field]:
            where = f"{asset} of {' '.join(part for part in (version, attempt) if part)}"
            found = f"the one that is there is {there[:12]}…" if there else "there is none"
            detail = f"event {event.number} ({name}) names {event.subject[field][:12]}…, and {found}"
            yield Finding(claim="records_are_whole", where=where, detail=detail)


def _obeyed(trail: Trail, events: Iterable[Event]) -> Iterator[Finding]:
    """Whatever follows a verdict, for exactly the report that is there; a person's word must be in the ledger."""
    report = trail.documents.get("evaluation_report")
    word, said = trail.documents.get("gate_override"), overrides(events).get(trail.attempt)
    is_let_through = word is not None and said is not None and said.subject["gate_override"] == word.digest
    is_accepted = report is not None and (report.content["is_accepted"] or is_let_through)
    for asset in ("onnx_package", "registered_model"):
        if asset in trail.documents and not is_accepted:
            detail = f"it was made, and the verdict is {report.content['verdict'] if report else 'not there'}"
            yield Finding(claim="verdict_is_obeyed", where=trail.documents[asset].key, detail=detail)


def _aliases(home: Home, known: Iterable[RegisteredVersion], events: Iterable[Event]) -> Iterator[Finding]:
    """What classifies is what MLflow's alias names: a move that was told and never made, or made and never told.

    A move that is being made is told first, so the registry is asked again before it is held against anyone.
    """
    told = {alias: move.subject["version"] for alias, move in aliases(events).items()}
    if told == _named(known):
        return
    named = _named(home.registry.list_versions())
    for alias in sorted(told.keys() | named.keys()):
        if told.get(alias) != named.get(alias):
            there, last = named.get(alias, "none"), told.get(alias, "none")
            remedy = "put it back in MLflow"
            if alias == CHAMPION and alias in told:
                remedy = f"promote version {last} again (then another, if that is meant)"
            detail = f"it names version {there}, its last move in the ledger version {last}: {remedy}"
            yield Finding(claim="aliases_are_as_told", where=f"alias {alias}", detail=detail)


def _named(known: Iterable[RegisteredVersion]) -> dict[str, int]:
    return {alias: found.version for found in known for alias in found.aliases}


def _registered(home: Home, known: RegisteredVersion, trails: Iterable[Trail]) -> Iterator[Finding]:
    """A registered version against the records of its attempt, its tags against theirs, and its files."""
    where = f"registered version {known.version}"
    trail = next((trail for trail in trails if trail.attempt == known.tags.get("attempt")), None)
    if trail is None or trail.package != known.package:
        found = f"the package of its record is {(trail.package or 'not there')[:12]}" if trail else "it has no record"
        detail = f"it is package {known.package[:12]}…, and {found}"
        yield Finding(claim="registry_is_whole", where=where, detail=detail)
    for asset in RECORDED if trail else ():
        tagged, there = known.tags.get(asset), trail.documents.get(asset) if trail else None
        if tagged and (there is None or there.digest != tagged):
            detail = f"its tag says {asset} {tagged[:12]}…, which is not the record that is there"
            yield Finding(claim="registry_is_whole", where=where, detail=detail)
    try:
        with tempfile.TemporaryDirectory() as folder:
            home.registry.fetch(known.version, Path(folder))
    except PermanentError as error:
        yield Finding(claim="registry_is_whole", where=where, detail=str(error))
