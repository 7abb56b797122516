"""What the recipe `gpu` reaches on one GPU from random weights: accuracy of 5 seeds, seconds to 0.97, photos a second.

    python -m petpark_assets_tests.benchmarks.gpu_training --photos ~/photos    (make bench-gpu, on PETPARK_PHOTOS)
    python -m petpark_assets_tests.benchmarks.gpu_training --npy FOLDER         (made before by --photos and --keep)

It needs a GPU and, beside torch, numpy, safetensors and Pillow, nothing: a bare machine will do. Which photos are of
which side is told in photo_sides.py; --manifest takes the sides of a real build. The test side is examined once a
seed, at the end of its training.

The result is written after the first seed, then after each part (photos_per_second, checkpoint, determinism), each
other seed, and each trial of the search: who is cut off loses one of these. --continue goes on where a file ends, with
what it lacks of --seeds and the parts, if it is of the same code, photos and machine; --skip leaves a part out. The
search is as long as two or three trainings. Where the code is no git checkout, --commit says which it is.

Seconds to 0.97 run from opening the pixels on disk, through moving them to the card and compiling, to the end of the
first epoch whose averaged weights answer 0.97 of the validation photos rightly; a checkpoint is written after every
epoch, as in a build. The first seed also fills the compiler's cache. The calibration error is that of the build's
report: of the test side, 15 bins of equal mass, at the temperature that fits the validation part, which is looked for
when the clock has stopped.

Not here: photos a second (training_speed.py), whether bits are the same (training_bits.py), the search (trials.py).
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.files import replace
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.calibration import save_calibrated
from petpark_assets.domain.model.devices import describe_environment, find_device
from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.train import TrainingData, fit
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets.domain.recipes import Recipe, find_recipe, override
from petpark_assets.domain.report.calibration import MAX_ERROR, calibration
from petpark_assets_tests.benchmarks import trials
from petpark_assets_tests.benchmarks.photo_sides import Sides, decode, say
from petpark_assets_tests.benchmarks.training_bits import same_bits, weights_digest
from petpark_assets_tests.benchmarks.training_speed import checkpoint_cost, speeds, spread, switches

RESULT = Path(__file__).parent / "results" / "gpu-training.json"
GOAL, AIM = 0.97, 0.985
AIM_S = 60
"""Seconds to the goal."""
ASKED_SHARE = 0.9
"""Of the speed on synthetic photos that are on the card already."""
REHEARSAL = {
    "resolution_px": 48,
    "hyperparameters": {"width": 4, "epochs": 2, "batch_size": 8, "is_compiled": False},
    "search": {"num_trials": 3, "trial_epochs": 1},
}
"""A few seconds on a processor: shows that every line runs, and nothing else."""
SAME = ("commit", "code", "hardware", "versions", "pixels", "photos", "hyperparameters", "is_rehearsal")
"""What a file must say for another run to go on with it."""


@dataclass(frozen=True)
class Bench:
    """What is measured, and where."""

    sides: Sides
    recipe: Recipe
    folder: Path
    """For checkpoints: on the disk that is timed."""

    @cached_property
    def data(self) -> TrainingData:
        """The train side, opened once; a training that is timed opens it itself."""
        return self.sides.training_data(self.recipe)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Of the train side."""
        return self.sides.preprocessing(self.recipe)


def main() -> None:
    """Measure, and write the result after each step, so that a lease that ends loses one step."""
    told = _read_arguments()
    if not torch.cuda.is_available() and not told.rehearsal:
        sys.exit("this measures a GPU, and torch sees none here: nothing was run and nothing written (see --rehearsal)")
    if told.rehearsal and told.to is None:
        sys.exit("a rehearsal is no result: say --to FILE for what it prints")
    commit = find_commit(told.commit, is_rehearsal=told.rehearsal)
    recipe = override(find_recipe("gpu"), REHEARSAL) if told.rehearsal else find_recipe("gpu")
    to = (told.to or RESULT).absolute()
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as scratch:
        folder = told.npy or decode(told.photos, told.keep or Path(scratch), recipe.resolution_px, told.manifest)
        bench = Bench(Sides(folder), recipe, told.keep or Path(scratch))
        described = {**describe_run(bench, commit), "is_rehearsal": told.rehearsal}
        result = go_on(to, described) if told.continues else described
        measure(bench, result, told.seeds, told.skip, lambda: _write(to, result))


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, help="a folder of labelled photos")
    source.add_argument("--npy", type=Path, help="a folder that --keep made")
    parser.add_argument("--manifest", type=Path, help="a build's manifest, for its sides and groups (with --photos)")
    parser.add_argument("--keep", type=Path, help="keep the decoded photos in this folder")
    parser.add_argument("--seeds", type=_numbers, default=(0, 1, 2, 3, 4), help="0,1,2,3,4 unless told")
    parser.add_argument("--skip", action="append", choices=[*PARTS, "search"], default=[], help="leave this part out")
    parser.add_argument("--continue", dest="continues", action="store_true", help="add to the result what it lacks")
    parser.add_argument("--commit", help="40 hexadecimal digits; git is asked unless told")
    parser.add_argument("--to", type=Path, help=f"the result, instead of {RESULT.name}")
    parser.add_argument(
        "--rehearsal", action="store_true", help="a tiny network on any device; its numbers mean nothing"
    )
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


