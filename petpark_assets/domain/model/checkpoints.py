"""Where a training stands after an epoch, in one file, so that another process goes on to the same bits.

A safetensors file, since no code in it is run: the state by name, and in its metadata the epochs so far and what they
belong to. It is a copy that can be deleted: each appears whole or not at all in the place of the one before, and one
that cannot be used costs time, never a result.

Not here: what a state consists of (train.py), weights that last (weights.py).
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.files import canonical_json, digest, replace
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.photos import TrainingData
from petpark_assets.domain.model.space import PERTURBABLE
from petpark_assets.domain.model.weights import METADATA_KEY, read_metadata
from petpark_assets.domain.recipes import Hyperparameters

_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after its last epoch."""

    task: Mapping[str, Any]
    """What the training was told and what its bits depend on (describe_task)."""
    epochs: tuple[Mapping[str, Any], ...]
    """The fields of each train.Epoch so far; at least one."""
    best_epoch: int
    state: Mapping[str, Tensor]
    """By name; on the CPU."""


def describe_task(
    data: TrainingData,
    preprocessing: Preprocessing,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the bits of a training follow from: a checkpoint is gone on with only where all of it is the same."""
    return {
        "data": _data_digest(data),
        "preprocessing": dataclasses.asdict(preprocessing),
        "hyperparameters": dataclasses.asdict(hyperparameters),
        "seed": seed,
        "environment": dict(environment),
        "code": code_version("model", "images", "recipes"),
    }


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in its place, whole or not at all. Raises TransientError on a full disk."""
    about = {"task": checkpoint.task, "epochs": checkpoint.epochs, "best_epoch": checkpoint.best_epoch}
    replace(
        path, safetensors.torch.save(dict(checkpoint.state), metadata={METADATA_KEY: canonical_json(about).decode()})
    )


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises FileNotFoundError, CorruptData."""
    data = path.read_bytes()
    about = read_metadata(data)
    try:
        state = safetensors.torch.load(data)
        return Checkpoint(
            task=about["task"], epochs=tuple(about["epochs"]), best_epoch=about["best_epoch"], state=state
        )
    except (safetensors.SafetensorError, LookupError, TypeError) as error:
        raise CorruptData(f"{path} is no whole checkpoint ({error}): delete it") from error


def load_if_same(path: Path, task: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of this very task; None, with a warning, where the file is another's or is damaged.

    Starting again is right in both cases: the file is a copy, and the training of its name is the one asked for.
    """
    try:
        checkpoint = load(path)
    except FileNotFoundError:
        return None
    except CorruptData as error:
        _warn(path, str(error))
        return None
    expected = {name: digest(value) for name, value in task.items()}
    found = {name: digest(value) for name, value in checkpoint.task.items()}
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if different:
        _warn(path, f"it was made with other {', '.join(different)}")
        return None
    return checkpoint


def fork(source: Path, target: Path, hyperparameters: Hyperparameters) -> None:
    """Copy a checkpoint so that `fit` with these hyperparameters goes on from it: population-based training.

    Args:
        source: another training's checkpoint on the same data with the same seed.
        target: the checkpoint that `fit` will be given; replaced.
        hyperparameters: those of the source, save for what may change on the way (space.PERTURBABLE).

    Raises InvalidInput where others differ, FileNotFoundError, CorruptData.
    """
    checkpoint = load(source)
    before, after = checkpoint.task["hyperparameters"], dataclasses.asdict(hyperparameters)
    fixed = sorted(name for name in after if name not in PERTURBABLE and before.get(name) != after[name])
    if fixed:
        raise InvalidInput(
            f"no training can go on from {source} with other {', '.join(fixed)}: "
            f"only {', '.join(PERTURBABLE)} may change"
        )
    save(target, dataclasses.replace(checkpoint, task={**checkpoint.task, "hyperparameters": after}))


def _warn(path: Path, reason: str) -> None:
    reason = " ".join(reason.split())
    logging.getLogger(__name__).warning("the checkpoint %s is passed over, the training starts anew: %s", path, reason)


def _data_digest(data: TrainingData) -> str:
    """sha256 over every pixel, label and side; 0.9 GB of photos a second on each core."""

    def digest_part(start: int) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(data.images[start : start + _CHUNK]).data).digest()

    found = hashlib.sha256(canonical_json(data.images.shape))
    with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
        found.update(b"".join(pool.map(digest_part, range(0, len(data.images), _CHUNK))))
    for array in (data.labels, data.validation, data.left_out):
        found.update(b"-" if array is None else np.ascontiguousarray(array).data)
    return found.hexdigest()
