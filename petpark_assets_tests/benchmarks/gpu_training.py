"""What the recipe `gpu` reaches on one GPU from random weights: accuracy of 5 seeds, seconds to 0.97, photos a second.

    python -m petpark_assets_tests.benchmarks.gpu_training --photos ~/photos    (make bench-gpu, on PETPARK_PHOTOS)
    python -m petpark_assets_tests.benchmarks.gpu_training --npy FOLDER         (made before by --photos and --keep)

It needs a GPU and, beside torch, numpy, safetensors and Pillow, nothing: a bare machine will do. Photos are named or
foldered by their label, and divided 80/20 by the sha256 of their pixels, each by itself: no near-duplicates are
looked for, which a build does. The test side is examined once a seed, at the end of its training.

Seconds to 0.97 run from opening the pixels on disk, through moving them to the card and compiling, to the end of the
first epoch whose averaged weights answer 0.97 of the validation photos rightly. The first seed also fills the
compiler's cache. The calibration error is that of the build's report: of the test side, 15 bins of equal mass, at the
temperature that fits the validation part, which is looked for when the clock has stopped.

Photos a second are those of learning alone, without validation, at the side in pixels of the middle epoch; `synthetic`
are steps of the same network on one batch that is on the card already. Seconds an epoch, with determinism and without,
are of the same epochs.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.files import replace, sha256
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.calibration import save_calibrated
from petpark_assets.domain.model.devices import arithmetic, describe_environment, find_device, half_precision
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.photos import Photos
from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.train import Training, TrainingData, fit
from petpark_assets.domain.model.validation import carve_validation
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets.domain.recipes import Hyperparameters, Recipe, find_recipe, override
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.calibration import MAX_ERROR, calibration

RESULT = Path(__file__).parent / "results" / "gpu-training.json"
GOAL = 0.97
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Of dense bfloat16 products with float32 sums, as the makers print it for the SXM cards."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
REHEARSAL = {
    "resolution_px": 48,
    "hyperparameters": {"width": 4, "epochs": 2, "batch_size": 8, "is_compiled": False},
}
"""A few seconds on a processor: shows that every line runs, and nothing else."""


@dataclass(frozen=True)
class Sides:
    """Photos on disk, as after ingestion: images.npy, labels.npy and is_test.npy in a folder."""

    folder: Path

    def open(self, *, is_test: bool) -> tuple[np.ndarray, np.ndarray]:
        """Photos uint8 [N, R, R, 3] and labels uint8 [N] of one side; the first lie memory-mapped, a file a side."""
        name = "test" if is_test else "train"
        return np.load(self.folder / f"{name}.npy", mmap_mode="r"), np.load(self.folder / f"{name}-labels.npy")


def main() -> None:
    """Measure, and write the result after each seed, so that a lease that ends loses one seed."""
    told = _read_arguments()
    if not torch.cuda.is_available() and not told.rehearsal:
        sys.exit("this measures a GPU, and torch sees none here: nothing was run and nothing written (see --rehearsal)")
    if told.rehearsal and told.to is None:
        sys.exit("a rehearsal is no result: say --to FILE for what it prints")
    recipe = override(find_recipe("gpu"), REHEARSAL) if told.rehearsal else find_recipe("gpu")
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as scratch:
        folder = told.npy or decode(told.photos, told.keep or Path(scratch), recipe.resolution_px)
        measure(Sides(folder), recipe, told.seeds, told.to or RESULT, is_rehearsal=told.rehearsal)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, help="a folder of labelled photos")
    source.add_argument("--npy", type=Path, help="a folder that --keep made")
    parser.add_argument("--keep", type=Path, help="keep the decoded photos in this folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--to", type=Path, help=f"the result, instead of {RESULT.name}")
    parser.add_argument(
        "--rehearsal", action="store_true", help="a tiny network on any device; its numbers mean nothing"
    )
    return parser.parse_args()


# ---- photos


def decode(photos: Path, folder: Path, side_px: int) -> Path:
    """Squeeze a folder's photos to squares and divide them; what cannot be read is passed over, and counted."""
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES and _label(path) is not None)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda path: (_pixels(path, side_px), _label(path)), paths))
    known = {sha256(pixels.tobytes()): (pixels, label) for pixels, label in found if pixels is not None}
    say(f"{len(paths)} photos, of which {len(paths) - len(known)} cannot be read or are copies")
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[bool, list[str]] = {True: [], False: []}
    for label in range(len(LABELS)):
        ranked = sorted(name for name in known if known[name][1] == label)
        num_test = round(0.2 * len(ranked))
        names[True] += ranked[:num_test]
        names[False] += ranked[num_test:]
    for is_test, side in names.items():
        name, order = "test" if is_test else "train", sorted(side)
        np.save(folder / f"{name}.npy", np.stack([known[photo][0] for photo in order]))
        np.save(folder / f"{name}-labels.npy", np.array([known[photo][1] for photo in order], dtype=np.uint8))
    return folder


