"""Claims about the ledger in PostgreSQL: machines that share it make one history, and nobody changes it unseen."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import psycopg
import pytest

from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.home import open_home
from petpark_assets.domain.ledger import START, FileLedger
from petpark_assets.domain.postgres import server
from petpark_assets.domain.postgres.ledger import PostgresLedger
from petpark_assets_tests.postgres import PASSWORD

pytestmark = pytest.mark.debian

NUM_EVENTS = 200


@pytest.fixture
def ledger(ledger_url, tmp_path):
    """The ledger of a home of its own."""
    return at(ledger_url, tmp_path / "home")


@pytest.fixture
def written(ledger):
    """A ledger of five events."""
    for number in range(5):
        ledger.append("dataset_version_made", {"dataset_version": f"v{number:04d}", "label": "Käthe's \\ cat\n"})
    return ledger


def at(url, root):
    """The ledger that a home on some machine has."""
    return open_home(root, actor="ada", ledger_url=url).ledger


def owner(postgres):
    """A connection as whoever made the tables, and everything else: a superuser."""
    url = f"postgresql://park:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/ledger"
    return psycopg.connect(url, autocommit=True)


def test_events_come_back_as_they_were_written(written, ledger_url, tmp_path):
    """By another home as by this one: who did what, when, in which order."""
    elsewhere = at(ledger_url, tmp_path / "elsewhere")
    events = list(elsewhere.events())
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert events[4].subject == {"dataset_version": "v0004", "label": "Käthe's \\ cat\n"}
    assert [event.previous for event in events] == [START, *(event.digest for event in events[:-1])]
    assert elsewhere.append("verdict", {}) == written.head() != events[4].digest
    written.verify()


def test_its_lines_are_those_of_the_file(written, ledger_url, postgres, tmp_path):
    """A backup writes them as the file of a home, as psql does; it needs no database to be read, and goes on."""
    with written.held() as (lines, events):
        assert [event.digest for event in events] == [json.loads(line)["digest"] for line in lines.splitlines()]
        (tmp_path / "ledger.jsonl").write_bytes(lines)
    statement = "SELECT line FROM ledger.events ORDER BY number"
    assert subprocess.check_output([postgres.programs / "psql", "-XAt", "-c", statement, ledger_url]) == lines
    file = FileLedger(tmp_path / "ledger.jsonl", "ada")
    file.verify()
    assert file.head() == written.head()
    file.append("verdict", {})
    file.verify()


def test_events_have_the_time_of_one_clock(ledger, monkeypatch):
    """`petpark audit at` asks what was so at a moment: a machine whose clock is wrong must not write into the past."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2001, 1, 1, tzinfo=tz)

    for module in ("petpark_assets.domain.ledger", "petpark_assets.domain.postgres.ledger"):
        monkeypatch.setattr(f"{module}.datetime", Wrong)
    ledger.append("verdict", {})
    (event,) = ledger.events()
    assert abs(datetime.fromisoformat(event.time) - datetime.now(UTC)) < timedelta(minutes=1)
    assert event.time.endswith("+00:00")


APPENDING = """
import sys
from pathlib import Path
from petpark_assets.domain.ledger import FileLedger
from petpark_assets.domain.postgres import ledger, server
file = FileLedger(Path(sys.argv[1]) / "ledger.jsonl", sys.argv[1])
ledger = ledger.PostgresLedger(server.parse(sys.argv[2]), file)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    ledger.append("model_downloaded", {"number": number})
"""


def start(script, *words):
    """A process of another machine, as far as homes go."""
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_machines_that_append_at_once_make_one_chain(ledger, ledger_url, tmp_path):
    """Without a gap, a fork, or an event of either lost; each in the order in which its machine wrote it."""
    homes = [str(tmp_path / name) for name in ("one", "two")]
    writers = [start(APPENDING, home, ledger_url, NUM_EVENTS) for home in homes]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdin.close()
        writer.stdout.close()
    ledger.verify()
    events = list(ledger.events())
    for home in homes:
        assert [e.subject["number"] for e in events if e.actor == home] == list(range(NUM_EVENTS))
    assert len(events) == 2 * NUM_EVENTS
    assert {event.actor for event in events[:NUM_EVENTS]} == set(homes), "they did not write at once"


HALFWAY = """
import sys, time
from petpark_assets.domain.postgres import server
with server.parse(sys.argv[1]).transaction("ledger") as cursor:
    cursor.execute("INSERT INTO ledger.events (number, line) VALUES (6, 'half')")
    print("inserted", flush=True)
    time.sleep(60)
"""


