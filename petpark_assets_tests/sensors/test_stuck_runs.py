"""No run stays started when its process was killed, and none that works is touched. Real processes, real kills."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from petpark_assets.definitions import FORKED
from petpark_assets.launch import _is_lost
from petpark_assets.resources.runs import HOST_TAG, IN_PROCESS, Place, here, living_steps, note_of, this_machine
from petpark_assets.sensors.stuck_runs import end_lost_runs, end_orphans


@dg.op
def works() -> None:
    """Never ends."""
    time.sleep(600)


@dg.job(executor_def=FORKED)
def long_job() -> None:
    """A training."""
    works()


def begin(folder: str, host: str) -> None:
    """A build in the process of a terminal."""
    with _open(Path(folder)) as instance:
        instance.event_log_storage.set_concurrency_slots("training", 1)
        long_job.execute_in_process(instance=instance, tags={**IN_PROCESS, HOST_TAG: host})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the instance keeps its runs."""
    (tmp_path / "dagster").mkdir()
    return tmp_path / "dagster"


@pytest.fixture
def instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """On disk: another process runs in it."""
    with _open(folder) as opened:
        yield opened


def _open(folder: Path) -> dg.DagsterInstance:
    silent = {"telemetry": {"enabled": False}}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides=silent))


def _began(folder: Path, host: str) -> subprocess.Popen:
    script = "import sys; from petpark_assets_tests.sensors.test_stuck_runs import begin; begin(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), host], stderr=subprocess.PIPE)
    with _open(folder) as instance:
        while not any(
            instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START) for run in instance.get_runs()
        ):
            assert process.poll() is None, process.stderr.read()
    return process


def test_a_run_whose_process_was_killed_is_ended(folder: Path, instance: dg.DagsterInstance):
    """Its place in the training pool is given back, and the reason is one line; while it lived it was left alone."""
    process = _began(folder, this_machine())
    with process:
        assert end_lost_runs(instance) == []
        (run,) = instance.get_runs()
        instance.event_log_storage.claim_concurrency_slot("training", run.run_id, "works")
        process.kill()
    assert end_lost_runs(instance) == [
        f"run {run.run_id[:8]} of long_job was ended: the process that ran it (pid {process.pid}) is gone"
    ]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.get_concurrency_info("training").active_slot_count == 0
    assert end_lost_runs(instance) == []


@pytest.mark.parametrize("host", ["another-machine", f"{os.uname().nodename} pid:[4026530000]"])
def test_a_run_of_another_machine_or_container_is_left_alone(folder: Path, instance: dg.DagsterInstance, host: str):
    """Its processes cannot be seen from here: their numbers would name others. Containers may share a name."""
    process = _began(folder, host)
    with process:
        process.kill()
    assert end_lost_runs(instance) == []


def test_a_run_that_may_have_lost_its_lock_is_lost_only_where_that_is_seen(folder: Path, instance: dg.DagsterInstance):
    """PostgreSQL forgets its locks when it is started again: the next build must not end the one that works on."""
    restarted = datetime.now(UTC) + timedelta(hours=1)
    with _began(folder, this_machine()) as here:
        (run,) = instance.get_runs()
        assert not _is_lost(instance, run, restarted)
        here.kill()
    assert _is_lost(instance, run, restarted)
    assert not _is_lost(instance, run.with_tags({**run.tags, HOST_TAG: "another-machine"}), restarted)


def test_a_run_whose_lock_is_free_is_lost_wherever_it_was(folder: Path, instance: dg.DagsterInstance):
    """Its machine, or its container, may never come back, and it has the training pool's only place."""
    with _began(folder, "another-machine") as there:
        there.kill()
    (run,) = instance.get_runs()
    assert _is_lost(instance, run, None)
    assert _is_lost(instance, run, datetime.now(UTC) - timedelta(hours=1))
    assert not _is_lost(instance, run, datetime.now(UTC) - timedelta(minutes=1))  # clocks differ


