"""Whether the same short training comes to the same bits, also in another process that compiles its kernels anew.

The other process finds no kernel that this one compiled or tuned: its caches are empty, as on a machine that another
attempt of the same build is given. What the switch costs is told by training_speed.switches.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from petpark_assets.domain.files import sha256
from petpark_assets.domain.model.train import fit
from petpark_assets.domain.recipes import Recipe, find_recipe, override
from petpark_assets_tests.benchmarks.photo_sides import Sides

NUM_EPOCHS = 2
REPOSITORY = Path(__file__).parents[2]


def main() -> None:
    """The other process: told the folder of photos and the recipe, it prints what it came to."""
    folder, settings = sys.argv[1:]
    print(json.dumps(_train(Sides(Path(folder)), override(find_recipe("gpu"), json.loads(settings)))))  # noqa: T201


def same_bits(sides: Sides, recipe: Recipe) -> dict[str, Any]:
    """Train seed 0 for a few epochs here and elsewhere; whether the weights are the same."""
    brief = dataclasses.replace(recipe.hyperparameters, epochs=NUM_EPOCHS, is_deterministic=True)
    recipe = dataclasses.replace(recipe, hyperparameters=brief)
    runs = [_train(sides, recipe), _elsewhere(sides, recipe)]
    if "failed" in runs[1]:
        return {"is_same_bits": None, "num_epochs": NUM_EPOCHS, "runs": runs}
    return {
        "is_same_bits": runs[0]["weights"] == runs[1]["weights"] and runs[0]["network"] == runs[1]["network"],
        "num_epochs": NUM_EPOCHS,
        "runs": runs,
    }


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 of a network's state, by name."""
    return sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights)))


def _train(sides: Sides, recipe: Recipe) -> dict[str, Any]:
    started = time.perf_counter()
    fitted = fit(sides.training_data(recipe), sides.preprocessing(recipe), recipe.hyperparameters, seed=0)
    return {
        "weights": weights_digest(fitted.weights),
        "network": fitted.environment["network"],
        "seconds": time.perf_counter() - started,
    }


def _elsewhere(sides: Sides, recipe: Recipe) -> dict[str, Any]:
    """The same in a fresh process; what it said last where it failed, which must not end the measuring."""
    settings = {"resolution_px": recipe.resolution_px, "hyperparameters": dataclasses.asdict(recipe.hyperparameters)}
    with tempfile.TemporaryDirectory(prefix="petpark-cache-") as empty:
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{empty}/inductor", "TRITON_CACHE_DIR": f"{empty}/triton"}
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(sides.folder.absolute()), json.dumps(settings)],
            cwd=REPOSITORY, env=os.environ | caches, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        return {"failed": " ".join(done.stderr.splitlines()[-1:]) or f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
