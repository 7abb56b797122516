"""What happened, in order: an append-only list of events, each chained to the one before it.

A line of canonical JSON is an event:

    {"actor", "digest", "event", "number", "previous", "subject", "time"}

`digest` is the sha256 of the canonical JSON of the other six fields, `previous` the digest of the event before
(64 zeros for the first), `number` counts from 1. So a flipped byte, a dropped line and a swapped line are all
found, and named, by reading the lines once. A chain cannot show a cut tail: records and registry versions carry
the head's digest for that.

Here the lines are those of a file, `ledger.jsonl` of a home on one machine; for several machines they are rows of
PostgreSQL, the same bytes (postgres/ledger.py).

A crash in the middle of a write leaves a last line without its end. It was never acknowledged (`append` returns
after the disk has the whole line), so readers pass over it and `verify` names it. The next `append` mends the file:
a line that lacks only its newline is kept as an event; any other piece moves, whole, to `ledger.jsonl.torn-<sha256>`
beside the ledger, and a `ledger_repaired` event says so.

Not here: what an event means for an asset, or reading the history of a model from it.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput

EVENTS: Mapping[str, str] = {
    "lake_read": "a look at the lake is about to become a version: which lake, and by which sources of labels",
    "dataset_version_made": "a manifest was written: a new version of the lake",
    "split_made": "a version was divided into its train side and its test side",
    "search_done": "hyperparameters were chosen for an attempt: recipe, seed, code version",
    "model_trained": "an attempt's network was trained: seed, code version, device, library versions",
    "test_side_opened": "a model was asked about the test side: which one, or which replayed weights, and what for",
    "verdict": "the report accepted or rejected an attempt's model",
    "gate_overridden": "a person let a rejected model through the gate, bound to its digests; who and why",
    "retrain_requested": "a rejected attempt asks for another training with a wider search",
    "retraining_started": "such a request is carried out",
    "package_made": "an accepted model became an ONNX package",
    "model_registered": "a package became an immutable version of the registry",
    "alias_moved": "candidate or champion now names another version; by whom and why",
    "model_downloaded": "a registered version was copied out of the registry, its sums verified",
    "label_corrected": "a person corrected what a photo shows; who and why",
    "photo_forgotten": "a photo's bytes and pixels were deleted everywhere; by whom and why",
    "ledger_repaired": "a line cut short by a crash was moved beside the ledger",
    "backup_made": "all of the home, as of an event, was copied elsewhere",
    "home_restored": "the home was made again from a backup: what happened after that is not in it",
}
"""Every event there is, and what it says. A new one gets its row here first."""

START = "0" * 64
"""What the first event has as `previous`, and the head of a ledger without events."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the ledger."""

    number: int
    """1, 2, 3, ... without gaps."""
    time: str
    """When it was written, by the clock of the machine that keeps the ledger: ISO 8601, UTC."""
    actor: str
    """Who: a person or a service."""
    event: str
    """One of EVENTS."""
    subject: Mapping[str, Any]
    """What it is about: versions, attempts, digests, reasons. JSON values."""
    previous: str
    """Digest of the event before this one."""
    digest: str
    """sha256 of the canonical JSON of all other fields."""


class Ledger(Protocol):
    """The history of a home, or of all that share it. Any number of processes may append and read at the same time."""

    def append(self, event: str, subject: Mapping[str, Any]) -> str:
        """Write one event and return its digest, the new head, once a disk has it.

        Raises CorruptData when the last line is not what was written, TransientError where it cannot be written now;
        nothing is appended then.
        """

    def events(self) -> Iterator[Event]:
        """All events from the first, each checked against the chain. Raises CorruptData at the first bad line."""

    def head(self) -> str:
        """Digest of the last event, which fixes the whole history; START when there is none.

        Only that line is read. Raises CorruptData when it is not what was written.
        """

    def verify(self) -> None:
        """Read every line and check the whole chain. Raises CorruptData naming the first bad line."""

    def held(self) -> AbstractContextManager[tuple[bytes, list[Event]]]:
        """The whole lines, and their events, while nobody appends: for moments, since a build waits meanwhile.

        Raises CorruptData at the first bad line.
        """

    def is_begun(self) -> bool:
        """Whether there is anything where the events should be."""

    def take_in(self) -> int:
        """Move in what the home's file holds, if the events are kept elsewhere; the number of events that were new."""


@dataclass(frozen=True, kw_only=True)
class NewLine:
    """An event as it is to be written."""

    number: int
    digest: str
    line: bytes
    """Without its end."""


def check_event(event: str) -> None:
    """Raises AssertionError for what is none of EVENTS: a bug of ours."""
    if event not in EVENTS:
        raise AssertionError(f"{event!r} is not an event of the ledger: {', '.join(EVENTS)}")


def new_line(actor: str, event: str, subject: Mapping[str, Any], last: Event | None, now: datetime) -> NewLine:
    """The event that follows another, or the first."""
    check_event(event)
    number, previous = (last.number + 1, last.digest) if last else (1, START)
    content = {
        "number": number, "time": now.isoformat(), "actor": actor,
        "event": event, "subject": subject, "previous": previous,
    }  # fmt: skip
    digest = files.digest(content)
    return NewLine(number=number, digest=digest, line=files.canonical_json({**content, "digest": digest}))


def read_line(line: bytes, name: str, where: str) -> Event:
    """One line as an event whose digest holds. Raises CorruptData."""
    try:
        fields = json.loads(line)
        event = Event(**fields)
        content = {name: value for name, value in fields.items() if name != "digest"}
        is_intact = files.digest(content) == event.digest and files.canonical_json(fields) == line
    except (ValueError, TypeError):
        is_intact = False
    if not is_intact:
        raise CorruptData(f"{name} of {where} was changed after it was written: restore it from a backup")
    return event


