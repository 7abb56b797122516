"""A look at a lake whose bucket tells a queue what happens in it: only objects that were named are looked at.

Messages are hints. Each object they name is asked for, and compared with the newest version, so that a message that
comes twice, late or in another order does no harm. They are deleted from the queue when their keys are on the disk.
What no message named is found all the same: the whole lake is listed, a part in each look, at first, after each
version, once a day, after more hints than can be kept, and over and over while the queue cannot be read. A look's time
and memory are bounded, whatever the lake's size.
Not here: the kept hints (hints.py), the queue itself (resources/lake_queue.py), a look by listing alone (arrivals.py).
"""

import itertools
import operator
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.errors import PetparkError
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import arrivals as differences
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.arrivals import Difference, Known
from petpark_assets.domain.lake.labels import LabelBook
from petpark_assets.domain.lake.sources import LakeObject, S3Lake
from petpark_assets.domain.s3.events import Named, Queue, read_events
from petpark_assets.domain.workflow import arrivals, hints, ingestion
from petpark_assets.domain.workflow.arrivals import Look
from petpark_assets.domain.workflow.hints import Hints

LIST_FOR_S = 12.0
"""Of a look. Dagster cuts a tick at 60 s; reading the queue and asking for the named objects takes the rest."""
LISTED_AT_ONCE = 20_000
NUM_THREADS = 32
"""That ask for objects: a question is a wait of some 20 ms."""


@dataclass(frozen=True, kw_only=True)
class _Watched:
    """What is compared with what."""

    home: Home
    lake: S3Lake
    book: LabelBook
    version: str | None

    def known(self, where: pc.Expression) -> dict[str, Known]:
        rows = differences.stream_known(
            self.home.store, self.version, self.home.cache, self.lake, self.book, where=where
        )
        return {item.key: item for item in rows}


def look(home: Home, lake_uri: str, queue: Queue, now: float) -> Look:
    """Compare what the queue names, and a part of the lake, with the newest version; `now` is this machine's clock.

    A queue that cannot be read is no error: the look's note says so, and the lake is listed instead. A snapshot is of
    what differs. Raises InvalidInput, Conflict, TransientError as an ingestion does.
    """
    lake, book = ingestion.look_at(home, lake_uri)
    if not isinstance(lake, S3Lake):
        return replace(arrivals.look(home, lake_uri), note=f"it is listed, since no folder tells a queue ({queue.url})")
    version = catalogue.newest_version(home.store)
    manifest = "" if version is None else arrivals.manifest_digest(home, version)
    watched = _Watched(home=home, lake=lake, book=book, version=version)
    with hints.alone(home.cache):
        before = hints.read(home.cache)
        kept = _of(before, files.digest([lake.identity, queue.url, manifest, book.digest]), now)
        kept, notes = _take(watched, queue, kept, now)
        kept = _list_on(watched, _begin_where_due(kept, now))
        kept, found, snapshot = _check(watched, kept)
        if kept != before:
            hints.write(home.cache, kept)
    if kept.listed_to is not None:
        notes.append(f"so far: the whole lake is being listed, now at {kept.listed_to!r}")
    return Look(
        dataset_version=version,
        manifest=manifest,
        snapshot=snapshot,
        num_new=found["new"],
        num_changed=found["changed"],
        num_removed=found["removed"],
        is_more=not kept.room,
        note="; ".join(notes),
    )


def _of(kept: Hints, of: str, now: float) -> Hints:
    """The hints for these: an ingestion from elsewhere may have seen objects otherwise than they were told of."""
    return kept if kept.of == of else hints.list_anew(replace(kept, of=of), now)


def _begin_where_due(kept: Hints, now: float) -> Hints:
    is_recent = 0 <= now - kept.listed_since < hints.LIST_AGAIN_S
    is_due = kept.listed_to is None and (kept.is_away or not is_recent)
    return hints.list_anew(kept, now) if is_due else kept


