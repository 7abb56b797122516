"""Claims about the GPU benchmark where there is no GPU: every line of it runs, and it never claims what was not run."""

import json
import subprocess
import sys

import pytest
import torch

from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets_tests.benchmarks import gpu_training

BARE = """
import sys
for name in (
    "dagster ray lance pyarrow mlflow simplejpeg torchvision sklearn obstore onnx onnxruntime rich typer jinja2"
).split():
    sys.modules[name] = None
import torch
torch.set_num_threads(1)
from petpark_assets_tests.benchmarks import gpu_training
gpu_training.main()
"""
"""The benchmark on a machine that has torch, numpy, safetensors and Pillow alone."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Eighty drawn photos and the broken ones."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=80)
    return folder


def run(*arguments):
    """The benchmark in a process of its own."""
    command = [sys.executable, "-c", BARE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_rehearsal_on_a_bare_machine_gives_the_whole_document(lake, tmp_path):
    """The hour on a rented GPU must not end in a typo, nor begin with the installation of a platform."""
    kept, first, second = tmp_path / "npy", tmp_path / "first.json", tmp_path / "second.json"
    done = run("--photos", lake, "--keep", kept, "--seeds", 2, "--rehearsal", "--to", first)
    assert done.returncode == 0, done.stderr
    found = json.loads(first.read_text())
    asked = {"commit", "command", "hardware", "versions", "date", "n", "pixels", "accuracy", "seconds_to_097"}
    assert asked | {"photos_per_second"} <= found.keys()
    assert found["is_rehearsal"]
    assert found["n"] == len(found["accuracy"]["values"]) == 2
    trust = found["expected_calibration_error"]
    assert (trust["asked"], len(trust["values"])) == (0.015, 2)
    assert all(0 < run["expected_calibration_error"] < 1 and run["temperature"] > 0 for run in found["runs"])
    assert found["photos"] == {"train": 65, "test": 16}  # Pillow alone also reads a broken one
    speeds = found["photos_per_second"]
    assert speeds["share_of_synthetic"]["mean"] > 0
    assert speeds["flops_per_photo"] > 1e5
    assert speeds["seconds_an_epoch"].keys() == {"deterministic", "not_deterministic"}
    assert all(seconds > 0 for seconds in speeds["seconds_an_epoch"].values())
    assert found["search"] == "left out: ray is not installed on this machine"
    again = run("--npy", kept, "--seeds", 1, "--rehearsal", "--to", second)
    assert again.returncode == 0, again.stderr
    assert json.loads(second.read_text())["runs"][0]["weights"] == found["runs"][0]["weights"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_no_result_is_written(lake, tmp_path):
    """A figure of a processor under the name of a GPU would be a lie."""
    done = run("--photos", lake, "--to", tmp_path / "result.json")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "torch sees none here: nothing was run" in done.stderr
    assert "a rehearsal is no result" in run("--photos", lake, "--rehearsal").stderr


def test_seeds_that_never_reach_the_goal_are_counted_not_hidden():
    """A mean of the lucky seeds alone would look better than it is."""
    common = {"accuracy": 0.98, "expected_calibration_error": 0.01, "seconds": 9.0}
    runs = [{**common, "seconds_to_097": when} for when in (4.0, None, 6.0)]
    found = gpu_training.summarise(runs)
    assert found["seconds_to_097"] == {"mean": 5.0, "sd": pytest.approx(2**0.5), "values": [4.0, 6.0], "not_reached": 1}
    assert found["accuracy"]["sd"] == pytest.approx(0)
