"""Failed runs are told to people: each run once to each receiver, also when a receiver was down for a week.

Dagster's own run failure sensor moves on when telling fails, so the alert is lost. Here each receiver has its own place
in the log of failures, which moves only past what it took; a tag on the run says so at once, so that a killed tick
tells nobody twice. Only a kill between the two does: the message's key is the same then.
Not here: how a receiver is told (resources/alerts.py), or why a run failed (resources/runs.py).
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.domain.errors import TransientError
from petpark_assets.resources.alerts import Alerts, Message, Receiver
from petpark_assets.resources.runs import IN_PROCESS, Failure, find_failure

TOLD_TAG = "petpark/alerted_"
"""With a receiver's name: when it took the message about this run."""
NUM_AT_ONCE = 50
"""Failures that are looked at in one tick, for each receiver."""
TICK_BUDGET_S = 30.0
"""No new message is begun after this long: Dagster cuts a tick at 60 s."""
WHY = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells a webhook and people by e-mail what failed, for which version, why, and where to look. "
    "Without PETPARK_ALERT_WEBHOOK or PETPARK_ALERT_EMAIL it only logs.",
)
def run_failures(context: dg.SensorEvaluationContext, alerts: dg.ResourceParam[Alerts]) -> dg.SensorResult:
    """Each receiver goes on where it stopped; a new one begins with what fails from now on."""
    places: dict[str, int] = json.loads(context.cursor) if context.cursor else {}
    ends_at, told = time.monotonic() + TICK_BUDGET_S, []
    for name, receiver in alerts.receivers.items():
        if name not in places:
            places[name] = _newest(context.instance)
        try:
            for place, line in _catch_up(context.instance, name, receiver, places[name], alerts.ui_url):
                places[name] = place
                told += [line] if line else []
                if time.monotonic() > ends_at:
                    break
        except TransientError as error:
            told.append(f"{error}; told again at the next tick")
    for line in told:
        context.log.warning(line)
    return dg.SensorResult(skip_reason="; ".join(told) or "no run failed", cursor=json.dumps(places))


def _newest(instance: dg.DagsterInstance) -> int:
    found = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return found[0].storage_id if found else 0


def _catch_up(
    instance: dg.DagsterInstance, name: str, receiver: Receiver, place: int, ui_url: str
) -> Iterator[tuple[int, str]]:
    """Tell of each failure after a place, oldest first; the place of each that was told, and a line about it."""
    after = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=place)
    for record in instance.fetch_run_status_changes(after, limit=NUM_AT_ONCE, ascending=True).records:
        run = instance.get_run_by_id(record.run_id)
        yield record.storage_id, "" if run is None else _tell(instance, run, name, receiver, ui_url)


def _tell(instance: dg.DagsterInstance, run: dg.DagsterRun, name: str, receiver: Receiver, ui_url: str) -> str:
    if f"{TOLD_TAG}{name}" in run.tags:
        return ""
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=WHY)]
    failure = find_failure(event for event in events if event is not None)
    if failure.is_interrupted and run.tags.items() >= IN_PROCESS.items():
        return f"run {run.run_id[:8]} was stopped at its terminal"
    message = describe(run, failure, ui_url)
    receiver.send(message)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    instance.add_run_tags(run.run_id, {f"{TOLD_TAG}{name}": now})
    return f"told {name}: {message.title}"


def describe(run: dg.DagsterRun, failure: Failure, ui_url: str) -> Message:
    """What failed, for which version and attempt, why, and where to look."""
    version, attempt = run.tags.get("dagster/partition"), run.tags.get(ATTEMPT_TAG)
    steps = ", ".join(failure.steps) or None
    about = " ".join(("petpark:", run.job_name, *([version] if version else []), "failed"))
    place = f" in {steps}" if steps else ""
    return Message(
        key=f"run-{run.run_id}",
        title=f"{about}{place}: {failure.reason}",
        facts={
            "job": run.job_name,
            "step": steps,
            "reason": failure.reason,
            "dataset_version": version,
            "attempt": attempt,
            "run_id": run.run_id,
            "link": f"{ui_url}/runs/{run.run_id}",
        },
    )
