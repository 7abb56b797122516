"""`make production`: start it all, say where it listens, and end it all on Ctrl-C, SIGTERM, or when one part ends.

Nothing is kept: data, keys and logs lie in a temporary folder that goes with it. `python -m infra.production FOLDER`
starts with what the last backup in a folder has (`petpark backup FOLDER`).
Not here: the parts (parts.py).
"""

import shlex
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from infra.production.parts import Park, start
from infra.production.processes import nothing_left
from petpark_assets.domain.errors import PetparkError

LOOK_S = 0.5
"""How often it is seen whether all parts live."""
TOLD = ("PETPARK_", "MLFLOW_", "RAY_", "AWS_")


def main() -> int:
    """Run until stopped; 0 when a person stopped it, 1 when a part ended."""
    _stop_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="petpark-production-"))
    folder.chmod(0o711)  # PostgreSQL may run as another user, and must pass
    try:
        with nothing_left(), ExitStack() as stack:
            try:
                _run(stack, folder)
            finally:
                _ignore_signals()
    except KeyboardInterrupt:
        _say("stopped: no process is left")
        return 0
    except PetparkError as error:
        _say(f"make production: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _run(stack: ExitStack, folder: Path) -> None:
    began = time.monotonic()
    backup = str(Path(sys.argv[1]).absolute()) if len(sys.argv) > 1 else None
    park = start(stack, folder, lambda part: _say(f"starting {part} ..."), backup)
    _write_variables(park)
    _say(f"\nready after {time.monotonic() - began:.0f} s; all on loopback:\n")
    for name, address in park.addresses.items():
        _say(f"  {name:<12} {address}")
    _say(f"\npeople go to {park.addresses['login']} (/mlflow/, /reports/, Ray: /ray/), as")
    for user, password in park.passwords.items():
        _say(f"  {user:<12} {password}")
    _say(f"\nlogs, and all data until it stops: {folder}")
    _say(f"petpark in another terminal:       set -a; . {folder / 'variables'}; set +a")
    _say(f"photos go to:                      {park.variables['PETPARK_LAKE']}/cat/..., .../dog/...")
    _say("to stop:                           Ctrl-C, or kill this process with SIGTERM")
    while True:
        park.check()
        time.sleep(LOOK_S)


def _write_variables(park: Park) -> None:
    """What `petpark` needs to work in this park, for a shell; only this user may read it."""
    path = park.folder / "variables"
    path.touch(mode=0o600)
    known = {**park.variables, **park.of_mlflow}
    told = {name: value for name, value in sorted(known.items()) if name.startswith(TOLD)}
    path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items()))


def _stop_on_signals() -> None:
    def stop(*_: Any) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _ignore_signals() -> None:
    """While it stops: a second Ctrl-C would leave processes behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what a person reads


if __name__ == "__main__":
    sys.exit(main())
