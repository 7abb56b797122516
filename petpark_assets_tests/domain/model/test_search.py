"""Claims about the search, with a real Ray: it always has something to compare with, repeats, and never hangs."""

import json
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import search_tune, space
from petpark_assets.domain.model.search import search
from petpark_assets.domain.model.train import TrainingData
from petpark_assets.domain.recipes import Choices, Hyperparameters, Range, Recipe, Search
from petpark_assets.resources import ray_cluster

PREPROCESSING = Preprocessing(resolution_px=16, channel_means=(0.3, 0.3, 0.3), channel_deviations=(0.2, 0.2, 0.2))
HOPELESS = 1e-9
"""A learning rate at which nothing is learnt."""
DIVERGING = 1e30
"""One at which the loss is no number any more."""


@pytest.fixture(scope="module")
def ray():
    """One local Ray for the file: it takes about ten seconds to start."""
    with ray_cluster.started(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Squares on a noisy ground, red for cats and green for dogs, memory-mapped as in a build."""
    dice, labels = np.random.default_rng(0), np.arange(160, dtype=np.uint8) % 2
    images = dice.integers(0, 120, (160, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:12, 4:12, label] += 60
    path = tmp_path_factory.mktemp("data") / "images.npy"
    np.save(path, images)
    return TrainingData(images=np.load(path, mmap_mode="r"), labels=labels, validation=np.arange(160) % 4 < 2)


def toy(algorithm, domains, **settings):
    """A recipe for the squares; a trial takes a fraction of a second."""
    return Recipe(
        name="squares",
        description="",
        resolution_px=16,
        hyperparameters=Hyperparameters(width=4, epochs=9, batch_size=8, learning_rate=0.02, ema_decay=0.5),
        search=Search(algorithm=algorithm, trial_epochs=3, cpus_per_trial=1, space=domains, **settings),
    )


@pytest.mark.usefixtures("ray")
def test_the_same_seed_gives_the_same_trials_and_the_defaults_come_first(data, tmp_path):
    """What cannot be repeated cannot be audited. A share of a GPU is asked for, and must not be waited for."""
    recipe = toy("tpe", {"learning_rate": Range(low=0.001, high=0.1, log=True)}, num_trials=4, gpus_per_trial=0.25)
    seen = []

    lock = threading.Lock()  # as a log has one: what is told of trials must not be sent to Ray

    def on_trial(trial):
        with lock:
            seen.append(trial)

    first = search(data, PREPROCESSING, recipe, folder=tmp_path / "first", on_trial=on_trial)
    again = search(data, PREPROCESSING, recipe, folder=tmp_path / "again")

    assert first == again
    assert first.trials == tuple(seen)
    assert [trial["number"] for trial in first.trials] == [1, 2, 3, 4]
    assert [trial["is_default"] for trial in first.trials] == [True, False, False, False]
    assert first.trials[0]["hyperparameters"] == vars(space.trial_hyperparameters(recipe, {}))
    assert first.trials[0]["schedule_share"] == 1
    assert len({trial["hyperparameters"]["learning_rate"] for trial in first.trials}) == 4
    assert first.default_validation_accuracy == first.trials[0]["validation_accuracy"]
    assert first.best_validation_accuracy >= first.default_validation_accuracy
    assert first.best_hyperparameters.epochs == 9


@pytest.mark.usefixtures("ray")
def test_what_is_hopeless_is_stopped_early_and_what_fails_is_noted(data, tmp_path):
    """ASHA must spare the time of what is behind, and one bad point must neither cost the search nor be hidden."""
    recipe = toy(
        "grid",
        {"learning_rate": Choices(values=(HOPELESS, DIVERGING))},
    )

    result = search(data, PREPROCESSING, recipe, folder=tmp_path)

    default, hopeless, failed = result.trials
    assert default["schedule_share"] == 1
    assert hopeless["hyperparameters"]["learning_rate"] == HOPELESS
    assert hopeless["schedule_share"] == pytest.approx(1 / 3)
    assert "training diverged in epoch 1" in failed["error"]
    assert "\n" not in failed["error"]
    assert (failed["validation_accuracy"], failed["schedule_share"]) == (None, 0)
    assert result.best_hyperparameters == recipe.hyperparameters
    assert result.best_validation_accuracy == result.default_validation_accuracy > hopeless["validation_accuracy"]


@pytest.mark.usefixtures("ray")
def test_a_search_whose_defaults_fail_fails_with_their_reason(data, tmp_path):
    """Without the defaults there is nothing to compare with; no later trial is started."""
    nothing_to_learn = TrainingData(data.images, data.labels, np.ones(160, dtype=bool))
    recipe, seen = toy("random", {"learning_rate": Range(low=0.01, high=0.1)}, num_trials=3), []

    with pytest.raises(InvalidInput):
        search(nothing_to_learn, PREPROCESSING, recipe, folder=tmp_path, on_trial=seen.append)
    assert [trial["number"] for trial in seen] == [1]


@pytest.mark.usefixtures("ray")
def test_no_trial_starts_after_the_time_budget(data, tmp_path):
    """The budget is a promise about time; the defaults are tried all the same, in full."""
    recipe = toy("random", {"learning_rate": Range(low=0.01, high=0.1)}, num_trials=5, time_budget_s=0)

    result = search(data, PREPROCESSING, recipe, folder=tmp_path)

    assert len(result.trials) == 1
    assert result.trials[0]["schedule_share"] == 1
    assert result.best_hyperparameters == recipe.hyperparameters


@pytest.mark.usefixtures("ray")
def test_the_time_budget_is_that_of_all_processes_together(data, tmp_path):
    """A search that is killed every hour must not go on for ever."""
    recipe = toy("random", {"learning_rate": Range(low=0.01, high=0.1)}, num_trials=5, time_budget_s=1000)
    (tmp_path / "seconds.json").write_text('{"seconds": 999.99}')

    assert len(search(data, PREPROCESSING, recipe, folder=tmp_path).trials) == 1
    assert json.loads((tmp_path / "seconds.json").read_text())["seconds"] > 1000


def test_a_search_by_no_algorithm_never_starts_ray():
    """Values given by hand need no cluster: Ray costs ten seconds and half a gigabyte, torch nearly as much."""
    script = """
import sys
from pathlib import Path
from petpark_assets.domain.model import search_tune, space
from petpark_assets.domain.model.search import search
from petpark_assets.domain.recipes import RECIPES, override
recipe = override(RECIPES["demo"], {"search": {"algorithm": "none"}})
result = search(None, None, recipe, folder=Path("not-made"))
assert result.best_hyperparameters == recipe.hyperparameters and result.trials == ()
assert result.best_validation_accuracy is None and result.default_validation_accuracy is None
assert not Path("not-made").exists()
print([name for name in ("ray", "torch", "optuna") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def run_at_once(_task, *, next_trial, end, **_):
    """In place of Ray Tune: each trial is as good as its learning rate."""
    while (found := next_trial()) is not None:
        number, values = found
        end(number, values, [{"epoch": 3, "validation_accuracy": values["learning_rate"]}], None)


@pytest.fixture
def no_ray(monkeypatch):
    """A machine of two cores, as Ray would tell of it."""
    cores = [{"Alive": True, "Resources": {"CPU": 2}}]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: cores))


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("algorithm", ["random", "tpe"])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_trial_whose_damaged_folder_was_deleted_is_run_again(data, tmp_path, monkeypatch, algorithm, number):
    """As the error advises; the search is then that of before, and its defaults are the recipe's."""
    monkeypatch.setattr(search_tune, "run_trials", run_at_once)
    recipe = toy(algorithm, {"learning_rate": Range(low=0.001, high=0.1, log=True)}, num_trials=4)
    before = search(data, PREPROCESSING, recipe, folder=tmp_path)
    folder = tmp_path / f"trials/{number:04}"
    (folder / "ended.json").write_text("{")
    with pytest.raises(CorruptData, match=f"delete the folder {folder}"):
        search(data, PREPROCESSING, recipe, folder=tmp_path)

    shutil.rmtree(folder)
    assert search(data, PREPROCESSING, recipe, folder=tmp_path) == before
    assert before.default_validation_accuracy == recipe.hyperparameters.learning_rate


@pytest.mark.usefixtures("no_ray")
def test_a_trial_that_ray_tune_lost_is_missed(data, tmp_path, monkeypatch):
    """Without the defaults' trial the report would take the second trial for them, and nobody would know."""
    recipe = toy("random", {"learning_rate": Range(low=0.001, high=0.1, log=True)}, num_trials=2)
    monkeypatch.setattr(search_tune, "run_trials", lambda _task, *, next_trial, **_: list(iter(next_trial, None)))
    with pytest.raises(TransientError, match="lost trial 1: run the same again"):
        search(data, PREPROCESSING, recipe, folder=tmp_path)
