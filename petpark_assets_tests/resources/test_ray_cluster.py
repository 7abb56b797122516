"""Claims about our local Ray: nobody else reaches it, and nothing of it is left, however the run ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from petpark_assets.resources import ray_cluster

RUNNING = """
import json, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests with & had it ignored
from petpark_assets.resources.ray_cluster import started

with started(num_cpus=1):
    import psutil, ray

    @ray.remote
    class Worker:
        def is_ready(self):
            return True

        def work(self):
            time.sleep(300)

    worker = Worker.remote()
    ray.get(worker.is_ready.remote())
    names = {process.pid: process.name() for process in psutil.Process().children(recursive=True)}
    print(json.dumps({"folder": ray._private.worker._global_node.temp_dir, "names": names}), flush=True)
    ray.get(worker.work.remote())
"""


def is_alive(pid):
    """Whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_is_private_while_it_runs_and_gone_without_a_trace_afterwards(tmp_path, monkeypatch):
    """A Ray that others reach runs their code; daemons and gigabytes of logs left behind fill the machine."""
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)  # as read by whoever imported Ray before
    monkeypatch.setenv("HOME", str(tmp_path))
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    began = time.time()

    with ray_cluster.started(num_cpus=1):
        import psutil
        import ray

        folder = Path(ray._private.worker._global_node.temp_dir)
        where = ray.get(ray.remote(lambda: __import__("petpark_assets").__file__).remote())
        # Other tests' children are not Ray's: servers, and multiprocessing's tracker.
        processes, listening = [], set()
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if child.create_time() > began - 1 and "multiprocessing" not in " ".join(child.cmdline()):
                    listening |= {c.laddr.ip for c in child.net_connections() if c.status == psutil.CONN_LISTEN}
                    processes.append(child)

    assert signal.getsignal(signal.SIGTERM) is handler
    assert Path(where).parent == Path(ray_cluster.__file__).parents[1]
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert len(processes) > 3
    assert not [process for process in processes if is_alive(process.pid)]
    assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_run_that_is_cut_short(number):
    """A cancelled run must give its cores and memory back within seconds, though nobody is left to see to it."""
    with subprocess.Popen([sys.executable, "-c", RUNNING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        told = json.loads(run.stdout.readline())
        folder, pids = Path(told["folder"]), told["names"]
        assert len(pids) > 5
        run.send_signal(number)
        try:
            run.wait(timeout=30)
        finally:
            run.kill()

    deadline = time.monotonic() + 10
    while (left := [*filter(is_alive, pids), *folder.parent.glob(folder.name)]) and (time.monotonic() < deadline):
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
@pytest.mark.slow
def test_when_ray_dies_who_waits_for_it_is_told_soon(server):
    """By itself Ray waits, and then ends the whole process without a word: the run would look like a bug of ours."""
    command = [sys.executable, "-c", RUNNING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        names = json.loads(run.stdout.readline())["names"]
        os.kill(next(int(pid) for pid, name in names.items() if name == server), signal.SIGKILL)
        began = time.monotonic()
        _, said = run.communicate(timeout=60)

    assert run.returncode == 1
    assert said.splitlines()[-1].startswith(f"petpark_assets.domain.errors.TransientError: Ray's {server} ended")
    assert time.monotonic() - began < 30


STANDING_STILL = """
from petpark_assets.resources import ray_cluster

ray_cluster.START_PATIENCE_S = 0.3  # less than any start takes
try:
    with ray_cluster.started(num_cpus=1):
        raise AssertionError("it came up")
finally:
    import psutil
    print([child.name() for child in psutil.Process().children(recursive=True)])
"""


def test_a_start_that_stands_still_is_given_up_and_leaves_nothing():
    """Whatever it waits for: Ray's own limits are not all known."""
    run = subprocess.run(
        [sys.executable, "-c", STANDING_STILL], capture_output=True, text=True, timeout=60, check=False
    )
    said = "Ray had not come up after 0 s: run the same again, it goes on"
    assert run.stderr.splitlines()[-1] == f"petpark_assets.domain.errors.TransientError: {said}"
    assert run.stdout == "[]\n"


def test_a_step_that_does_not_need_ray_does_not_start_it():
    """Most steps and many searches need none; a definition that imports it costs every process of Dagster seconds."""
    script = """
import sys, dagster as dg
from petpark_assets.resources.ray_cluster import RayCluster

@dg.asset
def without(ray_cluster: RayCluster) -> None: ...

assert dg.materialize([without], resources={"ray_cluster": RayCluster()}).success
print("ray" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
