"""Making a backup: what a home has and the place has not yet is copied, then one small file says that it is whole.

Killed at any moment, a backup is not there, and the next one goes on with what was copied. A place holds backups of one
home: the ledger of the last one must be the beginning of the home's. Photos that were forgotten since are removed from
the older backups too, so that none of them can bring them back (restoring.py).
What earlier backups need is looked at each time (checking.py): what is lost, and the home still has, is written again.
In memory are a list of all files, some hundred bytes each, and a file at a time or 64 small ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.backup import checking, places, snapshot
from petpark_assets.domain.backup.places import Backup, Kept
from petpark_assets.domain.backup.snapshot import NONE_ELSE, Engines, Moment, Source
from petpark_assets.domain.errors import Conflict, InvalidInput, NotFound, TransientError
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import ownership, tombstones
from petpark_assets.domain.ledger import START

Progress = Callable[[int], None]

NUM_TOGETHER = 64
"""Small files in memory, and requests to a bucket, at once."""
NUM_TRIES = 5
"""A snapshot is taken again when a photo was forgotten meanwhile."""


def make(
    home: Home,
    place: files.Store,
    engines: Engines = NONE_ELSE,
    *,
    is_read: bool = False,
    on_progress: Progress = lambda _done: None,
) -> dict[str, Any]:
    """Back up a home, while a build may go on in it.

    Args:
        home: All of it is copied but caches, pages and private keys (snapshot.py).
        place: Where to: empty, or with earlier backups of the same home, of which only news are added.
        engines: Servers that keep a part of its state.
        is_read: Whether objects of earlier backups are read, so that changed ones are found that kept their size.
        on_progress: Is given the number of files done.

    Returns:
        place, number, made_at; num_files, size_bytes: all that it has; num_new, new_bytes: what was copied for it;
        num_mended: objects among them that earlier backups had lost; num_events: of the ledger; private_keys_left_out;
        num_removed: objects of forgotten photos, from older backups; damaged: numbers of backups that cannot be
        restored any more, since they cannot be read, or lost an object that the home has no longer.

    Raises:
        NotFound: the home is empty.
        InvalidInput: the place is in the home or the lake, or holds other things; a database refuses us.
        Conflict: the place has backups of another home, or of a later state of this one.
        CorruptData: none of its backups can be read any more.
        TransientError: another backup is being made, photos keep being forgotten, or a server is away.
    """
    _check_place(home, place, engines)
    with home.alone("backup", f"another backup of {home.root} is being made: wait for its end"):
        places.claim(place)
        last, number = places.newest(place), max(places.numbers(place), default=0) + 1
        lost = checking.lost_objects(place, is_read=is_read)
        copier = _Copier(place=place, known=last.files if last else {}, lost=lost, on_progress=on_progress)
        moment = _copy(home, copier, last.backup if last else None, engines)
        backup = _conclude(home, copier, moment, number=number, engines=engines)
        num_removed = _remove_forgotten(place, copier.listed)
        damaged = checking.damaged(place, lost - copier.written)
        told = {"place": files.real_address(place.uri), "number": backup.number}
        home.ledger.append("backup_made", {**told, "num_events": backup.num_events, "files": backup.files})
    return {
        **told,
        "made_at": backup.made_at,
        "num_files": backup.num_files,
        "size_bytes": backup.size_bytes,
        "num_new": copier.num_new,
        "new_bytes": copier.new_bytes,
        "num_mended": len(lost & copier.written),
        "num_events": backup.num_events,
        "num_removed": num_removed,
        "damaged": damaged,
        "private_keys_left_out": list(backup.left_out),
    }


@dataclass(kw_only=True)
class _Copier:
    """Copies files, and lists what there is of them."""

    place: files.Store
    known: places.Files
    """Of the last backup: whole, and on the disk, but for ..."""
    lost: AbstractSet[str]
    """... the objects under these keys, of all backups."""
    on_progress: Progress
    forgotten: frozenset[str] = frozenset()
    """Photos whose bytes are copied from nowhere: a person may have kept some in the home."""
    listed: dict[str, Kept] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    """Keys of the place that are there to last after its `sync`."""
    num_new: int = 0
    new_bytes: int = 0

    def __post_init__(self) -> None:
        keys = {path: places.object_key(path, kept.sha256) for path, kept in self.known.items()}
        self.known = {path: kept for path, kept in self.known.items() if keys[path] not in self.lost}
        self.written |= {keys[path] for path in self.known}

    def copy(self, sources: Iterable[Source]) -> None:
        """Copy what is new. Raises NotFound when a file of the store is gone."""
        with ThreadPoolExecutor(NUM_TOGETHER, thread_name_prefix="backup") as pool:
            for together in _batches(self._unknown(sources)):
                read = zip(together, pool.map(_read, together), strict=True)
                self._keep({source.path: data for source, data in read if data is not None})

    def _unknown(self, sources: Iterable[Source]) -> Iterator[Source]:
        for source in sources:
            if source.is_fixed and source.path in self.known:
                self.listed[source.path] = self.known[source.path]
            else:
                yield source

    def _keep(self, contents: Mapping[str, bytes]) -> None:
        new: dict[str, bytes] = {}
        for path, data in contents.items():
            kept = Kept(files.sha256(data), len(data))
            if kept.sha256 in self.forgotten:
                continue
            self.listed[path] = kept
            if (key := places.object_key(path, kept.sha256)) not in self.written:
                new[key] = data
        for key in new.keys() & self.lost:  # a bucket leaves what it has under a key; we hold the true bytes
            self.place.delete(key)
        self.place.write_many(new)
        self.written |= set(new)
        self.num_new += len(new)
        self.new_bytes += sum(map(len, new.values()))
        self.on_progress(len(self.listed))


def _batches(sources: Iterator[Source]) -> Iterator[list[Source]]:
    """Small files by the dozen, large ones alone."""
    small: list[Source] = []
    for source in sources:
        if not source.is_small:
            yield [source]
            continue
        small.append(source)
        if len(small) == NUM_TOGETHER:
            yield small
            small = []
    if small:
        yield small


def _read(source: Source) -> bytes | None:
    """None for a file of a run, or of a tool, that somebody has deleted meanwhile. Raises NotFound for the store's."""
    try:
        return source.read()
    except (FileNotFoundError, NotFound):
        if source.path.startswith("store/"):
            raise NotFound(f"{source.path} is gone") from None
        return None


