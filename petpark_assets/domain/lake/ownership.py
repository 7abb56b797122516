"""A store belongs to one lake: two in one would each look like the removal of the other's photos.

The claim lies in the store, not in the home: two homes that share a bucket share the lake.
"""

import json
import os
from pathlib import Path

from petpark_assets.domain import files
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound
from petpark_assets.domain.lake.sources import Lake

KEY = "lake.json"


def claim(store: files.Store, lake: Lake) -> None:
    """Bind a store to its lake on first use.

    Raises Conflict with the remedy when it belongs to another, InvalidInput where a second claim would replace the
    first, and so any record another: Ceph 16 forgets If-None-Match in a bucket that keeps old versions.
    """
    data = files.canonical_json({"lake": lake.identity})
    if owner(store) is None and store.write_new(KEY, data) and store.write_new(KEY, data):
        store.delete(KEY)
        raise InvalidInput(
            f"the store {store.uri} cannot be used: its server replaces what is there, though asked not to "
            "(If-None-Match); Ceph 16 does so in a bucket with versions: choose one without"
        )
    check(store, lake)


def check(store: files.Store, lake: Lake) -> None:
    """Raises Conflict with the remedy when a store belongs to another lake; one that belongs to none is fine."""
    found = owner(store, lake.identity)
    if found not in {None, lake.identity}:
        raise Conflict(
            f"the store {store.uri} belongs to the lake {found}, not to {lake.identity}: choose another home (--home "
            f"DIR, PETPARK_HOME) or store (PETPARK_STORE), or, if the lake has moved, write its new address to {KEY}"
        )


def owner(store: files.Store, expected: str = "ADDRESS") -> str | None:
    """The lake that a store belongs to, by its identity (Lake.identity); None before the first version."""
    try:
        claimed = store.read(KEY)
    except NotFound:
        return None
    try:
        return str(json.loads(claimed)["lake"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(
            f'{KEY} in {store.uri} does not name a lake any more: write {{"lake":"{expected}"}} to it'
        ) from error


def refuse_inside(store_uri: str, home: Path, lake: Lake) -> None:
    """Raises InvalidInput where the home or the store lies in the lake, and would be ingested with the next look.

    Also behind a link, which a look at the lake follows, or spelled by one. Nothing below a hidden folder is ever
    listed, so the home `.petpark` may lie in a folder of photos.
    """
    for place in (store_uri, str(home)):
        if any(_is_listed(spelled, around) for spelled in _spellings(place) for around in _spellings(lake.uri)):
            raise InvalidInput(
                f"{place} lies in the lake {lake.uri}, whose photos it would become: choose a home (--home DIR, "
                "PETPARK_HOME) and a store (PETPARK_STORE) outside of it"
            )


def _spellings(uri: str) -> set[str]:
    """An address as it is written and as it really is; neither ends with a slash."""
    written = uri if "://" in uri else os.path.abspath(uri)  # noqa: PTH100 - Path.absolute keeps what follows ..
    return {written.rstrip("/"), files.real_address(uri).rstrip("/")}


def _is_listed(place: str, around: str) -> bool:
    inside = f"{place}/".removeprefix(f"{around}/")
    return inside != f"{place}/" and not any(part.startswith(".") for part in inside.split("/"))
