"""Processes started by pid, watched, and ended by pid with all that came of them.

Not here: what is started (ceph.py, postgres.py, parts.py).
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from petpark_assets.domain.errors import TransientError

START_TIMEOUT_S = 180
PORTS = range(20_000, 32_000)
"""Above those of Ray's workers, and below those that Linux gives to outgoing connections (from 32768)."""
PATIENCE_S = 15.0
"""For a process to end when told to, before it is killed."""
TAIL_CHARACTERS = 4000
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@dataclass(frozen=True, kw_only=True)
class Process:
    """One started process and what it says."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises TransientError with the end of its log when it has ended."""
        if self.popen.poll() is not None:
            raise TransientError(f"{self.name} ended with {self.popen.returncode}; its log ends:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-TAIL_CHARACTERS:]

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Raises TransientError with the end of its log when it ends before it is ready, or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise TransientError(f"{self.name} is not ready after {timeout_s} s; its log ends:\n{self.tail()}")
            time.sleep(0.1)


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    variables: Mapping[str, str] | None = None,
    user: Sequence[str] = (),
    ending: signal.Signals = signal.SIGTERM,
) -> Iterator[Process]:
    """A process for as long as the block; by the kernel it ends with this one, too, however that ends.

    Args:
        name: In messages.
        command: The program and its arguments; no shell.
        log: Where both of its outputs go.
        variables: Its whole environment; this process's by default.
        user: Options of setpriv(1), for a server that refuses to run as root.
        ending: What it is told on the way out, before it is killed.
    """
    told = ["setpriv", *user, f"--pdeathsig={ending.name.removeprefix('SIG')}", *command]
    with log.open("ab") as output:
        popen = subprocess.Popen(told, env=variables, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
    try:
        yield Process(name=name, popen=popen, log=log)
    finally:
        end(popen, ending)


def end(popen: "subprocess.Popen[bytes]", ending: signal.Signals, patience_s: float = PATIENCE_S) -> None:
    """Tell a process to end, and wait until it has; one that has not in time is killed."""
    popen.send_signal(ending)
    try:
        popen.wait(patience_s)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever is started below this process and outlives its parent becomes its child, and ends with the block."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        deadline = time.monotonic() + PATIENCE_S
        while children := _children():
            is_late = time.monotonic() > deadline
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            time.sleep(0.2)


def free_port() -> int:
    """A port of loopback that nobody listens on now, of those that no connection is given by the system.

    One of these was taken by somebody's connection in the seconds that a server needs until it listens.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise TransientError(f"all ports from {PORTS.start} to {PORTS.stop - 1} are taken: end something that listens")


def is_listening(port: int) -> bool:
    """Whether somebody answers there on loopback."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _children() -> list[int]:
    """Of this process, and alive: those that have ended are taken note of on the way."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.append(int(folder.name))
    return found
