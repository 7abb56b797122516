"""A real PostgreSQL server on loopback: Debian's, with passwords, its data in a folder of its own.

Not here: what is kept in it.
"""

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from infra.production.processes import Process, running
from petpark_assets.domain.errors import NotFound, TransientError

if TYPE_CHECKING:
    import psycopg

USER = "park"
LEDGER_SQL = Path(__file__).parents[1] / "ledger.sql"
_SETTINGS = (
    "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=8MB",
)  # fmt: skip


@dataclass(kw_only=True)
class Postgres:
    """One server; it can be stopped and started again."""

    programs: Path
    folder: Path
    port: int
    password: str = field(repr=False)
    process: Process | None = None
    _ending: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def address(self) -> str:
        """The URL without a password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def run(self, *statements: str) -> None:
        """Execute statements as the owner of everything."""
        with self._connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def add_database(self, name: str, password: str) -> str:
        """An empty database that only its owner, of the same name, may enter; its URL, with the password."""
        assert "'" not in password
        self.run(
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}'",
            f"CREATE DATABASE {name} OWNER {name}",
            f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        )
        return f"postgresql://{name}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def add_ledger(self, password: str) -> str:
        """The ledger's database; the URL of the role that may read and append, with the password. Again: the same."""
        told = {"PGPASSWORD": self.password, "PETPARK_PLATFORM_PASSWORD": password}
        command = [str(self.programs / "psql"), "--quiet", "--no-psqlrc", "--file", str(LEDGER_SQL), self.address]
        done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise TransientError(f"{LEDGER_SQL.name} failed: {done.stderr}")
        return f"postgresql://ledger:{quote(password, safe='')}@127.0.0.1:{self.port}/ledger"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *_SETTINGS]
        started = running(
            "PostgreSQL", command, log=self.folder / "log", user=_user_options(), ending=signal.SIGINT
        )  # fmt: skip
        self.process = self._ending.enter_context(started)
        self.process.wait_until(self._answers)

    def stop(self) -> None:
        """End it at once, whoever is connected."""
        self._ending.close()
        self.process = None

    def _connect(self) -> "psycopg.Connection":
        import psycopg

        return psycopg.connect(self.address, password=self.password, autocommit=True, connect_timeout=10)

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def make_server(folder: Path, port: int, password: str) -> Postgres:
    """A server that is not started yet, with its data in a folder that every user may pass. Raises NotFound."""
    server = Postgres(programs=find_programs(), folder=folder, port=port, password=password)
    secret = folder / "password"
    secret.touch(mode=0o600)  # others may pass the folder, and the path stands on a command line
    secret.write_text(password)
    for path in (folder, secret):
        shutil.chown(path, _user().pw_uid, _user().pw_gid)
    command = ["setpriv", *_user_options(), str(server.programs / "initdb"), "-D", str(folder / "data")]
    options = [f"--username={USER}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run([*command, f"--pwfile={secret}", *options], check=True, capture_output=True)  # noqa: S603
    return server


def find_programs() -> Path:
    """The folder of the newest server's programs. Raises NotFound."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise NotFound("needs Debian's postgresql: apt-get install postgresql")
    return programs[-1]


def _user_options() -> list[str]:
    """It refuses to run as root."""
    return [f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups"] if os.getuid() == 0 else []


def _user() -> pwd.struct_passwd:
    """The one that runs this, or Debian's own."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    return next((user for user in pwd.getpwall() if user.pw_name == "postgres"), pwd.getpwnam("nobody"))
