"""Drills: what a build on the production profile comes to when a part of it goes away in its middle.

Real parts, really gone: PostgreSQL and Ray's head are killed, S3 hangs and is then killed, the home's disk is filled to
its last byte. A person gives the part back, and does nothing else unless it says so. Every build must come to the
digests of an undisturbed one, and each failure on the way must be one line that says what was not reachable.
A quarter of an hour on two busy cores: `make prove-production`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petpark_assets.domain.attempts import Attempt, new_attempt
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import Recipe
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets_tests.production.outages import OpenPark, full_disk, opened
from petpark_assets_tests.production.test_profile import launch, looking, recipe, upload
from petpark_assets_tests.test_whole_flow import TINY

pytestmark = [pytest.mark.production, pytest.mark.debian, pytest.mark.timeout(1800)]

POSTGRES, S3, RAY, DISK = range(1, 5)
"""Seeds: each drill is another attempt of the same version, in this order."""
DRILLS = {
    "test_a_database_that_restarts": POSTGRES,
    "test_an_s3_that_is_away_for_a_minute": S3,
    "test_a_lost_ray_head": RAY,
    "test_a_full_disk": DISK,
}
"""A report compares with the champion: undisturbed, too, only those are built that are run now."""
LONG_EPOCHS = 60
BUILT_S = 900
RUNS = """{ runsOrError { ... on Runs { results { runId jobName status tags { key value }
    stepStats { stepKey status attempts { endTime } } } } } }"""
AGAIN = """mutation ($params: ReexecutionParams) { launchRunReexecution(reexecutionParams: $params) { __typename } }"""
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
BUILD_ALL = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.home import open_home
from petpark_assets.resources.ray_cluster import started
from petpark_assets.resources.s3 import S3Connection
from petpark_assets_tests import step_by_step
from petpark_assets_tests.benchmarks.crash_reader import contents
from petpark_assets_tests.production.test_outages import resolved

home = open_home(Path(sys.argv[1]), actor="operator", s3=S3Connection().access)
version = step_by_step.ingest(home, sys.argv[2], resolved(0).resolution_px)
with started():
    for seed in map(int, sys.argv[3:]):
        step_by_step.build(home, new_attempt(version, resolved(seed)), nullcontext)
print(json.dumps(contents(home)))
"""
"""Undisturbed, and on one machine; that Dagster and the production profile come to the same is claimed elsewhere."""


def told(seed: int) -> dict:
    """What a run's config says; for Ray's drill, trials of some seconds in place of one."""
    search = {"num_trials": 3, "trial_epochs": LONG_EPOCHS} if seed == RAY else TINY["search"]
    return {**TINY, "search": search, "seed": seed}


def resolved(seed: int) -> Recipe:
    """What it is told by that."""
    return RunRecipe(**told(seed)).resolve()


