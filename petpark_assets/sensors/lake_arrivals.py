"""What wakes the house when photos come: a version is made of what has come, and built to the end.

A tick asks for one thing at most, in this order, and for nothing while such a run is open:
  1. the newest version has its manifest and no record, since its ingestion died in between: a run that completes it;
  2. it is not built: its partition and its run (job `build`), in one result;
  3. enough has come to the lake since that version: a run that makes the next one (job `new_dataset_version`, the one
     place where versions are made).
Everything is worked out from the manifests, the lake and the runs themselves, so a tick or a daemon that is killed
anywhere loses nothing and asks for nothing twice: a request's key is what it is about and how often that was tried. A
run that died is asked for again, MAX_TRIES times in all; a lake that returns to an earlier state comes after another
version, so it is another request.

Photos that are still being written: the lake must look the same in two ticks, SETTLE_S apart on this process's clock;
the clocks of the lake's server and of cameras do not matter. One that never rests is looked at after the wait all the
same, and what was half-written is then set aside, and comes back by itself.
The cursor only says since when: without it a lake settles, and fewer photos wait, once more.
Where the lake's bucket tells a queue what happens in it, a tick looks at what was named instead of the whole lake.
Not here: what counts as new (domain/lake/arrivals.py), how far a queue is trusted (workflow/arrivals_by_queue.py).
"""

import json
import time
from typing import Any, NamedTuple

import dagster as dg

from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.workflow import arrivals, arrivals_by_queue, ingestion
from petpark_assets.domain.workflow.arrivals import Look
from petpark_assets.jobs import build, new_dataset_version
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.lake_queue import LakeQueue
from petpark_assets.resources.lake_watch import LakeWatch

INTERVAL_S = 30
SETTLE_S = 20.0
"""Below the interval: two ticks in a row are enough."""
MAX_TRIES = 3
"""Of one request, Dagster's own retries included."""
REQUEST_TAG = "petpark/request"

_DIGITS = 32
"""Of a digest, in a request's key: 128 bits."""
_OPEN = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Not NOT_STARTED: a daemon that was killed between making a run and queueing it finds it by its key, and goes on."""


class Seen(NamedTuple):
    """The cursor: what was seen, and since when, in seconds of this machine's clock."""

    snapshot: str = ""
    still_since: float = 0.0
    """The lake looked like this."""
    manifest: str = ""
    waiting_since: float = 0.0
    """It was not as this version has it."""


@dg.sensor(
    jobs=[new_dataset_version, build],
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Watches the lake: makes a dataset version when enough photos have come, changed or gone, and builds "
    "each new version to the end.",
)
def lake_arrivals(context: dg.SensorEvaluationContext, home: PetparkHome, lake_watch: LakeWatch) -> dg.SensorResult:
    """One tick. Permanent errors (a folder that cannot be listed) show as a failed tick, again with each."""
    try:
        return tick(context.instance, home.open(), lake_watch, context.cursor, time.time())
    except TransientError as error:
        return dg.SensorResult(skip_reason=f"{error} (the next tick does)", cursor=context.cursor)


def tick(instance: dg.DagsterInstance, home: Home, watch: LakeWatch, cursor: str | None, now: float) -> dg.SensorResult:
    """What to do now, `now` being seconds of this machine's clock."""
    if is_open := _open_run(instance):
        return dg.SensorResult(skip_reason=is_open, cursor=cursor)
    lake = watch.lake or ingestion.known_lake(home)
    unfinished = _unfinished(instance, home, lake)
    if isinstance(unfinished, dict):
        return dg.SensorResult(**unfinished, cursor=cursor)
    if lake is None:
        return dg.SensorResult(
            skip_reason="no lake to watch: set PETPARK_LAKE, or make the first version (petpark lake ingest --lake ...)"
        )
    look = _look(home, lake, watch, now)
    seen = _see(look, cursor, now)
    answer = _why_not(look, watch, seen, now) or _ask_for_version(instance, look, lake)
    if isinstance(answer, dg.RunRequest):
        return dg.SensorResult(run_requests=[answer], cursor=json.dumps(seen))
    return dg.SensorResult(
        skip_reason="; ".join(filter(None, [answer, look.note, unfinished])), cursor=json.dumps(seen)
    )


