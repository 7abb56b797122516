"""SIGKILL at random moments of a whole build that the sensors drive, to whatever of it is drawn; then it must finish.

    python -m petpark_assets_tests.benchmarks.crashes [KILLS] [SEED]        50 times, with the seed 0

A daemon and a code server (services.py) build the first version of a drawn lake to a registered model, by themselves.
That is done once undisturbed, and then in one home after another with up to four kills in each: two of what ends a run
(its worker, a step, Ray) and two of a service (the daemon, the code server), which is started again at once. A third
run of one request that dies is left to people by design, so there are no more.

What is killed is drawn, and when: evenly over the time for which such a process lives in the undisturbed build. A kill
whose moment does not come before the build is finished is not counted.

Each build must then hold what the undisturbed one does, by content digest: manifests, records, verdicts, registered
versions, aliases and the ledger's outcomes, each once; no run may stay open, no process or taken place in the pool be
left; and a reader (crash_reader.py) that looks all the time must see nothing half-made. Times in Dagster's settings are
shorter than the product's (SHORTER, crash_house.py), or most of it would be waiting.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from petpark_assets.domain.files import LocalStore, list_attempts
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.records import RegisteredModel
from petpark_assets.resources.runs import find_failure
from petpark_assets_tests.benchmarks.crash_reader import assert_nothing_half_made, contents, records
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.services import Process, Services, children, processes_of, table

RESULT = Path(__file__).parent / "results" / "crashes.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.crashes"
HOUSE = "petpark_assets_tests.benchmarks.crash_house"
NUM_PHOTOS = 60
SERVICES = ("daemon", "code server")
ENDING_A_RUN = ("run worker", "step", "Ray")
RAY = ("raylet", "gcs_server", "ray::ImplicitFunc")
"""Its two servers, and the process of a trial."""
GLANCE_S = 0.2
FINISHED_S = 900
"""A build with all its kills; undisturbed it takes two minutes on two cores."""
GONE_S = 120
"""After a build's end, until nothing of it is left."""
SHORTER = {
    "start_timeout_seconds: 300": "start_timeout_seconds: 60",
    "poll_interval_seconds: 30": "poll_interval_seconds: 5",
    "free_slots_after_run_end_seconds: 60": "free_slots_after_run_end_seconds: 5",
}
"""In dagster.yaml: how long what is lost may go unnoticed."""

Kill = tuple[str, float]
"""What, and after how many seconds that such a process has lived, in all, in this build."""


class Build:
    """One build in a home of its own, and what happened to it."""

    def __init__(self, home: Path, lake: Path) -> None:
        variables = {"PETPARK_LAKE": str(lake), "PETPARK_ARRIVALS": "1", "OMP_NUM_THREADS": "1"}
        self.home, self.services = home, Services(home, module=HOUSE, variables=variables, settings=SHORTER)
        self.lived_s: dict[str, float] = defaultdict(float)
        """For how long there was a process of each kind."""
        self.kills: list[dict[str, Any]] = []
        self.runs: list[tuple[str, str, str]] = []
        """Job and status of each, oldest first, and why it failed, if so."""
        self.seconds = 0.0
        self.num_looks = 0
        self._workers = set[int]()

    def run(self, kills: Sequence[Kill], dice: random.Random) -> None:
        """From nothing to a registered model, with these kills. Raises AssertionError where it does not get there."""
        left, started = list(kills), time.monotonic()
        with self.services.started(), self.services.instance() as instance, _reader(self.home) as looks:
            while not self._is_finished(instance):
                before = time.monotonic()
                assert before - started < FINISHED_S, f"not finished: {_runs(instance)}\n{self.services.tail()}"
                time.sleep(GLANCE_S)
                found = self._find()
                for kind in found:
                    self.lived_s[kind] += time.monotonic() - before
                for kind, after_s in [kill for kill in left if kill[0] in found and self.lived_s[kill[0]] > kill[1]]:
                    left.remove((kind, after_s))
                    self._kill(kind, dice.choice(found[kind]), round(time.monotonic() - started, 1))
            self.seconds, self.runs = round(time.monotonic() - started, 1), _runs(instance)
            self._assert_nothing_left(instance)
        self.num_looks = looks[0]
        assert_nothing_half_made(open_home(self.home, actor="reader"))

    def _find(self) -> dict[str, list[int]]:
        """The processes that there are of each kind."""
        known, services = table(), {name: process.pid for name, process in self.services.running.items()}
        self._workers |= _started(known, services["code server"], "spawn_main")
        workers = self._workers & known.keys()  # those of a code server that was killed, too
        forking = {pid for worker in workers for pid in _started(known, worker, "forkserver")}
        steps = {pid for server in forking for pid in _started(known, server, "forkserver")}
        ray = [pid for pid in children(known, *steps) if any(name in known[pid].command for name in RAY)]
        found = {
            **{name: [pid] for name, pid in services.items()},
            "run worker": sorted(workers), "step": sorted(steps), "Ray": sorted(ray),
        }  # fmt: skip
        return {kind: pids for kind, pids in found.items() if pids}

    def _kill(self, kind: str, pid: int, at_s: float) -> None:
        command = table().get(pid, Process(0, "")).command
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended while we looked
            return
        made = [record.asset for record in records(open_home(self.home, actor="reader"))]
        name = next((name for name in RAY if name in command), kind) if kind == "Ray" else kind
        self.kills.append({"killed": name, "at_s": at_s, "newest_record": made[-1] if made else None})
        if kind in SERVICES:
            self.services.running[kind].wait()
            self.services.revive()

    def _is_finished(self, instance: dg.DagsterInstance) -> bool:
        """Registered, and nothing is under way or waits for another try."""
        if not list_attempts(LocalStore(self.home / "store"), RegisteredModel, "v0001"):
            return False
        return all(run.is_finished and not run.is_complete_and_waiting_to_retry for run in instance.get_runs())

    def _assert_nothing_left(self, instance: dg.DagsterInstance) -> None:
        deadline = time.monotonic() + GONE_S
        while left := self._left(instance):
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(1)

    def _left(self, instance: dg.DagsterInstance) -> list[str]:
        """Commands of processes that should be gone, and steps that still hold a place in a pool."""
        known, services = table(), {process.pid for process in self.services.running.values()}
        found = [known[pid].command for pid in processes_of(self.home) if pid in known and pid not in services]
        pool = instance.event_log_storage.get_concurrency_info("training")
        holding = [f"{slot.run_id} in the pool" for slot in pool.claimed_slots]
        # Python's own process for shared memory lives as long as the service that started it.
        return [command for command in found if "resource_tracker" not in command] + holding


