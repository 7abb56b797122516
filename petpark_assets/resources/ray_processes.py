"""The processes of the Ray that this process uses: which they are, how they end, and what if they do by themselves.

Not here: what is left of them after this process (ray_reaper.py), how Ray is started (ray_cluster.py).
"""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from petpark_assets.domain.errors import TransientError

WATCH_S = 0.2
"""How often it is seen whether the servers of our own Ray still run."""
CLUSTER_WATCH_S = 2.0
"""The same of a cluster's, one of which is asked over the network."""
HEAD_AWAY_S = 20.0
"""For a cluster's head to come back: with its state kept in Redis Ray goes on then. Its own patience is 60 s."""

SERVERS = ("raylet", "gcs_server")
"""Processes that a Ray cannot do without, by their names."""

SIGNAL = signal.SIGUSR2
"""What interrupts the main thread in whatever it waits for. Not SIGINT, which is ignored where a script used &."""


def found_in(folder: Path) -> list[Any]:
    """Processes of the Ray that lives in a folder: its daemons name the folder, and workers are their children."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            if str(folder) in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def end(processes: list[Any], patience_s: float = 3) -> None:
    """Wait for processes that were told to go; kill those that stay, as they do after an interruption."""
    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # it went by itself after all
            process.kill()
    psutil.wait_procs(alive, timeout=3)


@contextmanager
def interrupted_when(find_trouble: Callable[[], str | None], every_s: float = WATCH_S) -> Iterator[None]:
    """Interrupt the main thread when there is trouble with Ray, and raise TransientError with its words in its place.

    Ray would wait 10 s for a raylet that is gone and 60 s for a head, and then end the whole process without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over, found = threading.Event(), list[str]()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def watch() -> None:
        while not is_over.wait(every_s):
            if (trouble := find_trouble()) and not is_over.is_set():  # it may have ended while we looked
                found.append(trouble)
                signal.pthread_kill(main_thread, SIGNAL)
                return

    def interrupt(_number: int, _frame: Any) -> None:
        if not is_over.is_set():  # else it came too late, and would hit whoever cleans up
            raise KeyboardInterrupt

    before = signal.signal(SIGNAL, interrupt)
    watching = threading.Thread(target=watch, name="ray-watch", daemon=True)
    try:
        try:
            watching.start()
            yield
        finally:
            is_over.set()
    except BaseException as error:
        if found:
            raise TransientError(f"{found[0]}: run the same again, it goes on") from error
        raise
    finally:
        if watching.ident is not None:  # it was started
            watching.join()
        signal.signal(SIGNAL, before)


def servers_of(folder: Path) -> Callable[[], str | None]:
    """Tells when one of the two servers of the Ray that lives in a folder has ended."""
    names = {process: name for process in found_in(folder) if (name := _name(process)) in SERVERS}

    def find_trouble() -> str | None:
        ended = [name for name in SERVERS if name not in names.values()]  # before we looked for it
        ended += [name for server, name in names.items() if not _is_running(server)]
        return f"Ray's {ended[0]} ended by itself or was killed (too little memory?)" if ended else None

    return find_trouble


def servers_at(address: str, raylet_socket: str) -> Callable[[], str | None]:
    """Tells when a cluster's head, or this machine's node of it, has gone; a head that is started again in time, not.

    A node that this process cannot see, in another container, is not watched.
    """
    nodes, answered_at = _raylets(raylet_socket), time.monotonic()

    def find_trouble() -> str | None:
        nonlocal answered_at
        if nodes and not any(map(_is_running, nodes)):
            return f"this machine's node of the Ray cluster at {address} was lost"
        if is_answering(address):
            answered_at = time.monotonic()
        is_lost = time.monotonic() - answered_at > HEAD_AWAY_S
        return f"the head of the Ray cluster at {address} has not answered for {HEAD_AWAY_S:.0f} s" if is_lost else None

    return find_trouble


def is_answering(address: str) -> bool:
    """Whether somebody listens at `host:port`. Raises ValueError where it is no such address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


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


def _name(process: Any) -> str:
    """Empty where it has ended since it was found, as idle workers do."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def _is_running(process: Any) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two
        return False


def _raylets(its_socket: str) -> list[Any]:
    """The process of a node by its socket; none where it cannot be seen."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            if process.name() == "raylet" and its_socket in " ".join(process.cmdline()):
                found.append(process)
    return found
