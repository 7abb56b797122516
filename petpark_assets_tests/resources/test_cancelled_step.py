"""Claims about a run that is cancelled in the UI: within 30 s nothing of its Ray is left, however its step ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from petpark_assets_tests.resources.test_ray_cluster import is_alive

JOB = """
import json, os, time
from pathlib import Path

import dagster as dg
from petpark_assets.definitions import FORKED
from petpark_assets.resources.ray_cluster import RayCluster

@dg.op
def search(ray_cluster: RayCluster):
    with ray_cluster.running():
        import psutil, ray

        worker = ray.remote(num_cpus=1)(lambda: time.sleep(300)).remote()
        time.sleep(2)
        children = [process.pid for process in psutil.Process().children(recursive=True)]
        told = {"step": os.getpid(), "children": children, "folder": ray._private.worker._global_node.temp_dir}
        Path("told.part").write_text(json.dumps(told))
        Path("told.part").rename("told.json")
        ray.get(worker)

@dg.job(resource_defs={"ray_cluster": RayCluster(num_cpus=1)}, executor_def=FORKED)
def job():
    search()
"""

RUN = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests with & had it ignored
runpy.run_module("dagster", run_name="__main__")
"""


def wait_for(condition, seconds):
    """Whether it came to be in time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "number"),
    [("run", signal.SIGINT), ("run", signal.SIGTERM), ("step", signal.SIGKILL)],
    ids=["cancelled", "terminated", "step killed"],
)
def test_a_cancelled_run_leaves_no_process_of_ray(tmp_path, who, number):
    """Whoever cancels wants the cores and the GPU's memory back, for the next run and not tomorrow.

    The run's process is told, as Dagster's launcher does it, and tells its step's; the last case is a step that is
    killed since it did not go, or by too little memory.
    """
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [sys.executable, "-c", RUN, "job", "execute", "-f", "job.py", "-j", "job"]
    environment, silent = {**os.environ, "DAGSTER_HOME": str(tmp_path)}, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=silent, stderr=silent) as run:
        told = tmp_path / "told.json"
        assert wait_for(told.exists, 120)
        news = json.loads(told.read_text())
        assert len(news["children"]) > 5
        os.kill(run.pid if who == "run" else news["step"], number)

        pids = [news["step"], *news["children"]]
        try:
            assert wait_for(lambda: not any(map(is_alive, pids)), 30)
            assert wait_for(lambda: not Path(news["folder"]).exists(), 5)
            run.wait(timeout=60)
        finally:
            run.kill()
    assert run.returncode != 0
