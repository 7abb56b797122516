"""Claims about copies of databases: each is of one moment, however busy its writers are, and opens elsewhere."""

import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from petpark_assets.domain.backup import databases
from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, TransientError

WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = " + sys.argv[2])
connection.execute("CREATE TABLE one (n INTEGER, filling BLOB)")
connection.execute("CREATE TABLE other (n INTEGER, filling BLOB)")
print("ready", flush=True)
for number in range(10**9):
    connection.execute("BEGIN IMMEDIATE")
    for table in ("one", "other"):
        connection.execute(f"INSERT INTO {table} VALUES (?, randomblob(3000))", (number,))
    connection.execute("COMMIT")
    time.sleep(0.001)
"""

COUNTS = ("SELECT count(*) FROM one", "SELECT count(*) FROM other")


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_copy_is_of_one_moment_while_another_process_writes(tmp_path, journal):
    """Half a transaction in a backup would be a registry or a history that never was."""
    path = tmp_path / "odd #? name.db"
    command = [sys.executable, "-c", WRITER, str(path), journal]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            writer.stdout.readline()
            copies = [(databases.copy_sqlite(path), time.sleep(0.02))[0] for _ in range(20)]
        finally:
            writer.kill()
    counts = [_count(tmp_path / "copy.db", data) for data in copies]
    assert all(one == other for one, other in counts)
    assert counts[0] < counts[-1], "nobody wrote meanwhile, so it proves nothing"


def _count(path, data):
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        one, other = (connection.execute(query).fetchone()[0] for query in COUNTS)
    return one, other


def test_a_damaged_database_is_no_backup(tmp_path):
    """It must be heard of when it is copied, not when the copy is needed."""
    path = tmp_path / "broken.db"
    path.write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    with pytest.raises(CorruptData, match=r"broken\.db is not a database any more"):
        databases.copy_sqlite(path)


@pytest.mark.debian
def test_a_database_of_postgresql_comes_back_whole_or_not_at_all(postgres, monkeypatch):
    """The production profile keeps runs and the registry there; its password is in no process's arguments."""
    from petpark_assets_tests.postgres import PASSWORD

    commands, run = [], subprocess.run
    monkeypatch.setattr(databases.subprocess, "run", lambda told, **how: (commands.append(told), run(told, **how))[1])
    postgres.run("CREATE DATABASE before", "CREATE DATABASE after", "CREATE TABLE here (n INTEGER)")
    before, after, other = (_url(postgres, name) for name in ("before", "after", "postgres"))
    dump = databases.dump_postgresql(other)
    assert dump.startswith(b"PGDMP")
    assert PASSWORD.encode() not in dump
    databases.restore_postgresql(after, dump)
    assert b"here" in databases.dump_postgresql(after)
    with pytest.raises(InvalidInput, match=r"pg_restore of 127.0.0.1:\d+/after failed: .*already exists.*: it must be"):
        databases.restore_postgresql(after, dump)
    databases.check_postgresql_empty(before)
    words = [str(word) for command in commands for word in command]
    assert {Path(word).name for word in words} >= {"pg_dump", "pg_restore"}
    assert [word for word in words if PASSWORD in word or quote(PASSWORD, safe="") in word] == []


@pytest.mark.debian
def test_a_database_with_anything_in_it_is_not_empty(postgres):
    """A table is never filled up with another park's rows."""
    url = postgres.add_database("emptyornot", "pw-empty")
    databases.check_postgresql_empty(url)
    databases.restore_postgresql(f"{url}?connect_timeout=5", databases.dump_postgresql(url))
    databases.check_postgresql_empty(url)
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE counted")
    with pytest.raises(Conflict, match=r"the database 127\.0\.0\.1:\d+/emptyornot is not empty: DROP DATABASE, CREATE"):
        databases.check_postgresql_empty(url)


@pytest.mark.debian
def test_a_database_of_another_owner_is_refused_with_what_to_do(postgres):
    """Since PostgreSQL 15 only the owner may create in it: to wait and try again would never help."""
    own = postgres.add_database("itsown", "pw-own")
    postgres.run("CREATE DATABASE administrators", "CREATE TABLE moved (n INTEGER)")
    dump = databases.dump_postgresql(_url(postgres, "postgres"))
    url = own.removesuffix("itsown") + "administrators"
    with pytest.raises(InvalidInput, match=r"permission denied for schema public.*: the database's owner must be"):
        databases.restore_postgresql(url, dump)
    postgres.run("DROP DATABASE administrators", "CREATE DATABASE administrators OWNER itsown")
    databases.restore_postgresql(url, dump)


@pytest.mark.debian
def test_each_refusal_is_one_line_without_the_password(postgres, monkeypatch):
    """Who restores at night reads what to do, and posts the line where others help."""
    url, secret = postgres.add_database("refusing", "hunter2+"), "hunter2"
    with newer_server() as port:
        cases = {
            url.replace("hunter2", "hunter3"): (InvalidInput, "password authentication failed .*: check user and pass"),
            url.removesuffix("refusing") + "nowhere": (InvalidInput, "does not exist: make it first"),
            f"postgresql://u:{secret}@127.0.0.1:9/x": (TransientError, "Connection refused .*: run the same command"),
            f"postgresql://u:{secret}@127.0.0.1:{port}/x": (
                InvalidInput, r"server version: 99\.1; pg_dump version: \d.*: install the postgresql-client of the",
            ),
            f"postgresql://u:{secret}/x?#@127.0.0.1/x": (InvalidInput, "must be postgresql://USER:PASSWORD@HOST"),
        }  # fmt: skip
        monkeypatch.setenv("PGPASSWORD", "another's")
        for address, (kind, words) in cases.items():
            with pytest.raises(kind, match=words) as refused:
                databases.dump_postgresql(address)
            assert "\n" not in str(refused.value)
            assert "hunter" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(
        InvalidInput, match=r"pg_restore of .* failed: .*: install the postgresql-client of the version"
    ):
        databases.restore_postgresql(url, databases.dump_postgresql(url).replace(b"PGDMP\x01", b"PGDMP\x63", 1))
    monkeypatch.setattr(databases, "_debians", lambda _program: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InvalidInput, match="pg_dump is not on this machine: apt-get install postgresql-client"):
        databases.dump_postgresql(url)


@contextmanager
def newer_server():
    """As much of a server as is asked before its version is looked at: PostgreSQL 99.1. Its port."""

    def serve(listening):
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    _greet(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _greet(connection):
    """The protocol, version 3: no encryption, no password, its version, and an answer to each query."""
    message = lambda kind, body: kind + struct.pack("!i", len(body) + 4) + body  # noqa: E731
    ready = message(b"Z", b"I")
    while (asked := connection.recv(10_000)) and asked[4:8] in {b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"}:
        connection.sendall(b"N")
    told = (b"server_version\x0099.1\0", b"client_encoding\0UTF8\0", b"standard_conforming_strings\0on\0")
    connection.sendall(message(b"R", b"\0\0\0\0") + b"".join(message(b"S", one) for one in told) + ready)
    row = message(b"T", b"\0\x01x\0" + b"\0" * 6 + b"\0\0\0\x19" + b"\xff" * 6 + b"\0\0") + message(
        b"D", b"\0\x01\0\0\0\0"
    )
    while (asked := connection.recv(10_000)) and asked[:1] == b"Q":
        connection.sendall(row + message(b"C", b"SELECT 1\0") + ready)


def _url(postgres, name):
    from urllib.parse import quote

    from infra.production.postgres import USER
    from petpark_assets_tests.postgres import PASSWORD

    return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/{name}"
