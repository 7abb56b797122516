"""Which objects of a lake may differ from the newest version: what is kept between two looks at a lake with a queue.

One file in the cache. Without it the lake is listed from its beginning, so it can be deleted at any time. It is of a
bounded size: what there is no room for is found by a listing that begins anew.
Not here: how hints come about, and whether they are true (arrivals_by_queue.py).
"""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from petpark_assets.domain import files

FILE_NAME, LOCK_NAME = "lake_hints.json", "lake_hints.lock"
MAX_KEYS = 10_000
"""At most 10 MB of keys, and 10,000 questions to S3 in a look: seconds."""
LIST_AGAIN_S = 24 * 3600.0
"""Queues lose a message now and then, and keep none for ever: what nobody told of is found by the next listing."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What was seen, and up to where the lake was listed. Times are in seconds of this machine's clock."""

    of: str = ""
    """A digest of the lake, the queue, the version and the labels: of others the lake is listed anew."""
    keys: frozenset[str] = frozenset()
    """Objects that differ, or that were named and not looked at yet. All others are as in the version, as far as the
    lake was listed and the queue was read."""
    listed_to: str | None = ""
    """The key up to which the lake was listed whole, while that is under way; None: to its end."""
    listed_since: float = 0.0
    """When that listing began."""
    num_left_out: int = 0
    """Hints there was no room for, ever: each made the listing begin anew."""
    is_away: bool = False
    """The queue could not be read the last time."""

    @property
    def room(self) -> int:
        """How many more keys there is room for."""
        return MAX_KEYS - len(self.keys)


def read(cache: Path) -> Hints:
    """What was kept; a file that is not there, or none of ours, is as good as nothing."""
    try:
        kept = json.loads((cache / FILE_NAME).read_bytes())
        return Hints(**{**kept, "keys": frozenset(kept["keys"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return Hints()


def write(cache: Path, hints: Hints) -> None:
    """Keep them, on the disk when this returns."""
    files.replace(cache / FILE_NAME, json.dumps({**asdict(hints), "keys": sorted(hints.keys)}).encode())


def add(hints: Hints, keys: Iterable[str], now: float) -> Hints:
    """More of them; where there is no room for all, the lake is listed from its beginning."""
    new = sorted(frozenset(keys) - hints.keys)
    taken, num_left_out = new[: hints.room], len(new[hints.room :])
    added = replace(hints, keys=hints.keys.union(taken), num_left_out=hints.num_left_out + num_left_out)
    return list_anew(added, now) if num_left_out else added


def list_anew(hints: Hints, now: float) -> Hints:
    """The lake is to be listed from its beginning."""
    return replace(hints, listed_to="", listed_since=now)


def alone(cache: Path) -> AbstractContextManager[None]:
    """No other process looks meanwhile. Raises TransientError where one does: Dagster gave its tick up, and it goes on.

    Two of them would each put what it read of the queue in the place of the other's.
    """
    return files.alone(cache / LOCK_NAME, "another look at the lake has not ended yet: it is tried again later")
