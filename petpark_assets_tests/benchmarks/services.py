"""A daemon and a code server on a home, as a service manager runs them: each by itself, started again when it died.

Also the processes below them, told apart as Dagster and Ray start them; read in /proc, so this is for Linux.
Not here: what is done to them (crashes.py, memory.py).
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.killing import kill

LEAKING_PREFIXES = ("PETPARK_", "DAGSTER_", "AWS_", "RAY_ADDRESS", "MLFLOW_")
"""Settings of the person's shell that would lead these processes elsewhere."""
BASE_DIR = "{env: PETPARK_DAGSTER}"


class Process(NamedTuple):
    """A process of this machine."""

    parent: int
    command: str


class Services:
    """The services of one home."""

    def __init__(
        self,
        home: Path,
        *,
        module: str,
        variables: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
        with_ui: bool = False,
    ) -> None:
        """Nothing is started yet.

        Args:
            home: PETPARK_HOME; logs and settings lie beside it.
            module: the definitions that the code server loads.
            variables: environment variables for all of them.
            settings: texts of dagster.yaml, each with what stands in its place here.
            with_ui: whether there is a webserver too.
        """
        self.home, self._module, self._port = home, module, free_port()
        self._ui_port = free_port() if with_ui else None
        self._folder = home.parent / f"{home.name}-services"
        (home / "dagster").mkdir(parents=True)
        self._folder.mkdir()
        self._write_settings(settings or {})
        clean = {name: value for name, value in os.environ.items() if not name.startswith(LEAKING_PREFIXES)}
        places = {"PETPARK_HOME": str(home), "DAGSTER_HOME": str(self._folder)}
        self.environment = {**clean, "PETPARK_ACTOR": "bench", **variables, **places}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def _write_settings(self, settings: Mapping[str, str]) -> None:
        text = (PROJECT_FOLDER / "dagster.yaml").read_text()
        for known, wanted in {BASE_DIR: str(self.home / "dagster"), **settings}.items():
            assert known in text, f"dagster.yaml says {known!r} no more"
            text = text.replace(known, wanted)
        (self._folder / "dagster.yaml").write_text(text)
        server = f"{{host: 127.0.0.1, port: {self._port}, location_name: petpark_assets}}"
        (self._folder / "workspace.yaml").write_text(f"load_from: [{{grpc_server: {server}}}]\n")

    @contextmanager
    def started(self) -> Iterator["Services"]:
        """Everything is started; nothing of it, nor of what it started, outlives the block."""
        with self.instance():  # one process makes the tables of SQLite, as in `petpark dev`: Dagster has no lock for it
            pass
        try:
            self.revive()
            yield self
        finally:
            kill(*(process.pid for process in self.running.values()))
            while left := processes_of(self.home):
                kill(*left)
            for process in self.running.values():
                process.wait()

    def revive(self) -> None:
        """Start what is not running."""
        for name, command in self._commands().items():
            if name not in self.running or self.running[name].poll() is not None:
                with (self._folder / f"{name}.log").open("ab") as log:
                    self.running[name] = subprocess.Popen(
                        [sys.executable, "-m", *command],
                        cwd=PROJECT_FOLDER, env=self.environment, stdout=log, stderr=log, start_new_session=True,
                    )  # fmt: skip

    def _commands(self) -> dict[str, list[str]]:
        address = ["--host", "127.0.0.1", "--port", str(self._port)]
        workspace = ["--workspace", str(self._folder / "workspace.yaml")]
        commands = {
            "code server": ["dagster", "api", "grpc", "--module-name", self._module, *address],
            "daemon": ["dagster._daemon", "run", *workspace],
        }
        if self._ui_port is not None:
            commands["ui"] = ["dagster_webserver", "--host", "127.0.0.1", "--port", str(self._ui_port), *workspace]
        return commands

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The home's Dagster instance, for whoever looks on."""
        with dg.DagsterInstance.from_config(str(self._folder)) as opened:
            yield opened

    @property
    def ui(self) -> str:
        """The webserver's address."""
        return f"http://127.0.0.1:{self._ui_port}"

    def log(self, name: str) -> str:
        """All that a service has said so far."""
        return (self._folder / f"{name}.log").read_text()

    def tail(self) -> str:
        """The ends of the logs, for whoever asks why."""
        return "\n".join(f"== {name}\n{self.log(name)[-3000:]}" for name in self.running)


def free_port() -> int:
    """A port that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def table() -> dict[int, Process]:
    """Every process of this machine by its id; those that have ended and are not buried yet are not there."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended while we looked
            continue
        if state not in {"Z", "X"}:
            found[int(folder.name)] = Process(int(parent), command)
    return found


def children(known: Mapping[int, Process], *parents: int) -> list[int]:
    """The processes below some, and below those."""
    found, left = list[int](), list(parents)
    while left:
        above = left.pop()
        below = [pid for pid, process in known.items() if process.parent == above]
        found, left = found + below, left + below
    return found


def processes_of(home: Path) -> list[int]:
    """All processes that work in a home, whoever their parent is now, and those below them."""
    mark, known, found = f"PETPARK_HOME={home}".encode(), table(), []
    for pid in known:
        try:
            if mark in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:  # it ended meanwhile
            continue
    return sorted({*found, *children(known, *found)})
