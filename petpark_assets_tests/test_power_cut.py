"""The power goes in the middle of a build: nothing stays started, somebody is told, and the build ends by itself.

Daemon, UI, code server, run worker and step are killed at once, so that none can tell of another; then `petpark dev` is
started again, and nobody touches anything.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from petpark_assets_tests.killing import kill
from petpark_assets_tests.receivers import web_receiver
from petpark_assets_tests.test_ui import GRAPH, LAUNCH, LOADED_S, SMALL, ask, free_port, launch, processes_of, stop

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

RUNS = "{ runsOrError { ... on Runs { results { runId status assetMaterializations { assetKey { path } } } } } }"
RECOVERED_S = 600


@contextmanager
def dev(home: Path, webhook: str) -> Iterator[str]:
    """`petpark dev` on a home, once it knows our assets; its address. Nothing of it is left afterwards."""
    port, log = free_port(), home.parent / "dev.log"
    words = ["dev", "--port", str(port), "--reports-port", str(free_port())]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "petpark_assets.cli", *words],
            env={**os.environ, "PETPARK_HOME": str(home), "PETPARK_ALERT_WEBHOOK": webhook},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: ask(f"http://127.0.0.1:{port}", GRAPH).get("assetNodes"), LOADED_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process, home)


def wait_for(found, seconds):
    """What is waited for, once it is there."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"still waiting after {seconds} s"
        time.sleep(0.5)
    return answer


def runs(url):
    """Status and materialized assets of every run, by id."""
    results = ask(url, RUNS).get("runsOrError", {}).get("results", [])
    return {
        run["runId"]: (run["status"], {event["assetKey"]["path"][-1] for event in run["assetMaterializations"]})
        for run in results
    }


def begin_build(url):
    """Launch a build of v0001, and come back when it is in the middle: its sides are there."""
    params = {
        "selector": {
            "repositoryLocationName": "petpark_assets", "repositoryName": "__repository__", "jobName": "build",
        },
        "runConfigData": {"resources": {"recipe": {"config": SMALL}}},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "v0001"}]},
    }  # fmt: skip
    run_id = ask(url, LAUNCH, params=params)["launchRun"]["run"]["runId"]
    wait_for(lambda: "feature_scaling" in runs(url).get(run_id, ("", ()))[1], 300)
    return run_id


def test_a_build_whose_machine_lost_power_is_ended_told_and_made_again(tmp_path: Path):
    """SIGKILL to everything at once: the dead run fails with its reason, and its second life registers the model."""
    from petpark_assets.domain.lake.drawn import draw_lake

    home = tmp_path / "home"
    draw_lake(tmp_path / "lake", num_images=40)
    lake = {"ops": {"look_at_the_lake": {"config": {"lake": str(tmp_path / "lake")}}}}
    with web_receiver() as web:
        with dev(home, web.url) as url:
            launch(url, "new_dataset_version", {"resources": {"recipe": {"config": SMALL}}, **lake})
            run_id = begin_build(url)
            kill(*processes_of(home))
        with dev(home, web.url) as url:
            assert runs(url)[run_id][0] == "STARTED"
            (told,) = wait_for(lambda: list(web.taken), RECOVERED_S)
            assert "the process that ran it" in told["reason"]
            assert (told["run_id"], told["dataset_version"]) == (run_id, "v0001")
            assert told["link"] == f"{url}/runs/{run_id}"
            again = wait_for(lambda: [made for status, made in runs(url).values() if "registered_model" in made], 600)
            assert "train_split" not in again[0], "what was there is not made again"
            wait_for(lambda: {status for status, _ in runs(url).values()} == {"SUCCESS", "FAILURE"}, 120)
    assert len(web.taken) == 1
