"""One database of PostgreSQL: transactions that wait for each other by a lock's name, and errors in one line.

The one home of its driver: psycopg2, which dagster-postgres brings, and which is loaded in 34 ms (psycopg 3 in 127,
SQLAlchemy in 200). A connection lasts for one transaction, since processes fork and servers restart.
Not here: what is kept in it (ledger.py), or its tables (infra/ledger.sql).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from petpark_assets.domain.errors import InvalidInput, TransientError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMES = frozenset({"postgresql", "postgres", "postgresql+psycopg2"})
SCHEMA = 1
"""The version of its tables that this code knows."""
LOCKS = MappingProxyType({"ledger": 1, "registry": 2, "launch": 3, "backup": 4, "originals": 5})
"""What can be locked: its number in this database, where nobody else's locks are."""
WAIT_S = 600.0
"""For a lock: who registers a model uploads its package meanwhile."""
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"
"""It is asked for again and again: while a driver waits, no Ctrl-C is heard."""
_CLIENT = {
    "connect_timeout": "10", "keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3",
    "tcp_user_timeout": "30000", "client_encoding": "UTF8", "application_name": "petpark",
}  # fmt: skip
"""So that a server that is gone is noticed within half a minute; and the other way round:"""
_SERVER = (
    "SET LOCAL tcp_keepalives_idle = 15; SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3; "
    "SET LOCAL idle_in_transaction_session_timeout = 0"
)
_VERSION = "SELECT version FROM ledger.schema_version"
_FOR_EVER = (
    "authentication failed", "no password supplied", "does not exist", "not permitted to log in", "pg_hba.conf",
    "does not support SSL", "certificate", "permission denied", "invalid connection option", "invalid sslmode",
)  # fmt: skip
"""In what is said to whom a server refuses: it will refuse again."""


