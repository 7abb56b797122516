"""One trial of a search, in a process of its own: it is handed paths, opens its photos there, trains and reports.

Not here: who starts it, and on what machine (search.py); the training loop (train.py).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import space
from petpark_assets.domain.model.journal import checkpoint_path
from petpark_assets.domain.recipes import Recipe

if TYPE_CHECKING:  # torch comes with it: seconds that only the trial itself should spend
    from petpark_assets.domain.model.train import Epoch, TrainingData

Curve = list[dict[str, Any]]
"""A trial's epochs, each with: epoch (from 1), train_loss, validation_loss, validation_accuracy (0 to 1)."""


@dataclass(frozen=True, kw_only=True)
class SavedData:
    """The train side as files: what trials are handed in place of arrays."""

    images: Path
    labels: Path
    validation: Path

    def open(self) -> "TrainingData":
        """The data, its photos memory-mapped: trials of one machine share their pages."""
        from petpark_assets.domain.model.train import TrainingData

        return TrainingData(
            images=np.load(self.images, mmap_mode="r"), labels=np.load(self.labels), validation=np.load(self.validation)
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all trials of a search have in common."""

    folder: Path
    """The search's (journal.py)."""
    data: SavedData
    preprocessing: Preprocessing
    recipe: Recipe
    cpus: int
    """Threads of a worker."""
    gpus: float
    """Share of a GPU; 0: it trains on the CPU, also where there is a GPU."""


def save(data: "TrainingData", folder: Path) -> SavedData:
    """Make sure that the train side is on disk: photos that are a memory map of a .npy file stay where they are."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    images = _npy_path(data.images)
    if images is None:
        images = folder / "images.npy"
        np.save(images, data.images)
    np.save(folder / "labels.npy", data.labels)
    np.save(folder / "validation.npy", data.validation)
    return SavedData(images=images, labels=folder / "labels.npy", validation=folder / "validation.npy")


def _npy_path(images: npt.NDArray[np.uint8]) -> Path | None:
    """The .npy file that this array is a memory map of, whole and in order; None if it is something else."""
    if not isinstance(images, np.memmap) or images.filename is None or not images.flags.c_contiguous:
        return None
    path = Path(images.filename).absolute()
    is_whole = path.suffix == ".npy" and np.load(path, mmap_mode="r").shape == images.shape
    return path if is_whole else None


def train(
    task: Task,
    number: int,
    values: space.Values,
    on_epoch: Callable[[Curve], None],
    *,
    taken_over: Path | None = None,
) -> Curve:
    """Train with a point of the space, from where the trial's checkpoint stands; returns its whole curve.

    Args:
        task: what it has in common with the other trials.
        number: of the trial.
        values: the point.
        on_epoch: is told the curve so far after each epoch; what it raises ends the trial.
        taken_over: the checkpoint of another trial to go on from, with other values (population-based training).
    """
    import torch

    from petpark_assets.domain.model import checkpoints
    from petpark_assets.domain.model.train import fit

    path, hyperparameters = checkpoint_path(task.folder, number), space.trial_hyperparameters(task.recipe, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    if taken_over is not None:
        checkpoints.fork(taken_over, path, hyperparameters)
    before = [_point(epoch) for epoch in checkpoints.load(path).epochs] if path.exists() else []

    def report(epoch: "Epoch") -> None:
        before[:] = [*(point for point in before if point["epoch"] < epoch.number), _point(vars(epoch))]
        on_epoch(list(before))

    torch.set_num_threads(max(1, task.cpus))
    fitted = fit(
        _sample(task.data.open(), task.recipe.search.photos_share),
        task.preprocessing,
        hyperparameters,
        seed=task.recipe.seed,
        device="auto" if task.gpus else "cpu",
        on_epoch=report,
        checkpoint=path,
    )
    return [_point(vars(epoch)) for epoch in fitted.epochs]


def _point(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch without its seconds: the same work must give the same record."""
    names = ("train_loss", "validation_loss", "validation_accuracy")
    return {"epoch": epoch["number"], **{name: epoch[name] for name in names}}


def _sample(data: "TrainingData", share: float) -> "TrainingData":
    """The same share for every trial: the first of the photos to learn from, whose order is that of their sha256."""
    learnt = np.flatnonzero(~data.validation)
    left_out = np.zeros_like(data.validation)
    left_out[learnt[max(2, round(share * len(learnt))) :]] = True
    return dataclasses.replace(data, left_out=left_out)
