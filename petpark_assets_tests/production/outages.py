"""The production profile whose parts can be taken away in the middle of a build and given back, and what was seen.

`infra.production` itself ends when a part does; here the parts stand alone, as under a service manager, and the home is
on a small disk of its own. Not here: the drills (test_outages.py).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from infra.production import parts
from infra.production.processes import end
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.killing import kill
from petpark_assets_tests.production.conftest import MARK, SETTINGS, Park

HOME_BYTES = 200 * 1024**2
PATIENCE_S = 60
"""For a part to end when told to."""


class OpenPark(Park):
    """A started profile whose parts may go and come back."""

    def __init__(self, started: parts.Park, mark: str) -> None:
        """No process of its own: it is asked as the other one is."""
        self.mark, self.parts = mark, started
        self.running = {process.name: process.popen for process in started.processes}
        self.process = self.running["UI"]

    @property
    def folder(self) -> Path:
        """Of its data."""
        return self.parts.folder

    def address(self, name: str) -> str:
        """Where a part listens, or the password of a user."""
        return {**self.parts.addresses, **self.parts.passwords}[name]

    def variables(self) -> dict[str, str]:
        """Of its processes."""
        return self.parts.variables

    def said(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {process.name}\n{process.tail()}" for process in self.parts.processes)

    def look(self, run_ids: Sequence[str]) -> dict:
        """What outage_reader.py sees."""
        command = [sys.executable, "-m", "petpark_assets_tests.production.outage_reader", *run_ids]
        places = {"PETPARK_DAGSTER": str(self.folder / "home" / "dagster")}
        variables = {**os.environ, **self.variables(), **places}
        done = subprocess.run(command, env=variables, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> dict[str, str]:
        """End a part at once; the environment that it had, to start it again."""
        environment = _environment(self.running[name].pid)
        self.running[name].send_signal(number)
        self.running[name].wait(PATIENCE_S)
        return environment

    def start(self, name: str, environment: dict[str, str]) -> None:
        """Start a part that has ended, as it was started before."""
        known = next(process for process in self.parts.processes if process.name == name)
        with known.log.open("ab") as log:
            self.running[name] = subprocess.Popen(
                known.popen.args, env=environment, stdout=log, stderr=log, cwd=PROJECT_FOLDER, start_new_session=True
            )

    def lose_ray_head(self) -> dict[str, str]:
        """SIGKILL the head's own processes; what started them ends then. Its environment."""
        environment = _environment(self.running["Ray"].pid)
        head = _head(self.running["Ray"].pid)
        assert len(head) == 2, head
        for pid in head:
            os.kill(pid, signal.SIGKILL)
        self.running["Ray"].wait(PATIENCE_S)
        return environment

    def stop(self) -> list[str]:
        """End all parts, last come first; command lines of what is left of them then, which is killed."""
        for process in reversed(self.parts.processes):
            number = signal.SIGINT if process.name == "PostgreSQL" else signal.SIGTERM
            end(self.running[process.name], number, PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.5)
        kill(*left)
        return list(left.values())


def _environment(pid: int) -> dict[str, str]:
    words = (Path("/proc") / str(pid) / "environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def _head(starter: int) -> list[int]:
    """The head's server of all nodes' state, and the first node: those with the lowest ids of their kind."""
    found: dict[str, list[int]] = {"gcs_server": [], "raylet": []}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            program = (folder / "cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == starter and program in found:
                found[program].append(int(folder.name))
    return [min(pids) for pids in found.values() if pids]


@contextmanager
def opened(folder: Path) -> Iterator[OpenPark]:
    """The profile on a home of HOME_BYTES; what is left of it in the end is in `left`."""
    park, mark = None, uuid.uuid4().hex
    (folder / "home").mkdir()
    size = f"size={HOME_BYTES}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder / "home")], check=False)
    if mounted.returncode:
        pytest.skip("needs to mount a small disk, as root")
    try:
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in {**SETTINGS, MARK: mark}.items():
                    patch.setenv(name, value)
                park = OpenPark(parts.start(stack, folder, lambda _part: None), mark)
            try:
                yield park
            finally:
                park.left = park.stop()
    finally:
        subprocess.run(["umount", "-l", str(folder / "home")], check=True)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Not a byte more can be written, until the block ends."""
    big = folder / "big"
    with big.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    yield
    big.unlink()
