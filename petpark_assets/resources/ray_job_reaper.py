"""Stops a Ray job once the process that waits for it has left it, or is gone, by whatever signal.

A program of its own that stands by (reaping.py): it reads the address of the job, `http://.../api/jobs/ID`, and the
cluster's token, and waits until its standard input is closed. A job that has ended by then stays as it is. Where the
whole machine is lost nobody asks: the job goes on, and the step finds it again when it is re-executed (ray_jobs.py).
"""

import json
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any

PATIENCE_S = 20
"""For the server to answer and the job to end; Ray itself kills after 3 s what does not go."""
LOOK_S = 0.2
ENDED = {"STOPPED", "FAILED", "SUCCEEDED"}


def stop(job: str, headers: Mapping[str, str]) -> None:
    """Ask until the job has ended, or patience has."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, HTTPException):  # the server may be away for a moment
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