def _noted(instance: dg.DagsterInstance, pid: int, place: Place | None = None) -> dg.DagsterRun:
    """A started run that says it has this process, and, if it does, where; launched, so that no tag names a machine."""
    run = instance.create_run_for_job(long_job)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "long_job"), run_id=run.run_id)
    from dagster._core.events import EngineEventData

    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
    if place is not None:
        instance.report_engine_event("on a machine", run, note_of(place, pid))
    return run


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    """A process older than all events, which has nothing to do with any run; ended with the test."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def _with_step(instance: dg.DagsterInstance, run: dg.DagsterRun, pid: int) -> None:
    """A step of it says that it has this process; then the run fails."""
    from dagster._core.events import EngineEventData

    event = dg.DagsterEvent(
        "STEP_WORKER_STARTED", "long_job", event_specific_data=EngineEventData.in_process(pid), step_key="works"
    )
    instance.report_dagster_event(event, run_id=run.run_id)
    instance.report_run_failed(run)


ANOTHER_HOST = dataclasses.replace(here(), host="another-machine")


@pytest.mark.parametrize(
    "place",
    [None, ANOTHER_HOST, dataclasses.replace(here(), boot="another"), dataclasses.replace(here(), pids="pid:[1]")],
    ids=["not noted", "another machine", "before a restart", "another container"],
)
def test_a_process_that_is_not_provably_a_runs_is_not_ended(
    instance: dg.DagsterInstance, sleeper: subprocess.Popen, place: Place | None
):
    """After a restore elsewhere the numbers in events are those of strangers' processes, and older than any event."""
    run = _noted(instance, sleeper.pid, place)
    _with_step(instance, run, sleeper.pid)
    why = f"a step of run {run.run_id[:8]} had this number, maybe on another machine"
    said = f"process {sleeper.pid} was left alone: {why}"
    assert end_orphans(instance) == ([said] if place is None else [])
    assert sleeper.poll() is None


def test_the_same_is_ended_where_it_is_a_runs(instance: dg.DagsterInstance, sleeper: subprocess.Popen):
    """Or the claim above would say nothing."""
    _with_step(instance, _noted(instance, sleeper.pid, here()), sleeper.pid)
    assert len(end_orphans(instance)) == 1
    assert sleeper.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("place", "why"),
    [(None, "it does not say on which machine it is"), (ANOTHER_HOST, "it is on another-machine, not on this machine")],
    ids=["not noted", "another machine"],
)
def test_a_run_that_may_work_elsewhere_is_left_alone_and_named(
    instance: dg.DagsterInstance, place: Place | None, why: str
):
    """Its code server moved, or its database was restored here: nobody here knows whether it works."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = _noted(instance, gone.pid, place)
    said = f"run {run.run_id[:8]} of long_job was left alone: {why}; if it is gone, cancel it in the UI"
    assert end_lost_runs(instance) == [said]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize("change", [{"boot": "another"}, {"pids": "pid:[1]"}], ids=["machine", "container"])
def test_a_run_from_before_a_restart_is_ended(instance: dg.DagsterInstance, change: dict):
    """Whoever has its process's number by now: all that ran there ended with it."""
    run = _noted(instance, os.getpid(), dataclasses.replace(here(), **change))
    (line,) = end_lost_runs(instance)
    assert line.startswith(
        f"run {run.run_id[:8]} of long_job was ended: its machine, or its container, was started anew"
    )


def begin_with_a_process_for_each_step(folder: str) -> None:
    """A run as the UI launches it, from its own process on."""
    with _open(Path(folder)) as instance:
        dg.execute_job(dg.reconstructable(long_job), instance=instance)


def test_a_step_whose_run_was_killed_does_not_work_on(folder: Path, instance: dg.DagsterInstance):
    """It would train beside the run that is made again, on the same cores; nobody else ends it."""
    module = "petpark_assets_tests.sensors.test_stuck_runs"
    script = f"import sys; from {module} import begin_with_a_process_for_each_step as go; go(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.DEVNULL)
    with process:
        (run,) = _wait(instance.get_runs)
        (entry,) = _wait(lambda: instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED))
        _wait(lambda: instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START))
        assert end_orphans(instance) == []
        process.kill()
    step = int(entry.dagster_event.engine_event_data.metadata["pid"].value)
    assert living_steps([entry]) == [step]
    assert len(end_lost_runs(instance)) == 1
    assert end_orphans(instance) == [f"a step of run {run.run_id[:8]} outlived it and was ended (pid {step})"]
    _wait(lambda: not living_steps([entry]))
    assert end_orphans(instance) == []


def _wait(found):
    """What is waited for, once it is there."""
    deadline = time.monotonic() + 60
    while not (answer := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


def test_a_process_that_only_has_its_number_is_not_it(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch):
    """After a restart of the machine numbers begin anew: whoever was born after the run cannot have begun it."""
    living = _noted(instance, os.getpid(), here())
    assert end_lost_runs(instance) == []
    monkeypatch.setattr("time.clock_gettime", lambda _clock: -3600.0)  # as if this process had begun in an hour
    (line,) = end_lost_runs(instance)
    assert line.startswith(f"run {living.run_id[:8]}")


def test_a_killed_process_that_nobody_has_buried_is_gone(instance: dg.DagsterInstance):
    """A worker's parent may be as dead, or busy: what is left of it then looks like a process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _noted(instance, process.pid, here())
    assert end_lost_runs(instance) == []
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert len(end_lost_runs(instance)) == 1
    process.wait()


def test_a_run_that_has_no_process_yet_is_left_alone(instance: dg.DagsterInstance):
    """Between its start and its first step nothing is known of it."""
    run = instance.create_run_for_job(long_job)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "long_job"), run_id=run.run_id)
    assert end_lost_runs(instance) == []
