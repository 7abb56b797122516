"""Where a training stands after an epoch, in one file, so that another process goes on to the same bits.

Not here: what a state consists of (train.py), weights that last (weights.py).
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petpark_assets.domain.files import replace
from petpark_assets.domain.recipes import Hyperparameters

FORKABLE = ("learning_rate", "weight_decay", "label_smoothing", "crop_scale_min", "ema_decay")
"""Hyperparameters that a training may go on with otherwise: they are read at every step, and shape no tensor."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after its last epoch."""

    task: Mapping[str, Any]
    """What the training was told: `hyperparameters` and `seed` among others."""
    epochs: tuple[Mapping[str, Any], ...]
    """The fields of each train.Epoch so far; at least one."""
    state: dict[str, Any]


def save(
    path: Path, hyperparameters: Hyperparameters, seed: int, epochs: Sequence[Any], state: Mapping[str, Any]
) -> None:
    """Put a checkpoint in its place, whole or not at all."""
    task = {"hyperparameters": dataclasses.asdict(hyperparameters), "seed": seed}
    _write(path, Checkpoint(task=task, epochs=tuple(map(dataclasses.asdict, epochs)), state=dict(state)))


def _write(path: Path, checkpoint: Checkpoint) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    replace(path, buffer.getvalue())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises FileNotFoundError."""
    import torch

    return Checkpoint(**torch.load(io.BytesIO(path.read_bytes()), weights_only=False))


def load_if_same(path: Path, hyperparameters: Hyperparameters, seed: int) -> Checkpoint | None:
    """The checkpoint of this very training; None where there is none."""
    if not path.exists():
        return None
    checkpoint = load(path)
    is_same = checkpoint.task == {"hyperparameters": dataclasses.asdict(hyperparameters), "seed": seed}
    return checkpoint if is_same else None


def fork(source: Path, target: Path, hyperparameters: Hyperparameters) -> None:
    """Copy a checkpoint so that `fit` with these hyperparameters goes on from it: population-based training."""
    checkpoint = load(source)
    task = {**checkpoint.task, "hyperparameters": dataclasses.asdict(hyperparameters)}
    _write(target, dataclasses.replace(checkpoint, task=task))
