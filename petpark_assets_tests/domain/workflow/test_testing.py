"""Claims about the exam: what is no exam is not held, and the record says who was looked at."""

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import splits
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import has_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import groups, tombstones
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets.domain.records import EvaluationReport
from petpark_assets.domain.report.metrics import THRESHOLD
from petpark_assets.domain.report.predictions import read_predictions
from petpark_assets.domain.workflow import forgetting, ingestion, packaging, testing, training
from petpark_assets_tests import step_by_step

TOLD = {
    "resolution_px": 32,
    "hyperparameters": {"epochs": 1, "width": 4},
    "search": {"algorithm": "none"},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}


@pytest.fixture
def lake(tmp_path):
    """Forty drawn photos, each saved once more: some fall to the test side alone, were they not kept together."""
    draw_lake(tmp_path / "lake", num_images=40, num_broken=0)
    for path in sorted((tmp_path / "lake").glob("*/*.jpg")):
        with Image.open(path) as photo:
            photo.save(path.with_name(f"again-{path.stem}.jpg"), quality=70)
    return tmp_path / "lake"


@pytest.fixture
def home(tmp_path):
    """A home that is not there yet."""
    return open_home(tmp_path / "home", actor="tester")


def train(home, lake):
    """A version of the lake and a trained network, by the domain alone: no check is run."""
    recipe = override(find_recipe("demo"), TOLD)
    attempt = new_attempt(step_by_step.ingest(home, str(lake), recipe.resolution_px), recipe)
    training.feature_scaling(home, attempt)
    training.hyperparameter_search(home, attempt, running_ray=pytest.fail)
    training.trained_cnn(home, attempt)
    return attempt


def overlook_copies(monkeypatch):
    """Grouping finds no pairs: every photo is a group of its own."""
    real = groups.assign_groups
    monkeypatch.setattr(groups, "assign_groups", lambda names, pairs, *known: real(names, pairs[:0], *known))


def part_groups(monkeypatch):
    """Each photo has a side by itself, whatever its group is."""
    real = splits.assign

    def assign(photos, history):
        place = photos.schema.get_field_index("group")
        return real(photos.set_column(place, "group", photos["sha256"]), history)

    monkeypatch.setattr(splits, "assign", assign)


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (overlook_copies, "leaks: .*jpg is a copy of .*jpg.*: take one of each pair out of the lake, and ingest again"),
        (part_groups, "photos on both sides, the first is .*…: take them out of the lake, and ingest again"),
    ],
    ids=["copies", "groups"],
)
def test_sides_that_leak_are_no_exam_also_where_no_check_was_run(home, lake, monkeypatch, mix, words):
    """The job `retrain` has no step that the checks hang on: its model would be crowned for what it had learnt."""
    mix(monkeypatch)
    attempt = train(home, lake)
    with pytest.raises(InvalidInput, match=f"^no model is examined on v0001: [0-9]+ {words}"):
        testing.evaluation_report(home, attempt)
    assert not has_record(home.store, EvaluationReport, "v0001", attempt.id)
    assert {"test_side_opened", "verdict"}.isdisjoint(event.event for event in home.ledger.events())


def test_copies_that_were_kept_together_are_an_exam(home, lake):
    """Else every refusal above could be that of any lake."""
    attempt = train(home, lake)
    assert testing.evaluation_report(home, attempt).is_accepted
    assert ingestion.find_mixed(home, "v0001") == []


def test_photos_that_were_forgotten_after_the_exam_refuse_no_package(home, lake):
    """The package answers those that are left, and so must the report's number: here all wrong answers but one go."""
    attempt = train(home, lake)
    report = testing.evaluation_report(home, attempt)
    answers = read_predictions(testing.read_report_file(home, report, "predictions.parquet"))
    is_wrong = (answers.probabilities >= THRESHOLD) != answers.labels
    assert is_wrong.any()
    assert report.metrics["accuracy"] == pytest.approx(1 - is_wrong.mean())
    for sha256 in np.array(answers.sha256s)[is_wrong][:-1]:
        forgetting.forget(home, sha256, reason="asked for")
    proved = packaging.onnx_package(home, attempt).parity["own_bytes"]
    num_left = len(is_wrong) - int(is_wrong.sum()) + 1
    assert proved["num_images"] == num_left
    assert proved["reported_accuracy"] == proved["accuracy_from_bytes"] == pytest.approx(1 - 1 / num_left)


def test_of_an_exam_whose_photos_are_all_forgotten_nothing_is_packaged(home, lake):
    """There is nothing left that a package could be held against."""
    attempt = train(home, lake)
    report = testing.evaluation_report(home, attempt)
    asked = {"keys": (), "dataset_versions": ("v0001",), "reason": "asked for", "who": "tester", "when": ""}
    for sha256 in read_predictions(testing.read_report_file(home, report, "predictions.parquet")).sha256s:
        tombstones.write(home.store, tombstones.Tombstone(sha256=sha256, **asked))
    with pytest.raises(InvalidInput, match=r"all photos that attempt .* was examined on are forgotten"):
        packaging.onnx_package(home, attempt)
