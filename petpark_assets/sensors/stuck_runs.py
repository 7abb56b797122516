"""Runs whose process is gone are ended: they would keep their places in the queue and in the training pool for hours.

A run from the UI is watched over by the code server that started it, while that lives; a build from a terminal by
nobody. After a power cut, or a kill of both, this finds their processes gone. Dagster then makes a run from the UI
again, once (dagster.yaml, run_retries), which goes on where the dead one stopped. A step whose run's process was killed
works on, unseen, beside the run that is made again: it is ended too.
Numbers of processes mean nothing on another machine, or after its restart. A run notes where it is (`noting_executor`);
one that does not, or that is on a machine of another name, is left alone, and its ticks say so: a person who knows that
it is gone cancels it in the UI.
What still has a process and hangs is ended by dagster.yaml's run_monitoring, after six hours.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher

from petpark_assets.resources.runs import (
    HOST_TAG,
    IN_PROCESS,
    Place,
    here,
    living_steps,
    lost_process,
    noted_place,
    this_machine,
)

ORPHANS_SOUGHT = timedelta(hours=1)
"""After a run's end its steps are looked for."""
MERCY = timedelta(minutes=3)
"""For a step to end by itself when told to; Ray is stopped in it."""


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process was killed, gives their places back, and ends the steps they left behind.",
)
def stuck_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look at every started run, and at those that ended of late."""
    told = [*end_lost_runs(context.instance), *end_orphans(context.instance)]
    for line in told:
        context.log.warning(line)
    return dg.SkipReason("; ".join(told) or "every started run has its process")


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """End each started run whose process is gone; a line about each, and each that cannot be judged from here."""
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return [line for run in started if (line := _look_at(instance, run))]


def _look_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    if run.tags.items() >= IN_PROCESS.items():
        return _end_if_gone(instance, run, events) if run.tags.get(HOST_TAG) == this_machine() else None
    place, this = noted_place(events), here()
    if not events or not isinstance(instance.run_launcher, DefaultRunLauncher):
        return None
    if place is None or place.host != this.host:
        return f"run {run.run_id[:8]} of {run.job_name} was left alone: {_elsewhere(place)}"
    if place != this:  # started anew, and all that ran there ended: one machine has one code server, which is this
        return _end(instance, run, "its machine, or its container, was started anew since")
    return _end_if_gone(instance, run, events)


def _elsewhere(place: Place | None) -> str:
    where = "it does not say on which machine it is" if place is None else f"it is on {place.host}, not on this machine"
    return f"{where}; if it is gone, cancel it in the UI"


def _end_if_gone(instance: dg.DagsterInstance, run: dg.DagsterRun, events: Sequence[dg.EventLogEntry]) -> str | None:
    pid = lost_process(events)
    return None if pid is None else _end(instance, run, f"the process that ran it (pid {pid}) is gone")


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> str | None:
    known = instance.get_run_by_id(run.run_id)
    if known is None or known.status != dg.DagsterRunStatus.STARTED:  # it ended while we looked
        return None
    instance.report_run_failed(run, reason)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return f"run {run.run_id[:8]} of {run.job_name} was ended: {reason}"


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """End the steps that work on though their run has ended: asked first, killed later; a line about each.

    A process is one of them if the run was on this machine, since its last start, and it is not younger than the
    step's first event: nobody else can have had its number then.
    """
    now = datetime.now(UTC)
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED], updated_after=now - ORPHANS_SOUGHT
    )
    told = []
    for record in instance.get_run_records(wanted):
        run = record.dagster_run
        steps = living_steps(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED))
        place = noted_place(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)) if steps else None
        if place != here():
            told += [_unproven(run, pid) for pid in steps if place is None]
            continue
        is_late = record.end_time is not None and now.timestamp() - record.end_time > MERCY.total_seconds()
        for pid in steps:
            with contextlib.suppress(ProcessLookupError):  # it ended while we looked
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            told.append(f"a step of run {run.run_id[:8]} outlived it and was ended (pid {pid})")
    return told


def _unproven(run: dg.DagsterRun, pid: int) -> str:
    return f"process {pid} was left alone: a step of run {run.run_id[:8]} had this number, maybe on another machine"
