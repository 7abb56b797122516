"""Whether all that a place's backups need is still there: each object, of its size, and where asked of its content.

Sizes are one listing and the lists of all backups; content is all bytes of the place, read once, 64 MiB at a time.
Not here: writing again what is lost (making.py), or what a restore says of it (restoring.py).
"""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.backup import places, restoring
from petpark_assets.domain.backup.places import Backup, Files, Kept, Newest
from petpark_assets.domain.errors import CorruptData, NotFound

NUM_READERS = 16
"""Objects that are asked for at a time."""


def lost_objects(place: files.Store, *, is_read: bool = False) -> set[str]:
    """Keys of objects that any backup needs and that are gone or of another size; read, also those of other content."""
    sizes = places.sizes(place)
    needed = dict[str, Kept]()
    for _, _, listed in _all(place):
        needed |= {places.object_key(path, kept.sha256): kept for path, kept in listed.items()}
    lost = {key for key, kept in needed.items() if sizes.get(key) != kept.size_bytes}
    if is_read:
        lost |= _changed(place, {key: kept for key, kept in needed.items() if key not in lost})
    return lost


def damaged(place: files.Store, lost: Collection[str]) -> list[int]:
    """Numbers of the backups that cannot be restored any more, the oldest first; `lost` are keys of objects."""
    return [number for number, backup, listed in _all(place) if backup is None or _num_lost(listed, lost)]


def describe(place: files.Store, *, is_read: bool = False) -> list[dict[str, Any]]:
    """A row for each backup, oldest first; of one that cannot be read any more, its number alone.

    num_lost: of its files, those that `lost_objects` finds.
    """
    lost, rows = lost_objects(place, is_read=is_read), []
    names = ("made_at", "made_by", "num_events", "num_files", "size_bytes")
    for number, backup, listed in _all(place):
        told = {name: getattr(backup, name) for name in names} if backup else {}
        num_lost = _num_lost(listed, lost)
        told |= {"num_lost": num_lost} if backup else {}
        rows.append({"number": number, **told, "is_damaged": backup is None or num_lost > 0})
    return rows


def _all(place: files.Store) -> Iterator[tuple[int, Backup | None, Files]]:
    """Each number, its backup and what a restore of it reads, after what was forgotten since; None where it cannot."""
    newest = _newest(place)
    later = restoring.fullest(place, newest) if newest else {}
    for number, backup in places.all_backups(place):
        try:
            if backup is None or newest is None:
                yield number, None, {}
            else:
                yield number, backup, restoring.make_plan(places.read_files(place, backup), newest, later).files
        except (CorruptData, NotFound):
            yield number, None, {}


def _newest(place: files.Store) -> Newest | None:
    try:
        return places.newest(place)
    except CorruptData:  # each of them says so
        return None


def _num_lost(listed: Files, lost: Collection[str]) -> int:
    return sum(places.object_key(path, kept.sha256) in lost for path, kept in listed.items())


def _changed(place: files.Store, needed: Files) -> set[str]:
    """Keys of objects whose bytes are others."""

    def is_changed(key: str) -> bool:
        try:
            return files.sha256(place.read(key)) != needed[key].sha256
        except NotFound:  # since it was listed
            return True

    changed = set()
    with ThreadPoolExecutor(NUM_READERS, thread_name_prefix="check") as pool:
        for together in restoring.batches(needed):
            answers = zip(together, pool.map(is_changed, together), strict=True)
            changed |= {key for key, is_other in answers if is_other}
    return changed