def _take(watched: _Watched, queue: Queue, kept: Hints, now: float) -> tuple[Hints, list[str]]:
    """What the queue names, kept on the disk and deleted there; and what a person should know."""
    try:
        messages = queue.receive()
        if kept.is_away:  # nobody knows what it lost meanwhile
            kept = hints.list_anew(replace(kept, is_away=False), now)
        events = [(message, read_events(message.body)) for message in messages]
        named = {key for _, told in events for one in told or () if (key := _key(watched.lake, one)) is not None}
        kept = hints.add(kept, named, now)
        if messages:
            hints.write(watched.home.cache, kept)
        queue.delete([message for message, told in events if told is not None])
    except PetparkError as error:
        return replace(kept, is_away=True), [f"{error} (the lake is listed meanwhile)"]
    num_others = sum(told is None for _, told in events)
    left = (
        f"{num_others} messages in {queue.url} are no events of S3, and were left there: use a queue of the lake's own"
    )
    return kept, [left] if num_others else []


def _key(lake: S3Lake, named: Named) -> str | None:
    """The key in this lake; None of what lies elsewhere."""
    place = lake.bucket.place
    is_here = named.bucket == place.bucket and named.key.startswith(place.folder)
    return named.key.removeprefix(place.folder) if is_here else None


def _list_on(watched: _Watched, kept: Hints) -> Hints:
    """List on from where the last look ended, as long as there is time, and room for what is found."""
    end = time.monotonic() + LIST_FOR_S
    while kept.listed_to is not None and kept.room:
        kept = _list_part(watched, kept, kept.listed_to)
        if time.monotonic() > end:
            break
    return kept


def _list_part(watched: _Watched, kept: Hints, after: str) -> Hints:
    objects = {item.key: item for item in itertools.islice(watched.lake.list_after(after), LISTED_AT_ONCE)}
    last = max(objects) if len(objects) == LISTED_AT_ONCE else None
    where = pc.field("key") > after if last is None else (pc.field("key") > after) & (pc.field("key") <= last)
    suspects = differences.suspects(objects, watched.known(where))
    new = [key for key in suspects if key not in kept.keys]
    if len(new) > kept.room:
        new = new[: kept.room]
        last = new[-1]
    return replace(kept, keys=kept.keys.union(new), listed_to=last)


def _check(watched: _Watched, kept: Hints) -> tuple[Hints, Counter[str], str]:
    """The hints that are true of labelled photos, how many are of which kind, and a digest of how they are now.

    Those without a label are let go, since labels that say more make the lake be listed anew; not those that would have
    to be read for it when no more may be.
    """
    objects, known = {}, {}
    if kept.keys:
        known = watched.known(pc.field("key").isin(sorted(kept.keys)))
        objects = _find(watched.lake, kept.keys, known)
    reads = iter(range(arrivals.MAX_READS))
    found = [
        one
        for one in differences.find_differences(watched.lake, objects, known, watched.book, reads)
        if one.is_labelled or not operator.length_hint(reads)
    ]
    snapshot = files.digest([kept.num_left_out, *(_state(one, objects) for one in found)])
    checked = replace(kept, keys=frozenset(one.key for one in found))
    return checked, Counter(one.kind for one in found if one.is_labelled), snapshot


def _state(found: Difference, objects: dict[str, LakeObject]) -> list[str]:
    return [found.kind, found.key, objects[found.key].fingerprint if found.key in objects else ""]


def _find(lake: S3Lake, keys: frozenset[str], known: dict[str, Known]) -> dict[str, LakeObject]:
    lake.bucket.check()  # or a bucket that is not there would look like one whose photos were all removed
    remembered = {key: item.fingerprint for key, item in known.items()}
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        found = threads.map(lambda key: lake.find(key, remembered.get(key)), sorted(keys))
        return {item.key: item for item in found if item is not None}
