"""How a run gets Ray: a local one of its own, or a cluster's; and how it is gone again afterwards.

`started()` is the whole of it and knows no Dagster: tests and plain Python use it as it is. `RayCluster` is the same as
a Dagster resource. Not here: what runs on Ray (domain/model/search.py).

A local Ray listens on 127.0.0.1 only, asks every client for a token made for this process, has no dashboard, reports
no usage, and keeps its files in a temporary folder that goes with it. Nothing of it outlives the `with`, nor this
process, however that ends (ray_reaper.py). Ray itself may die too: whoever uses it is interrupted then.
"""

import functools
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

import petpark_assets
from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.lake.mapping import MapShards, Result, Shard, map_in_threads
from petpark_assets.resources import ray_processes, ray_reaper
from petpark_assets.resources.environments import process_variables, ray_token
from petpark_assets.resources.reaping import standing_by

OBJECT_STORE_BYTES = 200 * 1024 * 1024
"""Trials are handed paths, never photos, so little travels through Ray (its default is 30 % of the memory)."""

SHARDS_A_PROCESSOR = 2
"""One that is worked on and one that waits: no worker is ever idle, and a failure ends soon."""

SHARD_RETRIES = 3

NUM_STARTS = 3
"""Ray gives its daemons 30 s to come up, a limit of its own that a busy machine of two cores can exceed."""

START_PATIENCE_S = 90.0
"""For one attempt, as far as Ray waits in Python: it is interrupted when it comes back to that."""

LONGEST_TEMPORARY_FOLDER = 40
"""A socket's path has at most 107 characters, of which Ray's own folders below ours take 62."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard file a trial: on_trial is the log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl+C must reach whoever started the search, at once
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0 this is silence; the new output still prints a banner
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trial finds relative paths where its driver does
}

SET_BY_RAY = ("RAY_AUTH_MODE", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")
"""Environment variables that Ray leaves behind; the last would make every later breakpoint() wait for Ray."""


@contextmanager
def started(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[None]:
    """Ray, initialised for this process; shut down, its processes ended, on the way out.

    Args:
        address: `host:port` of a cluster that runs already and is left running. None starts a local Ray.
        num_cpus: processor cores of a local Ray; None: all this process may use.

    Raises TransientError when a local Ray does not come up.
    """
    with ray_processes.heeding_signals(), _quiet(), _environment(TUNE_SETTINGS):
        if address is not None:
            with _joined(address):
                yield
            return
        with (
            _temporary_folder() as folder,
            standing_by(ray_reaper, os.fsencode(folder)),
            _environment(_local_settings()),
            _local(folder, num_cpus),
        ):
            yield


class RayCluster(dg.ConfigurableResource[None]):
    """Ray for a step that asks for it: `with ray_cluster.running(): ...`.

    Not dagster-ray's LocalRay: that starts Ray before the step begins, a search by no algorithm included, spends 9 s on
    Ray Data which we do not use, listens on the machine's network address, and leaves it to the interpreter's exit to
    end Ray's processes.
    """

    address: str | None = Field(
        default=None, description="`host:port` of a Ray cluster; without one a local Ray is started when needed."
    )
    num_cpus: int | None = Field(default=None, description="Processor cores of a local Ray; all there are by default.")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ray, initialised for this process, for the time of the `with`."""
        with started(self.address, num_cpus=self.num_cpus):
            yield

    @contextmanager
    def mapping_shards(self) -> Iterator[MapShards]:
        """How photos are read: by the workers of a cluster where there is one, else by this machine's threads."""
        if self.address is None:
            yield map_in_threads
            return
        with self.running():
            yield map_on_ray