def _started(known: Mapping[int, Process], parent: int, how: str) -> set[int]:
    """Processes that Python's multiprocessing started for one: run workers, what forks their steps, steps."""
    return {pid for pid, process in known.items() if process.parent == parent and how in process.command}


def _runs(instance: dg.DagsterInstance) -> list[tuple[str, str, str]]:
    return [(run.job_name, run.status.value, _why(instance, run)) for run in reversed(instance.get_runs())]


def _why(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    if not run.is_failure:
        return ""
    return find_failure(entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event).reason


@contextlib.contextmanager
def _reader(home: Path) -> Iterator[list[int]]:
    """A reader of a home; how often it looked is in the list at the end. Raises AssertionError on what it saw."""
    command, looks = [sys.executable, "-m", "petpark_assets_tests.benchmarks.crash_reader", str(home)], list[int]()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as reader:  # type: ignore[call-overload]
        try:
            yield looks
            said, wrong = reader.communicate()
            assert reader.returncode == 0, wrong
            looks.append(json.loads(said)["num_looks"])
        finally:
            reader.kill()


def kill_at_random(
    folder: Path,
    *,
    num_kills: int,
    seed: int = 0,
    kills_a_build: int = 4,
    on_build: Callable[[dict[str, Any]], None] = lambda _found: None,
) -> dict[str, Any]:
    """Kill builds until this many kills have been made; raises AssertionError at the first that comes to another end.

    Returns what was killed and when, and what it took; `on_build` is given that after each build.
    """
    lake, dice = folder / "lake", random.Random(seed)  # noqa: S311 - drawn to be repeated, not secret
    draw_lake(lake, num_images=NUM_PHOTOS)
    quiet = Build(folder / "quiet", lake)
    quiet.run([], dice)
    assert [status for _, status, _ in quiet.runs] == ["SUCCESS", "SUCCESS"], quiet.runs
    builds, expected = list[Build](), contents(open_home(quiet.home, actor="reader"))
    while (left := num_kills - sum(len(build.kills) for build in builds)) > 0:
        builds.append(Build(folder / f"killed-{len(builds)}", lake))
        kills = draw(dice, quiet.lived_s, min(left, kills_a_build))
        builds[-1].run(kills, dice)
        found = contents(open_home(builds[-1].home, actor="reader"))
        assert found == expected, f"{_differences(expected, found)} after {builds[-1].kills}, {builds[-1].runs}"
        on_build(_describe(quiet, builds))
    return _describe(quiet, builds)


def draw(dice: random.Random, lived_s: Mapping[str, float], num_kills: int) -> list[Kill]:
    """What ends a run and a service in turn, each at a moment of its own within the time that there is one."""
    kinds = [dice.choice((ENDING_A_RUN, SERVICES)[number % 2]) for number in range(num_kills)]
    return [(kind, dice.random() * lived_s[kind]) for kind in kinds]


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (value, found[name]) for name, value in expected.items() if found[name] != value}


def _describe(quiet: Build, builds: Sequence[Build]) -> dict[str, Any]:
    statuses = Counter(status for build in builds for _, status, _ in build.runs)
    return {
        "n": {"kills": sum(len(build.kills) for build in builds), "builds": len(builds)},
        "kills_by_what": dict(Counter(kill["killed"] for build in builds for kill in build.kills)),
        "undisturbed_s": quiet.seconds,
        "builds_s": [build.seconds for build in builds],
        "runs_by_end": dict(statuses),
        "looks_of_the_reader": sum(build.num_looks for build in (quiet, *builds)),
        "kills": [[kill["killed"], kill["at_s"], kill["newest_record"]] for build in builds for kill in build.kills],
    }


def main() -> None:
    """Kill as often as told, by default 50 times; what was tried is written after each build, beside other seeds'."""
    num_kills, seed = (int(word) for word in (*sys.argv[1:], *("50", "0")[len(sys.argv) - 1 :]))
    described = describe_run(COMMAND)

    def write(found: dict[str, Any]) -> None:
        known = json.loads(RESULT.read_text())["by_seed"] if RESULT.exists() else {}
        RESULT.write_text(json.dumps({"by_seed": {**known, str(seed): {**described, **found}}}, indent=2) + "\n")
        sys.stderr.write(f"{found['n']}, {found['kills_by_what']}, the last in {found['builds_s'][-1]} s\n")

    with tempfile.TemporaryDirectory(prefix="petpark-crashes-") as scratch:
        kill_at_random(Path(scratch), num_kills=num_kills, seed=seed, on_build=write)
    print(f"every build came to the same end: {RESULT}")  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
