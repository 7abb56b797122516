"""Where backups are kept: a folder or a prefix of a bucket (files.Store) with any number of backups of one home.

    petpark-backups.json     says what this place is
    backups/000001.json      one backup: who, when, how much, the digest of its list; written last, so it is whole
    lists/<sha256>           its files: path, sha256 and size of each
    objects/<ab>/<sha256>    what the files hold, once for all backups
    pixels/<sha256>          the same of tables of photos and of their pixels, whose files hold many photos each

What an interrupted backup leaves is in none of the numbered files, so that nobody takes it for one.
Not here: what is backed up (snapshot.py), when what is written (making.py), how a home is made of it (restoring.py), or
whether all of it is still there (checking.py).
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound
from petpark_assets.domain.lake import originals, tombstones

FORMAT = 1
_TABLES = ("store/pixels.lance/", f"store/{originals.TABLE}/")
"""Below these lie tables of photos, in a backup's list."""
_MARK = "petpark-backups.json"
_FOLDER, _LISTS = "backups", "lists"
_NAME = re.compile(rf"{_FOLDER}/(\d{{6,}})\.json")


class Kept(NamedTuple):
    """What a backup has of one file."""

    sha256: str
    size_bytes: int


Files = Mapping[str, Kept]
"""By path: `ledger.jsonl`, `store/lake.json`, ..."""


def forgotten_in(listed: Files) -> dict[str, str]:
    """The paths of a backup's tombstones, by the sha256 of the photo that was forgotten."""
    folder = f"store/{tombstones.FOLDER}/"
    return {path.removeprefix(folder).removesuffix(".json"): path for path in listed if path.startswith(folder)}


@dataclass(frozen=True, kw_only=True)
class Backup:
    """One whole backup."""

    number: int
    made_at: str
    """ISO 8601, UTC."""
    made_by: str
    code_version: str
    """Of the code that made it, as in records."""
    ledger_head: str
    num_events: int
    """In its ledger: what happened later is not in it."""
    files: str
    """sha256 of the list."""
    num_files: int
    size_bytes: int
    left_out: tuple[str, ...]
    """Files with private keys."""
    databases: tuple[str, ...] = ()
    """PostgreSQL's, by the name of who keeps them: `dagster`, `mlflow`."""
    format: int = FORMAT


def claim(place: files.Store) -> None:
    """Make a place one of backups. Raises InvalidInput when it holds anything else."""
    if place.exists(_MARK):
        return
    if place.list_keys(""):
        raise InvalidInput(f"{place.uri} holds other things than backups: choose an empty place")
    place.write_new(_MARK, files.canonical_json({"format": FORMAT}))


def object_key(path: str, sha256: str) -> str:
    """Where the bytes of a file of a list are."""
    return f"pixels/{sha256}" if is_of_a_table(path) else f"objects/{sha256[:2]}/{sha256}"


def is_of_a_table(path: str) -> bool:
    """Whether a file of a list holds many photos."""
    return path.startswith(_TABLES)


def numbers(place: files.Store) -> list[int]:
    """Of all backups, oldest first."""
    return sorted(int(match[1]) for key in place.list_keys(_FOLDER) if (match := _NAME.fullmatch(key)))


def list_backups(place: files.Store) -> list[Backup]:
    """All backups that can be read, oldest first."""
    return [found for _, found in all_backups(place) if found is not None]


def all_backups(place: files.Store) -> Iterator[tuple[int, Backup | None]]:
    """Every number, oldest first, and its backup; None where that cannot be read any more."""
    for number in numbers(place):
        try:
            yield number, _read(place, number)
        except CorruptData:
            yield number, None


def find(place: files.Store, number: int | None = None) -> Backup:
    """A backup by its number, the last one when none is named. Raises NotFound listing what there is."""
    known = numbers(place)
    if number not in {None, *known} or not known:
        there_is = ", ".join(map(str, known)) or "none; one that was interrupted is none"
        raise NotFound(f"{place.uri} has no backup {'' if number is None else number}: there is {there_is}")
    return _read(place, known[-1] if number is None else number)


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The last backup that can be read."""

    backup: Backup
    files: Files
    damaged: tuple[int, ...]
    """Later ones that cannot, the last first."""


def newest(place: files.Store) -> Newest | None:
    """The last backup that can be read, with its list; None before the first. Raises CorruptData when none can be."""
    damaged: list[int] = []
    for number in reversed(numbers(place)):
        try:
            backup = _read(place, number)
            return Newest(backup=backup, files=read_files(place, backup), damaged=tuple(damaged))
        except (CorruptData, NotFound):
            damaged.append(number)
    if damaged:
        raise CorruptData(
            f"no backup in {place.uri} can be read any more: choose an empty place, or restore from another"
        )
    return None


def unnamed_lists(place: files.Store) -> Iterator[Files]:
    """Lists that no backup names which can be read: those of damaged and of interrupted ones."""
    named = {_list_key(backup.files) for backup in list_backups(place)}
    for key in sorted(set(place.list_keys(_LISTS)) - named):
        with suppress(CorruptData):
            yield _parse_list(place, key.removeprefix(f"{_LISTS}/"))


def read_files(place: files.Store, backup: Backup) -> Files:
    """A backup's list. Raises CorruptData."""
    return _parse_list(place, backup.files)


def _parse_list(place: files.Store, sha256: str) -> Files:
    listed = json.loads(files.get_verified(place, _list_key(sha256), sha256))
    return {path: Kept(*kept) for path, kept in listed.items()}


def sizes(place: files.Store) -> dict[str, int]:
    """The bytes of all objects that are there, by key."""
    return {key: size for folder in ("objects", "pixels") for key, size in place.sizes(folder).items()}


def write_files(place: files.Store, listed: Files) -> str:
    """Store a list; returns its sha256."""
    data = files.canonical_json(listed)
    place.write_many({_list_key(files.sha256(data)): data})
    return files.sha256(data)


def write(place: files.Store, backup: Backup) -> None:
    """Say that a backup is whole. Raises Conflict when another took its number."""
    document = {"content": backup, "digest": files.digest(backup)}
    if not place.write_new(_key(backup.number), files.canonical_json(document)):
        raise Conflict(f"another backup to {place.uri} was made meanwhile: run it again")


def _key(number: int) -> str:
    return f"{_FOLDER}/{number:06d}.json"


def _list_key(sha256: str) -> str:
    return f"{_LISTS}/{sha256}"


def _read(place: files.Store, number: int) -> Backup:
    key = _key(number)
    try:
        document = json.loads(place.read(key))
        content = document["content"]
        is_whole = files.digest(content) == document["digest"]
        made_by_format = content["format"]
    except (ValueError, KeyError, TypeError):
        is_whole, made_by_format = False, FORMAT
    if not is_whole:
        raise CorruptData(f"{key} in {place.uri} was changed after it was written: name an older backup (--number)")
    if made_by_format > FORMAT:
        raise InvalidInput(f"{key} in {place.uri} is of a later release: restore it with that one")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Backup(**fields)
