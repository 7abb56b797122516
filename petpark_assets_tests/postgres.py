"""A real PostgreSQL server for tests: Debian's, on loopback, with passwords, in a temporary folder.

Not here: what is asked of it.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import psycopg

USER = "park"
PASSWORD = "s3cret/+@word"
_SETTINGS = (
    "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=8MB",
)  # fmt: skip


@dataclass(kw_only=True)
class Postgres:
    """One server; it can be stopped and started again."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The URL without a password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def run(self, *statements: str) -> None:
        """Execute statements as the owner of everything."""
        with self._connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [*_as_server(), str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "-p", str(self.port), *_SETTINGS], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, whoever is connected."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=30)
            self.process = None

    def _connect(self) -> "psycopg.Connection":
        import psycopg

        return psycopg.connect(self.address, password=PASSWORD, autocommit=True, connect_timeout=10)

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server with one empty database, or skip the test naming Debian's package and its remedy."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs Debian's postgresql: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="petpark-postgres-"))  # not tmp_path, which only its owner may enter
    server = Postgres(programs=programs[-1], folder=folder, port=_free_port())
    try:
        _make_database(server)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _make_database(server: Postgres) -> None:
    password = server.folder / "password"
    password.write_text(PASSWORD)
    for path in (server.folder, password):
        shutil.chown(path, _user().pw_uid, _user().pw_gid)
    command = [*_as_server(), str(server.programs / "initdb"), "-D", str(server.folder / "data"), f"--username={USER}"]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run([*command, f"--pwfile={password}", *options], check=True, capture_output=True)


def _as_server() -> list[str]:
    """It refuses to run as root, and ends with the tests, however they end."""
    user = [f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups"] if os.getuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=INT"]


def _user() -> pwd.struct_passwd:
    """The one that runs the tests, or Debian's own."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    return next((user for user in pwd.getpwall() if user.pw_name == "postgres"), pwd.getpwnam("nobody"))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
