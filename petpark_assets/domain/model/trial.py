"""One trial of a search, in a process of its own: it is handed paths, opens its photos there, trains and reports.

Not here: who starts it, and on what machine (search.py); the training loop (train.py).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import space
from petpark_assets.domain.model.journal import checkpoint_path
from petpark_assets.domain.recipes import Recipe

if TYPE_CHECKING:  # torch comes with it: seconds that only the trial itself should spend
    from petpark_assets.domain.model.train import Epoch, Fitted, TrainingData

Curve = list[dict[str, Any]]
"""A trial's epochs, each with: epoch (from 1), train_loss, validation_loss, validation_accuracy (0 to 1)."""


Photos = npt.NDArray[np.uint8]
"""[N, R, R, 3]."""


@dataclass(frozen=True, kw_only=True)
class SavedData:
    """The train side as trials are handed it: a path in place of photos."""

    images: Path
    labels: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.bool_]
    read_photos: Callable[[], Photos] | None
    """For a node that does not see the path: from the store into memory, where no copy of a photo outlives a trial."""

    def open(self) -> "TrainingData":
        """The data, its photos memory-mapped where their file is: trials of one machine share its pages."""
        from petpark_assets.domain.model.train import TrainingData

        if self.read_photos is not None and not self.images.exists():
            images = self.read_photos()
        else:
            images = np.load(self.images, mmap_mode="r")
        return TrainingData(images=images, labels=self.labels, validation=self.validation)


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
    start: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file of weights that a trial may start from, by its name."""


def save(data: "TrainingData", folder: Path, read_photos: Callable[[], Photos] | None = None) -> SavedData:
    """Make sure that the photos are on disk: those that are a memory map of a .npy file stay where they are."""
    images = _npy_path(data.images)
    if images is None:
        images = folder.absolute() / "images.npy"
        images.parent.mkdir(parents=True, exist_ok=True)
        np.save(images, data.images)
    return SavedData(images=images, labels=data.labels, validation=data.validation, read_photos=read_photos)


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
    from petpark_assets.domain.model import checkpoints, workers

    path = checkpoint_path(task.folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    if taken_over is not None:
        checkpoints.fork(taken_over, path, space.trial_hyperparameters(task.recipe, values))
    so_far = _kept_curve(path)

    def report(epoch: "Epoch") -> None:
        so_far[:] = [*(point for point in so_far if point["epoch"] < epoch.number), _point(vars(epoch))]
        on_epoch(list(so_far))

    others = partial(_work, task, values, path)
    with workers.together(task.recipe.search.workers_per_trial, others, has_gpus=task.gpus > 0):
        fitted = _work(task, values, path, report)
    return [_point(vars(epoch)) for epoch in fitted.epochs]


def _work(
    task: Task, values: space.Values, path: Path, on_epoch: Callable[["Epoch"], None] = lambda _epoch: None
) -> "Fitted":
    """Train as one of the trial's workers, or as the only one; nothing of it stays on the GPU."""
    import torch

    from petpark_assets.domain.model import workers
    from petpark_assets.domain.model.devices import memory_given_back
    from petpark_assets.domain.model.train import fit

    torch.set_num_threads(max(1, task.cpus))
    told = space.trial_hyperparameters(task.recipe, values)
    checkpoint = workers.own_checkpoint(path)
    workers.in_step()  # or the first would write while another copies
    with memory_given_back():
        return fit(
            _sample(task.data.open(), task.recipe.search.photos_share),
            task.preprocessing,
            told,
            seed=task.recipe.seed,
            device="auto" if task.gpus else "cpu",
            gpu_share=min(task.gpus, 1),
            start=task.start.get(told.weights),
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )


def _kept_curve(path: Path) -> Curve:
    """The epochs that a checkpoint is after; none where there is none, or it is damaged and `fit` passes it over."""
    from petpark_assets.domain.model import checkpoints

    try:
        return [_point(epoch) for epoch in checkpoints.load(path).epochs]
    except (FileNotFoundError, CorruptData):
        return []


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