def chained(lines: Iterable[bytes], where: str) -> Iterator[Event]:
    """Lines as events, each of which follows the one before it. Raises CorruptData at the first that does not."""
    previous = START
    for number, line in enumerate(lines, start=1):
        event = read_line(line, f"line {number}", where)
        if event.number != number or event.previous != previous:
            raise CorruptData(
                f"line {number} of {where} does not follow the line before it: it is event {event.number} "
                f"after {event.previous[:12]}…, expected event {number} after {previous[:12]}…: a line was "
                "dropped, added or moved; restore it from a backup"
            )
        previous = event.digest
        yield event


def checked_actor(actor: str) -> str:
    """Who acts. Raises InvalidInput: a history without a who is none."""
    if not actor.strip():
        raise InvalidInput("the ledger must know who acts: set PETPARK_ACTOR to a name")
    return actor


class FileLedger:
    """The ledger as a file of a home, for the processes of one machine."""

    def __init__(self, path: Path, actor: str) -> None:
        self.path = path.absolute()
        self.actor = checked_actor(actor)

    def append(self, event: str, subject: Mapping[str, Any]) -> str:
        """See Ledger; TransientError is a full disk."""
        check_event(event)  # before a file is made for it
        with files.named_disk_errors(self.path), self._locked() as file:
            return self._write(file, event, subject, self._mend(file, *self._end(file)))

    def events(self) -> Iterator[Event]:
        """See Ledger."""
        with self._shared() as (lines, _):
            pass
        yield from chained(lines, str(self.path))

    def head(self) -> str:
        """See Ledger."""
        self._refuse_moved()
        if not self.path.exists():
            return START
        with self.path.open("rb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            last, _ = self._end(file)
        return last.digest if last else START

    def verify(self) -> None:
        """See Ledger."""
        with self._shared() as (lines, piece):
            pass
        num_events = sum(1 for _ in chained(lines, str(self.path)))
        if piece:
            raise CorruptData(
                f"line {num_events + 1} of {self.path} was cut short by a crash and never counted: "
                "the next event moves it beside the ledger"
            )

    @contextmanager
    def held(self) -> Iterator[tuple[bytes, list[Event]]]:
        """See Ledger."""
        with self._shared() as (lines, _):
            yield b"".join(line + b"\n" for line in lines), list(chained(lines, str(self.path)))

    def is_begun(self) -> bool:
        """See Ledger."""
        return self.path.exists() and self.path.stat().st_size > 0

    def take_in(self) -> int:
        """Nothing is to be moved."""
        return 0

    @contextmanager
    def leaving(self) -> Iterator[list[bytes]]:
        """The whole lines, without their ends, while they are moved elsewhere; then the file is `…moved`, and refused.

        A piece of a line that a crash left is mended first. After an error all is as before.
        """
        with files.named_disk_errors(self.path), self._locked() as file:
            self._mend(file, *self._end(file))
            file.seek(0)
            yield file.read().split(b"\n")[:-1]
            self.path.replace(self._moved)

    @property
    def _moved(self) -> Path:
        return self.path.with_name(f"{self.path.name}.moved")

    def _refuse_moved(self) -> None:
        """A file that began anew would be a second history."""
        if self._moved.exists() and not self.is_begun():
            raise InvalidInput(
                f"the ledger {self.path} was moved to PostgreSQL: set PETPARK_LEDGER as it was then "
                f"({self._moved.name} has only what happened before)"
            )

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """The file, opened for appending, while no other process writes to it."""
        self._refuse_moved()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what a full disk refused must not be written after all when the file is closed.
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._refuse_moved()  # while we waited
            yield file

    @contextmanager
    def _shared(self) -> Iterator[tuple[list[bytes], bytes]]:
        """The whole lines, without their ends, and the piece behind them that a crash left, while nobody writes."""
        self._refuse_moved()
        if not self.path.exists():
            yield [], b""
            return
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            *lines, piece = file.read().split(b"\n")
            yield lines, piece

    def _end(self, file: FileIO) -> tuple[Event | None, bytes]:
        """The last whole event, and the piece of a line behind it (empty, but for a crash)."""
        end, tail = file.seek(0, os.SEEK_END), b""
        while end > 0 and tail.count(b"\n") <= 1:
            start = max(0, end - 64 * 1024)
            file.seek(start)
            tail, end = file.read(end - start) + tail, start
        *lines, piece = tail.split(b"\n")
        return (read_line(lines[-1], "the last line", str(self.path)) if lines else None), piece

    def _mend(self, file: FileIO, last: Event | None, piece: bytes) -> Event | None:
        """Deal with a piece of a line that a crash left; returns the last event then."""
        if not piece:
            return last
        try:
            event = read_line(piece, "the last line", str(self.path))
        except CorruptData:
            aside = self.path.with_name(f"{self.path.name}.torn-{files.sha256(piece)[:16]}")
            files.write_new(aside, piece)
            file.truncate(file.seek(0, os.SEEK_END) - len(piece))
            subject = {"moved_to": aside.name, "size_bytes": len(piece), "sha256": files.sha256(piece)}
            self._write(file, "ledger_repaired", subject, last)
            return self._end(file)[0]
        self._add(file, b"\n")
        return event

    def _write(self, file: FileIO, event: str, subject: Mapping[str, Any], last: Event | None) -> str:
        new = new_line(self.actor, event, subject, last, datetime.now(UTC))
        self._add(file, new.line + b"\n")
        return new.digest

    def _add(self, file: FileIO, data: bytes) -> None:
        """Append and sync; on a failure (a full disk) the file is as it was."""
        size_bytes = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size_bytes)
            raise
