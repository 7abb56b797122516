"""SIGKILL for processes that may end by themselves at that very moment: that is no failure of what is tried."""

import contextlib
import os
import signal


def kill(*pids: int) -> None:
    """Kill processes by their ids; one that has ended is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