def _copy(home: Home, copier: _Copier, last: Backup | None, engines: Engines) -> Moment:
    """Copy everything, as of one moment; again, when photos were forgotten meanwhile."""
    missing: NotFound | None = None
    for _ in range(NUM_TRIES):
        copier.listed.clear()
        copier.forgotten = tombstones.forgotten(home.store)
        copier.copy(snapshot.history(home, engines))
        moment = snapshot.take(home, engines)
        _check_lineage(home, copier.place, last, moment)
        copier.copy(moment.sources())
        try:
            copier.copy(snapshot.kept(home, moment, engines))
            copier.copy(snapshot.photos(home))
        except NotFound as error:
            missing = error
            continue
        if copier.forgotten == tombstones.forgotten(home.store):
            return moment
    raise TransientError(f"photos of {home.root} keep being forgotten ({missing or 'again and again'}): run it again")


def _check_place(home: Home, place: files.Store, engines: Engines) -> None:
    """A place within what is copied would be copied too, or ingested."""
    if not home.ledger.is_begun():
        raise NotFound(f"the home {home.root} has nothing to back up: is it the right one (--home DIR)?")
    others = (other.uri for other in engines.places.values())
    for around in (str(home.root), home.store.uri, ownership.owner(home.store), *others):
        if around and f"{_address(place.uri)}/".startswith(f"{_address(around)}/"):
            raise InvalidInput(f"{place.uri} lies in {around}: choose a place outside, best on another machine")


def _address(uri: str) -> str:
    """The one spelling of a folder, or of a bucket's prefix."""
    return uri.rstrip("/") if "://" in uri else Path(uri).resolve().as_uri()


def _check_lineage(home: Home, place: files.Store, last: Backup | None, moment: Moment) -> None:
    """Two homes in one place would take each other's objects for their own."""
    if last and last.ledger_head not in {START, *(event.digest for event in moment.events)}:
        raise Conflict(
            f"{place.uri} has backups of another home, or of a later state of {home.root}: its last one ends with "
            f"event {last.ledger_head[:12]}…, which this ledger does not have; choose another place"
        )


def _conclude(home: Home, copier: _Copier, moment: Moment, *, number: int, engines: Engines) -> Backup:
    """Once all of it is there to last, say so."""
    listed = places.write_files(copier.place, copier.listed)
    copier.place.sync()
    backup = Backup(
        number=number,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=home.actor,
        code_version=code_version(),
        ledger_head=moment.ledger_head,
        num_events=len(moment.events),
        files=listed,
        num_files=len(copier.listed),
        size_bytes=sum(kept.size_bytes for kept in copier.listed.values()),
        left_out=tuple(snapshot.private_keys(home, engines)),
        databases=tuple(sorted(engines.postgresql)),
    )
    places.write(copier.place, backup)
    return backup


def _remove_forgotten(place: files.Store, listed: places.Files) -> int:
    """Remove what older backups hold of forgotten photos; returns the number of objects.

    Files of tables hold other photos too: once anything was forgotten, the newest backup's serve all. What was
    forgotten since this backup was listed waits for the next: this one still has it, and could not be restored without.
    """
    forgotten = places.forgotten_in(listed)
    if not forgotten:
        return 0
    newest = {places.object_key(path, kept.sha256) for path, kept in listed.items()}
    photos = (places.object_key("store/originals", sha256) for sha256 in sorted(forgotten))  # or a person's copies
    gone = [key for key in photos if place.exists(key)]
    gone += [key for key in place.list_keys("pixels") if key not in newest]
    for key in gone:
        place.delete(key)
    return len(gone)
