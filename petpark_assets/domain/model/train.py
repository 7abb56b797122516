"""The training loop: one file that reads from top to bottom, numbers first.

Not here: the networks (network.py), the optimiser (optimiser.py), the average of the weights (averaging.py), batches
(photos.py), crops (augmentation.py), which photos judge (validation.py), an interrupted training's file
(checkpoints.py), weights as bytes (weights.py), answers (prediction.py), the search (search.py), the exam (report/).

Speed, measured with 64-channel petnet on two AVX-512 cores: float32 in channels_last order makes 1.4 times the
images of bfloat16 (these cores have no AMX, and their bfloat16 products are slower than their float32 ones), so
bfloat16 is for GPUs. Crops cost 6 % of the time, validation after every epoch as much.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import checkpoints, workers
from petpark_assets.domain.model.augmentation import Draws, augment, draw, hide, resolution_at
from petpark_assets.domain.model.averaging import Average
from petpark_assets.domain.model.checkpoints import Checkpoint
from petpark_assets.domain.model.compiling import compiled
from petpark_assets.domain.model.devices import (
    arithmetic,
    describe_device,
    describe_environment,
    find_device,
    half_precision,
    named_failures,
    seeded,
)
from petpark_assets.domain.model.network import Classifier, build_network
from petpark_assets.domain.model.optimiser import Muon
from petpark_assets.domain.model.photos import Indices, Photos, TrainingData, sides
from petpark_assets.domain.model.pretrained import load_start
from petpark_assets.domain.recipes import Hyperparameters

__all__ = ["TrainingData"]  # with all that is defined here

WARM_UP_SHARE = 0.2
"""Of the schedule: the learning rate rises to its peak, then falls to zero along a cosine."""
VALIDATION_BATCH_SIZE = 256


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
    environment: Mapping[str, str]
    """All that the bits depend on beside what the training was told: the device, versions, whether it was compiled."""
    num_parameters: int
    pretrained: str | None
    """sha256 of the weights it started from; None: random ones."""


def fit(
    data: TrainingData,
    preprocessing: Preprocessing,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    device: str = "auto",
    gpu_share: float = 1.0,
    checkpoint: Path | None = None,
    start: str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> Fitted:
    """Train a network along one annealed schedule, and keep its best epoch.

    On one device class (`Fitted.environment`) the same data, hyperparameters and seed give the same bits, however often
    the training was interrupted; on a GPU, where the hyperparameters ask for it. The caller's random state is left as
    it was.

    Args:
        data: the train side; photos of its validation part are only ever validated on.
        preprocessing: the network's input resolution and scaling.
        hyperparameters: what this training is told.
        seed: of the first weights, the order of photos and their augmentation.
        device: `auto` (a GPU when there is one), `cpu` or `cuda`.
        gpu_share: of the GPU's memory, the part that is this training's; above 0, at most 1.
        checkpoint: a file that is written after each epoch; where it is there already, and of this very training, it
            goes on after that epoch. Who is done with it deletes it.
        start: the sha256 that the file of weights to start from must have; None asks nothing.
        on_epoch: is told after each epoch of this call, its checkpoint being written; what it raises ends the training.

    Raises:
        InvalidInput: too few photos, an unknown architecture, or a loss that is no longer a number.
        TooLittleMemory: the GPU's.
        TransientError: the GPU failed, and another process may go on; or the start is another.
    """
    target = find_device(device)
    exactly = arithmetic(target, is_deterministic=hyperparameters.is_deterministic)
    with named_failures(), seeded(seed, target), exactly:  # named first: on a GPU that failed, to clean up fails too
        training = Training(data, preprocessing, hyperparameters, seed, target, gpu_share=gpu_share)
        if start not in {None, training.pretrained}:
            raise TransientError(
                f"the file of weights {hyperparameters.weights} was changed since the attempt was begun: put it back, "
                "and run the same again"
            )
        task = training.describe_task(data) if checkpoint else {}
        if checkpoint and (found := checkpoints.load_if_same(checkpoint, task)):
            training.restore(found)
        while len(training.epochs) < hyperparameters.epochs:
            training.run_epoch()
            if checkpoint:
                checkpoints.save(checkpoint, training.checkpoint(task))
            on_epoch(training.epochs[-1])
    return training.fitted()


class Training:
    """The state of one training: network, average, optimiser, generators, and the epochs so far with their best."""

    def __init__(
        self,
        data: TrainingData,
        preprocessing: Preprocessing,
        hyperparameters: Hyperparameters,
        seed: int,
        device: torch.device,
        *,
        gpu_share: float = 1.0,
    ) -> None:
        self.hyperparameters, self.seed, self.device = hyperparameters, seed, device
        self.learnt, self.validated = sides(data)
        network = build_network(hyperparameters, num_classes=len(preprocessing.labels))
        self.pretrained = load_start(network, hyperparameters)
        self.classifier = Classifier(network, preprocessing)
        self.classifier.to(device).to(memory_format=torch.channels_last)
        self.network, self.is_compiled = network.train(), False
        self.photos = Photos(data, device, gpu_share=gpu_share)
        self.average = Average(self.classifier, hyperparameters.ema_decay)
        self.optimiser = Muon(
            network, learning_rate=hyperparameters.learning_rate, weight_decay=hyperparameters.weight_decay
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.batch_size = min(hyperparameters.batch_size, len(self.learnt))
        # The last photos of a shuffled epoch that fill no batch wait for the next shuffle.
        self.num_batches = len(self.learnt) // self.batch_size
        if hyperparameters.is_compiled and device.type == "cuda":
            self._compile()
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def _compile(self) -> None:
        """Train through a compiled network, where the machine can make one."""
        sides_px = dict.fromkeys(self.resolution_px(done) for done in range(self.hyperparameters.epochs))
        count = len(workers.part(torch.empty(self.batch_size)))
        empty = [torch.zeros(count, 3, side_px, side_px, device=self.device) for side_px in sides_px]
        faster = compiled(self.network, [sample.contiguous(memory_format=torch.channels_last) for sample in empty])
        if faster is not None:
            self.network, self.is_compiled = faster, True

    def run_epoch(self) -> None:
        """Learn from every photo once, then look at the validation part."""
        started, done = time.perf_counter(), len(self.epochs)
        total = self.learn(done * self.num_batches, self.resolution_px(done))
        judged = _validate(self.average.classifier, self.photos, self.validated)
        # The epoch's one wait for the device.
        train_loss, loss, accuracy = torch.cat([total[None] / self.num_batches, judged]).tolist()
        if not math.isfinite(train_loss + loss):
            raise InvalidInput(
                f"training diverged in epoch {done + 1} (loss {train_loss}): lower learning_rate, "
                f"it is {self.hyperparameters.learning_rate}"
            )
        epoch = Epoch(
            number=done + 1,
            num_epochs=self.hyperparameters.epochs,
            schedule_share=(done + 1) / self.hyperparameters.epochs,
            train_loss=train_loss,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            seconds=time.perf_counter() - started,
        )
        self.epochs.append(epoch)
        if done == 0 or _merit(epoch) > _merit(self.epochs[self.best_epoch - 1]):
            self.best_epoch, self.best_weights = epoch.number, self.average.weights()

    def fitted(self) -> Fitted:
        """What is left when the last epoch is over."""
        return Fitted(
            weights=self.best_weights,
            epochs=tuple(self.epochs),
            best_epoch=self.best_epoch,
            device=describe_device(self.device),
            environment=self.environment(),
            num_parameters=sum(parameter.numel() for parameter in self.classifier.parameters()),
            pretrained=self.pretrained,
        )

    def environment(self) -> dict[str, str]:
        """What the bits depend on beside what the training was told."""
        return describe_environment(self.device) | {"network": "compiled" if self.is_compiled else "as written"}

    def describe_task(self, data: TrainingData) -> dict[str, Any]:
        """What a checkpoint of this training belongs to."""
        return checkpoints.describe_task(
            data,
            self.classifier.preprocessing,
            self.hyperparameters,
            seed=self.seed,
            environment=self.environment() | {"pretrained": self.pretrained},
        )

    def checkpoint(self, task: Mapping[str, Any]) -> Checkpoint:
        """All of the state after an epoch."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors()}
        generators = {f"generator.{name}": get() for name, (get, _) in self._generators().items()}
        best = {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        return Checkpoint(
            task=task,
            epochs=tuple(dataclasses.asdict(epoch) for epoch in self.epochs),
            best_epoch=self.best_epoch,
            state=tensors | generators | best,
        )

    def restore(self, found: Checkpoint) -> None:
        """Stand where a training of the same task stood after its last epoch."""
        self.epochs = [Epoch(**fields) for fields in found.epochs]
        self.best_epoch = found.best_epoch
        best = {name: tensor for name, tensor in found.state.items() if name.startswith("best.")}
        self.best_weights = {name.removeprefix("best."): tensor for name, tensor in best.items()}
        with torch.no_grad():
            for name, tensor in self._tensors():
                tensor.copy_(found.state[name])
        for name, (_, put) in self._generators().items():
            put(found.state[f"generator.{name}"])

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What learning changes, by name, on its device; to be copied into, so that each keeps its memory format."""
        for name, latest in self.classifier.network.state_dict().items():
            yield f"network.{name}", latest
        for name, averaged in self.average.classifier.network.state_dict().items():
            yield f"average.{name}", averaged
        for number, momentum in enumerate(self.optimiser.momenta()):
            yield f"momentum.{number}", momentum

    def _generators(self) -> dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Any]]]:
        """How the state of each source of chance is read and set: order and augmentation, dropout."""
        found: dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Any]]] = {
            "photos": (self.generator.get_state, self.generator.set_state),
            "torch": (torch.get_rng_state, torch.set_rng_state),
        }
        if self.device.type == "cuda":
            found["cuda"] = (torch.cuda.get_rng_state, torch.cuda.set_rng_state)
        return found

    def resolution_px(self, done: int) -> int:
        """Side in pixels of the crops of the epoch after so many."""
        full_px, last = self.classifier.preprocessing.resolution_px, max(1, self.hyperparameters.epochs - 1)
        return resolution_at(done / last, full_px, self.hyperparameters)

    def learn(self, num_steps_done: int, resolution_px: int) -> Tensor:
        """One pass over the shuffled training photos; returns the sum of the batches' losses, on the device."""
        told, num_photos = self.hyperparameters, self.num_batches * self.batch_size
        num_steps = told.epochs * self.num_batches
        order = self.learnt[torch.randperm(len(self.learnt), generator=self.generator).numpy()][:num_photos]
        draws = draw(num_photos, told, self.generator).to(self.device)
        batches = zip(self.photos.batches(order, self.batch_size), draws.split(self.batch_size), strict=True)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, ((photos, labels), some) in enumerate(batches, start=num_steps_done + 1):
            self._set_learning_rate(step / num_steps)
            own = Draws(*map(workers.part, some))
            inputs = self.classifier.scale(augment(workers.part(photos), own, resolution_px, told))
            if told.hidden_share_max > 0:
                inputs = hide(inputs, own.boxes)
            total += workers.mean(self.step(inputs, workers.part(labels), step))
        return total

    def step(self, inputs: Tensor, labels: Tensor, step: int) -> Tensor:
        """Learn from one batch of scaled inputs; returns its mean loss, on the device."""
        with half_precision(self.device):
            logits = self.network(inputs)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.hyperparameters.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        workers.average_gradients(self.network.parameters())
        self.optimiser.step()
        self.average.update(step)
        return loss.detach()

    def _set_learning_rate(self, schedule_share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.hyperparameters.learning_rate * schedule(schedule_share)


def schedule(share: float) -> float:
    """The learning rate's part of its peak, 0 to 1, at a share above 0 up to 1 of the schedule: 0 at the end."""
    if share < WARM_UP_SHARE:
        return share / WARM_UP_SHARE
    return (1 + math.cos(math.pi * (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))) / 2


def _merit(epoch: Epoch) -> tuple[float, float]:
    """The higher, the better."""
    return epoch.validation_accuracy, -epoch.validation_loss


@torch.inference_mode()
def _validate(classifier: Classifier, photos: Photos, validated: Indices) -> Tensor:
    """Mean loss and accuracy of a single look at the validation part, float64 [2] on the device."""
    found = torch.zeros(2, dtype=torch.float64, device=photos.device)
    for batch, labels in photos.batches(validated, VALIDATION_BATCH_SIZE):
        with half_precision(photos.device):
            logits = classifier.network(classifier.prepare(batch))
        found[0] += functional.cross_entropy(logits.float(), labels, reduction="sum")
        found[1] += (logits.argmax(dim=1) == labels).sum()
    return found / len(validated)
