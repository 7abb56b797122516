"""Claims about the GPU benchmark where there is no GPU: every line of it runs, and it never claims what was not run."""

import json
import os
import subprocess
import sys
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.model import trial
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets_tests.benchmarks import gpu_training, photo_sides, training_speed, training_speed_cpu, trials
from petpark_assets_tests.domain.model import searching
from petpark_assets_tests.domain.model.squares import PREPROCESSING, draw_data

BARE = """
import sys
for name in (
    "dagster ray optuna lance pyarrow mlflow simplejpeg torchvision sklearn obstore onnx onnxruntime rich typer jinja2"
).split():
    sys.modules[name] = None
import torch
torch.set_num_threads(1)
from petpark_assets_tests.benchmarks import gpu_training
gpu_training.main()
"""
"""The benchmark on a machine that has torch, numpy, safetensors and Pillow alone."""
SHA = 40 * "a"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Eighty drawn photos and the broken ones."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=80)
    return folder


def run(*arguments):
    """The benchmark in a process of its own."""
    command = [sys.executable, "-c", BARE, *map(str, arguments)]
    # As on the one thread that BARE gives itself, for the process that it starts: bits depend on it.
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_a_rehearsal_on_a_bare_machine_gives_the_whole_document(lake, tmp_path):
    """The hour on a rented GPU must not end in a typo, nor begin with the installation of a platform."""
    kept, to = tmp_path / "npy", tmp_path / "result.json"
    done = run("--photos", lake, "--keep", kept, "--seeds", "0,1", "--rehearsal", "--commit", SHA, "--to", to)
    assert done.returncode == 0, done.stderr
    found = json.loads(to.read_text())
    asked = {"commit", "command", "hardware", "versions", "date", "n", "pixels", "accuracy", "seconds_to_097"}
    assert asked | {"photos_per_second"} <= found.keys()
    assert (found["is_rehearsal"], found["commit"]) == (True, SHA)
    assert found["n"] == len(found["accuracy"]["values"]) == 2
    assert found["accuracy"]["asked"] == 0.97
    trust = found["expected_calibration_error"]
    assert (trust["asked"], len(trust["values"])) == (0.015, 2)
    assert all(0 < run["expected_calibration_error"] < 1 and run["temperature"] > 0 for run in found["runs"])
    sides = found["photos"]
    assert [(sides[name]["photos"], sides[name]["groups"]) for name in ("train", "test")] == [(65, 65), (16, 16)]
    check_speeds(found["photos_per_second"], other="resident")  # a processor streams its photos
    assert found["photos_per_second"]["share_of_synthetic"]["asked"] == 0.9
    assert found["photos_per_second"]["seconds_an_epoch"].keys() == {"deterministic", "not_deterministic"}
    assert found["checkpoint"]["bytes"] > 10_000
    assert found["checkpoint"]["seconds"]["mean"] > 0
    assert found["determinism"]["is_same_bits"]
    search = found["search"]
    assert (search["runner"], search["algorithm"], search["num_trials"]) == ("one after the other", "random", 3)
    assert [each["number"] for each in search["trials"]] == [1, 2, 3]
    assert search["is_complete"]
    assert sorted(path.suffix for path in kept.iterdir() if path.is_file()) == 6 * [".npy"]  # no checkpoint is left

    cut_off = {"search": {**search, "trials": search["trials"][:1], "is_complete": False}}
    to.write_text(json.dumps({**found, **gpu_training.summarise(found["runs"][1:]), **cut_off}))
    again = run("--npy", kept, "--seeds", "0", "--rehearsal", "--commit", SHA, "--to", to, "--continue")
    assert again.returncode == 0, again.stderr
    later = json.loads(to.read_text())
    assert [each["weights"] for each in later["runs"]] == [each["weights"] for each in found["runs"]]
    assert later["n"] == 2
    assert later["photos_per_second"] == found["photos_per_second"]  # it was there
    tried = [(each["values"], each["validation_accuracy"]) for each in search["trials"]]
    assert [(each["values"], each["validation_accuracy"]) for each in later["search"]["trials"]] == tried
    assert later["command"].count("--seeds") == 2


