"""How fast a training learns, and what it could do at most: photos a second, arithmetic, waiting, checkpoints.

Photos a second are those of learning alone, without validation, at the side in pixels of the middle epoch. `training`
is what a build does: photos lie on a GPU where they fit (`resident`), else threads read them ahead (`streamed`); the
other of the two ways is measured beside it. `synthetic` are steps of the same network on one batch that is on the
device already. All ways take turns, so that what else happens on the machine happens to all; the first round, in
which caches fill and kernels are compiled, does not count. Operations are those of the network, forth and back.

Not here: which photos, and where the numbers go (gpu_training.py, training_speed_cpu.py).
"""

import collections
import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import checkpoints, train
from petpark_assets.domain.model.devices import arithmetic, describe_environment, half_precision
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.photos import Photos
from petpark_assets.domain.model.train import Training, TrainingData
from petpark_assets.domain.recipes import Hyperparameters
from petpark_assets.domain.records import LABELS

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Of dense bfloat16 products with float32 sums, as the makers print it for the SXM cards."""
NUM_CHECKPOINTS = 5


def speeds(
    data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters, device: torch.device, num_rounds: int = 3
) -> dict[str, Any]:
    """Photos a second of learning, beside those of synthetic data and those that the device's arithmetic allows."""
    with _trained(data, preprocessing, told, device) as training:
        side_px = training.resolution_px(told.epochs // 2)
        is_resident = training.photos.resident is not None
        other = "streamed" if is_resident else "resident"
        ways = {"training": training.photos, other: Photos(data, device, is_resident=not is_resident)}
        rounds = [_take_turns(training, side_px, ways) for _ in range(1 + num_rounds)][1:]
        training.photos = ways["training"]
        found: dict[str, Any] = {
            "n": num_rounds,
            "network": training.environment()["network"],
            "photos": "resident" if is_resident else "streamed",
            "side_px": side_px,
            "batch_size": training.batch_size,
            "photos_an_epoch": training.num_batches * training.batch_size,
            "training": spread([each["training"] for each in rounds]),
            "synthetic": spread([each["synthetic"] for each in rounds]),
            "share_of_synthetic": _shares(rounds, "training", "synthetic"),
            other: {
                **spread([each[other] for each in rounds]),
                "share_of_training": _shares(rounds, other, "training"),
            },
        }
        found |= _arithmetic_limit(training, side_px, found["training"]["mean"])
        if device.type == "cuda":
            waits = host_waits(lambda: _epoch_without_its_end(training, side_px))
            found |= {"num_host_syncs_in_an_epoch": sum(waits.values()), "host_syncs": waits}
    return found


def switches(
    data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters, device: torch.device, speed: float
) -> dict[str, Any]:
    """Photos a second without determinism and without compiling, and seconds an epoch beside those of `speed`."""
    found: dict[str, Any] = {}
    for switch in ("is_deterministic", "is_compiled"):
        with _trained(data, preprocessing, dataclasses.replace(told, **{switch: False}), device) as training:
            side_px = training.resolution_px(told.epochs // 2)
            found[f"without_{switch}"] = spread([_learning(training, side_px) for _ in range(3)][1:])
    num_photos = training.num_batches * training.batch_size
    found["seconds_an_epoch"] = {
        "deterministic": num_photos / speed,
        "not_deterministic": num_photos / found["without_is_deterministic"]["mean"],
    }
    return found


def checkpoint_cost(
    data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters, device: torch.device, folder: Path
) -> dict[str, Any]:
    """What the file after each epoch takes: seconds to collect the state and to save it, and bytes."""
    path, collecting, saving = folder / "cost.checkpoint", [], []
    with _trained(data, preprocessing, dataclasses.replace(told, is_compiled=False), device) as training:
        training.run_epoch()
        started = time.perf_counter()
        task = training.describe_task(data)
        describing = time.perf_counter() - started
        for _ in range(NUM_CHECKPOINTS):
            started = time.perf_counter()
            state = training.checkpoint(task)
            collected = time.perf_counter()
            checkpoints.save(path, state)
            collecting.append(collected - started)
            saving.append(time.perf_counter() - collected)
    size_bytes = path.stat().st_size
    path.unlink()
    return {
        "bytes": size_bytes,
        "seconds": spread(saving),
        "seconds_to_collect": spread(collecting),
        "seconds_to_describe_the_data_once": describing,
    }


def host_waits(work: Callable[[], object]) -> dict[str, int]:
    """How often work lets the host wait for the GPU, by the line that does; torch notices most of it, not all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [each for each in caught if "synchronizing CUDA operation" in str(each.message)]
    return dict(collections.Counter(f"{Path(each.filename).name}:{each.lineno}" for each in waits))


def _epoch_without_its_end(training: Training, side_px: int) -> None:
    """Learning and validation; at the end that comes then, the host must wait once for what they came to."""
    training.learn(0, side_px)
    train._validate(training.average.classifier, training.photos, training.validated)


@contextmanager
def _trained(
    data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters, device: torch.device
) -> Iterator[Training]:
    with arithmetic(device, is_deterministic=told.is_deterministic):
        yield Training(data, preprocessing, told, 0, device)


def _take_turns(training: Training, side_px: int, ways: Mapping[str, Photos]) -> dict[str, float]:
    """Photos a second, each way once."""
    found = {}
    for name, photos in ways.items():
        training.photos = photos
        found[name] = _learning(training, side_px)
    return {**found, "synthetic": _synthetic(training, side_px)}


def _learning(training: Training, side_px: int) -> float:
    """Photos a second of one epoch of learning."""
    return _per_second(training, lambda: training.learn(0, side_px))


def _synthetic(training: Training, side_px: int) -> float:
    """The same number of steps on one batch that is there."""
    shape = (training.batch_size, 3, side_px, side_px)
    inputs = torch.randn(shape, device=training.device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(training.batch_size, device=training.device) % len(LABELS)

    def steps() -> None:
        for step in range(training.num_batches):
            training.step(inputs, labels, step + 1)

    return _per_second(training, steps)


def _per_second(training: Training, work: Callable[[], object]) -> float:
    _wait(training.device)
    started = time.perf_counter()
    work()
    _wait(training.device)
    return training.num_batches * training.batch_size / (time.perf_counter() - started)


def _arithmetic_limit(training: Training, side_px: int, speed: float) -> dict[str, Any]:
    """The share of what the device could compute, as its maker says and as its largest matrix product reaches."""
    device = training.device
    network = build_network(training.hyperparameters).to(device).to(memory_format=torch.channels_last)
    counter = FlopCounterMode(display=False)
    with counter, half_precision(device):
        network(torch.zeros(2, 3, side_px, side_px, device=device)).float().sum().backward()
    flops = counter.get_total_flops() / 2
    peak = next((limit for name, limit in PEAK_FLOPS.items() if name in describe_environment(device)["device"]), None)
    product = _product_flops(device)
    return {
        "flops_per_photo": flops,
        "flops_per_second": flops * speed,
        "flops_per_second_of_largest_product": product,
        "share_of_peak": flops * speed / peak if peak else None,
        "share_of_largest_product": flops * speed / product,
    }


def _product_flops(device: torch.device) -> float:
    """Operations a second of a large matrix product in the precision of training, the best of five."""
    size, precision = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    factor = torch.randn(size, size, device=device, dtype=precision)
    best = 0.0
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        for _ in range(10):
            factor @ factor
        _wait(device)
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _shares(rounds: Sequence[Mapping[str, float]], part: str, whole: str) -> dict[str, Any]:
    return spread([each[part] / each[whole] for each in rounds])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and deviation of some values, where there are enough, and the values."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }
