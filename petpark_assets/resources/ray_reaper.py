"""Ends all that a process's local Ray started once that process is gone, and removes Ray's folder.

A program of its own: it reads the folder's path, and waits until its standard input is closed, as the system does when
the process that holds the other end dies, by whatever signal. Ray's servers and workers notice that by themselves, but
two idle agents and what a trial started stay for minutes, and so may memory of a GPU.

Ray's processes are known by their first environment (MARK), which children inherit. It is read in /proc: on other
systems than Linux this does nothing. Only the standard library is imported: it stands by in 10 MB.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "PETPARK_RAY_FOLDER"
PATIENCE_S = 10


@contextmanager
def standing_by(folder: Path) -> Iterator[None]:
    """Have all that bears this folder's mark ended when the `with` is left, or when this process dies in it."""
    command = [sys.executable, "-I", "-S", __file__]
    # In a session of its own: a signal to this process's group must not end it too.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as reaper:  # noqa: S603 - our own file
        assert reaper.stdin is not None
        reaper.stdin.write(os.fsencode(folder))
        reaper.stdin.flush()
        yield  # leaving the inner `with` closes its standard input, and waits for it


def reap(folder: str) -> None:
    """Kill what bears the mark until nothing does, and remove the folder."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := _marked(folder)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _marked(folder: str) -> list[int]:
    """Processes whose first environment has the mark; those that have ended have none."""
    mark, found = f"{MARK}={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended while we looked, or is somebody else's
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    reap(os.fsdecode(sys.stdin.buffer.read()))