def check_speeds(speeds, *, other):
    """What may be claimed of any machine."""
    assert speeds["network"] == "as written"
    assert speeds["share_of_synthetic"]["mean"] > 0
    assert speeds[other]["share_of_training"]["mean"] > 0
    assert speeds["flops_per_photo"] > 1e5
    assert speeds["share_of_largest_product"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_no_result_is_written(lake, tmp_path):
    """A figure of a processor under the name of a GPU would be a lie."""
    done = run("--photos", lake, "--to", tmp_path / "result.json")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "torch sees none here: nothing was run" in done.stderr
    assert "a rehearsal is no result" in run("--photos", lake, "--rehearsal").stderr


def test_a_result_names_its_commit_or_is_none(monkeypatch):
    """The files that a machine is given are no checkout; a figure of unknown code proves nothing."""
    monkeypatch.setenv("PATH", "")  # no git
    assert gpu_training.find_commit(SHA, is_rehearsal=False) == SHA
    assert gpu_training.find_commit(None, is_rehearsal=True) is None
    with pytest.raises(SystemExit, match="say --commit SHA"):
        gpu_training.find_commit("", is_rehearsal=False)


def test_what_was_measured_elsewhere_is_not_gone_on_with(tmp_path):
    """Five seeds of two machines, or of two states of the code, have no common mean."""
    described = dict.fromkeys(gpu_training.SAME, "this") | {"command": "second"}
    with pytest.raises(SystemExit, match="to go on with"):
        gpu_training.go_on(tmp_path / "result.json", described)
    so_far = tmp_path / "result.json"
    so_far.write_text(json.dumps({**described, "command": "first", "n": 1}))
    assert gpu_training.go_on(so_far, described) == {**described, "command": "first; second", "n": 1}
    with pytest.raises(SystemExit, match="is of another commit, hardware"):
        gpu_training.go_on(so_far, described | {"hardware": "that", "commit": "that"})


def test_whoever_is_cut_off_has_the_speeds_beside_the_first_seed(monkeypatch):
    """A lease ends after ten minutes, whatever was still to be measured."""
    steps, written = [], []
    monkeypatch.setattr(gpu_training, "run_once", lambda _, seed: steps.append(seed) or {"seed": seed})
    monkeypatch.setattr(gpu_training, "summarise", lambda runs: {"n": len(runs), "runs": runs})
    names = list(gpu_training.PARTS)
    monkeypatch.setattr(gpu_training, "PARTS", {name: lambda _, name=name: steps.append(name) for name in names})
    result: dict[str, object] = {}
    gpu_training.measure(None, result, (0, 1, 2), ["checkpoint", "search"], lambda: written.append({**result}))
    assert steps == [0, "photos_per_second", "determinism", 1, 2]
    assert [(each["n"], len(each)) for each in written] == [(1, 2), (1, 3), (1, 4), (2, 4), (3, 4)]
    gpu_training.measure(None, result, (2, 3), ["search"], lambda: None)
    assert steps[5:] == [3, "checkpoint"]


def test_a_builds_own_sides_and_groups_are_taken(lake, tmp_path):
    """Near-duplicates on both sides would praise what was learnt by heart."""
    keys = [f"{label}/{number:05d}.jpg" for label, first in (("cat", 0), ("dog", 1)) for number in range(first, 12, 2)]
    rows = [
        {
            "key": key,
            "sha256": f"{n:02d}",
            "label": key[:3],
            "group": f"group {n // 2}",
            "split": "test" if n % 6 < 2 else "train",
        }
        for n, key in enumerate(keys)
    ]
    table = pa.Table.from_pylist([*rows, {**rows[0], "key": "cat/gone.jpg", "split": None}])
    pq.write_table(table, tmp_path / "v0001.parquet")
    sides = photo_sides.Sides(photo_sides.decode(lake, tmp_path / "npy", 48, tmp_path / "v0001.parquet"))
    described = sides.describe()
    assert [(described[name]["photos"], described[name]["groups"]) for name in ("train", "test")] == [(8, 4), (4, 2)]
    validation = sides.training_data(override(find_recipe("gpu"), {"validation_share": 0.25})).validation
    assert validation.sum() == 4
    assert (validation[::2] == validation[1::2]).all()  # whole groups
    pq.write_table(pa.Table.from_pylist([{**rows[0], "key": "cat/gone.jpg"}]), tmp_path / "lost.parquet")
    with pytest.raises(SystemExit, match="the first is cat/gone"):
        photo_sides.decode(lake, tmp_path / "npy", 48, tmp_path / "lost.parquet")


def test_a_trial_that_fails_is_noted_and_the_first_is_not(tmp_path, monkeypatch):
    """One of 16 points that diverges must not end the measuring; without the defaults there is nothing to compare."""
    recipe = override(searching.toy(algorithm="random"), {"search": {"num_trials": 3, "trial_epochs": 1}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sound, failing = trial.train, 2

    def train(task, number, values, on_epoch):
        if number == failing:
            raise InvalidInput("it\ndiverged")
        return sound(task, number, values, on_epoch)

    monkeypatch.setattr(trial, "train", train)
    found = list(trials.search(draw_data(), PREPROCESSING, recipe, tmp_path, None))
    assert [each["num_trials"] for each in found] == [1, 2, 3]
    assert found[-1]["trials"][1]["error"] == "it diverged"
    assert found[-1]["best_validation_accuracy"] >= found[-1]["default_validation_accuracy"]
    assert list(trials.search(None, None, recipe, tmp_path, found[-1])) == found[-1:]
    failing = 1
    with pytest.raises(InvalidInput):
        list(trials.search(draw_data(), PREPROCESSING, recipe, tmp_path, None))


def test_waits_of_the_host_are_counted_by_line(monkeypatch):
    """On a GPU torch warns of each; here we warn ourselves."""
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("of something else", stacklevel=1)

    assert [*training_speed.host_waits(work).values()] == [3]
    assert modes == ["warn", "default"]


def test_the_processors_speed_is_of_the_same_kind(monkeypatch):
    """What can be shown without a GPU: that learning is no slower than the network alone."""
    recipe = override(find_recipe("laptop"), {"resolution_px": 48, "hyperparameters": {"width": 4, "batch_size": 8}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = training_speed_cpu.measure(recipe, num_batches=2, num_rounds=2)
    check_speeds(found["photos_per_second"], other="resident")
    assert found["photos_per_second"]["photos_an_epoch"] == 16
    assert found["n"] == len(found["photos_per_second"]["training"]["values"]) == 2


def test_seeds_that_never_reach_the_goal_are_counted_not_hidden():
    """A mean of the lucky seeds alone would look better than it is."""
    common = {"accuracy": 0.98, "expected_calibration_error": 0.01, "seconds": 9.0}
    runs = [{**common, "seconds_to_097": when} for when in (4.0, None, 6.0)]
    found = gpu_training.summarise(runs)
    reached = {"mean": 5.0, "sd": pytest.approx(2**0.5), "values": [4.0, 6.0], "not_reached": 1, "aim": 60}
    assert found["seconds_to_097"] == reached
    assert found["accuracy"]["sd"] == pytest.approx(0)