def _label(path: Path) -> int | None:
    """By folder or by file name: `cat/1.jpg`, `cat.1.jpg`."""
    words = {path.parent.name.lower(), path.name.lower().split(".")[0]}
    found = [number for number, label in enumerate(LABELS) if label in words]
    return found[0] if len(found) == 1 else None


def _pixels(path: Path, side_px: int) -> np.ndarray | None:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((side_px, side_px), Image.Resampling.BILINEAR))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


# ---- measuring


def measure(sides: Sides, recipe: Recipe, num_seeds: int, to: Path, *, is_rehearsal: bool) -> dict[str, Any]:
    """Everything, a seed at a time; the file is written after each step."""
    preprocessing = _preprocessing(sides, recipe)
    result: dict[str, Any] = {**describe_run(sides, recipe), "is_rehearsal": is_rehearsal}
    runs: list[dict[str, Any]] = []
    for seed in range(num_seeds):
        runs.append(run_once(sides, recipe, preprocessing, seed))
        result |= summarise(runs)
        _write(to, result)
    result["photos_per_second"] = speeds(_open(sides, recipe), preprocessing, recipe.hyperparameters)
    _write(to, result)
    result["search"] = search(_open(sides, recipe), preprocessing, recipe)
    _write(to, result)
    return result


def run_once(sides: Sides, recipe: Recipe, preprocessing: Preprocessing, seed: int) -> dict[str, Any]:
    """One training from pixels on disk, and its exam."""
    started, curve, told = time.perf_counter(), [], recipe.hyperparameters
    data = _open(sides, recipe)
    fitted = fit(
        data, preprocessing, told, seed=seed,
        on_epoch=lambda epoch: curve.append((time.perf_counter() - started, epoch.validation_accuracy)),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    file, fitting = save_calibrated(
        fitted.weights, told, preprocessing, data, answered_accuracy=recipe.answered_accuracy
    )
    images, labels = sides.open(is_test=True)
    scores = predict(load_classifier(file), images).astype(np.float64)
    accuracy, trust = float(((scores >= 0.5) == labels).mean()), calibration(labels, scores)["of_confidence"]
    reached = next((when for when, validation in curve if validation >= GOAL), None)
    say(f"seed {seed}: test accuracy {accuracy:.4f}, {seconds:.1f} s, {GOAL} on validation after {reached} s")
    return {
        "seed": seed,
        "accuracy": accuracy,
        "temperature": fitting.temperature,
        "expected_calibration_error": trust["expected_calibration_error"],
        "perfectly_calibrated": trust["perfectly_calibrated"]["mean"],
        "seconds": seconds,
        "seconds_to_097": reached,
        "weights": sha256(b"".join(fitted.weights[name].numpy().tobytes() for name in sorted(fitted.weights))),
        "environment": dict(fitted.environment),
        "curve": [[round(when, 2), validation] for when, validation in curve],
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs as mean, deviation and values, in the order of the seeds."""
    reached = [run["seconds_to_097"] for run in runs]
    return {
        "n": len(runs),
        "accuracy": _spread([run["accuracy"] for run in runs]),
        "expected_calibration_error": {
            **_spread([run["expected_calibration_error"] for run in runs]),
            "asked": MAX_ERROR["gpu"],
        },
        "seconds_to_097": {
            **_spread([each for each in reached if each is not None]),
            "not_reached": reached.count(None),
        },
        "seconds": _spread([run["seconds"] for run in runs]),
        "runs": runs,
    }


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.mean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def speeds(data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters) -> dict[str, Any]:
    """Photos a second of learning, beside those of synthetic data, of other switches, and of the card's arithmetic."""
    device = find_device("auto")
    found: dict[str, Any] = {}
    with _trained(data, preprocessing, told, device) as training:
        side_px = training.resolution_px(told.epochs // 2)
        found |= {"side_px": side_px, "batch_size": training.batch_size}
        pairs = [(_learning(training, side_px), _synthetic(training, side_px)) for _ in range(4)]
        ratios = [real / synthetic for real, synthetic in pairs[1:]]  # the first compiles this side
        found["training"] = _spread([real for real, _ in pairs[1:]])
        found["synthetic"] = _spread([synthetic for _, synthetic in pairs[1:]])
        found["share_of_synthetic"] = _spread(ratios)
        training.photos = Photos(data, device, is_resident=False)
        found["streamed"] = [_learning(training, side_px) for _ in range(3)][1:]
        found |= _arithmetic_limit(training, side_px, found["training"]["mean"], device)
    for switch in ("is_deterministic", "is_compiled"):
        with _trained(data, preprocessing, dataclasses.replace(told, **{switch: False}), device) as training:
            found[f"without_{switch}"] = [_learning(training, side_px) for _ in range(3)][1:]
    num_photos = training.num_batches * training.batch_size
    found["seconds_an_epoch"] = {
        "deterministic": num_photos / found["training"]["mean"],
        "not_deterministic": num_photos / statistics.mean(found["without_is_deterministic"]),
    }
    return found


@contextmanager
def _trained(
    data: TrainingData, preprocessing: Preprocessing, told: Hyperparameters, device: torch.device
) -> Iterator[Training]:
    with arithmetic(device, is_deterministic=told.is_deterministic):
        yield Training(data, preprocessing, told, 0, device)


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


def _arithmetic_limit(training: Training, side_px: int, speed: float, device: torch.device) -> dict[str, Any]:
    """The share of what the card could compute, as its maker says and as its largest matrix product reaches."""
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
        "share_of_peak": flops * speed / peak if peak else None,
        "share_of_largest_product": flops * speed / product,
    }


def _product_flops(device: torch.device) -> float:
    """Operations a second of a large bfloat16 product, the best of five."""
    size = 8192 if device.type == "cuda" else 256
    factor = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = 0.0
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        for _ in range(10):
            factor @ factor
        _wait(device)
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started))
    return best


