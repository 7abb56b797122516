"""The processes of the Ray that this process started: which they are, how they end, and what if they do by themselves.

Not here: what is left of them after this process (ray_reaper.py), how Ray is started (ray_cluster.py).
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from petpark_assets.domain.errors import TransientError

WATCH_S = 0.2
"""How often it is seen whether Ray's servers still run."""

SIGNAL = signal.SIGUSR2
"""What interrupts the main thread in whatever it waits for. Not SIGINT, which is ignored where a script used &."""


def found_in(folder: Path) -> list[Any]:
    """Processes of the Ray that lives in a folder: its daemons name the folder, and workers are their children."""
    import psutil  # type: ignore[import-untyped]  # Ray brings its own copy, and is imported by now

    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            if str(folder) in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def end(processes: list[Any], patience_s: float = 3) -> None:
    """Wait for processes that were told to go; kill those that stay, as they do after an interruption."""
    import psutil

    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=3)


@contextmanager
def interrupted_when_gone(folder: Path) -> Iterator[None]:
    """Interrupt the main thread when one of Ray's servers ends, and raise TransientError in place of that.

    Ray would wait 10 s for a raylet that is gone, and then end the whole process without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over, gone = threading.Event(), list[str]()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def watch() -> None:
        names = {server: server.name() for server in _servers(folder)}
        while not is_over.wait(WATCH_S):
            ended = [names[server] for server in names if not _is_running(server)]
            if ended:
                gone.extend(ended)
                signal.pthread_kill(main_thread, SIGNAL)
                return

    before = signal.signal(SIGNAL, signal.default_int_handler)
    watching = threading.Thread(target=watch, name="ray-watch", daemon=True)
    watching.start()
    try:
        yield
    except BaseException as error:
        if gone:
            raise TransientError(
                f"Ray's {gone[0]} ended by itself or was killed (too little memory?): run the same again, it goes on"
            ) from error
        raise
    finally:
        is_over.set()
        watching.join()
        signal.signal(SIGNAL, before)


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end whatever waits for Ray, and then be what they are to the rest of this process.

    While it waits, Ray heeds KeyboardInterrupt alone and swallows what other handlers raise. Dagster's raises its own:
    a run that was cancelled in the UI went on for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = list[int]()

    def interrupt(number: int, _frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler not in {signal.SIG_IGN, None}}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _is_running(process: Any) -> bool:
    import psutil

    return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE


def _servers(folder: Path) -> list[Any]:
    """The two that all others depend on."""
    return [process for process in found_in(folder) if process.name() in {"raylet", "gcs_server"}]