def _look(home: Home, lake: str, watch: LakeWatch, now: float) -> Look:
    if watch.queue is None:
        return arrivals.look(home, lake)
    return arrivals_by_queue.look(home, lake, LakeQueue(watch.queue, home.s3), now)


def _open_run(instance: dg.DagsterInstance) -> str | None:
    """Why nothing is asked for now: a run, asked for by anybody, does it already."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_OPEN)):
        if run.job_name in {new_dataset_version.name, build.name}:
            return f"run {run.run_id[:8]} of {run.job_name} is {run.status.value.lower()}"
    return None


def _unfinished(instance: dg.DagsterInstance, home: Home, lake: str | None) -> dict[str, Any] | str | None:
    """A run that completes or builds the newest version, or why there is none; None where it is built."""
    version = catalogue.newest_version(home.store)
    if version is None or arrivals.is_built(home, version):
        return None
    digest = arrivals.manifest_digest(home, version)[:_DIGITS]
    if lake is not None and not arrivals.is_recorded(home, version):
        run = _request(instance, f"complete-{digest}", **_look_at(lake))
        return run if isinstance(run, str) else {"run_requests": [run]}
    run = _request(instance, f"build-{digest}", job_name=build.name, partition_key=version)
    added = [DATASET_VERSIONS.build_add_request([version])]
    if isinstance(run, str):
        return f"{version} is not built: {run}"
    return {"run_requests": [run], "dynamic_partitions_requests": added}


def _see(look: Look, cursor: str | None, now: float) -> Seen:
    """The next cursor. Times after now are of a clock that was set back."""
    before = _before(cursor)
    is_still = look.snapshot == before.snapshot and before.still_since <= now
    is_waiting = look.num_photos > 0 and look.manifest == before.manifest and 0 < before.waiting_since <= now
    waiting_since = before.waiting_since if is_waiting else now if look.num_photos else 0.0
    return Seen(look.snapshot, before.still_since if is_still else now, look.manifest, waiting_since)


def _before(cursor: str | None) -> Seen:
    """What the last tick saw; a cursor that is none of ours is as good as none."""
    try:
        return Seen(*json.loads(cursor or "[]"))
    except (ValueError, TypeError):
        return Seen()


def _why_not(look: Look, watch: LakeWatch, seen: Seen, now: float) -> str | None:
    """Why no version is made now."""
    of = f"of {look.dataset_version}" if look.dataset_version else "of no version yet"
    if not look.num_photos:
        return f"the lake has the photos {of}"
    what = f"{look.num_new} photos new, {look.num_changed} changed, {look.num_removed} removed {of}"
    waited_h = (now - seen.waiting_since) / 3600
    if waited_h >= watch.wait_h:
        return None
    if look.num_photos < watch.num_photos and not look.is_more:
        return f"{what}: a version is made at {watch.num_photos}, or in {watch.wait_h - waited_h:.1f} hours"
    if now - seen.still_since < SETTLE_S:
        return f"{what}: waiting for the lake to look the same twice"
    return None


def _ask_for_version(instance: dg.DagsterInstance, look: Look, lake: str) -> dg.RunRequest | str:
    request = f"{look.manifest[:_DIGITS] or 'first'}-{look.snapshot[:_DIGITS]}"
    return _request(instance, request, **_look_at(lake))


def _look_at(lake: str) -> dict[str, Any]:
    config = {"ops": {"look_at_the_lake": {"config": {"lake": lake}}}}
    return {"job_name": new_dataset_version.name, "run_config": config}


def _request(instance: dg.DagsterInstance, request: str, **run: Any) -> dg.RunRequest | str:
    """A run for a request, or why there is none: a person stopped it, or it was tried often enough."""
    runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request}))
    tried = [before for before in runs if before.status != dg.DagsterRunStatus.NOT_STARTED]
    for before in tried:
        name = f"run {before.run_id[:8]} of {before.job_name}"
        if before.status == dg.DagsterRunStatus.CANCELED:
            return f"{name} was asked for just this, and a person stopped it: launch it again, or change the lake"
        if before.is_complete_and_waiting_to_retry:
            return f"{name} failed, and is tried again by Dagster"
    if len(tried) >= MAX_TRIES:
        return f"{len(tried)} runs ended without doing just this, the last {tried[0].run_id[:8]}: see there why"
    return dg.RunRequest(run_key=f"{request}-{len(tried)}", tags={REQUEST_TAG: request}, **run)
