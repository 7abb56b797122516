"""A search in a process of its own, to be killed.

It says what happens, a JSON line each: its Ray's servers, then every epoch and every trial's end, and the winner.
"""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

from petpark_assets.domain.recipes import Range, Recipe, Search
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, draw_data

TRIAL_EPOCHS = 8


def toy(**settings) -> Recipe:
    """A recipe for the squares; a trial takes a fraction of a second."""
    told = {"algorithm": "random", "scheduler": "none", "num_trials": 8, "trial_epochs": TRIAL_EPOCHS}
    space = {"learning_rate": Range(low=0.001, high=0.1, log=True)}
    return Recipe(
        name="squares",
        description="",
        resolution_px=16,
        hyperparameters=dataclasses.replace(TINY, width=4),
        search=Search(**{**told, "cpus_per_trial": 1, "space": space, **settings}),
    )


def begin(folder: Path, **settings) -> subprocess.Popen:
    """Start the search, or go on with it; lines() reads what it says."""
    command = [sys.executable, "-m", __name__, str(folder), json.dumps(settings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def lines(process: subprocess.Popen):
    """What the search says, until it ends."""
    for line in process.stdout:
        if line.startswith("{"):  # Ray too has something to say, when it is killed
            yield json.loads(line)


def _search(folder: Path, settings: dict) -> None:
    from petpark_assets.domain.model.search import search
    from petpark_assets.resources import ray_cluster, ray_processes

    def say(**news) -> None:
        print(json.dumps(news), flush=True)  # noqa: T201 - the test reads it

    with ray_cluster.started(num_cpus=2):
        import ray

        servers = ray_processes.found_in(Path(ray._private.worker._global_node.temp_dir))
        say(servers={server.name(): server.pid for server in servers})
        result = search(
            draw_data(),
            PREPROCESSING,
            toy(**settings),
            folder=folder,
            on_epoch=lambda number, point: say(number=number, epoch=point["epoch"]),
            on_trial=lambda trial: say(ended=trial),
        )
    say(winner=dataclasses.asdict(result.best_hyperparameters))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests with & had it ignored
    _search(Path(sys.argv[1]), json.loads(sys.argv[2]))
