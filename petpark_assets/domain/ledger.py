"""What happened, in order: an append-only file of events, each chained to the one before it.

`ledger.jsonl` holds one line of canonical JSON an event:

    {"actor", "digest", "event", "number", "previous", "subject", "time"}

`digest` is the sha256 of the canonical JSON of the other six fields, `previous` the digest of the event before
(64 zeros for the first), `number` counts from 1. So a flipped byte, a dropped line and a swapped line are all
found, and named, by reading the file once. A chain cannot show a cut tail: registry versions carry
the head's digest for that.

A crash in the middle of a write leaves a last line without its end. It was never acknowledged (`append` returns
after the disk has the whole line), so readers pass over it and `verify` names it. The next `append` mends the file:
a line that lacks only its newline is kept as an event; any other piece moves, whole, to `ledger.jsonl.torn-<sha256>`
beside the ledger, and a `ledger_repaired` event says so.

Not here: what an event means for an asset, or reading the history of a model from it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput

EVENTS: Mapping[str, str] = {
    "dataset_version_made": "a manifest was written: a new version of the lake",
    "split_made": "a version was divided into its train side and its test side",
    "search_done": "hyperparameters were chosen for an attempt: recipe, seed, code version",
    "model_trained": "an attempt's network was trained: seed, code version, device, library versions",
    "test_side_opened": "an attempt's model was examined on the test side",
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
    """When it was written, by this machine's clock: ISO 8601, UTC."""
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


class Ledger:
    """The ledger of one home. Any number of processes may append and read at the same time."""

    def __init__(self, path: Path, actor: str) -> None:
        if not actor.strip():
            raise InvalidInput("the ledger must know who acts: set PETPARK_ACTOR to a name")
        self.path = path.absolute()
        self.actor = actor

    def append(self, event: str, subject: Mapping[str, Any]) -> str:
        """Write one event and return its digest, the new head, once the disk has it.

        Raises CorruptData when the ledger's last line is not what was written, TransientError on a full disk;
        nothing is appended then.
        """
        if event not in EVENTS:
            raise AssertionError(f"{event!r} is not an event of the ledger: {', '.join(EVENTS)}")
        with files.named_disk_errors(self.path), self._locked() as file:
            previous, number = self._mend(file, *self._end(file))
            return self._write(file, event, subject, previous=previous, number=number + 1)

    def events(self) -> Iterator[Event]:
        """All events from the first, each checked against the chain. Raises CorruptData at the first bad line."""
        lines, _ = self._lines()
        yield from self._chained(lines)

    def head(self) -> str:
        """Digest of the last event, which fixes the whole history; START when there is none. Raises CorruptData."""
        head = START
        for event in self.events():
            head = event.digest
        return head

    def verify(self) -> None:
        """Read every line and check the whole chain. Raises CorruptData naming the first bad line."""
        lines, piece = self._lines()
        num_events = sum(1 for _ in self._chained(lines))
        if piece:
            raise CorruptData(
                f"line {num_events + 1} of {self.path} was cut short by a crash and never counted: "
                "the next event moves it beside the ledger"
            )

    @contextmanager
    def held(self) -> Iterator[tuple[bytes, list[Event]]]:
        """The whole lines, and their events, while nobody appends: for moments, since a build waits meanwhile.

        Raises CorruptData at the first bad line.
        """
        if not self.path.exists():
            yield b"", []
            return
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            *lines, _ = file.read().split(b"\n")
            yield b"".join(line + b"\n" for line in lines), list(self._chained(lines))

    def _chained(self, lines: list[bytes]) -> Iterator[Event]:
        previous = START
        for number, line in enumerate(lines, start=1):
            event = self._read(line, f"line {number}")
            if event.number != number or event.previous != previous:
                raise CorruptData(
                    f"line {number} of {self.path} does not follow the line before it: it is event {event.number} "
                    f"after {event.previous[:12]}…, expected event {number} after {previous[:12]}…: a line was "
                    "dropped, added or moved; restore the file from a backup"
                )
            previous = event.digest
            yield event

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """The file, opened for appending, while no other process writes to it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what a full disk refused must not be written after all when the file is closed.
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _lines(self) -> tuple[list[bytes], bytes]:
        """The whole lines, without their ends, and the piece behind them that a crash left; no half of a write."""
        if not self.path.exists():
            return [], b""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            *lines, piece = file.read().split(b"\n")
        return lines, piece

    def _read(self, line: bytes, where: str) -> Event:
        """One line as an event whose digest holds."""
        try:
            fields = json.loads(line)
            event = Event(**fields)
            content = {name: value for name, value in fields.items() if name != "digest"}
            is_intact = files.digest(content) == event.digest and files.canonical_json(fields) == line
        except (ValueError, TypeError):
            is_intact = False
        if not is_intact:
            raise CorruptData(f"{where} of {self.path} was changed after it was written: restore it from a backup")
        return event

    def _end(self, file: FileIO) -> tuple[Event | None, bytes]:
        """The last whole event, and the piece of a line behind it (empty, but for a crash)."""
        end, tail = file.seek(0, os.SEEK_END), b""
        while end > 0 and tail.count(b"\n") <= 1:
            start = max(0, end - 64 * 1024)
            file.seek(start)
            tail, end = file.read(end - start) + tail, start
        *lines, piece = tail.split(b"\n")
        return (self._read(lines[-1], "the last line") if lines else None), piece

    def _mend(self, file: FileIO, last: Event | None, piece: bytes) -> tuple[str, int]:
        """Deal with a piece of a line that a crash left; returns the digest and number of the last event then."""
        previous, number = (last.digest, last.number) if last else (START, 0)
        if not piece:
            return previous, number
        try:
            event = self._read(piece, "the last line")
        except CorruptData:
            aside = self.path.with_name(f"{self.path.name}.torn-{files.sha256(piece)[:16]}")
            files.write_new(aside, piece)
            file.truncate(file.seek(0, os.SEEK_END) - len(piece))
            subject = {"moved_to": aside.name, "size_bytes": len(piece), "sha256": files.sha256(piece)}
            return self._write(file, "ledger_repaired", subject, previous=previous, number=number + 1), number + 1
        self._add(file, b"\n")
        return event.digest, event.number

    def _write(self, file: FileIO, event: str, subject: Mapping[str, Any], *, previous: str, number: int) -> str:
        content = {
            "number": number, "time": datetime.now(UTC).isoformat(), "actor": self.actor,
            "event": event, "subject": subject, "previous": previous,
        }  # fmt: skip
        digest = files.digest(content)
        self._add(file, files.canonical_json({**content, "digest": digest}) + b"\n")
        return digest

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
