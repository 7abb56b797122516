"""Copies of photos on this machine, in caches and pages, and their deletion once a photo is forgotten.

Several homes may share a store, and a photo is forgotten in one of them: each of the others notes which photos it has
deleted copies of, and makes up for what is missing there before it opens photos again (`follow`). The note lies beside
the cache, which a person may delete.
Not here: what is forgotten (forgetting.py), or what the store holds of a photo.
"""

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.files import canonical_json, named_disk_errors
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, fingerprints, history, sightings, tombstones
from petpark_assets.domain.lake.catalogue import QUARANTINED
from petpark_assets.domain.workflow.lookup import find_rows

NOTE_NAME = "forgotten.json"
"""In the home, or, written by an earlier release, in its cache: the sha256s of the photos whose copies this home has
deleted. Without it, none."""

LABEL_ISSUES = "label_issues"
"""In the cache: sha256s and probabilities (label_issues.py)."""

WITHOUT_PHOTOS = frozenset({
    fingerprints.FILE_NAME, history.FILE_NAME, sightings.FILE_NAME, "models", LABEL_ISSUES, NOTE_NAME,
})  # fmt: skip
"""What may stay in the cache. All else goes: a cache that somebody adds must not be overlooked here."""


def follow(home: Home) -> None:
    """Delete the copies of photos that were forgotten in another home of the store; a listing where there are none.

    Pages that may show them go too, and are drawn again by the steps that draw them. Raises TransientError when
    something could not be deleted.
    """
    if not _not_followed(home):
        return
    with _noting(home) as note:  # another process may have done it while we waited: what it made since must stay
        _delete(home, note, _not_followed(home))


def delete(home: Home, sha256: str) -> None:
    """Delete the copies of one photo, and note it. Raises TransientError when something could not be deleted."""
    with _noting(home) as note:
        _delete(home, note, frozenset({sha256}))


def left(home: Home) -> dict[str, list[Path]]:
    """What may hold copies of forgotten photos that this home has not followed yet, by sha256; nothing changes."""
    behind = _not_followed(home)
    if not behind:
        return {}
    rows = _rows(home, behind)
    found = {sha256: _copies(home, rows.filter(pc.equal(rows["sha256"], sha256))) for sha256 in sorted(behind)}
    return {sha256: paths for sha256, paths in found.items() if paths}


def _not_followed(home: Home) -> frozenset[str]:
    forgotten = tombstones.forgotten(home.store)
    return forgotten - _noted(home) if forgotten else forgotten


def _noted(home: Home) -> frozenset[str]:
    """Nothing where the note is missing or half-written: then all is deleted once more."""
    return _read_note(home.root / NOTE_NAME) | _read_note(home.cache / NOTE_NAME)


def _read_note(path: Path) -> frozenset[str]:
    try:
        return frozenset(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return frozenset()


@contextmanager
def _noting(home: Home) -> Iterator[FileIO]:
    """The note, while no other process deletes copies in this home."""
    path = home.root / NOTE_NAME
    with named_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _delete(home: Home, note: FileIO, sha256s: frozenset[str]) -> None:
    if not sha256s:
        return
    _remove(_copies(home, _rows(home, sha256s)))
    noted = canonical_json(sorted(_noted(home) | sha256s))
    note.truncate(0)
    note.write(noted)


def _rows(home: Home, sha256s: frozenset[str]) -> pa.Table:
    names = pa.array(sorted(sha256s), pa.string())
    return find_rows(home.store, lambda table: pc.is_in(table["sha256"], names))


def _copies(home: Home, seen: pa.Table) -> list[Path]:
    """The caches, and the pages of versions that may show photos of these rows; all of it can be made again."""
    found = [path for path in _entries(home.cache) if path.name not in WITHOUT_PHOTOS]
    versions = catalogue.list_versions(home.store)
    for folder, showing in ((home.reports, seen), (home.reports / "lake", quarantined(seen))):
        keeping = {*versions, "lake", "audit"} - set(showing["dataset_version"].to_pylist())
        found += [path for path in _entries(folder) if path.name not in keeping]
    return found


def quarantined(seen: pa.Table) -> pa.Table:
    """Contact sheets show nothing else."""
    return seen.filter(pc.equal(seen["state"], QUARANTINED))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with named_disk_errors(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)  # whatever stopped it, what is left is seen below
            else:
                path.unlink(missing_ok=True)
        if path.exists():
            raise TransientError(f"{path} may hold a copy of the photo and could not be deleted: run the same again")
