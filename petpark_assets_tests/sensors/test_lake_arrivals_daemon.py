"""A claim about the real daemon: killed between asking for a run and starting it, it asks for nothing twice."""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest

from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.resources.environments import PROJECT_FOLDER, enter_home
from petpark_assets_tests.domain.lake.test_ingest import make_lake

PATIENCE_S = 200
"""A daemon needs 20 s to come up, and two ticks are 30 s apart; more on a busy machine."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of twenty photos, with the sensor on."""
    enter_home(tmp_path / "home")
    monkeypatch.setenv("PETPARK_LAKE", str(make_lake(tmp_path / "lake")))
    monkeypatch.setenv("PETPARK_ARRIVALS", "1")
    monkeypatch.setenv("PETPARK_RECIPE", "demo")
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    command = [sys.executable, "-m", "dagster", "sensor", "start", "lake_arrivals"]
    subprocess.run(command, cwd=PROJECT_FOLDER, check=True, capture_output=True)
    return tmp_path / "home"


class Daemon:
    """The daemon with its code server and runs, in a process group of their own; killed at the end."""

    def __init__(self):
        command = [sys.executable, "-m", "dagster._daemon", "run"]
        self.process = subprocess.Popen(
            command, cwd=PROJECT_FOLDER, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for(happened):
    """What a function gives as soon as it gives anything."""
    end = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.long
def test_killed_daemon_goes_on_where_it_was(home):
    """Killed as soon as its first run exists, it makes one version by one run, and asks for that version's build."""
    with dg.DagsterInstance.get() as instance:
        with Daemon():
            first = wait_for(instance.get_runs)[0]
        with Daemon():
            wait_for(lambda: [run for run in instance.get_runs() if run.job_name == "build"])
        (made,) = (run for run in instance.get_runs() if run.job_name == "new_dataset_version")
        assert made.is_success
        assert made.run_id == first.run_id
        assert instance.has_dynamic_partition("dataset_version", "v0001")
    assert list_versions(LocalStore(home / "store")) == ["v0001"]
