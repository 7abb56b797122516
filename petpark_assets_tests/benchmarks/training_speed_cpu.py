"""How fast the recipe `laptop` learns on this machine's processor, beside synthetic photos and its arithmetic limit.

    python -m petpark_assets_tests.benchmarks.training_speed_cpu

The photos are noise, on disk as a build has them: what a photo shows changes no speed. What is measured is told in
training_speed.py; on a processor a build streams its photos. The arithmetic limit is that of a float32 product of
1024 x 1024, on the threads that train. Two idle cores take two minutes.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petpark_assets.domain.files import replace
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.devices import describe_environment, find_device
from petpark_assets.domain.model.train import TrainingData
from petpark_assets.domain.recipes import Recipe, find_recipe
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.training_speed import speeds

RESULT = Path(__file__).parent / "results" / "training-speed-cpu.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.training_speed_cpu"
NUM_BATCHES = 5
"""Of an epoch."""
NUM_ROUNDS = 5
PREPROCESSING = {"channel_means": (0.5, 0.5, 0.5), "channel_deviations": (0.3, 0.3, 0.3)}


def main() -> None:
    """Measure on noise that is thrown away, and write the result."""
    result = {**describe_run(COMMAND), **measure(find_recipe("laptop"), NUM_BATCHES, NUM_ROUNDS)}
    replace(RESULT, (json.dumps(result, indent=2) + "\n").encode())
    print(RESULT.read_text())  # noqa: T201 - its answer


def measure(recipe: Recipe, num_batches: int, num_rounds: int) -> dict[str, Any]:
    """The recipe's speed on the processor."""
    device = find_device("cpu")
    preprocessing = Preprocessing(resolution_px=recipe.resolution_px, **PREPROCESSING)
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as folder:
        data = draw_noise(Path(folder), recipe, num_batches * recipe.hyperparameters.batch_size)
        found = speeds(data, preprocessing, recipe.hyperparameters, device, num_rounds)
    return {
        "n": num_rounds,
        "recipe": recipe.name,
        "threads": torch.get_num_threads(),
        "device": describe_environment(device)["device"],
        "photos_per_second": {name: value for name, value in found.items() if name not in {"n", "share_of_peak"}},
    }


def draw_noise(folder: Path, recipe: Recipe, num_learnt: int) -> TrainingData:
    """So many photos to learn from and one to validate on, memory-mapped."""
    dice, count = np.random.default_rng(0), num_learnt + 1
    side_px = recipe.resolution_px
    np.save(folder / "train.npy", dice.integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8))
    return TrainingData(
        images=np.load(folder / "train.npy", mmap_mode="r"),
        labels=np.arange(count, dtype=np.uint8) % 2,
        validation=np.arange(count) == 0,
    )


if __name__ == "__main__":
    main()
