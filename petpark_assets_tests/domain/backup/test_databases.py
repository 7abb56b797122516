"""Claims about copies of databases: each is of one moment, however busy its writers are, and opens elsewhere."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from petpark_assets.domain.backup import databases
from petpark_assets.domain.errors import CorruptData, TransientError

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
def test_a_database_of_postgresql_comes_back_whole_or_not_at_all(postgres):
    """The production profile keeps runs and the registry there; its password is in no process's arguments."""
    from petpark_assets_tests.postgres import PASSWORD

    postgres.run("CREATE DATABASE before", "CREATE DATABASE after", "CREATE TABLE here (n INTEGER)")
    before, after, other = (_url(postgres, name) for name in ("before", "after", "postgres"))
    dump = databases.dump_postgresql(other)
    assert dump.startswith(b"PGDMP")
    assert PASSWORD.encode() not in dump
    databases.restore_postgresql(after, dump)
    assert b"here" in databases.dump_postgresql(after)
    with pytest.raises(TransientError, match=r"pg_restore of 127.0.0.1:\d+/after failed: .*already exists"):
        databases.restore_postgresql(after, dump)
    with pytest.raises(TransientError) as refused:
        databases.dump_postgresql(before.replace("/before", "/nowhere"))
    assert PASSWORD not in str(refused.value)


def _url(postgres, name):
    from urllib.parse import quote

    from infra.production.postgres import USER
    from petpark_assets_tests.postgres import PASSWORD

    return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/{name}"
