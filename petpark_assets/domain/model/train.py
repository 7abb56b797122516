"""The training loop: one file that reads from top to bottom, numbers first.

Not here: the networks (network.py), the optimiser (optimiser.py), crops (augmentation.py), which photos judge
(validation.py), weights as bytes (weights.py), answers (prediction.py), the search (search.py), the exam (report/).

Speed, measured with 64-channel petnet on two AVX-512 cores: float32 in channels_last order makes 1.4 times the
images of bfloat16 (these cores have no AMX, and their bfloat16 products are slower than their float32 ones), so
bfloat16 is for GPUs. Crops cost 6 % of the time, validation after every epoch as much.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import checkpoints, workers
from petpark_assets.domain.model.augmentation import augment, resolution_at
from petpark_assets.domain.model.devices import describe_device, find_device, half_precision
from petpark_assets.domain.model.network import Classifier, build_network
from petpark_assets.domain.model.optimiser import Muon
from petpark_assets.domain.recipes import Hyperparameters

WARM_UP_SHARE = 0.2
"""Of the schedule: the learning rate rises to its peak, then falls to zero along a cosine."""
VALIDATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class TrainingData:
    """The train side's photos at the recipe's resolution R."""

    images: npt.NDArray[np.uint8]
    """[N, R, R, 3]; may be a memory map: only the photos of a batch are read."""
    labels: npt.NDArray[np.uint8]
    """[N], index of the label."""
    validation: npt.NDArray[np.bool_]
    """[N], true where a photo belongs to the part that chooses the epoch and is never learnt from."""
    left_out: npt.NDArray[np.bool_] | None = None
    """[N], true where a photo is used for nothing, as in trials that learn from a share; None: nowhere."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training photos, and how the averaged weights did on the validation part after it."""

    number: int
    """From 1."""
    num_epochs: int
    schedule_share: float
    """Of the whole schedule that is done: above 0, 1 at the end."""
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    """0 to 1; of a single look, without the mirror image (half the cost): the classifier does a little better."""
    learning_rate: float
    """Of the epoch's last step."""
    seconds: float
    """Validation included."""


@dataclass(frozen=True)
class Fitted:
    """What training leaves."""

    weights: dict[str, Tensor]
    """The network's state after the best epoch, averaged over steps; float32 on the CPU."""
    epochs: tuple[Epoch, ...]
    best_epoch: int
    """The number of the epoch with the highest validation accuracy; of equals, the lowest loss, then the first."""
    device: str
    """What the bits depend on: processor capability and thread count, or the GPU's model."""
    num_parameters: int


def fit(
    data: TrainingData,
    preprocessing: Preprocessing,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    device: str = "auto",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
    checkpoint: Path | None = None,
) -> Fitted:
    """Train a network from random weights along one annealed schedule, and keep its best epoch.

    On a CPU the same data, hyperparameters, seed and thread count give the same bits. The caller's random state
    is left as it was.

    Args:
        data: the train side; photos of its validation part are only ever validated on.
        preprocessing: the network's input resolution and scaling.
        hyperparameters: what this training is told.
        seed: of the first weights, the order of photos and their augmentation.
        device: `auto` (a GPU when there is one), `cpu` or `cuda`.
        on_epoch: is told after each epoch; what it raises ends the training.
        checkpoint: where the state is kept after each epoch, and gone on from where it is this training's.

    Raises:
        InvalidInput: too few photos, an unknown architecture, or a loss that is no longer a number.
    """
    learnt, validated = _sides(data)
    target = find_device(device)
    with _seeded(seed, target):
        classifier = Classifier(build_network(hyperparameters, num_classes=len(preprocessing.labels)), preprocessing)
        classifier.to(target).to(memory_format=torch.channels_last)
        training = _Training(classifier, data, learnt, hyperparameters, seed)
        best: tuple[tuple[float, float], int, dict[str, Tensor]] | None = None
        epochs: list[Epoch] = []
        kept = checkpoints.load_if_same(checkpoint, hyperparameters, seed) if checkpoint else None
        if kept is not None:
            epochs = [Epoch(**epoch) for epoch in kept.epochs]
            best = training.restore(kept.state)
        for number in range(len(epochs) + 1, hyperparameters.epochs + 1):
            epoch = training.run_epoch(number, validated)
            epochs.append(epoch)
            score = (epoch.validation_accuracy, -epoch.validation_loss)
            if best is None or score > best[0]:
                best = (score, number, training.averaged_weights())
            if checkpoint is not None:
                checkpoints.save(checkpoint, hyperparameters, seed, epochs, training.state(best))
            on_epoch(epoch)
    assert best is not None
    return Fitted(
        weights=best[2],
        epochs=tuple(epochs),
        best_epoch=best[1],
        device=describe_device(target),
        num_parameters=sum(parameter.numel() for parameter in classifier.parameters()),
    )


