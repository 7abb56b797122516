"""Ends all that a process's local Ray started once that process is gone, and removes Ray's folder.

A program of its own that stands by (reaping.py): it reads the folder's path, and waits until its standard input is
closed. Ray's servers and workers notice by themselves that their driver is gone, but two idle agents and what a trial
started stay for minutes, and so may memory of a GPU.

Ray's processes, and what they start, are known by the files that they have open in Ray's folder, their logs at least;
command lines and environments are no help, since Ray writes other titles over both. That is read in /proc: on other
systems than Linux only the folder goes.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

PATIENCE_S = 10


def reap(folder: str, spared: int) -> None:
    """Kill what has files open in the folder, save one process, until nothing has, and remove it."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := _users(folder) - {spared}) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _users(folder: str) -> set[int]:
    """Processes with files open in a folder; those that have ended have none."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it ended while we looked, or is somebody else's
            if str(path.readlink()).startswith(f"{folder}/"):
                found.add(int(path.parts[2]))
    return found


if __name__ == "__main__":
    driver = os.getppid()  # Ray's library keeps its log open there, also when Ray is gone
    reap(os.fsdecode(sys.stdin.buffer.read()), spared=driver)
