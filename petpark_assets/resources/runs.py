"""What became of a run of Dagster's: why it failed, in one line, where its process is, and whether that still lives.

Not here: who is told of it (sensors/run_failures.py), or what ends it (sensors/stuck_runs.py, launch.py).
"""

import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import EngineEventData
from dagster._core.executor.base import Executor

from petpark_assets.domain.errors import PetparkError

IN_PROCESS = {"petpark/in_process": "true"}
"""The tag of runs in the process of a terminal: they are dead when it is."""
HOST_TAG = "petpark/host"
"""Where such a run is (`this_machine`): only there its process can be looked for."""
OUR_ERRORS = f"{PetparkError.__module__}."
DATABASE_LOST = (
    "Dagster's database could not be reached: see that its server runs (PETPARK_DATABASE), or its disk has room"
)
PROC = Path("/proc")
BOOT_ID = PROC / "sys" / "kernel" / "random" / "boot_id"
CLOCK_SLACK_S = 5.0
"""How much a process may seem younger than what it wrote: its start is counted in hundredths since boot."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run failed."""

    steps: tuple[str, ...]
    """Every step that failed, in order; none when the run itself was ended."""
    reason: str
    """One line: our own error's message, a failed check's, or the name and message of whatever else it was."""
    is_ours: bool
    """The reason is an error of ours, written to be read."""
    is_interrupted: bool
    """Somebody stopped the process: Dagster turns Ctrl-C into a failed step."""


def find_failure(events: Iterable[dg.DagsterEvent]) -> Failure:
    """The first failure among a run's events."""
    told = list(events)
    steps = tuple(str(event.step_key) for event in told if event.is_step_failure)
    reason, is_ours = _first_reason(told, steps)
    names = {error.cls_name for event in told if event.is_step_failure for error in _causes(_step_error(event))}
    interrupted = dg.DagsterExecutionInterruptedError.__name__ in names
    return Failure(steps=steps, reason=one_line(reason), is_ours=is_ours, is_interrupted=interrupted)


def one_line(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def _first_reason(events: list[dg.DagsterEvent], steps: tuple[str, ...]) -> tuple[str, bool]:
    for event in events:
        if event.is_step_failure:
            causes = [error.message for error in _causes(_step_error(event))]
            ours = [message for message in causes if message.startswith(OUR_ERRORS)]
            if ours:
                return ours[-1].partition(": ")[2], True
            found = _failed_check(events)
            return (found, True) if found else (causes[-1] if causes else f"{event.step_key} failed", False)
    if steps:
        return steps[0], False
    ended = [_why_run_ended(event) for event in events if event.is_run_failure]
    return ended[0] if ended else ("no reason", False)


def _why_run_ended(event: dg.DagsterEvent) -> tuple[str, bool]:
    """What Dagster says, and the error itself, where the run's own process met one outside of any step."""
    data: Any = event.event_specific_data  # none where another than the run's own process ended it
    if data is None or data.error is None:
        return str(event.message or "no reason"), False
    *_, cause = _causes(data.error)
    if "dagster_postgres" in cause.message or "psycopg2" in cause.message:
        return DATABASE_LOST, True
    return f"{event.message or 'the run ended'} {cause.message}", False


def _step_error(event: dg.DagsterEvent) -> Any:
    return event.step_failure_data.error


def _failed_check(events: list[dg.DagsterEvent]) -> str | None:
    """What the check said that stopped the run: the verdict about a rejected model."""
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                return f"check {check.check_name}: {check.description or 'it does not hold'}"
    return None


def _causes(error: Any) -> Iterator[Any]:
    """An error as Dagster keeps it, what caused it, and so on."""
    while error is not None:
        yield error
        error = error.cause


def this_machine() -> str:
    """By what a machine is told from others; containers may share its name, and have process numbers of their own."""
    namespace = PROC / "self" / "ns" / "pid"
    return platform.node() + (f" {namespace.readlink()}" if namespace.is_symlink() else "")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run's processes are: only there do their numbers name them."""

    host: str
    boot: str
    """Of the kernel's start; after another one all numbers are given anew."""
    pids: str
    """The namespace of process numbers: that of a container, if it is in one."""


def here() -> Place:
    """That of this process."""
    namespace = PROC / "self" / "ns" / "pid"
    return Place(
        host=platform.node(),
        boot=BOOT_ID.read_text().strip() if BOOT_ID.exists() else "",
        pids=str(namespace.readlink()) if namespace.is_symlink() else "",
    )


def noted_place(events: Iterable[dg.EventLogEntry]) -> Place | None:
    """Where a run said that it is, by its engine events (`noting_executor`)."""
    for entry in events:
        metadata = entry.dagster_event.engine_event_data.metadata if entry.dagster_event else {}
        if "boot" in metadata:
            return Place(**{name: str(metadata[name].value) for name in ("host", "boot", "pids")})
    return None


def note_of(place: Place, pid: int) -> EngineEventData:
    """What a run says of itself: Dagster's events name the process alone."""
    return EngineEventData({"pid": str(pid), "host": place.host, "boot": place.boot, "pids": place.pids})


class _Noting(Executor):
    """Another executor, and a note of where it works: an event, since a run that is made again inherits tags."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> Any:
        """See Executor."""
        return self._executor.retries

    @property
    def step_dependency_config(self) -> Any:
        """See Executor."""
        return self._executor.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """See Executor."""
        place, pid = here(), os.getpid()
        yield dg.DagsterEvent.engine_event(plan_context, f"process {pid} on {place.host}", note_of(place, pid))
        yield from self._executor.execute(plan_context, execution_plan)


@dg.executor(
    name="noting",
    config_schema=dg.multiprocess_executor.config_schema.as_field(),
    requirements=multiple_process_executor_requirements(),
)
def noting_executor(context: dg.InitExecutorContext) -> Executor:
    """Dagster's own, with a process a step; each run notes where it is, for sensors/stuck_runs.py."""
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None  # it is no abstract one
    return _Noting(create(context))


def lost_process(events: Iterable[dg.EventLogEntry]) -> int | None:
    """The process of a run on this machine, if it is gone; None if it lives, or was not noted yet.

    The first process that a run's engine events name is its own: its steps' come later. A number that another
    process has by now is told from it by its start (where there is /proc; elsewhere it counts as living).
    """
    for pid, since in _noted_processes(events):
        return None if _lives(pid, since=since) else pid
    return None


def living_steps(events: Iterable[dg.EventLogEntry]) -> list[int]:
    """The processes of a run's steps that live, by its STEP_WORKER_STARTED events; none where there is no /proc.

    A step outlives the run's process when that is killed: nobody tells it.
    """
    return [pid for pid, since in _noted_processes(events) if PROC.is_dir() and _lives(pid, since=since)]


def _noted_processes(events: Iterable[dg.EventLogEntry]) -> Iterator[tuple[int, float]]:
    """Each process that events name, and when."""
    for entry in events:
        noted = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if noted is not None:
            yield int(str(noted.value)), entry.timestamp


def _lives(pid: int, *, since: float) -> bool:
    if PROC.is_dir():
        state, started = _process(pid)
        return state not in {"", "Z", "X"} and started <= since + CLOCK_SLACK_S
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process(pid: int) -> tuple[str, float]:
    """State letter and start (seconds since 1970) of a process, by proc(5); no letter when there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0.0
    since_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0], time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s