@pytest.fixture(scope="module")
def park() -> Iterator[OpenPark]:
    """One profile for all drills; its lake holds forty photos and two broken ones, and its first version is made."""
    with tempfile.TemporaryDirectory(prefix="petpark-outages-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        draw_lake(folder / "lake", num_images=40, num_broken=2)
        with opened(folder) as park:
            upload(park, folder / "lake")
            launch(park, "new_dataset_version", looking(park, told(0)))
            wait(park, lambda runs: all(run["status"] in OVER for run in runs))
            yield park
        assert park.left == []


@pytest.fixture(scope="module")
def undisturbed(park: OpenPark, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a home holds after the same builds, without an outage."""
    root = tmp_path_factory.mktemp("undisturbed") / "home"
    seeds = [str(DRILLS[item.name]) for item in request.session.items if item.name in DRILLS]
    command = [sys.executable, "-c", BUILD_ALL, str(root), lake_of(park), *seeds]
    variables = {**os.environ, **park.s3().variables()}
    done = subprocess.run(command, env=variables, check=True, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def lake_of(park: OpenPark) -> str:
    """The lake's address."""
    return park.variables()["PETPARK_LAKE"]


def wait(park: OpenPark, is_so: Callable[[list[dict]], bool]) -> list[dict]:
    """Until something holds for the runs there are, newest first; those runs. What is away may not answer."""
    deadline = time.monotonic() + BUILT_S
    while time.monotonic() < deadline:
        try:
            runs = park.ask(RUNS)["runsOrError"]["results"]
        except (OSError, TypeError, KeyError):  # the UI has no answer while PostgreSQL is away
            runs = []
        if runs and is_so(runs):
            return runs
        time.sleep(0.5)
    pytest.fail(f"still waiting after {BUILT_S} s; {runs}\n{park.said()}")


def is_at(step: str, *statuses: str) -> Callable[[list[dict]], bool]:
    """Whether the newest run is there."""
    return lambda runs: any(stats["stepKey"] == step and stats["status"] in statuses for stats in runs[0]["stepStats"])


def has_failed_try(run: dict) -> bool:
    """Whether a try of a step has come to its end, and not to a good one."""
    return any(len(stats["attempts"]) > (stats["status"] in {"SUCCESS", "SKIPPED"}) for stats in run["stepStats"])


def is_over(runs: list[dict]) -> bool:
    """Whether nothing more happens by itself: a failed run may be made again by the daemon."""
    tags = {tag["key"]: tag["value"] for tag in runs[0]["tags"]}
    is_final = runs[0]["status"] == "SUCCESS" or tags.get("dagster/will_retry") == "false"
    return is_final and all(run["status"] in OVER for run in runs)


class Drill:
    """One build, and what was seen of it."""

    def __init__(self, park: OpenPark, seed: int) -> None:
        self.park, self.seed, self.began = park, seed, len(park.ask(RUNS)["runsOrError"]["results"])
        self.started = time.monotonic()
        launch(park, "build", recipe(told(seed)), "v0001")

    def until(self, step: str, *statuses: str) -> None:
        """Wait for this moment of the build."""
        wait(self.park, lambda runs: len(runs) > self.began and is_at(step, *statuses)(runs))

    def until_noticed(self) -> None:
        """Wait until a try of a step has failed."""
        wait(self.park, lambda runs: any(map(has_failed_try, runs[: len(runs) - self.began])))

    def assert_built(self, undisturbed: dict, what: str, num_presses: int = 0) -> None:
        """Registered, the same as undisturbed, nothing half-made, and each failure a line that says what was away.

        After `until_noticed` there is at least one such line. So often at most a person has pressed "Re-execute, from
        failure".
        """
        runs, pressed = wait(self.park, is_over), 0
        while runs[0]["status"] == "FAILURE" and pressed < num_presses:
            pressed, known = pressed + 1, len(runs)
            self.park.ask(AGAIN, params={"parentRunId": runs[0]["runId"], "strategy": "FROM_FAILURE"})
            runs = wait(self.park, lambda runs, known=known: len(runs) > known and is_over(runs))
        seconds = time.monotonic() - self.started
        own = [run["runId"] for run in reversed(runs[: len(runs) - self.began])]
        found, attempt = self.park.look(own), new_attempt("v0001", resolved(self.seed))
        print(f"{self.seed}: {seconds:.0f} s, {len(own)} runs, {pressed} presses; {found['lines']}", flush=True)  # noqa: T201 - for infra/README.md
        assert runs[0]["status"] == "SUCCESS", found["lines"]
        assert found["lines"] or len(own) > 1  # a build that never met the outage would prove nothing
        assert [line for line in found["lines"] if not re.search(what, line) or "\n" in line] == []
        assert found["contents"]["manifests"] == undisturbed["manifests"]
        assert _of(attempt, found["contents"]["records"]) == _of(attempt, undisturbed["records"])
        assert len(_of(attempt, found["contents"]["records"])) == 6


def _of(attempt: Attempt, records: dict[str, str]) -> dict[str, str]:
    return {key: digest for key, digest in records.items() if attempt.id in key}


def test_a_database_that_restarts(park, undisturbed):
    """PostgreSQL ends at once, for 15 s, while the daemon, the UI, MLflow and a run have it open.

    A run's own process that loses it is made again by the daemon; a step's that does is left to a person.
    """
    drill = Drill(park, POSTGRES)
    drill.until("split", "SUCCESS")
    environment = park.kill("PostgreSQL", signal.SIGQUIT)
    time.sleep(15)
    park.start("PostgreSQL", environment)
    drill.assert_built(
        undisturbed, "database could not be reached|DB connection|model registry .* did not answer", num_presses=1
    )


def test_an_s3_that_is_away_for_a_minute(park, undisturbed):
    """Requests hang for half of it, and are refused for the other half, and until a first try has failed for it."""
    drill = Drill(park, S3)
    drill.until("hyperparameter_search", "IN_PROGRESS")
    park.running["radosgw"].send_signal(signal.SIGSTOP)
    time.sleep(30)
    environment = park.kill("radosgw")
    time.sleep(30)
    drill.until_noticed()
    park.start("radosgw", environment)
    drill.assert_built(undisturbed, "store s3://petpark-store/store cannot be (reached|used)")


def test_a_lost_ray_head(park, undisturbed):
    """The head's processes are killed while trials run, and a new head starts ten seconds later."""
    known = set(_checkpoints(park))
    drill = Drill(park, RAY)
    wait(park, lambda _runs: not known.issuperset(_checkpoints(park)))
    environment = park.lose_ray_head()
    time.sleep(10)
    park.start("Ray", environment)
    drill.assert_built(undisturbed, "Ray")


def _checkpoints(park: OpenPark) -> list[Path]:
    """Of trials that have come to the end of their first epoch."""
    return list((park.folder / "home" / "cache" / "search").glob("*/trials/*/checkpoint"))


def test_a_full_disk(park, undisturbed):
    """The home has not a byte left, until a first try of the search has failed for it."""
    drill = Drill(park, DISK)
    drill.until("hyperparameter_search", "IN_PROGRESS")
    with full_disk(park.folder / "home"):
        drill.until_noticed()
    drill.assert_built(undisturbed, "no space left on the disk while writing")


def test_all_is_as_if_nothing_had_happened(park, undisturbed):
    """Every record, verdict, registered version, alias and outcome, and nothing besides.

    An outcome whose record could not be written at first is in the ledger again with each try, the same to the digest.
    """
    found = park.look([])["contents"]
    assert found.pop("outcomes").keys() == undisturbed["outcomes"].keys()
    assert {name: value for name, value in found.items() if value != undisturbed[name]} == {}
