"""Stops a Ray job once the process that waits for it has left it, or is gone, by whatever signal.

A program of its own, as ray_reaper.py: it reads the job's address and the cluster's token from its standard input, and
waits until that is closed. A job that has ended by then stays as it is. Where the whole machine is lost nobody asks:
the job goes on, and the step finds it again when it is re-executed (ray_jobs.py). Nothing but the standard library.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE_S = 20
"""For the server to answer and the job to end; Ray itself kills after 3 s what does not go."""
LOOK_S = 0.2
ENDED = {"STOPPED", "FAILED", "SUCCEEDED"}


@contextmanager
def standing_by(job: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Have the job at `http://.../api/jobs/ID` stopped when the `with` is left, or when this process dies in it."""
    command = [sys.executable, "-I", "-S", __file__]
    # In a session of its own: a signal to this process's group must not end it too. The token is on no command line.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as reaper:  # noqa: S603 - our own file
        assert reaper.stdin is not None
        reaper.stdin.write(json.dumps({"job": job, "headers": dict(headers)}).encode())
        reaper.stdin.flush()
        yield  # leaving the inner `with` closes its standard input, and waits for it


def stop(job: str, headers: Mapping[str, str]) -> None:
    """Ask until the job has ended, or patience has."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):  # the server may be away for a moment
            if _asked(job, headers)["status"] in ENDED:
                return
            _asked(f"{job}/stop", headers, method="POST")
        time.sleep(LOOK_S)


def _asked(url: str, headers: Mapping[str, str], method: str = "GET") -> Any:
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - http(s), checked before
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    stop(**json.loads(sys.stdin.buffer.read()))
