"""Claims about a run that is cancelled in the UI: within 30 s nothing of its Ray is left, however its step ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from petpark_assets.resources import ray_reaper
from petpark_assets_tests.resources.test_ray_cluster import is_alive

JOB = """
import json, os, time
from pathlib import Path

import dagster as dg
from petpark_assets.definitions import FORKED
from petpark_assets.resources.ray_cluster import RayCluster

def tell(*_):
    import psutil, ray

    children = [process.pid for process in psutil.Process().children(recursive=True)]
    told = {"step": os.getpid(), "children": children, "folder": ray._private.worker._global_node.temp_dir}
    Path("told.part").write_text(json.dumps(told))
    Path("told.part").rename("told.json")

@dg.op
def step(ray_cluster: RayCluster):
    with ray_cluster.running():
        WORK

@dg.job(resource_defs={"ray_cluster": RayCluster(num_cpus=2)}, executor_def=FORKED)
def job():
    step()
"""

TASK = """
        import ray

        worker = ray.remote(num_cpus=1)(lambda: time.sleep(300)).remote()
        time.sleep(2)
        tell()
        ray.get(worker)
"""

SEARCH = """
        from petpark_assets.domain.model.search import search
        from petpark_assets_tests.domain.model.searching import toy
        from petpark_assets_tests.domain.model.squares import PREPROCESSING, draw_data

        recipe = toy(trial_epochs=5000, workers_per_trial=2)
        search(draw_data(), PREPROCESSING, recipe, folder=Path("search"), on_epoch=tell)
"""
"""Of one trial after the other, each by two processes that train together, for minutes."""

RUN = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests with & had it ignored
runpy.run_module("dagster", run_name="__main__")
"""


def title(pid):
    """A process's command line, which Ray's workers overwrite; of one that ended, none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_for(condition, seconds):
    """Whether it came to be in time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "number", "work"),
    [
        pytest.param("run", signal.SIGINT, SEARCH, id="search cancelled"),
        pytest.param("run", signal.SIGTERM, TASK, id="terminated"),
        pytest.param("step", signal.SIGKILL, TASK, id="step killed"),
        pytest.param("step", signal.SIGKILL, SEARCH, id="search's step killed", marks=pytest.mark.long),
    ],
)
def test_a_cancelled_run_leaves_no_process_of_ray(tmp_path, who, number, work):
    """Whoever cancels wants the cores and the GPU's memory back, for the next run and not tomorrow.

    The run's process is told, as Dagster's launcher does it, and tells its step's; the last cases are a step that is
    killed since it did not go, or by too little memory.
    """
    (tmp_path / "job.py").write_text(JOB.replace("        WORK\n", work))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [sys.executable, "-c", RUN, "job", "execute", "-f", "job.py", "-j", "job"]
    environment, silent = {**os.environ, "DAGSTER_HOME": str(tmp_path)}, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=silent, stderr=silent) as run:
        told = tmp_path / "told.json"
        try:
            assert wait_for(told.exists, 120)
            news = json.loads(told.read_text())
            pids = [news["step"], *news["children"]]
            assert len(news["children"]) > 5
            titles = "\n".join(map(title, pids))
            assert ("ray::ImplicitFunc" in titles, "spawn_main" in titles) == (work is SEARCH, work is SEARCH)
            os.kill(run.pid if who == "run" else news["step"], number)

            assert wait_for(lambda: not any(map(is_alive, pids)), 30), [*map(title, filter(is_alive, pids))]
            assert wait_for(lambda: not Path(news["folder"]).exists(), 5)
            assert ray_reaper._users(news["folder"]) == set()  # nor what came after it was asked
            run.wait(timeout=60)
        finally:
            run.kill()
    assert run.returncode != 0