class AnswerLost(TransientError):
    """The connection broke while a transaction ended: it may have been committed, or not."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where it is, and what we say who we are."""

    where: str
    """host:port/name, for messages."""
    told: Mapping[str, str] = field(repr=False)
    """What the driver is told, the password among it."""

    @contextmanager
    def transaction(self, lock: str | None = None, *, is_shared: bool = False) -> Iterator["Cursor"]:
        """A transaction that is committed at the end of the block; after an error, or a kill, nothing of it is there.

        Args:
            lock: One of LOCKS, held until then, also against other machines.
            is_shared: Others who say so may hold it as well.

        Raises:
            TransientError: the server does not answer, or another has the lock for too long.
            AnswerLost: whether it was committed is not known.
            InvalidInput: the server refuses us, has no such tables, or those of a newer version.
        """
        connection = self._begin(lock, is_shared=is_shared, busy=None)
        try:
            with self._clear_errors():
                yield connection.cursor()
            self._commit(connection)
        finally:
            connection.close()

    @contextmanager
    def alone(self, lock: str, busy: str | None = None) -> Iterator[datetime]:
        """Hold one of LOCKS; see `transaction`. Where another has it `busy` is said at once; without it, we wait.

        Gives the server's start, by its clock. Raises TransientError where it is busy, and at the end where the lock
        was lost on the way.
        """
        connection = self._begin(lock, is_shared=False, busy=busy)
        try:
            with self._clear_errors():
                cursor = connection.cursor()
                cursor.execute("SELECT pg_postmaster_start_time()")
                started: datetime = _one(cursor)
            yield started
            with self._clear_errors():
                connection.cursor().execute("SELECT 1")  # a server that was restarted meanwhile has let others in
        finally:
            connection.close()

    def _begin(self, lock: str | None, *, is_shared: bool, busy: str | None) -> "Connection":
        """A connection with a transaction that has the lock."""
        deadline = time.monotonic() + WAIT_S
        while (connection := self._try(lock, is_shared=is_shared, can_wait=busy is None)) is None:
            if busy is not None or time.monotonic() > deadline:
                long = f"another process has had the lock {lock} of {self.where} for {WAIT_S:.0f} s: try again"
                raise TransientError(busy or long)
        return connection

    def _try(self, lock: str | None, *, is_shared: bool, can_wait: bool) -> "Connection | None":
        """None where another has the lock: a transaction that waited in vain is of no use any more."""
        connection, has_begun = self._connect(), False
        try:
            with self._clear_errors():
                cursor = connection.cursor()
                self._check_schema(cursor)
                has_begun = lock is None or _take(cursor, LOCKS[lock], is_shared=is_shared, can_wait=can_wait)
        finally:
            if not has_begun:
                connection.close()
        return connection if has_begun else None

    def _connect(self) -> "Connection":
        import psycopg2

        try:
            connection = psycopg2.connect(**{**_CLIENT, **self.told})
        except psycopg2.Error as error:
            words = self._words(error)
            if any(known in words for known in _FOR_EVER):
                raise InvalidInput(f"the PostgreSQL of PETPARK_LEDGER, {self.where}, refuses: {words}") from None
            raise TransientError(
                f"the PostgreSQL of PETPARK_LEDGER, {self.where}, cannot be reached: {words}"
            ) from None
        connection.set_session(isolation_level="READ COMMITTED")  # what was committed while we waited must be seen
        return connection

    def _check_schema(self, cursor: "Cursor") -> None:
        """Raises InvalidInput where there is none, or one of a newer version."""
        import psycopg2.errors

        try:
            cursor.execute(f"{_SERVER}; {_LOCK_TIMEOUT}; {_VERSION}")
        except psycopg2.errors.UndefinedTable:
            raise InvalidInput(f"{self.where} has no ledger: run infra/ledger.sql there, by psql") from None
        version = _one(cursor)
        if version != SCHEMA:
            raise InvalidInput(
                f"the ledger in {self.where} has schema {version}, and this is a version of petpark for schema "
                f"{SCHEMA}: {'install a newer petpark' if version > SCHEMA else 'run infra/ledger.sql there'}"
            )

    def _commit(self, connection: "Connection") -> None:
        import psycopg2

        with self._clear_errors():
            try:
                connection.commit()
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                raise AnswerLost(f"{self.where} went away while it wrote: {self._words(error)}: try again") from None

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """The driver's errors in one line."""
        import psycopg2

        try:
            yield
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise TransientError(f"the ledger's {self.where} went away: {self._words(error)}: try again") from None
        except psycopg2.Error as error:
            raise InvalidInput(f"the ledger's {self.where} refuses: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        words = " ".join(str(error).split())[:300]
        return words.replace(self.told["password"], "***") if self.told.get("password") else words


def parse(url: str) -> Database:
    """A database by its URL. Raises InvalidInput, which repeats nothing of it: an unquoted password is anywhere in it.

    Options of libpq may follow (`?sslmode=verify-full&sslrootcert=FILE`).
    """
    try:
        parts = urlsplit(url)
        port, options = parts.port or 5432, dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _unreadable() from None
    host, name = parts.hostname or options.get("host"), unquote(parts.path.removeprefix("/"))
    is_clear = parts.scheme in SCHEMES and name and "/" not in name and not parts.fragment
    if not host or not is_clear or "@" in parts.path + parts.query:
        raise _unreadable()
    told = {"host": host, "port": str(port), "dbname": name, **options}
    known = {"user": parts.username, "password": parts.password}
    told |= {key: unquote(value) for key, value in known.items() if value}
    return Database(where=f"{host}:{port}/{name}", told=told)


def _unreadable() -> InvalidInput:
    return InvalidInput(
        "PETPARK_LEDGER must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE (in a password, @ / : # ? and % are "
        "written %40 %2F %3A %23 %3F and %25)"
    )


def _take(cursor: "Cursor", number: int, *, is_shared: bool, can_wait: bool) -> bool:
    """Whether we have a lock now; the server lets go of it with the transaction, or when our process is killed."""
    import psycopg2.errors

    function = f"pg_{'' if can_wait else 'try_'}advisory_xact_lock{'_shared' if is_shared else ''}"
    try:
        cursor.execute(f"SELECT {function}(%s)", (number,))
    except psycopg2.errors.LockNotAvailable:
        return False
    return can_wait or bool(_one(cursor))


def _one(cursor: "Cursor") -> Any:
    row = cursor.fetchone()
    assert row is not None  # a function, or a view of one row
    return row[0]
