"""A home made again from a backup: every digest is verified, and it appears whole or not at all.

Forgotten photos stay forgotten: what the newest backup of the place, or a ledger that outlived the home, knows as
forgotten is left out of an older one too, its tombstones come along, and the ledger says so. Tables of photos are then
the newest backup's, which has them all.
Killed meanwhile, there is a hidden folder beside the home and no home: the same command begins anew.
Not here: the proof that all of it fits together (`petpark audit verify`, `petpark lake verify`).
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.attempts import find_attempt
from petpark_assets.domain.audit import pages
from petpark_assets.domain.backup import databases, places
from petpark_assets.domain.backup.places import Backup, Files, Kept, Newest
from petpark_assets.domain.backup.snapshot import ARTIFACTS, LOGS, NONE_ELSE, Engines
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, PermanentError
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, contact_sheets, tombstones
from petpark_assets.domain.lake.originals import key_of_before
from petpark_assets.domain.lake.tombstones import Tombstone
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.records import EvaluationReport
from petpark_assets.domain.workflow import copies, forgetting

OpenHome = Callable[[Path], Home]
Progress = Callable[[int, int], None]

BATCH_BYTES = 64 * 2**20
"""Of files in memory at once, or one file."""
LEDGER = "ledger.jsonl"
_STORE, _DUMPS = "store/", "postgresql/"
_APART = {
    _STORE: "", _DUMPS: "", ARTIFACTS: "files of MLflow's server", LOGS: "what steps printed, in a bucket of its own",
}  # fmt: skip
"""Folders of a backup whose files go elsewhere than into the home's folder, and what it has then."""