def test_a_kill_between_append_and_commit_leaves_nothing(written, ledger_url):
    """Nor does it keep the others waiting: the server lets go of a dead process's lock at once."""
    with start(HALFWAY, ledger_url) as writer:
        assert writer.stdout.readline() == "inserted\n"
        assert len(list(written.events())) == 5
        writer.send_signal(signal.SIGKILL)
    began = time.monotonic()
    written.append("verdict", {})
    assert time.monotonic() - began < 2
    written.verify()
    assert [event.number for event in written.events()] == [1, 2, 3, 4, 5, 6]


def test_nobody_appends_while_it_is_held_and_others_may_hold_it_too(written, ledger_url, tmp_path):
    """A backup takes the ledger, the registry and the list of records as of one moment."""
    other = at(ledger_url, tmp_path / "other")
    with written.held() as (lines, events), other.held() as (same, _):
        writer = threading.Thread(target=other.append, args=("verdict", {}))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert len(events) == 5
        assert same == lines
    writer.join()
    assert len(list(written.events())) == 6


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger.events SET line = 'forged'", "DELETE FROM ledger.events", "TRUNCATE ledger.events"],
)
def test_neither_its_role_nor_its_owner_changes_what_is_written(written, ledger_url, postgres, statement):
    """The platform's password is not enough to rewrite history, and a slip of the administrator's is refused too."""
    with psycopg.connect(ledger_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
    with owner(postgres) as connection:
        for first in ("SELECT 1", "SET session_replication_role = replica"):
            connection.execute(first)
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)
    written.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
        "DROP TRIGGER nothing_changes ON ledger.events",
        "DROP TABLE ledger.events",
        "CREATE TABLE ledger.mine (a int)",
        "INSERT INTO ledger.events VALUES (9, 'a gap')",
        "INSERT INTO ledger.events VALUES (5, 'a fork')",
    ],
)
def test_its_role_does_nothing_but_append(written, ledger_url, statement):
    """Nor does it make room for that."""
    with psycopg.connect(ledger_url) as connection, pytest.raises(psycopg.Error):
        connection.execute(statement)
    written.verify()


def test_an_auditors_role_reads_everything_and_appends_nothing(written, ledger_url, postgres, tmp_path):
    """From another machine, by the grants that infra/README.md names."""
    with owner(postgres) as connection:
        connection.execute("CREATE ROLE auditor LOGIN PASSWORD 'looks'")
        connection.execute("GRANT CONNECT ON DATABASE ledger TO auditor")
        connection.execute("GRANT USAGE ON SCHEMA ledger TO auditor")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO auditor")
    auditors = at(f"postgresql://auditor:looks@{ledger_url.rpartition('@')[2]}", tmp_path / "auditor")
    try:
        auditors.verify()
        assert auditors.head() == written.head()
        with pytest.raises(InvalidInput, match="permission denied"):
            auditors.append("verdict", {})
    finally:
        with owner(postgres) as connection:
            connection.execute("DROP OWNED BY auditor; DROP ROLE auditor")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE ledger.events SET line = replace(line, 'v0002', 'v9') WHERE number = 3", "line 3 of .* was changed"),
        ("DELETE FROM ledger.events WHERE number = 3", "line 3 of .* does not follow"),
        ("UPDATE ledger.events SET number = 9 WHERE number = 3", "line 3 of .* does not follow"),
    ],
)
def test_what_an_administrator_forges_is_found_by_the_chain(written, postgres, statement, said):
    """Who may disable the trigger can change a row; `audit verify` names it."""
    with owner(postgres) as connection:
        connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
        connection.execute(statement)
    with pytest.raises(CorruptData, match=said):
        written.verify()


def test_nothing_is_appended_behind_a_changed_last_line(written, postgres):
    """A chain that goes on from a forged line would make the forgery part of the history."""
    with owner(postgres) as connection:
        connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
        connection.execute("UPDATE ledger.events SET line = replace(line, 'v0004', 'v0009') WHERE number = 5")
    with pytest.raises(CorruptData, match="last line"):
        written.append("verdict", {})


# ---- the file that was there before


def test_a_file_moves_in_once_and_nothing_is_lost_or_doubled(ledger_url, tmp_path):
    """Also after a kill between the database and the file's new name: the same again."""
    root = tmp_path / "home"
    file = FileLedger(root / "ledger.jsonl", "eva")
    digests = [file.append("verdict", {"number": number}) for number in range(3)]
    before = file.path.read_bytes()
    ledger = at(ledger_url, root)
    for refused in (ledger.head, ledger.verify, lambda: ledger.append("verdict", {})):
        with pytest.raises(InvalidInput, match="petpark upgrade"):
            refused()
    assert ledger.take_in() == 3
    (root / "ledger.jsonl.moved").replace(root / "ledger.jsonl")  # as if killed just before
    assert ledger.take_in() == 0
    assert ledger.take_in() == 0
    with ledger.held() as (lines, events):
        assert lines == before == (root / "ledger.jsonl.moved").read_bytes()
        assert [event.digest for event in events] == digests
    ledger.append("verdict", {})
    ledger.verify()


