"""Claims about slices in a home: which photos are in them, and that a loss on one stops a model at the gate.

Lakes of tests are small: what is the least number of photos of a slice is lowered here.
"""

import dataclasses

import dagster as dg
import numpy as np
import pytest

from petpark_assets.assets.versions import show_versions
from petpark_assets.definitions import build_defs
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.files import read_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets.domain.records import EvaluationReport
from petpark_assets.domain.report import comparison, slices
from petpark_assets.domain.workflow import champion, sides, testing, training
from petpark_assets.resources.environments import Environment
from petpark_assets_tests import step_by_step
from petpark_assets_tests.domain.report.toy import CHAMPION

TOLD = {
    "resolution_px": 32,
    "hyperparameters": {"epochs": 1, "width": 4},
    "search": {"algorithm": "none"},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}
RECIPE = override(find_recipe("demo"), TOLD)


@pytest.fixture(autouse=True)
def _slices_of_few(monkeypatch):
    monkeypatch.setattr(slices, "MIN_IMAGES", 1)


@pytest.fixture
def home(tmp_path):
    """A home with a version of 160 drawn photos, and its sides."""
    home = open_home(tmp_path / "home", actor="tester")
    draw_lake(tmp_path / "lake", num_images=160)
    step_by_step.ingest(home, str(tmp_path / "lake"), RECIPE.resolution_px)
    return home


def measured(home):
    """By measure, what the manifest says of each photo by its sha256."""
    rows = sides.read_manifest(home, "v0001").to_pylist()
    return {
        "brightness": {row["sha256"]: row["brightness"] for row in rows},
        "sharpness": {row["sha256"]: row["sharpness"] for row in rows},
        "size": {row["sha256"]: (row["width_px"] or 0) * (row["height_px"] or 0) for row in rows},
    }


@pytest.mark.parametrize("num_forgotten", [0, 3])
def test_each_photo_is_in_the_slices_of_its_own_measurements(home, num_forgotten):
    """The manifest is in another order than an opened side, and has photos that were forgotten since."""
    side, values = sides.open_side(home, "v0001", "test", RECIPE.resolution_px), measured(home)
    side = dataclasses.replace(side, sha256s=side.sha256s[num_forgotten:], labels=side.labels[num_forgotten:])
    manifest = sides.read_manifest(home, "v0001").to_pylist()
    assert [row["sha256"] for row in manifest if row["split"] == "test"][num_forgotten:] != list(side.sha256s)
    found = testing._slices(home, "v0001", side)
    own = {name: np.array([of[sha256] for sha256 in side.sha256s], float) for name, of in values.items()}
    expected = slices.cut(side.labels, own)
    assert [(part.measure, part.name) for part in found] == [(part.measure, part.name) for part in expected]
    assert {part.measure for part in found} == {"class", "brightness", "sharpness", "size"}
    for part, other in zip(found, expected, strict=True):
        assert list(part.members) == list(other.members)


def test_a_loss_on_a_slice_is_the_gates_verdict(home, tmp_path, monkeypatch):
    """Every target reached, and yet the check refuses it in the words of the exam: all cats are called dogs."""
    attempt = new_attempt("v0001", RECIPE)
    training.feature_scaling(home, attempt)
    training.hyperparameter_search(home, attempt, running_ray=pytest.fail)
    training.trained_cnn(home, attempt)
    monkeypatch.setattr(testing, "open_network", lambda *_: lambda pixels: np.full(len(pixels), 0.9, np.float32))
    monkeypatch.setattr(champion, "compare", with_a_champion_that_is_always_right)

    environment = Environment(name="ci", home=tmp_path / "home", actor="tester", photos=None, ray_address=None)
    with dg.instance_for_test() as instance:
        show_versions(instance, home)
        result = build_defs(environment).resolve_job_def("build").execute_in_process(
            instance=instance, partition_key="v0001", asset_selection=[dg.AssetKey("evaluation_report")],
            raise_on_error=False,
        )  # fmt: skip
    record = read_record(home.store, EvaluationReport, "v0001", attempt.id)
    assert "significantly worse than the champion (version 3) on class cat: accuracy 0.0000" in record.verdict
    assert "is below its target" not in record.verdict
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "model_satisfies"]
    assert (result.success, check.passed, check.description) == (False, False, record.verdict)


def with_a_champion_that_is_always_right(_home, _version, side, probabilities, parts):
    """In place of champion.compare."""
    return comparison.compare(side.labels, probabilities, side.labels.astype(np.float64), parts, CHAMPION)