def map_on_ray(function: Callable[[Shard], Result], shards: Iterable[Shard], /) -> Iterator[Result]:
    """Like `map`, on the workers of the Ray that was started: results in order, a few shards a processor under way.

    What a worker is handed and answers with travels through Ray, so shards are names and answers are facts. A shard
    whose worker died is run again. Raises what the function raised, TransientError when workers keep dying.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    task: Any = ray.remote(num_cpus=1, max_retries=SHARD_RETRIES)(_apply)
    shared = ray.put(function)
    most = SHARDS_A_PROCESSOR * max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    under_way: deque[Any] = deque()
    try:
        for shard in shards:
            if len(under_way) == most:
                yield ray.get(under_way.popleft())
            under_way.append(task.remote(shared, shard))
        while under_way:
            yield ray.get(under_way.popleft())
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise TransientError(
            f"a worker of the Ray cluster was lost {SHARD_RETRIES + 1} times ({type(error).__name__}): run it again"
        ) from error
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def _apply(function: Callable[[Shard], Result], shard: Shard) -> Result:
    return function(shard)


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """A cluster that others started."""
    import ray

    _see_that_it_answers(address)
    with _signal_handlers_kept():
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        node: Any = ray._private.worker._global_node  # noqa: SLF001 - Ray tells nobody else which node it is at
        watched = ray_processes.servers_at(address, node.raylet_socket_name)
        with ray_processes.interrupted_when(watched, ray_processes.CLUSTER_WATCH_S):
            yield
    finally:
        ray.shutdown()


def _see_that_it_answers(address: str) -> None:
    """Ray itself tries for minutes, and says nothing. Raises TransientError, InvalidInput."""
    try:
        is_there = ray_processes.is_answering(address)
    except ValueError:
        raise InvalidInput(f"RAY_ADDRESS is {address!r}: give the Ray cluster as host:port") from None
    if not is_there:
        raise TransientError(f"no Ray cluster answers at {address}: start it, or give RAY_ADDRESS as host:port")


@contextmanager
def _local(folder: Path, num_cpus: int | None) -> Iterator[None]:
    """A Ray of our own, all of whose processes are gone afterwards."""
    import ray

    # Ray's daemons are forked and replaced at once: nothing of Lance lives on in them.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    try:
        with _on_loopback():
            _start(folder, num_cpus)
        with ray_processes.interrupted_when(ray_processes.servers_of(folder)):
            yield
    finally:
        processes = ray_processes.found_in(folder)
        try:
            ray.shutdown()
        finally:
            ray_processes.end(processes)


def _start(folder: Path, num_cpus: int | None) -> None:
    """Start a local Ray; again when it did not come up. Raises TransientError."""
    import ray

    for attempt in range(1, NUM_STARTS + 1):
        try:
            with _signal_handlers_kept(), ray_processes.interrupted_when(_overdue(START_PATIENCE_S)):
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(folder),
                )
        except TransientError:  # it was interrupted: with half a Ray in it this process would be aborted by a second
            raise
        except Exception as error:  # Ray raises plain ones here
            ray_processes.end(ray_processes.found_in(folder), patience_s=0)
            if attempt == NUM_STARTS:
                raise TransientError(
                    f"Ray did not start in {NUM_STARTS} attempts ({str(error).splitlines()[0]}): the machine may be "
                    "too busy; try again later, or set search.algorithm to none"
                ) from error
        else:
            return


def _overdue(patience_s: float) -> Callable[[], str | None]:
    """Tells when it was asked for longer than that."""
    ends = time.monotonic() + patience_s
    return lambda: f"Ray had not come up after {patience_s:.0f} s" if time.monotonic() > ends else None


def _local_settings() -> dict[str, str]:
    packages = str(Path(petpark_assets.__file__).parents[1])
    python_path = process_variables().get("PYTHONPATH")
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all listeners on 127.0.0.1; node_ip_address alone is not enough
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, asked for by a warning
        "RAY_AUTH_TOKEN": ray_token() or _new_token(),
        "PYTHONPATH": f"{packages}{os.pathsep}{python_path}" if python_path else packages,
    }


@functools.cache
def _new_token() -> str:
    """What clients of this process's local Ray must show. One a process: Ray remembers the first that it sees.

    Without it Ray would write one to `~/.ray/auth_token` and share it among all clusters of the user.
    """
    return secrets.token_hex(32)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have all of Ray listen on 127.0.0.1, also where it was imported, and read its settings, before ours were made."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs with a short path, removed afterwards."""
    parent = tempfile.gettempdir()
    is_short = len(parent) + len("/petpark-ray-12345678") <= LONGEST_TEMPORARY_FOLDER
    folder = Path(tempfile.mkdtemp(prefix="petpark-ray-", dir=parent if is_short else "/tmp"))  # noqa: S108
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a log line written by a dying process must not fail the search


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that Ray and its processes read; as they were before, afterwards."""
    before = {name: process_variables().get(name) for name in (*settings, *SET_BY_RAY)}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back what ray.init sets: with its handler, a terminated Dagster step would exit, not be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray's Python side is silent: what is wrong is raised, or is a trial's error, in one line."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