# ---- measuring


def measure(
    bench: Bench, result: dict[str, Any], seeds: Sequence[int], skip: Sequence[str], write: Callable[[], None]
) -> None:
    """Add to the result whatever it lacks, a step at a time, each of which is written."""
    known = {run["seed"] for run in result.get("runs", [])}
    lacking = [seed for seed in seeds if seed not in known]
    _learn(bench, result, lacking[:1], write)
    for name, part in PARTS.items():
        if name not in skip and name not in result:
            started = time.perf_counter()
            result[name] = part(bench)
            write()
            say(f"{name}: {time.perf_counter() - started:.0f} s")
    _learn(bench, result, lacking[1:], write)
    if "search" not in skip:
        before, folder = result.get("search"), bench.folder / "search"
        for found in trials.search(bench.data, bench.preprocessing, bench.recipe, folder, before):
            result["search"] = found
            write()
            say(f"search: {found['num_trials']} trials, {found['seconds']:.0f} s")


def _learn(bench: Bench, result: dict[str, Any], seeds: Sequence[int], write: Callable[[], None]) -> None:
    for seed in seeds:
        run = run_once(bench, seed)
        result |= summarise(sorted([*result.get("runs", []), run], key=lambda each: each["seed"]))
        write()


def run_once(bench: Bench, seed: int) -> dict[str, Any]:
    """One training from pixels on disk, and its exam."""
    sides, recipe, preprocessing = bench.sides, bench.recipe, bench.preprocessing
    told, curve = recipe.hyperparameters, []
    with tempfile.TemporaryDirectory(dir=bench.folder) as kept:
        started = time.perf_counter()
        data = sides.training_data(recipe)
        fitted = fit(
            data, preprocessing, told, seed=seed, checkpoint=Path(kept) / "checkpoint.safetensors",
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
        "weights": weights_digest(fitted.weights),
        "environment": dict(fitted.environment),
        "curve": [[round(when, 2), validation] for when, validation in curve],
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs as mean, deviation and values, in the order of the seeds."""
    reached = [run["seconds_to_097"] for run in runs]
    return {
        "n": len(runs),
        "accuracy": {**spread([run["accuracy"] for run in runs]), "asked": GOAL, "aim": AIM},
        "expected_calibration_error": {
            **spread([run["expected_calibration_error"] for run in runs]),
            "asked": MAX_ERROR["gpu"],
        },
        "seconds_to_097": {
            **spread([each for each in reached if each is not None]),
            "not_reached": reached.count(None),
            "aim": AIM_S,
        },
        "seconds": spread([run["seconds"] for run in runs]),
        "runs": runs,
    }


def _speeds(bench: Bench) -> dict[str, Any]:
    told = bench.data, bench.preprocessing, bench.recipe.hyperparameters, find_device("auto")
    found = speeds(*told)
    found["share_of_synthetic"]["asked"] = ASKED_SHARE
    return found | switches(*told, found["training"]["mean"])


def _checkpoint(bench: Bench) -> dict[str, Any]:
    told = bench.recipe.hyperparameters
    return checkpoint_cost(bench.data, bench.preprocessing, told, find_device("auto"), bench.folder)


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "photos_per_second": _speeds,
    "checkpoint": _checkpoint,
    "determinism": lambda bench: same_bits(bench.sides, bench.recipe),
}
"""What is measured between the first seed and the others, by its name in the result."""


# ---- the result


def describe_run(bench: Bench, commit: str | None) -> dict[str, Any]:
    """What one must know to compare any measurement."""
    return {
        "commit": commit,
        "code": code_version("model", "recipes", "images", "resizing"),
        "command": " ".join(["python -m petpark_assets_tests.benchmarks.gpu_training", *sys.argv[1:]]),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **describe_environment(find_device("auto"))},
        "date": datetime.now(UTC).date().isoformat(),
        "pixels": bench.recipe.resolution_px,
        "photos": bench.sides.describe(),
        "hyperparameters": dataclasses.asdict(bench.recipe.hyperparameters),
    }


def go_on(to: Path, described: dict[str, Any]) -> dict[str, Any]:
    """The result so far, with this command beside its own. Exits where it is of something else."""
    try:
        found = json.loads(to.read_text())
    except FileNotFoundError:
        sys.exit(f"there is no {to} to go on with")
    different = [name for name in SAME if found.get(name) != described[name]]
    if different:
        sys.exit(f"{to} is of another {', '.join(different)}: what is measured now does not belong into it")
    return {**found, "command": f"{found['command']}; {described['command']}"}


def find_commit(named: str | None, *, is_rehearsal: bool) -> str | None:
    """The code's, as it was named, else as git has it. Exits where nobody knows, unless it is of no importance."""
    commit = named or _ask_git()
    if commit is None and not is_rehearsal:
        sys.exit("this code is no git checkout: say --commit SHA, or nobody could tell what was measured")
    return commit


def _ask_git() -> str | None:
    asked = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _hardware() -> str:
    if not torch.cuda.is_available():
        return f"{os.cpu_count()} cores, no GPU"
    about = torch.cuda.get_device_properties(0)
    return f"one {about.name}, {about.total_memory / 2**30:.0f} GiB, {os.cpu_count()} cores"


def _write(to: Path, result: dict[str, Any]) -> None:
    replace(to, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
