"""Forgetting after a whole build as from the UI: Dagster's and MLflow's files are looked through as well."""

import base64
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from petpark_assets.definitions import build_defs
from petpark_assets.domain import files, images
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.home import open_home, page_path
from petpark_assets.domain.records import EvaluationReport, RegisteredModel, TrainedCnn
from petpark_assets.domain.report import gallery
from petpark_assets.domain.report.predictions import read_predictions
from petpark_assets.domain.workflow import (
    forgetting,
    ingestion,
    packaging,
    registration,
    testing,
    training,
    verification,
)
from petpark_assets.resources.environments import Environment, enter_home
from petpark_assets.resources.ray_cluster import started
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets_tests.domain.workflow import scan
from petpark_assets_tests.originals import read_original

TINY = {
    "recipe": "demo",
    "search": {"algorithm": "none"},
    "hyperparameters": {"epochs": 1, "width": 4},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}

pytestmark = pytest.mark.slow


def run_config(told):
    """The configuration of a run with a recipe."""
    return {"resources": {"recipe": {"config": told}}}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A home that the two jobs built, with everything Dagster and MLflow keep on disk; the photos are noise."""
    folder = tmp_path_factory.mktemp("house")
    for number in range(60):
        path = folder / f"lake/{'cat' if number % 2 else 'dog'}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PETPARK_HOME", "PETPARK_DAGSTER", "DAGSTER_HOME"):
            patch.setenv(name, "set by enter_home, and put back afterwards")
        enter_home(folder / "home")
        _build(folder)
        yield open_home(folder / "home", actor="Kim")


def _build(folder: Path) -> None:
    environment = Environment(name="ci", home=folder / "home", actor="tester", photos=None, ray_address=None)
    definitions = build_defs(environment)
    lake = {"ops": {"look_at_the_lake": {"config": {"lake": str(folder / "lake")}}}}
    with dg.DagsterInstance.get() as instance:
        job = definitions.resolve_job_def("new_dataset_version")
        assert job.execute_in_process(instance=instance, run_config={**lake, **run_config(TINY)}).success
        job = definitions.resolve_job_def("build")
        assert job.execute_in_process(instance=instance, run_config=run_config(TINY), partition_key="v0001").success


def test_nothing_is_left_after_a_whole_build_and_models_are_named(house):
    """Every file of the home is read, event logs and registries too; what learned from others goes on working."""
    recipe = RunRecipe(**TINY).resolve()
    attempt = new_attempt("v0001", recipe)
    record = files.read_record(house.store, EvaluationReport, "v0001", attempt.id)
    photo = _surest_mistake(house, record)
    wanted = _traces(house, photo, recipe.resolution_px)
    before = scan.files_with(wanted, [house.root])
    for part in ("originals.lance/", "pixels.lance/", "cache/pixels/", "report.html"):
        assert any(part in path for path in before), f"the scan does not see {part}, so it proves nothing"

    document = forgetting.forget(house, photo, "its owner asked")
    assert scan.files_with(wanted, [house.root]) == []
    assert document["pages_not_drawn"] == []
    version = files.read_record(house.store, RegisteredModel, "v0001", attempt.id).model_version
    assert document["models"] == [
        {"dataset_version": "v0001", "attempt": attempt.id, "side": "test", "model_version": version}
    ]
    assert photo[:12].encode() in page_path(house, attempt).read_bytes()
    assert packaging.find_damage(house, attempt) is None
    assert registration.find_damage(house, attempt) is None
    assert verification.verify_versions(house)["offending"] == []

    _make_another_version(house)
    _train_again(house, photo, record)
    assert scan.files_with(wanted, [house.root]) == []


def _make_another_version(house):
    """The lake goes on: what an old version is made from must not."""
    lake = house.root.parent / "lake"
    Image.fromarray(np.random.default_rng(60).integers(0, 256, (60, 80, 3), np.uint8)).save(lake / "dog/60.png")
    (lake / "cat/1.png").unlink()
    made = ingestion.new_dataset_version(house, str(lake), RunRecipe(**TINY).resolve().resolution_px)
    assert (made.dataset_version, made.num_decoded) == ("v0002", 1)


def _train_again(house, photo, first):
    """The old version, another seed: the exam is one photo shorter, and its record says which."""
    again = new_attempt("v0001", RunRecipe(**TINY, seed=1).resolve())
    training.feature_scaling(house, again)
    training.hyperparameter_search(house, again, running_ray=started)
    assert training.trained_cnn(house, again).forgotten == ()
    record = testing.evaluation_report(house, again)
    assert record.forgotten == (photo,)
    assert record.metrics["num_images"] == first.metrics["num_images"] - 1
    assert b"since they had been forgotten: 1" in testing.draw_page(house, again).read_bytes()
    packaging.onnx_package(house, again)
    later = forgetting.forget(house, photo, "once more")
    assert {model["attempt"] for model in later["models"]} == {first.attempt}
    learned = files.list_attempts(house.store, TrainedCnn, "v0001")
    assert len(learned) == 2


def _surest_mistake(house, record):
    """A photo that the report's page shows."""
    answers = read_predictions(testing.read_report_file(house, record, "predictions.parquet"))
    return gallery.most_wrong(answers.sha256s, answers.labels, answers.probabilities)[0].sha256


def _traces(house, photo, resolution_px):
    """Of its file, its pixels, and its thumbnail as text in a page; what all files of a kind begin with is left out."""
    data = read_original(house.originals, photo)
    pixels = images.decode(data)
    text = base64.b64encode(gallery.thumbnail(pixels))
    parts = (data[64:-32], images.resize(pixels, resolution_px).tobytes(), text[len(text) // 2 : -32])
    return {block for part in parts for block in scan.blocks(part)}
