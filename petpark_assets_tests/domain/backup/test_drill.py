"""The long drill: a whole build is backed up all the time, all is deleted at several of its moments, and it goes on."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from petpark_assets.domain.audit import trail
from petpark_assets.domain.backup import making, places, restoring
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

NUM_MOMENTS = 3
BUILD = """
import json, sys
from pathlib import Path
from petpark_assets import launch
from petpark_assets.domain.recipes import RECIPES, override
from petpark_assets.resources.environments import enter_home, read_environment
told = {"search": {"algorithm": "none"}, "hyperparameters": {"epochs": 4, "width": 4}}
targets = {"accuracy": 0.0, "precision": 0.0, "recall": 0.0}
RECIPES["demo"] = override(RECIPES["demo"], {**told, "targets": targets})
enter_home(Path(sys.argv[1]))
summary = launch.build_lake(read_environment(), sys.argv[2], "demo", show=lambda line: None)
print(json.dumps({"is_new": summary["is_new"], "model_version": summary["model_version"]}))
"""


def build(root, lake):
    """The process of a whole build, as `petpark build` is one, with a recipe of seconds."""
    command = [sys.executable, "-c", BUILD, str(root), str(lake)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the same sums in the same order
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def digests(root):
    """Of all records, by key."""
    store = open_home(root, actor="Kim").store
    trails = [trail.read_trail(store, *pair) for pair in trail.list_attempts(store)]
    return {found.key: found.digest for one in trails for found in one.documents.values()}


def test_a_build_goes_on_from_any_backup_of_it_to_the_same_digests(tmp_path):
    """Whenever the disk dies: what was done by the last backup is not done again, and what comes of it is the same."""
    root, lake, place = tmp_path / "home", tmp_path / "lake", LocalStore(tmp_path / "place")
    draw_lake(lake, num_images=40)
    with build(root, lake) as process:
        while process.poll() is None:
            try:
                making.make(open_home(root, actor="Kim"), place)
            except NotFound:  # nothing has happened in it yet
                time.sleep(0.2)
        assert process.returncode == 0
    undisturbed, numbers = digests(root), places.numbers(place)
    moments = [numbers[len(numbers) * part // NUM_MOMENTS] for part in range(NUM_MOMENTS)]
    had = [_go_on(place, number, root, lake, undisturbed) for number in moments]
    assert had[0] < had[-1], "all backups were of one moment, so it proves nothing"


def _go_on(place, number, root, lake, undisturbed):
    """Delete all, restore, build on; returns the number of records that the backup had."""
    shutil.rmtree(root)
    restoring.restore(place, root, lambda folder: open_home(folder, actor="Kim"), number=number)
    assert offending(root, "audit") == []
    had = len(list((root / "store").rglob("v0001*.json"))) + len(list((root / "store").glob("*/v0001/*.json")))
    with build(root, lake) as process:
        told = json.loads(process.stdout.read())
    assert (process.returncode, told["model_version"]) == (0, 1)
    assert digests(root) == undisturbed
    with build(root, lake) as process:
        assert json.loads(process.stdout.read()) == {"is_new": False, "model_version": 1}
    assert (offending(root, "audit"), offending(root, "lake")) == ([], [])
    return had


def offending(root, of):
    """What `verify` finds, in a process of its own: MLflow keeps a database open that was deleted under its name."""
    command = [sys.executable, "-m", "petpark_assets.cli", of, "verify", "--home", str(root), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)["offending"]
