"""Runs whose process is gone are ended: they would keep their places in the queue and in the training pool for hours.

A run from the UI is watched over by the code server that started it, while that lives; a build from a terminal by
nobody. After a power cut, or a kill of both, this finds their processes gone. Dagster then makes a run from the UI
again, once (dagster.yaml, run_retries), which goes on where the dead one stopped. A step whose run's process was killed
works on, unseen, beside the run that is made again: it is ended too.
What still has a process and hangs is ended by dagster.yaml's run_monitoring, after six hours.
"""

import contextlib
import os
import signal
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher

from petpark_assets.resources.runs import HOST_TAG, IN_PROCESS, living_steps, lost_process, this_machine

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
    """Look at every started run of this machine."""
    ended = [*end_lost_runs(context.instance), *end_orphans(context.instance)]
    for line in ended:
        context.log.warning(line)
    return dg.SkipReason("; ".join(ended) or "every started run has its process")


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """End each started run whose process is gone; a line about each."""
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return [line for run in started if _is_of_this_machine(instance, run) and (line := _end_if_lost(instance, run))]


def _is_of_this_machine(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """A number of a process says nothing elsewhere: sensors and default launched runs share their code server's."""
    if run.tags.items() >= IN_PROCESS.items():
        return run.tags.get(HOST_TAG) == this_machine()
    return isinstance(instance.run_launcher, DefaultRunLauncher)


def _end_if_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    pid = lost_process(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT))
    if pid is None:
        return None
    known = instance.get_run_by_id(run.run_id)
    if known is None or known.status != dg.DagsterRunStatus.STARTED:  # it ended while we looked
        return None
    reason = f"the process that ran it (pid {pid}) is gone"
    instance.report_run_failed(run, reason)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return f"run {run.run_id[:8]} of {run.job_name} was ended: {reason}"


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """End the steps that work on though their run has ended: asked first, killed later; a line about each."""
    now = datetime.now(UTC)
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED], updated_after=now - ORPHANS_SOUGHT
    )
    told = []
    for record in instance.get_run_records(wanted):
        run = record.dagster_run
        if not _is_of_this_machine(instance, run):
            continue
        is_late = record.end_time is not None and now.timestamp() - record.end_time > MERCY.total_seconds()
        for pid in living_steps(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)):
            with contextlib.suppress(ProcessLookupError):  # it ended while we looked
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            told.append(f"a step of run {run.run_id[:8]} outlived it and was ended (pid {pid})")
    return told
