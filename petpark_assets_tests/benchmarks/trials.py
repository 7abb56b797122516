"""A recipe's search, by Ray Tune where there is a GPU and Ray, else its trials one after the other in this process.

These are the same trials (test_search_killed.py shows it), save that none is stopped early and none shares the GPU;
where Optuna is missing too, points are drawn at random.
"""

import importlib.util
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from petpark_assets.domain.errors import PetparkError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import journal, trial
from petpark_assets.domain.model.proposals import Tried, propose
from petpark_assets.domain.model.train import TrainingData
from petpark_assets.domain.recipes import Recipe, override

ALONE = "one after the other"


def search(
    data: TrainingData, preprocessing: Preprocessing, recipe: Recipe, folder: Path, before: dict[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """What the search has come to after each trial, going on with what it had come to before."""
    if before is not None and before["is_complete"]:
        yield before
    elif importlib.util.find_spec("ray") is not None and torch.cuda.is_available():
        yield _by_ray(data, preprocessing, recipe, folder)
    else:
        yield from _one_after_the_other(data, preprocessing, recipe, folder, before["trials"] if before else [])


def _by_ray(data: TrainingData, preprocessing: Preprocessing, recipe: Recipe, folder: Path) -> dict[str, Any]:
    from petpark_assets.domain.model import search as room
    from petpark_assets.resources.ray_cluster import started

    begun = time.perf_counter()
    try:
        with started():
            found = room.search(data, preprocessing, recipe, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "runner": "Ray Tune",
        "algorithm": recipe.search.algorithm,
        "is_complete": True,
        "num_trials": len(found.trials),
        "seconds": time.perf_counter() - begun,
        "default_validation_accuracy": found.default_validation_accuracy,
        "best_validation_accuracy": found.best_validation_accuracy,
    }


def _one_after_the_other(
    data: TrainingData, preprocessing: Preprocessing, recipe: Recipe, folder: Path, before: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    if importlib.util.find_spec("optuna") is None:
        recipe = override(recipe, {"search": {"algorithm": "random"}})
    task = trial.Task(
        folder=folder, data=trial.save(data, folder), preprocessing=preprocessing, recipe=recipe,
        cpus=torch.get_num_threads(), gpus=1 if torch.cuda.is_available() else 0,
    )  # fmt: skip
    ended = list(before)
    while (values := _next_point(recipe, ended)) is not None:
        ended.append(_run(task, len(ended) + 1, values))
        accuracies = [each["validation_accuracy"] for each in ended if each["validation_accuracy"] is not None]
        yield {
            "runner": ALONE,
            "algorithm": recipe.search.algorithm,
            "is_complete": _next_point(recipe, ended) is None,
            "num_trials": len(ended),
            "seconds": sum(each["seconds"] for each in ended),
            "default_validation_accuracy": ended[0]["validation_accuracy"],
            "best_validation_accuracy": max(accuracies),
            "trials": list(ended),
        }


def _next_point(recipe: Recipe, ended: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    tried = [Tried(values=each["values"], is_running=False, accuracy=each["validation_accuracy"]) for each in ended]
    return propose(recipe, len(ended) + 1, tried)


def _run(task: trial.Task, number: int, values: dict[str, Any]) -> dict[str, Any]:
    """One trial. What it failed with is noted, unless it is the first: the others are compared with that."""
    started, told = time.perf_counter(), {"number": number, "values": values}
    try:
        curve = trial.train(task, number, values, lambda _: None)
    except PetparkError as error:
        if number == 1:
            raise
        told |= {"validation_accuracy": None, "error": " ".join(str(error).split())}
    else:
        told |= {"validation_accuracy": curve[-1]["validation_accuracy"]}
    shutil.rmtree(journal.trial_folder(task.folder, number), ignore_errors=True)
    return {**told, "seconds": time.perf_counter() - started}
