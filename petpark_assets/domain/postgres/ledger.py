"""The ledger in PostgreSQL, for all machines that share it: a row is a line of the file, byte for byte.

Who appends holds a lock until its row is committed, so that events are numbered in one order; a second row of a number
is refused by the table, as is whatever would change one (infra/ledger.sql). Whoever owns the table can still do that;
then the chain shows it, and for a cut tail the heads that records and registered versions carry.

The file that a home had before is moved in once (`take_in`), and nothing else is done while it lies there: what was
appended to either would be missing in the other.
Not here: the chain and the events (../ledger.py), connections and locks (server.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.errors import Conflict, InvalidInput
from petpark_assets.domain.ledger import (
    START,
    Event,
    FileLedger,
    NewLine,
    chained,
    checked_actor,
    new_line,
    read_line,
)
from petpark_assets.domain.postgres.server import AnswerLost, Database

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class

_LOCK = "ledger"
_INSERT = "INSERT INTO ledger.events (number, line) VALUES (%s, %s)"


class PostgresLedger:
    """The ledger of all homes that name one database."""

    def __init__(self, database: Database, file: FileLedger) -> None:
        """`file` is where this home's events are, or would be, without the database; its actor acts here."""
        self._database = database
        self._file = file
        self.actor = checked_actor(file.actor)

    def append(self, event: str, subject: Mapping[str, Any]) -> str:
        """See Ledger. Raises TransientError, InvalidInput (server.py); after AnswerLost it may have been appended."""
        self._refuse_file()
        try:
            with self._database.transaction(_LOCK) as cursor:
                new = new_line(self.actor, event, subject, self._last(cursor), _now(cursor))
                _insert(cursor, new)
        except AnswerLost:
            if not self._has(new):
                raise
        return new.digest

    def events(self) -> Iterator[Event]:
        """See Ledger."""
        yield from chained(self._lines(), self._database.where)

    def head(self) -> str:
        """See Ledger."""
        self._refuse_file()
        with self._database.transaction() as cursor:
            last = self._last(cursor)
        return last.digest if last else START

    def verify(self) -> None:
        """See Ledger."""
        for _ in self.events():
            pass

    @contextmanager
    def held(self) -> Iterator[tuple[bytes, list[Event]]]:
        """See Ledger; what it gives is what would be in the file."""
        self._refuse_file()
        with self._database.transaction(_LOCK, is_shared=True) as cursor:
            lines = _all(cursor)
            yield b"".join(line + b"\n" for line in lines), list(chained(lines, self._database.where))

    def is_begun(self) -> bool:
        """See Ledger."""
        with self._database.transaction() as cursor:
            return self._last_row(cursor) is not None

    def take_in(self) -> int:
        """See Ledger; the file is `ledger.jsonl.moved` then. All of it or nothing, and the same again after a kill.

        Raises Conflict where the database has another history: one of the two must be the beginning of the other.
        """
        if not self._file.is_begun():
            return 0
        with self._file.leaving() as lines, self._database.transaction(_LOCK) as cursor:
            events = list(chained(lines, str(self._file.path)))
            known = _all(cursor)
            num_common = min(len(lines), len(known))
            if lines[:num_common] != known[:num_common]:
                raise Conflict(
                    f"{self._database.where} has the ledger of another home, not that of {self._file.path}: choose "
                    "another database, or move the file away"
                )
            for event, line in zip(events[num_common:], lines[num_common:], strict=True):
                _insert(cursor, NewLine(number=event.number, digest=event.digest, line=line))
        return len(lines) - num_common

    def _lines(self) -> list[bytes]:
        self._refuse_file()
        with self._database.transaction() as cursor:
            return _all(cursor)

    def _last(self, cursor: "Cursor") -> Event | None:
        row = self._last_row(cursor)
        return read_line(row[0].encode(), "the last line", self._database.where) if row else None

    def _last_row(self, cursor: "Cursor") -> tuple[str] | None:
        cursor.execute("SELECT line FROM ledger.events ORDER BY number DESC LIMIT 1")
        row: tuple[str] | None = cursor.fetchone()
        return row

    def _has(self, new: NewLine) -> bool:
        """Whether a line is there after all. The lock is free once it is settled, whoever noticed that we were gone."""
        with self._database.transaction(_LOCK) as cursor:
            cursor.execute("SELECT line FROM ledger.events WHERE number = %s", (new.number,))
            row = cursor.fetchone()
        return row is not None and row[0].encode() == new.line

    def _refuse_file(self) -> None:
        """A history that is not moved in yet."""
        if self._file.is_begun():
            raise InvalidInput(
                f"{self._file.path} is this home's ledger, and PETPARK_LEDGER names another place: stop the platform "
                "and run `petpark upgrade`, which moves it there"
            )


def _insert(cursor: "Cursor", new: NewLine) -> None:
    cursor.execute(_INSERT, (new.number, new.line.decode()))


def _now(cursor: "Cursor") -> datetime:
    """The server's clock: those of several machines would put events before those that they follow."""
    cursor.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'")
    now: datetime = cursor.fetchone()[0]
    return now.replace(tzinfo=UTC)


def _all(cursor: "Cursor") -> list[bytes]:
    """Every line, without its end, in order."""
    cursor.execute("SELECT line FROM ledger.events ORDER BY number")
    return [line.encode() for (line,) in cursor]
