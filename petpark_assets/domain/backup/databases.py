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
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm", "-journal")
_BUSY_S = 60.0
"""Writers of a database with a rollback journal hold it for some milliseconds at a time."""


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


def _run(program: str, url: str, options: Sequence[str], given: bytes = b"") -> bytes:
    """One of PostgreSQL's programs; the password goes by a file, since anybody can read a process's arguments."""
    path = shutil.which(program) or _debians(program)
    if path is None:
        raise InvalidInput(f"{program} is not on this machine: apt-get install postgresql-client")
    parts = urlsplit(re.sub(r"^(postgres(?:ql)?)\+\w+:", r"\1:", url))  # SQLAlchemy's spelling names a driver too
    host = parts.netloc.rpartition("@")[2]
    with tempfile.NamedTemporaryFile("w", prefix="petpark-") as secret:  # for its owner alone to read
        secret.write("*:*:*:*:" + re.sub(r"([:\\])", r"\\\1", unquote(parts.password or "")) + "\n")
        secret.flush()
        query = "&".join(part for part in (parts.query, f"passfile={quote(secret.name, safe='')}") if part)
        user = f"{parts.username}@" if parts.username else ""
        address = parts._replace(netloc=user + host, query=query).geturl()
        command = [path, *options, "--no-password", f"--dbname={address}"]
        done = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603 - our own words only
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise TransientError(f"{program} of {host}{parts.path} failed: {words}")
    return done.stdout


def _debians(program: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else None