def search(data: TrainingData, preprocessing: Preprocessing, recipe: Recipe) -> Any:
    """The recipe's own search, or why there is none."""
    if importlib.util.find_spec("ray") is None:
        return "left out: ray is not installed on this machine"
    if not torch.cuda.is_available():
        return "left out: a rehearsal"
    from petpark_assets.domain.model import search as room
    from petpark_assets.resources.ray_cluster import started

    folder, begun = Path(tempfile.mkdtemp(prefix="petpark-search-")), time.perf_counter()
    try:
        with started():
            found = room.search(data, preprocessing, recipe, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "num_trials": len(found.trials),
        "seconds": time.perf_counter() - begun,
        "default_validation_accuracy": found.default_validation_accuracy,
        "best_validation_accuracy": found.best_validation_accuracy,
    }


def _open(sides: Sides, recipe: Recipe) -> TrainingData:
    """The train side, its validation part chosen by the photos' order, which is that of their sha256."""
    images, labels = sides.open(is_test=False)
    names = [f"{number:09d}" for number in range(len(labels))]
    validation = carve_validation(names, labels, recipe.validation_share)
    return TrainingData(images=images, labels=labels, validation=validation)


def _preprocessing(sides: Sides, recipe: Recipe) -> Preprocessing:
    """Channel statistics of the train side, from every 8th photo."""
    images, _ = sides.open(is_test=False)
    levels = images[::8].reshape(-1, 3) / 255
    means, deviations = levels.mean(axis=0).tolist(), levels.std(axis=0).tolist()
    return Preprocessing(
        resolution_px=recipe.resolution_px, channel_means=tuple(means), channel_deviations=tuple(deviations)
    )


# ---- the result


def describe_run(sides: Sides, recipe: Recipe) -> dict[str, Any]:
    """What one must know to compare any measurement."""
    return {
        "commit": _commit(),
        "code": code_version("model", "recipes", "images"),
        "command": " ".join(["python -m petpark_assets_tests.benchmarks.gpu_training", *sys.argv[1:]]),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **describe_environment(find_device("auto"))},
        "date": datetime.now(UTC).date().isoformat(),
        "pixels": recipe.resolution_px,
        "photos": {"train": len(sides.open(is_test=False)[1]), "test": len(sides.open(is_test=True)[1])},
        "hyperparameters": dataclasses.asdict(recipe.hyperparameters),
    }


def _commit() -> str | None:
    """None where the code is no checkout; `code` names it all the same."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _hardware() -> str:
    if not torch.cuda.is_available():
        return f"{os.cpu_count()} cores, no GPU"
    about = torch.cuda.get_device_properties(0)
    return f"one {about.name}, {about.total_memory / 2**30:.0f} GiB, {os.cpu_count()} cores"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _write(to: Path, result: dict[str, Any]) -> None:
    replace(to.absolute(), (json.dumps(result, indent=2) + "\n").encode())


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