def restore(
    place: files.Store,
    root: Path,
    open_at: OpenHome,
    engines: Engines = NONE_ELSE,
    *,
    number: int | None = None,
    on_progress: Progress = lambda _done, _all: None,
) -> dict[str, Any]:
    """Make the home `root`, which must not be there yet, from a backup.

    Args:
        place: Where the backup is.
        root: The home; an empty folder is fine.
        open_at: Opens the home in a folder, with the store that it shall have; one within the home is in that folder.
        engines: Servers that shall keep what they kept in the home that was backed up, empty.
        number: Of the backup; None for the last.
        on_progress: Is given the number of bytes done and of all.

    Returns:
        home, place, number, made_at, num_files, size_bytes, num_events: of the backup; num_events_since: of a ledger
        that outlived the home, whose records are gone (`petpark audit verify` names them); forgotten: photos of the
        backup that were left out, since they were forgotten later; damaged: later backups that cannot be read, and
        may have known more as forgotten; private_keys_left_out; pages_not_drawn: and why.

    Raises:
        NotFound: there is no such backup.
        Conflict: the home, its store, or what a server shall keep, is not empty; nothing was written.
        CorruptData: bytes of the backup were changed; nothing was made.
        TransientError: another restore to the same home goes on.
        InvalidInput: the backup has databases for which no address was given, or the other way round; `root` is a
            mount point; a folder of the store, or of a server, lies in it.
    """
    backup, root = places.find(place, number), root.resolve()  # nothing takes the place of a link
    own, newest = places.read_files(place, backup), places.newest(place)
    assert newest is not None  # at least this one can be read
    plan = make_plan(own, newest, fullest(place, newest))
    _check_databases(backup, engines.postgresql)
    with _alone(root):
        _check_empty(root)
        for url in engines.postgresql.values():
            databases.check_postgresql_empty(url)
        unfinished = root.with_name(f".{root.name}.restoring")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            home = open_at(unfinished)
            _check_apart(root, [home.store, *engines.places.values()])
            since = _events_since(place, home, plan)
            plan = _without_forgotten(plan, since)
            parts = _parts(home, plan, engines)
            for store, keys in parts:
                _check_store(store, keys, plan, engines.within(store))
            _write(place, parts, plan, on_progress)
            for name, url in engines.postgresql.items():
                databases.restore_postgresql(url, _read(place, *_dump(plan, name)))
            home.ledger.take_in()  # from here on a ledger in a database knows of this
            _forget(home, plan)
            told = {"place": files.real_address(place.uri), "number": backup.number}
            home.ledger.append("home_restored", {**told, "num_events": backup.num_events, "files": backup.files})
            with files.named_disk_errors(root):
                files.sync_disk(unfinished)
                unfinished.rename(root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return {
        "home": str(root),
        **told,
        "made_at": backup.made_at,
        "num_files": len(plan.files),
        "size_bytes": sum(kept.size_bytes for kept in plan.files.values()),
        "num_events": backup.num_events,
        "num_events_since": len(since),
        "forgotten": sorted(plan.forgotten_since),
        "damaged": [f"{damaged}: forget again what was forgotten before it, if it is back" for damaged in plan.damaged],
        "private_keys_left_out": list(backup.left_out),
        "pages_not_drawn": _draw_pages(open_at(root)),
    }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is written."""

    files: Files
    forgotten: frozenset[str]
    """Photos that no home may have."""
    forgotten_since: frozenset[str]
    """Those of them that the backup does not know as forgotten."""
    tombstones: tuple[Tombstone, ...] = ()
    """Of those that no backup knows as forgotten."""
    damaged: tuple[int, ...] = ()
    """Backups that might know more, and cannot be read."""


def make_plan(own: Files, newest: Newest, later: Files) -> Plan:
    """A backup's own files, without what was forgotten since; `later` is `fullest`."""
    buried, forgotten = places.forgotten_in(own), places.forgotten_in(later)
    chosen = _without_photos(own, forgotten)
    if forgotten:
        chosen = {path: kept for path, kept in chosen.items() if not places.is_of_a_table(path)}
        chosen |= {path: kept for path, kept in later.items() if places.is_of_a_table(path)}
    chosen |= {path: later[path] for sha256, path in forgotten.items()}
    return Plan(
        files=chosen,
        forgotten=frozenset(forgotten),
        forgotten_since=frozenset(forgotten.keys() - buried.keys()),
        damaged=newest.damaged,
    )


def fullest(place: files.Store, newest: Newest) -> Files:
    """The newest list; where later backups are damaged, the one that knows most photos as forgotten: theirs is left."""
    unnamed = places.unnamed_lists(place) if newest.damaged else ()
    return max(chain([newest.files], unnamed), key=lambda listed: len(places.forgotten_in(listed)))


def _without_photos(listed: Files, forgotten: Collection[str]) -> dict[str, Kept]:
    """A list without files of forgotten photos, or of the same bytes anywhere: a person may have kept a copy."""
    gone = {_STORE + key_of_before(sha256) for sha256 in forgotten}
    return {path: kept for path, kept in listed.items() if path not in gone and kept.sha256 not in forgotten}


def _check_databases(backup: Backup, urls: Mapping[str, str]) -> None:
    if set(backup.databases) != set(urls):
        has = ", ".join(backup.databases) or "none"
        given = ", ".join(urls) or "none"
        raise InvalidInput(
            f"backup {backup.number} has these databases of PostgreSQL: {has}; this home is set up with {given}: "
            "set it up as the home that was backed up"
        )


def _alone(root: Path) -> AbstractContextManager[None]:
    """Keep others from making the same home: they would empty the folder beside it in which it is made."""
    if root.is_mount():  # nothing can take a mount's place
        raise InvalidInput(f"{root} is a mount point: choose a folder within it as the home (--home)")
    lock = root.with_name(f".{root.name}.restoring.lock")
    return files.alone(lock, f"another restore to {root} goes on: wait for its end", is_passing=True)


def _check_empty(root: Path) -> None:
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise Conflict(
            f"the home {root} is not empty, and nothing was written: move it away, or choose another (--home)"
        )


def _check_apart(root: Path, stores: Iterable[files.Store]) -> None:
    """What is written below the home's own place before it is whole would be in its way."""
    for store in stores:
        if isinstance(store, files.LocalStore) and store.root.resolve().is_relative_to(root):
            raise InvalidInput(f"{store.uri} lies in the home {root}, and nothing was written: choose a folder outside")


def _parts(home: Home, plan: Plan, engines: Engines) -> list[tuple[files.Store, dict[str, str]]]:
    """Where files go: keys by path, of the home's store, of MLflow's server, and of the folder that has the rest."""
    places_of = {_STORE: home.store, **engines.places}
    of = {
        folder: {path: path.removeprefix(folder) for path in plan.files if path.startswith(folder)} for folder in _APART
    }
    for folder, what in _APART.items():
        if of[folder] and what and folder not in places_of:
            raise InvalidInput(f"the backup has {what}: set this home up as the one that was backed up")
    apart = {path for paths in of.values() for path in paths}
    rest = {path: path for path in plan.files if path not in apart}
    return [*((store, of[folder]) for folder, store in places_of.items()), (files.LocalStore(home.root), rest)]


def _check_store(store: files.Store, keys: Mapping[str, str], plan: Plan, elsewhere: tuple[str, ...]) -> None:
    """One outside of the home may have what an interrupted restore has put there, and nothing else."""
    paths = {key: path for path, key in keys.items()}
    buried = {tombstones.tombstone_key(tombstone.sha256) for tombstone in plan.tombstones}
    for key in store.list_keys(""):
        if key.startswith(elsewhere) or key in buried:
            continue
        if key not in paths:
            raise Conflict(f"{store.uri} has {key}, which is not in the backup: empty it, or choose an empty place")
        if files.sha256(store.read(key)) != plan.files[paths[key]].sha256:
            raise Conflict(f"{key} in {store.uri} is not as in the backup: empty it, or choose an empty place")


def _events_since(place: files.Store, home: Home, plan: Plan) -> list[Event]:
    """What a ledger that outlived the home knows beyond the backup's. Raises Conflict when it has another history."""
    kept = _read(place, LEDGER, plan.files[LEDGER]).splitlines() if LEDGER in plan.files else []
    events = list(home.ledger.events())
    for line, event in zip(kept, events, strict=False):
        if json.loads(line)["digest"] != event.digest:
            raise Conflict(
                f"PETPARK_LEDGER names the ledger of another home, from event {event.number} on, and nothing was "
                "written: choose an empty database"
            )
    return events[len(kept) :]


def _without_forgotten(plan: Plan, since: Iterable[Event]) -> Plan:
    """The plan without the photos that were forgotten after all backups, as events say."""
    told = [tombstones.parse(event.subject) for event in since if event.event == "photo_forgotten"]
    later = {tombstone.sha256: tombstone for tombstone in told if tombstone.sha256 not in plan.forgotten}
    return replace(
        plan,
        files=_without_photos(plan.files, later),
        forgotten=plan.forgotten | later.keys(),
        forgotten_since=plan.forgotten_since | later.keys(),
        tombstones=tuple(later.values()),
    )


def _write(
    place: files.Store, parts: list[tuple[files.Store, dict[str, str]]], plan: Plan, on_progress: Progress
) -> None:
    """Every file, verified, to where it belongs."""
    done, num_bytes = 0, sum(kept.size_bytes for kept in plan.files.values())
    for store, keys in parts:
        for together in batches({path: plan.files[path] for path in keys}):
            contents = {keys[path]: _read(place, path, kept) for path, kept in together.items()}
            store.write_many(contents)
            done += sum(map(len, contents.values()))
            on_progress(done, num_bytes)
        store.sync()


def batches(listed: Files) -> Iterator[dict[str, Kept]]:
    """Files whose bytes may be in memory together."""
    together: dict[str, Kept] = {}
    num_bytes = 0
    for path, kept in sorted(listed.items()):
        if together and num_bytes + kept.size_bytes > BATCH_BYTES:
            yield together
            together, num_bytes = {}, 0
        together[path] = kept
        num_bytes += kept.size_bytes
    if together:
        yield together


def _read(place: files.Store, path: str, kept: Kept) -> bytes:
    try:
        return files.get_verified(place, places.object_key(path, kept.sha256), kept.sha256)
    except (CorruptData, NotFound) as error:
        raise CorruptData(
            f"{path} is gone from the backup, or damaged: {error}; no home was made, and a store or files of MLflow's "
            "elsewhere that this began to fill are to be emptied. Where the home that was backed up "
            f"is still there, `petpark backup {place.uri} --verify` writes it again; else restore another backup "
            f"that `petpark backup {place.uri} --list --verify` shows to be whole (--number)"
        ) from error


def _dump(plan: Plan, name: str) -> tuple[str, Kept]:
    path = f"{_DUMPS}{name}.dump"
    return path, plan.files[path]


def _forget(home: Home, plan: Plan) -> None:
    """What was being forgotten while the backup was made may be in tables yet; what was forgotten later, no event."""
    for tombstone in plan.tombstones:
        tombstones.write(home.store, tombstone)
    kept = plan.forgotten & set(home.originals.stored().to_pylist())
    if kept:
        home.originals.forget(sorted(kept))
    for resolution_px in home.pixels.resolutions():
        stored = plan.forgotten & set(home.pixels.stored(resolution_px).to_pylist())
        if stored:
            home.pixels.forget(sorted(stored))
    for sha256 in sorted(plan.forgotten_since):
        forgetting.note(home, tombstones.read(home.store, sha256))
    copies.follow(home)  # there are none yet; without its note, the pages below would be taken for older ones


def _draw_pages(home: Home) -> list[str]:
    """Reports, and sheets of what was set aside, which no backup has; returns what could not be drawn, and why."""
    failures = []
    for version in catalogue.list_versions(home.store):
        try:
            contact_sheets.write_page(home.store, home.originals, home.reports, version)
            forgetting.draw_reports(home, version)
            for attempt in files.list_attempts(home.store, EvaluationReport, version):
                pages.draw_page(home, find_attempt(home.store, version, attempt))
        except PermanentError as error:  # the home is whole without them
            failures.append(f"{version}: {error}")
    return failures
