"""Databases as bytes, each as it was at one moment while others write to it: SQLite's files, PostgreSQL's by pg_dump.

Not here: which databases a home has (snapshot.py).
"""

import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, PetparkError, TransientError

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm", "-journal")
_BUSY_S = 60.0
"""Writers of a database with a rollback journal hold it for some milliseconds at a time."""


_OURS = ("-u", "PGPASSWORD", "-u", "PGSERVICE", "LC_ALL=C", "PGCONNECT_TIMEOUT=15")
"""A person's variables would win over the password's file; errors are understood in English."""
_MADE = re.compile(rb"^CREATE (?!SCHEMA|EXTENSION)", re.MULTILINE)
_REMEDIES = {
    "server version mismatch": "install the postgresql-client of the server's version",
    "unsupported version": "install the postgresql-client of the version that the backup was made with",
    "password authentication failed": "check user and password",
    "permission denied": "the database's owner must be the role that logs in (CREATE DATABASE ... OWNER ...)",
    "does not exist": "make it first (CREATE DATABASE), or check the address",
    "already exists": "it must be empty: DROP DATABASE, CREATE DATABASE, then run the same command again",
}
"""By words of PostgreSQL's programs; all else may pass."""


def read_file(path: Path) -> bytes:
    """A file's bytes, or a copy of the database that it is, by how it begins. Raises FileNotFoundError, CorruptData."""
    with path.open("rb") as file:
        is_database = file.read(len(_MAGIC)) == _MAGIC
    return copy_sqlite(path) if is_database else path.read_bytes()


def is_companion(path: Path) -> bool:
    """Whether a file is SQLite's own, beside a database: what it holds is in the copy of that."""
    return path.name.endswith(_COMPANIONS)


def copy_sqlite(path: Path) -> bytes:
    """A database's file as of one moment, by SQLite's online backup, in memory. Raises CorruptData."""
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as source,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            (page_size,) = source.execute("PRAGMA page_size").fetchone()
            copy.execute(f"PRAGMA page_size = {int(page_size)}")  # one in memory cannot take another's pages otherwise
            source.execute("BEGIN")  # backup alone would wait without end for a writer that leaves no pause
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy)
            return copy.serialize()
    except sqlite3.OperationalError as error:
        raise TransientError(f"{path} cannot be copied: {error}; run it again") from error
    except sqlite3.DatabaseError as error:
        raise CorruptData(f"{path} is not a database any more: restore it from a backup") from error


def dump_postgresql(url: str) -> bytes:
    """A whole database as pg_dump's archive, of one moment. Raises InvalidInput, TransientError."""
    return _run("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges"])


def restore_postgresql(url: str, dump: bytes) -> None:
    """Fill an empty database from such an archive: all of it or nothing. Raises InvalidInput, TransientError.

    Tables that are there already are never replaced: the call fails.
    """
    _run("pg_restore", url, ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"], dump)


def check_postgresql_empty(url: str) -> None:
    """Raises Conflict when a database has tables or the like, and what `dump_postgresql` raises."""
    if _MADE.search(_run("pg_dump", url, ["--schema-only", "--no-owner", "--no-privileges"])):
        raise Conflict(
            f"the database {_Address.of(url).where} is not empty: DROP DATABASE, CREATE DATABASE, then run the same "
            "command again"
        )


@dataclass(frozen=True)
class _Address:
    """A database's address without its password, which anybody could read on a command line."""

    where: str
    """HOST:PORT/DATABASE, for messages."""
    url: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> "_Address":
        parts = urlsplit(re.sub(r"^(postgres(?:ql)?)\+\w+:", r"\1:", url))  # SQLAlchemy's spelling names a driver too
        if "@" in parts.path + parts.query + parts.fragment:
            raise InvalidInput(
                "the address of a database must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with / ? # @ in a "
                "password written as %2F %3F %23 %40"
            )
        host, user = parts.netloc.rpartition("@")[2], f"{parts.username}@" if parts.username else ""
        return cls(host + parts.path, parts._replace(netloc=user + host).geturl(), unquote(parts.password or ""))


def _run(program: str, url: str, options: Sequence[str], given: bytes = b"") -> bytes:
    """One of PostgreSQL's programs, of the newest version that is here; the password goes by a file."""
    path, address = _debians(program) or shutil.which(program), _Address.of(url)
    if path is None:
        raise InvalidInput(f"{program} is not on this machine: apt-get install postgresql-client")
    with tempfile.NamedTemporaryFile("w", prefix="petpark-") as secret:  # for its owner alone to read
        secret.write("*:*:*:*:" + re.sub(r"([:\\])", r"\\\1", address.password) + "\n")
        secret.flush()
        told = ["/usr/bin/env", *_OURS, f"PGPASSFILE={secret.name}"]
        command = [*told, path, *options, "--no-password", f"--dbname={address.url}"]
        done = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603 - our own words only
    if done.returncode != 0:
        raise _understood(
            f"{program} of {address.where} failed", " ".join(done.stderr.decode(errors="replace").split())
        )
    return done.stdout


def _understood(what: str, said: str) -> PetparkError:
    for words, remedy in _REMEDIES.items():
        if words in said:
            return InvalidInput(f"{what}: {said[:300]}: {remedy}")
    return TransientError(f"{what}: {said[:300]}: run the same command again")


def _debians(program: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else None