def test_without_its_variable_a_home_that_moved_begins_no_second_history(ledger_url, tmp_path):
    """A terminal in which it is not set would append to a file that nobody reads."""
    file = FileLedger(tmp_path / "ledger.jsonl", "eva")
    file.append("verdict", {})
    at(ledger_url, tmp_path).take_in()
    for refused in (file.head, file.verify, lambda: file.append("verdict", {})):
        with pytest.raises(InvalidInput, match="set PETPARK_LEDGER"):
            refused()
    assert not file.path.exists()


def test_a_piece_that_a_crash_left_is_mended_on_the_way(ledger_url, tmp_path):
    """And the ledger says so, as it would have with the next event of the file."""
    file = FileLedger(tmp_path / "ledger.jsonl", "eva")
    file.append("verdict", {})
    file.path.write_bytes(file.path.read_bytes() + b'{"actor":')
    ledger = at(ledger_url, tmp_path)
    assert ledger.take_in() == 2
    assert [event.event for event in ledger.events()] == ["verdict", "ledger_repaired"]


def test_another_history_is_refused_and_one_that_goes_on_is_taken(written, ledger_url, tmp_path):
    """Two parks in one database would have no chain; a machine that wrote on to the moved file has the rest of it."""
    other = FileLedger(tmp_path / "other" / "ledger.jsonl", "eva")
    other.append("verdict", {})
    with pytest.raises(Conflict, match="ledger of another home"):
        at(ledger_url, tmp_path / "other").take_in()
    assert other.path.exists()
    assert len(list(written.events())) == 5
    longer = FileLedger(tmp_path / "longer" / "ledger.jsonl", "eva")
    longer.path.parent.mkdir()
    with written.held() as (lines, _):
        longer.path.write_bytes(lines)
    digest = longer.append("verdict", {})
    assert at(ledger_url, tmp_path / "longer").take_in() == 1
    assert written.head() == digest


def test_a_changed_file_is_not_moved(ledger_url, tmp_path):
    """The database would make the forgery last."""
    file = FileLedger(tmp_path / "ledger.jsonl", "eva")
    for _ in range(2):
        file.append("verdict", {"is_accepted": False})
    file.path.write_bytes(file.path.read_bytes().replace(b"false", b"true", 1))
    ledger = at(ledger_url, tmp_path)
    with pytest.raises(CorruptData, match="line 1 of"):
        ledger.take_in()
    file.path.unlink()
    assert not ledger.is_begun()


# ---- what goes wrong


def refusal(url, tmp_path, kind):
    """What is said, in one line and without the password."""
    with pytest.raises(kind) as caught:
        at(url, tmp_path).append("verdict", {})
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert quote(PASSWORD, safe="") not in str(caught.value)
    return str(caught.value)


def test_a_server_that_is_away_is_named_and_may_come_back(ledger_url, postgres, tmp_path):
    """Again may help."""
    away = ledger_url.replace(str(postgres.port), "9")
    assert "127.0.0.1:9/ledger, cannot be reached" in refusal(away, tmp_path, TransientError)
    nowhere = ledger_url.replace("127.0.0.1", "nowhere.invalid")
    assert f"nowhere.invalid:{postgres.port}/ledger, cannot be reached" in refusal(nowhere, tmp_path, TransientError)


def test_a_wrong_password_or_database_will_not_get_better(ledger_url, tmp_path):
    """A retry would only lock the account."""
    assert "authentication failed" in refusal(ledger_url.replace("s3cret", "guessed"), tmp_path, InvalidInput)
    assert '"none" does not exist' in refusal(ledger_url.removesuffix("ledger") + "none", tmp_path, InvalidInput)


def test_a_mistyped_option_of_the_address_will_not_get_better(ledger_url, tmp_path):
    """Steps would try it again for minutes, and people would look for the server."""
    assert "sslmod" in refusal(f"{ledger_url}?sslmod=require", tmp_path, InvalidInput)
    assert "sslmode" in refusal(f"{ledger_url}?sslmode=requird", tmp_path, InvalidInput)


