"""The kinds of sources of labels, and what each says of one photo: words, none where it says nothing.

    folders      a folder named cat, cats, dog or dogs, at any depth, in any case
    file names   `cat.123.jpg`, `Dog_12.jpeg`: the name of a class, one of `.` `_` `-`, a number
    statements   rows of a table or of a query, each about a key or about a sha256

Not here: how sources are spelt (label_specs.py), where rows come from (label_tables.py, label_queries.py), or whose
word counts (labels.py).
"""

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.records import LABELS

Words = tuple[str, ...]
"""What a source says of a photo: classes (cat, dog) and other words as they were written. Empty: it says nothing."""

Row = tuple[Any, Any, Any]
"""A key, a sha256 and a label as a table or a database has them; None where there is no such column or value."""

COLUMNS = ("key", "sha256", "label")
"""What rows have: the path below the lake, or the sha256 of the bytes, or both; and what the photo shows."""

WORDS: Mapping[str, str] = MappingProxyType({word: label for label in LABELS for word in (label, f"{label}s")})
"""How a class may be written, in any case."""

SAYS_NOTHING = frozenset({"", "null", "na", "n/a", "nan", "none", "\\n"})
"""What databases and exports write where there is no label, in any case."""

MAX_WORD_LENGTH = 60
"""Of an unknown word, in characters: people are shown it, and a label's column may hold whole texts."""

MAX_WORDS = 8
"""About one photo in one table: two that differ are a conflict already, and a column may be the wrong one."""

_NUMBERED_NAME = re.compile(r"([a-z]+)[._-]\d+\.", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Source(Protocol):
    """One source of labels, read whole: asking it reads nothing."""

    @property
    def name(self) -> str:
        """As manifests have it: `folder`, `labels.csv`, `sql:park.db`. Never a secret."""

    def words(self, key: str, sha256: str | None) -> Words:
        """What it says of a photo; sha256 is None where the bytes could not be read."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The names of the folders that a photo lies in."""

    name: ClassVar[str] = "folder"

    def words(self, key: str, sha256: str | None) -> Words:  # noqa: ARG002  other kinds ask for it
        """A class for each folder that is named like one.

        >>> Folders().words("park/Dogs/rex.png", None), Folders().words("bird/1.jpg", None)
        (('dog',), ())
        """
        return _folder_words(key.rpartition("/")[0])


@functools.lru_cache(maxsize=4096)
def _folder_words(folders: str) -> Words:
    return tuple(WORDS[folder] for folder in folders.lower().split("/") if folder in WORDS)


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The name of the photo's file."""

    name: ClassVar[str] = "file_name"

    def words(self, key: str, sha256: str | None) -> Words:  # noqa: ARG002  other kinds ask for it
        """The class that the name starts with, if a number follows.

        >>> FileNames().words("train/dog.7.jpg", None), FileNames().words("cat-and-dog.jpg", None)
        (('dog',), ())
        """
        match = _NUMBERED_NAME.match(key.rpartition("/")[2])
        label = WORDS.get(match[1].lower()) if match else None
        return (label,) if label else ()


@dataclass(frozen=True, kw_only=True)
class Statements:
    """What the rows of a table or of a query say.

    A row with a sha256 is about these bytes wherever they lie, and its key is for people: so a label never passes to
    other bytes that came under the same key. A row without one is about whatever lies under its key.
    """

    name: str
    by_key: Mapping[str, Words]
    """Sorted and without repeats, at most MAX_WORDS."""
    by_sha256: Mapping[str, Words]
    num_nameless: int
    """Rows that have a label but neither key nor sha256."""

    def words(self, key: str, sha256: str | None) -> Words:
        """The labels of all rows about this photo."""
        return self.by_key.get(key, ()) + (self.by_sha256.get(sha256, ()) if sha256 else ())

    def num_unused(self, keys: Collection[str], sha256s: Collection[str | None]) -> int:
        """Keys and sha256s with a label that no photo of the lake has, and rows that have neither."""
        return len(self.by_key.keys() - set(keys)) + len(self.by_sha256.keys() - set(sha256s)) + self.num_nameless


def find_columns(
    name: str, found: Sequence[str], chosen: Mapping[str, str], remedy: str
) -> tuple[int | None, int | None, int]:
    """Where key, sha256 and label stand among a table's columns; upper or lower case where there is no other.

    `chosen` are other names for them. Raises InvalidInput with the remedy where they are not there, or twice.
    """
    wanted = [chosen.get(column, column) for column in COLUMNS]
    key, sha256, label = (_place(name, found, column) for column in wanted)
    places = dict(zip(COLUMNS, (key, sha256, label), strict=True))
    if label is None or (key is None and sha256 is None) or any(places[column] is None for column in chosen):
        there = ", ".join(repr(column[:40]) for column in found[:20]) or "none"
        raise InvalidInput(
            f"the labels {name} need the column {wanted[2]!r}, and {wanted[0]!r} or {wanted[1]!r}; there are {there}: "
            f"{remedy}"
        )
    used = [place for place in places.values() if place is not None]
    if len(set(used)) < len(used):
        raise InvalidInput(f"the labels {name} take one column for two things: {remedy}")
    return key, sha256, label


def _place(name: str, found: Sequence[str], wanted: str) -> int | None:
    exact = [place for place, column in enumerate(found) if column == wanted]
    places = exact or [place for place, column in enumerate(found) if column.strip().lower() == wanted.lower()]
    if len(places) > 1:
        raise InvalidInput(f"the labels {name} have {len(places)} columns {wanted!r}: leave one of them")
    return places[0] if places else None


def gather(name: str, rows: Iterable[Row]) -> Statements:
    """Statements from rows, taken one by one; a row without a label says nothing.

    Raises InvalidInput on a sha256 that is none.
    """
    by_key: dict[str, Words] = {}
    by_sha256: dict[str, Words] = {}
    num_nameless = 0
    for key, sha256, label in rows:
        word = _read_word(_text(label))
        if word is None:
            continue
        if sha256:
            digest = _checked_sha256(name, sha256)
            by_sha256[digest] = _with(by_sha256.get(digest, ()), word)
        elif text := _text(key):
            by_key[text] = _with(by_key.get(text, ()), word)
        else:
            num_nameless += 1
    return Statements(name=name, by_key=by_key, by_sha256=by_sha256, num_nameless=num_nameless)


@functools.lru_cache(maxsize=4096)
def _with(words: Words, word: str) -> Words:
    """One object for the same words: of a million rows few say anything different."""
    return words if word in words else tuple(sorted((*words, word))[:MAX_WORDS])


@functools.lru_cache(maxsize=4096)
def _read_word(text: str) -> str | None:
    """A class, another word as it was written (in one line, cut when long), or None for nothing."""
    word = " ".join(text.split())
    if word.lower() in SAYS_NOTHING:
        return None
    return WORDS.get(word.lower(), word if len(word) <= MAX_WORD_LENGTH else f"{word[: MAX_WORD_LENGTH - 1]}…")


def _checked_sha256(name: str, value: Any) -> str:
    """Lower-case hexadecimal, from text or from 32 bytes."""
    digest = bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else str(value).strip().lower()
    if not _SHA256.fullmatch(digest):
        raise InvalidInput(
            f"the labels {name} have {digest[:80]!r} as a sha256: give 64 hexadecimal digits (sha256sum FILE), or name "
            "photos by their key, without that column"
        )
    return digest


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
