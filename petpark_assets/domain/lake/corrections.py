"""Corrections of labels: what a person says of a photo's bytes, with the reason, kept for ever in the store.

A correction holds under every key that has these bytes and in every later version; of several the last one counts, and
all stay: `corrections/000001.json`, `000002.json`, ...  Not here: what a correction overrules (labels.py).
"""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.records import LABELS

FOLDER = "corrections"
MAX_LENGTHS: Mapping[str, int] = MappingProxyType({"by": 100, "because": 500})
"""In characters: every row of a corrected photo repeats both, in every version."""

_NAME = re.compile(rf"{FOLDER}/(\d{{6,}})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUM_READERS = 16
"""A bucket takes some 20 ms to answer whatever the size, and there may be a thousand corrections."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """One person's word about one photo. Raises InvalidInput on what is no sha256 or class, without name or reason."""

    sha256: str
    """Of the photo's bytes."""
    label: str
    """One of LABELS."""
    by: str
    """Who says so."""
    because: str
    """Why, in one line."""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise InvalidInput(f"{self.sha256!r} is no sha256: a correction is of a photo's bytes, 64 digits")
        if self.label not in LABELS:
            raise InvalidInput(f"{self.label!r} is no class: a photo can be corrected to {' or '.join(LABELS)}")
        for name, text in (("by", self.by), ("because", self.because)):
            if text != " ".join(text.split()) or not 0 < len(text) <= MAX_LENGTHS[name]:
                raise InvalidInput(
                    f"a correction's {name!r} is {text[:40]!r}: it names the person and the reason, each in one line "
                    f"(at most {MAX_LENGTHS[name]} characters here)"
                )


def correct(store: files.Store, correction: Correction, circumstances: Mapping[str, Any] | None = None) -> str:
    """Add a correction and return its key; the next version of the lake has it.

    Of two people at once both succeed, one after the other.
    """
    document = {"content": correction, "digest": files.digest(correction), "circumstances": circumstances or {}}
    number = max((number for number, _ in _list(store)), default=0) + 1
    while not store.write_new(_key(number), files.canonical_json(document)):
        number += 1
    return _key(number)


def read_corrections(store: files.Store) -> tuple[Correction, ...]:
    """All corrections, first to last. Raises CorruptData naming one that was changed after it was made."""
    keys = [key for _, key in _list(store)]
    if not keys:
        return ()
    with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="corrections") as pool:
        return tuple(pool.map(lambda key: _read(store, key), keys))


def _list(store: files.Store) -> list[tuple[int, str]]:
    """Numbers and keys, sorted by number."""
    return sorted((int(match[1]), key) for key in store.list_keys(FOLDER) if (match := _NAME.fullmatch(key)))


def _key(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _read(store: files.Store, key: str) -> Correction:
    try:
        document = json.loads(store.read(key))
        correction = Correction(**document["content"])
        recorded = document["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise _changed(store, key) from error
    if files.digest(correction) != recorded:
        raise _changed(store, key)
    return correction


def _changed(store: files.Store, key: str) -> CorruptData:
    return CorruptData(f"{key} in {store.uri} was changed after it was made: put it back from a backup")