def test_a_database_without_a_ledger_or_with_a_newer_one_is_refused(ledger_url, postgres, tmp_path):
    """Old code would not know what a newer one's rows mean."""
    with owner(postgres) as connection:
        connection.execute("CREATE OR REPLACE VIEW ledger.schema_version AS SELECT 2 AS version")
        assert "has schema 2" in (said := refusal(ledger_url, tmp_path, InvalidInput))
        assert "install a newer petpark" in said
        connection.execute("DROP SCHEMA ledger CASCADE")
    assert "has no ledger: run infra/ledger.sql" in refusal(ledger_url, tmp_path, InvalidInput)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ledger:hunter2@db/ledger",
        "postgresql://ledger:hunter2@db",
        "postgresql://ledger:hun/ter2@db/ledger",
        "postgresql://ledger:12#hunter2@db/ledger",
        "postgresql://ledger:12?hunter2@db/ledger",
        "postgresql://ledger:1/hunter2@db/ledger",
        "postgresql://ledger:hunter2@db:port/ledger",
    ],
)
def test_a_url_that_is_none_is_not_repeated(url, tmp_path):
    """An unquoted password may be anywhere in it."""
    with pytest.raises(InvalidInput, match="PETPARK_LEDGER must be postgresql://") as caught:
        at(url, tmp_path)
    assert "ter2" not in str(caught.value)


def test_nobody_who_prints_a_home_prints_the_password(ledger_url, tmp_path):
    """A traceback with local variables does."""
    home = open_home(tmp_path, actor="ada", ledger_url=ledger_url)
    assert "s3cret" not in repr(home) + repr(home.ledger) + repr(server.parse(ledger_url))


class Cut:
    """A network that passes everything on until it has passed on a COMMIT, whose answer it keeps for itself."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.is_cutting = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass, args=(client, upstream, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(upstream, client, False), daemon=True).start()

    def _pass(self, source, target, is_client):
        try:
            while data := source.recv(65536):
                if is_client and b"COMMIT\0" in data and self.is_cutting:
                    self.is_cutting = False
                    target.sendall(data)
                    time.sleep(0.2)
                    source.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


def test_an_append_whose_answer_is_lost_is_there_once(ledger_url, postgres, tmp_path):
    """A connection that breaks after COMMIT was sent: whoever then tried again would write the event twice."""
    network = Cut(postgres.port)
    with network.listener:
        through = ledger_url.replace(str(postgres.port), str(network.listener.getsockname()[1]))
        ledger = at(through, tmp_path)
        digest = ledger.append("verdict", {})
        assert not network.is_cutting
        assert [event.digest for event in ledger.events()] == [digest]


# ---- locks


def test_a_lock_keeps_other_machines_out_until_it_is_let_go(ledger_url, tmp_path):
    """What a lock file does on one machine."""
    first = open_home(tmp_path / "one", actor="ada", ledger_url=ledger_url)
    second = open_home(tmp_path / "two", actor="eva", ledger_url=ledger_url)
    with first.alone("backup", "busy"):
        with pytest.raises(TransientError, match="somebody is at it"), second.alone("backup", "somebody is at it"):
            pass
        with second.alone("launch", "busy"):
            pass
    with second.alone("backup", "busy"):
        pass
    assert os.listdir(tmp_path) == []  # noqa: PTH208  nothing was made


def test_the_registry_waits_for_other_machines(ledger_url, tmp_path):
    """Each reads who is champion before it moves the alias (registry/test_two_machines.py has all of it)."""
    first = open_home(tmp_path / "one", actor="ada", ledger_url=ledger_url)
    second = open_home(tmp_path / "two", actor="eva", ledger_url=ledger_url)

    def promote():
        with pytest.raises(NotFound, match="nothing was registered yet"):
            second.registry.promote(1, by="Eva", because="it is tried")

    with first.alone("registry"):
        waiting = threading.Thread(target=promote)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_lock_says_since_when_it_cannot_have_been_lost(ledger_url, postgres, tmp_path):
    """Who lost it before, in a server that was started again, may work on."""
    home = open_home(tmp_path, actor="ada", ledger_url=ledger_url)
    with home.alone("launch") as since, owner(postgres) as connection:
        assert connection.execute("SELECT pg_postmaster_start_time()").fetchone() == (since,)
    with open_home(tmp_path / "file", actor="ada").alone("launch") as since:
        assert since is None


def test_a_lock_that_was_lost_on_the_way_is_told(ledger_url, postgres, tmp_path):
    """A server that restarts lets others in: what was done meanwhile may have been done by two."""
    home = open_home(tmp_path, actor="ada", ledger_url=ledger_url)
    with pytest.raises(TransientError, match="went away"), home.alone("registry"):
        postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ledger'")


def test_postgres_ledger_needs_an_actor(tmp_path):
    """A history without a who is none."""
    with pytest.raises(InvalidInput, match="PETPARK_ACTOR"):
        PostgresLedger(server.parse("postgresql://a:b@c/d"), FileLedger(tmp_path / "ledger.jsonl", " "))
