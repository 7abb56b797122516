"""The training loop, and weights as bytes: one file that reads from top to bottom, numbers first.

Not here: the networks (network.py), the optimiser (optimiser.py), image statistics (features.py), the search
(search.py), the exam (report/).

Speed, measured with 64-channel petnet on two AVX-512 cores: float32 in channels_last order makes 1.4 times the
images of bfloat16 (these cores have no AMX, and their bfloat16 products are slower than their float32 ones), so
bfloat16 is for GPUs. Crops cost 6 % of the time, validation after every epoch as much.
"""

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.network import Classifier, build_network
from petpark_assets.domain.model.optimiser import Muon
from petpark_assets.domain.recipes import Hyperparameters

WARM_UP_SHARE = 0.2
"""Of the schedule: the learning rate rises to its peak, then falls to zero along a cosine."""
CROP_ASPECT_MAX = 4 / 3
"""A crop's sides differ by no more than this factor from the photo's."""
RESOLUTION_STEP_PX = 16
"""Training resolutions are multiples of it: petnet halves its maps four times."""
VALIDATION_BATCH_SIZE = 256
METADATA_KEY = "petpark"
"""The one key in the file's metadata: safetensors writes several in an order that changes."""


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


def carve_validation(sha256s: Sequence[str], labels: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.bool_]:
    """Which photos are kept from learning: the given share of each class, the first by rank of their sha256.

    Depends on the set of photos alone, not on their order. A class of two photos or more gives at least one.

    Args:
        sha256s: of each photo, or of the group whose photos must stay together.
        labels: [N], index of the label.
        share: above 0, below 1.

    Returns:
        Booleans [N].
    """
    is_validation = np.zeros(len(labels), dtype=np.bool_)
    names = np.asarray(sha256s)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        quota = max(round(share * len(members)), int(len(members) > 1))
        chosen = np.sort(names[members])[:quota]
        is_validation[members] = np.isin(names[members], chosen)
    return is_validation