class _Training:
    """The state of one training: network, average, optimiser and the generator of order and augmentation."""

    def __init__(
        self,
        classifier: Classifier,
        data: TrainingData,
        learnt: npt.NDArray[np.int64],
        hyperparameters: Hyperparameters,
        seed: int,
    ) -> None:
        self.classifier = classifier
        self.hyperparameters = hyperparameters
        self.photos = _Photos(data, classifier.means.device)
        self.learnt = learnt
        self.average = _Average(classifier, hyperparameters.ema_decay)
        self.optimiser = Muon(
            classifier.network,
            learning_rate=hyperparameters.learning_rate,
            weight_decay=hyperparameters.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.batch_size = min(hyperparameters.batch_size, len(learnt))
        # The last photos of a shuffled epoch that fill no batch wait for the next shuffle.
        self.num_batches = len(learnt) // self.batch_size

    def run_epoch(self, number: int, validated: npt.NDArray[np.int64]) -> Epoch:
        """Learn from every photo once, then look at the validation part."""
        started = time.perf_counter()
        num_epochs = self.hyperparameters.epochs
        resolution_px = resolution_at(
            (number - 1) / max(1, num_epochs - 1),
            self.classifier.preprocessing.resolution_px,
            self.hyperparameters,
        )
        train_loss = self._learn((number - 1) * self.num_batches, resolution_px)
        if not math.isfinite(train_loss):
            raise InvalidInput(
                f"training diverged in epoch {number} (loss {train_loss}): lower learning_rate, "
                f"it is {self.hyperparameters.learning_rate}"
            )
        loss, accuracy = _validate(self.average.classifier, self.photos, validated)
        return Epoch(
            number=number,
            num_epochs=num_epochs,
            schedule_share=number / num_epochs,
            train_loss=train_loss,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            seconds=time.perf_counter() - started,
        )

    def state(self, best: Any) -> dict[str, Any]:
        """All that the next epoch follows from."""
        return {
            "network": self.classifier.state_dict(),
            "average": self.average.classifier.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "best": best,
        }

    def restore(self, state: dict[str, Any]) -> Any:
        """Take up a state; returns its best epoch."""
        self.classifier.load_state_dict(state["network"])
        self.average.classifier.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        return state["best"]

    def averaged_weights(self) -> dict[str, Tensor]:
        """A copy on the CPU of the averaged network's state."""
        state = self.average.classifier.network.state_dict()
        return {
            name: value.to("cpu", copy=True, memory_format=torch.contiguous_format) for name, value in state.items()
        }

    def _learn(self, num_steps_done: int, resolution_px: int) -> float:
        """One pass over the shuffled training photos; returns the mean loss."""
        network = self.classifier.network.train()
        shuffled = self.learnt[torch.randperm(len(self.learnt), generator=self.generator).numpy()]
        num_steps = self.hyperparameters.epochs * self.num_batches
        total = torch.zeros((), device=self.photos.device)
        for batch in range(self.num_batches):
            step = num_steps_done + batch + 1
            self._set_learning_rate(step / num_steps)
            chosen = shuffled[batch * self.batch_size : (batch + 1) * self.batch_size]
            photos, labels = self.photos.batch(chosen)
            levels = augment(photos, resolution_px, self.hyperparameters.crop_scale_min, generator=self.generator)
            levels, labels = workers.part(levels), workers.part(labels)
            with half_precision(self.photos.device):
                logits = network(self.classifier.scale(levels))
            loss = functional.cross_entropy(
                logits.float(), labels, label_smoothing=self.hyperparameters.label_smoothing
            )
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            workers.average_gradients(network.parameters())
            self.optimiser.step()
            self.average.update(step)
            total += workers.mean(loss.detach())
        return float(total) / self.num_batches

    def _set_learning_rate(self, schedule_share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.hyperparameters.learning_rate * schedule(schedule_share)


def schedule(share: float) -> float:
    """The learning rate's part of its peak, 0 to 1, at a share above 0 up to 1 of the schedule: 0 at the end."""
    if share < WARM_UP_SHARE:
        return share / WARM_UP_SHARE
    return (1 + math.cos(math.pi * (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))) / 2


class _Photos:
    """Batches of photos and labels on the device that learns; on a GPU all photos are moved there once."""

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self.device = device
        self.images = data.images
        self.labels = torch.from_numpy(data.labels.astype(np.int64)).to(device)
        self.resident: Tensor | None = None
        # A third of what is free leaves the rest to the network; larger sides are read from disk a batch at a time.
        if device.type == "cuda" and 3 * data.images.nbytes < torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.from_numpy(np.array(data.images)).to(device)

    def batch(self, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Photos uint8 [n, R, R, 3] and labels int64 [n]."""
        if self.resident is not None:
            chosen = torch.from_numpy(indices).to(self.device)
            return self.resident[chosen], self.labels[chosen]
        photos = torch.from_numpy(self.images[indices]).to(self.device)
        return photos, self.labels[torch.from_numpy(indices).to(self.device)]


class _Average:
    """The exponential moving average of a classifier's network: weights and batch statistics."""

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self.decay = decay
        self.classifier = copy.deepcopy(classifier).eval().requires_grad_(requires_grad=False)
        averaged, latest = self.classifier.network.state_dict(), classifier.network.state_dict()
        self.pairs = [(averaged[name], latest[name]) for name in latest]  # views: they follow every step

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, from 1; early steps count more, or the random start would linger."""
        decay = min(self.decay, step / (step + 9))
        for averaged, latest in self.pairs:
            if latest.is_floating_point():
                averaged.lerp_(latest, 1 - decay)
            else:
                averaged.copy_(latest)


@torch.inference_mode()
def _validate(classifier: Classifier, photos: _Photos, validated: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean loss and accuracy of a single look at the validation part."""
    losses, hits = 0.0, 0
    for start in range(0, len(validated), VALIDATION_BATCH_SIZE):
        batch, labels = photos.batch(validated[start : start + VALIDATION_BATCH_SIZE])
        with half_precision(photos.device):
            logits = classifier.network(classifier.prepare(batch))
        losses += float(functional.cross_entropy(logits.float(), labels, reduction="sum"))
        hits += int((logits.argmax(dim=1) == labels).sum())
    return losses / len(validated), hits / len(validated)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for the first weights and dropout, and give the caller's random state back."""
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


def _sides(data: TrainingData) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the photos to learn from and of those to validate on."""
    is_learnt = ~data.validation if data.left_out is None else ~(data.validation | data.left_out)
    learnt, validated = np.flatnonzero(is_learnt), np.flatnonzero(data.validation)
    if len(learnt) < 2 or len(validated) < 1:  # batch statistics need two
        raise InvalidInput(
            f"{len(learnt)} photos to learn from and {len(validated)} to validate on are too few: "
            "it takes at least 2 and 1; add photos to the lake"
        )
    return learnt, validated
