"""How a process has cleaned up what it started, also when it is killed: a small program of its own stands by.

Not here: what the programs do (ray_reaper.py, ray_job_reaper.py), each of nothing but the standard library.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def standing_by(reaper: ModuleType, told: bytes) -> Iterator[None]:
    """Run this module as a program, told something on its standard input, which ends when it has to act.

    That is when the `with` is left, which then waits for it, and when this process dies in it, by whatever signal.
    """
    assert reaper.__file__ is not None
    command = [sys.executable, "-I", "-S", reaper.__file__]  # without packages it stands by in 10 MB
    # In a session of its own: a signal to this process's group must not end it too. No command line shows a token.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as program:  # noqa: S603 - our own file
        assert program.stdin is not None
        program.stdin.write(told)
        program.stdin.flush()
        yield  # leaving the inner `with` closes its standard input, and waits for it