def fit(
    data: TrainingData,
    preprocessing: Preprocessing,
    hyperparameters: Hyperparameters,
    *,
    seed: int,
    device: str = "auto",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
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
        for number in range(1, hyperparameters.epochs + 1):
            epoch = training.run_epoch(number, validated)
            epochs.append(epoch)
            score = (epoch.validation_accuracy, -epoch.validation_loss)
            if best is None or score > best[0]:
                best = (score, number, training.averaged_weights())
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
            with half_precision(self.photos.device):
                logits = network(self.classifier.scale(levels))
            loss = functional.cross_entropy(
                logits.float(), labels, label_smoothing=self.hyperparameters.label_smoothing
            )
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.average.update(step)
            total += loss.detach()
        return float(total) / self.num_batches

    def _set_learning_rate(self, schedule_share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.hyperparameters.learning_rate * schedule(schedule_share)


def schedule(share: float) -> float:
    """The learning rate's part of its peak, 0 to 1, at a share above 0 up to 1 of the schedule: 0 at the end."""
    if share < WARM_UP_SHARE:
        return share / WARM_UP_SHARE
    return (1 + math.cos(math.pi * (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))) / 2


def resolution_at(share: float, full_px: int, hyperparameters: Hyperparameters) -> int:
    """The side in pixels of training crops at a share (0 to 1) of the epochs, growing from the first to the last.

    A whole number of steps of 16 px, unless it is the full resolution.
    """
    first, last = hyperparameters.first_resolution_share, hyperparameters.last_resolution_share
    side = full_px * (first + (last - first) * share)
    steps = max(1, round(side / RESOLUTION_STEP_PX))
    return full_px if side >= full_px else min(full_px, steps * RESOLUTION_STEP_PX)


def augment(photos: Tensor, resolution_px: int, crop_scale_min: float, *, generator: torch.Generator) -> Tensor:
    """A random crop of each photo, half of them mirrored, resized to one resolution.

    Crops and mirrors are one affine map a photo, sampled for the whole batch at once on its device. Where the
    result is small, all photos are shrunk first, with antialiasing: sampling skips pixels, it does not average.

    Args:
        photos: uint8 [N, R, R, 3].
        resolution_px: side of the result.
        crop_scale_min: smallest share of a photo's area to keep, above 0 up to 1.
        generator: of the CPU, whatever the photos' device is.

    Returns:
        Levels 0 to 255, float32 [N, 3, resolution_px, resolution_px], in channels_last order.
    """
    count, full_px = photos.shape[:2]
    levels = photos.permute(0, 3, 1, 2).float()
    middling_share = ((1 + crop_scale_min) / 2) ** 0.5  # a crop of middling area is then sampled one to one
    shrunk_px = round(resolution_px / middling_share)
    if shrunk_px < full_px:
        levels = functional.interpolate(
            levels, size=(shrunk_px, shrunk_px), mode="bilinear", antialias=True, align_corners=False
        )
    maps = _draw_crops(count, crop_scale_min, generator).to(photos.device)
    size = [count, 3, resolution_px, resolution_px]
    grid = functional.affine_grid(maps, size, align_corners=False)
    crops = functional.grid_sample(levels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def _draw_crops(count: int, scale_min: float, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3] from a crop to its photo, both spanning -1 to 1."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    area = uniform(scale_min, 1)
    aspect = uniform(-math.log(CROP_ASPECT_MAX), math.log(CROP_ASPECT_MAX)).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=generator)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, (1 - width) * uniform(-1, 1)
    maps[:, 1, 1], maps[:, 1, 2] = height, (1 - height) * uniform(-1, 1)
    return maps


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


def predict(
    classifier: Classifier, images: npt.NDArray[np.uint8], *, batch_size: int = 256, device: str = "auto"
) -> npt.NDArray[np.float32]:
    """The probability of the second label (dog), float32 [N], of photos uint8 [N, H, W, 3].

    In float32 on every device: the report describes what is exported. The classifier is left on the device.
    """
    target = find_device(device)
    classifier.to(target).to(memory_format=torch.channels_last).eval()
    probabilities = np.empty(len(images), dtype=np.float32)
    # TF32 would keep 10 bits of each factor: enough to move a label that the ONNX file gives on a CPU.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), batch_size):
            # A copy: the photos may be a read-only memory map, which torch does not take.
            photos = torch.from_numpy(np.array(images[start : start + batch_size])).to(target)
            probabilities[start : start + batch_size] = classifier(photos)[:, 1].cpu().numpy()
    return probabilities


def save_weights(
    weights: Mapping[str, Tensor], hyperparameters: Hyperparameters, preprocessing: Preprocessing
) -> bytes:
    """One safetensors file with what is needed to use the weights; the same weights give the same bytes."""
    about = canonical_json({"hyperparameters": hyperparameters, "preprocessing": preprocessing}).decode()
    return safetensors.torch.save(dict(weights), metadata={METADATA_KEY: about})


def load_classifier(data: bytes) -> Classifier:
    """The classifier of a file written by save_weights, on the CPU, ready to answer; no code in the file is run.

    Raises:
        CorruptData: it is no such file, or its weights do not fit the architecture it names.
    """
    about = _read_metadata(data)
    hyperparameters = Hyperparameters(**about["hyperparameters"])
    fields = {name: _as_tuple(value) for name, value in about["preprocessing"].items()}
    preprocessing = Preprocessing(**fields)
    with torch.random.fork_rng(devices=[]):  # the random weights it starts with are replaced
        network = build_network(hyperparameters, num_classes=len(preprocessing.labels))
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptData(
            f"the weights are not those of {hyperparameters.architecture} with width {hyperparameters.width}: {reason}"
        ) from error
    return Classifier(network, preprocessing).eval()


def _read_metadata(data: bytes) -> dict[str, dict[str, Any]]:
    """What save_weights noted. safetensors gives it for paths only; the header is 8 bytes of length, then JSON."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, dict[str, Any]] = json.loads(header["__metadata__"][METADATA_KEY])
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptData(f"{len(data)} bytes are no weights of ours: {error}") from error
    return about


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def find_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one. Raises InvalidInput on `cuda` without a GPU and on other names."""
    choices = ("auto", "cpu", "cuda")
    if name not in choices:
        raise InvalidInput(f"device is {name!r}: it must be one of {', '.join(choices)}")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise InvalidInput("device is 'cuda', but torch sees no GPU here: choose cpu or auto")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def describe_device(device: torch.device) -> str:
    """What a training's bits depend on beside its seed: `cpu AVX512, 2 threads` or `cuda NVIDIA H200`."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 for convolutions on a GPU; float32 on a CPU, where it is faster (see the top)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


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
