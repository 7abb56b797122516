"""Claims about trainings in a home: interrupted or replayed, they come to the same weights, or it is said why not."""

import dataclasses
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from petpark_assets.domain.attempts import find_attempt, new_attempt
from petpark_assets.domain.files import digest, sha256, sha256_file
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.model import train
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.recipes import Hyperparameters, find_recipe, override
from petpark_assets.domain.workflow import ingestion, testing, training
from petpark_assets.domain.workflow.replay import allowed_difference, judge, replay
from petpark_assets.domain.workflow.sides import count_models_evaluated

TOLD = {"hyperparameters": {"epochs": 4, "width": 4}, "search": {"algorithm": "none"}}


class StoppedError(Exception):
    """What ends a training from outside."""


def prepare(root, lake, **hyperparameters):
    """A home with a version that is ready to be trained on, and its attempt."""
    told = TOLD | {"hyperparameters": TOLD["hyperparameters"] | hyperparameters}
    home, recipe = open_home(root, actor="tester"), override(find_recipe("demo"), told)
    version = ingestion.new_dataset_version(home, str(lake), recipe.resolution_px).dataset_version
    ingestion.raw_images(home, version, recipe.resolution_px)
    ingestion.split(home, version)
    attempt = new_attempt(version, recipe)
    training.feature_scaling(home, attempt)
    training.hyperparameter_search(home, attempt, running_ray=pytest.fail)
    return home, attempt


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Sixty drawn photos."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=60)
    return folder


@pytest.fixture(scope="module")
def trained(lake, tmp_path_factory):
    """A home whose model stands in a registry that knows nothing else."""
    home, attempt = prepare(tmp_path_factory.mktemp("homes") / "home", lake)
    record = training.trained_cnn(home, attempt)
    testing.evaluation_report(home, attempt)
    return registered(home, attempt), attempt, record


def registered(home, attempt):
    """The home with a registry that knows this attempt's model and nothing else."""
    tags = {"dataset_version": "v0001", "attempt": attempt.id}
    registry = SimpleNamespace(show=lambda _: SimpleNamespace(version=7, tags=tags))
    return dataclasses.replace(home, registry=registry)


def openings(home):
    """For what the test side was opened so far."""
    return [event.subject["purpose"] for event in home.ledger.events() if event.event == "test_side_opened"]


def test_a_final_training_that_was_stopped_goes_on_after_its_last_epoch(lake, trained, tmp_path):
    """An hour of a GPU must not be lost to a kill; and what it leaves is what an undisturbed training leaves."""
    home, attempt = prepare(tmp_path / "home", lake)
    told = []

    def stop_after_two(epoch):
        told.append(epoch.number)
        if epoch.number == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.trained_cnn(home, attempt, on_epoch=stop_after_two)
    record = training.trained_cnn(home, attempt, on_epoch=lambda epoch: told.append(epoch.number))
    assert told == [1, 2, 3, 4]
    assert digest(record) == digest(trained[2])
    assert not (home.cache / "training" / attempt.id).exists()


def test_the_record_says_what_the_bits_depend_on(trained):
    """Pinned versions, processor and threads: whoever wants the same bits knows what to have."""
    _, _, record = trained
    assert record.environment["torch"] == torch.__version__
    assert record.environment["device"] == record.device
    assert record.environment["network"] == "as written"


def test_a_replay_gives_the_same_bits_without_opening_the_test_side(trained):
    """An auditor's question with an answer that costs the exam nothing."""
    home, _, record = trained
    before, told = openings(home), []
    found = replay(home, "champion", on_epoch=lambda epoch: told.append(epoch.number))
    assert (found["is_reproduced"], found["is_same_bits"], found["metrics"]) == (True, True, None)
    assert found["weights"] == found["replayed_weights"] == record.weights
    assert told == [1, 2, 3, 4]
    assert openings(home) == before
    assert not (home.cache / "replay").exists() or not any((home.cache / "replay").iterdir())


def test_a_replay_elsewhere_is_compared_by_its_metrics(trained, monkeypatch):
    """Another processor rounds otherwise; played here by another seed, and by other versions noted.

    What is examined then is another model: the ledger says which, and it counts.
    """
    home, _, record = trained
    real = train.fit

    def fit_elsewhere(*told, seed, **named):
        return dataclasses.replace(real(*told, seed=seed + 1, **named), environment={"device": "cuda NVIDIA H200"})

    monkeypatch.setattr(train, "fit", fit_elsewhere)
    before = openings(home)
    found = replay(home, "7")
    assert not found["is_same_bits"]
    assert not found["is_same_device_class"]
    assert found["replayed_weights"] != sha256(training.read_weights(home, record))
    rows = {row["name"]: row for row in found["metrics"]}
    assert rows["validation_accuracy"]["registered"] == record.validation_accuracy
    assert {"validation_loss", "train_loss", "test_accuracy"} <= rows.keys()
    assert openings(home) == [*before, "replay"]
    (noted,) = [event.subject for event in home.ledger.events() if event.subject.get("purpose") == "replay"]
    assert (noted["trained_cnn"], noted["replayed_weights"]) == (digest(record), found["replayed_weights"])
    assert count_models_evaluated(home) == 2
    replay(home, "7")
    assert count_models_evaluated(home) == 2, "the same weights count once"


def test_a_replay_from_another_start_names_it_and_confirms_nothing(lake, tmp_path, monkeypatch):
    """Whoever replaced the file would look for a fault in the code; and elsewhere near metrics would pass for it."""
    start = tmp_path / "start.safetensors"
    write_start(start, seed=0)
    home, attempt = prepare(tmp_path / "home", lake, weights=str(start))
    record, home = training.trained_cnn(home, attempt), registered(home, attempt)
    assert replay(home, "7")["is_reproduced"]

    write_start(start, seed=1)
    real = train.fit
    monkeypatch.setattr(train, "fit", lambda *told, **named: dataclasses.replace(real(*told, **named), environment={}))
    found = replay(home, "7")
    assert not found["is_same_device_class"]
    assert (found["is_same_start"], found["is_reproduced"]) == (False, False)
    assert (found["start"], found["replayed_start"]) == (record.pretrained, sha256_file(start))
    assert f"put the file of sha256 {record.pretrained} back" in found["verdict"]


def write_start(path, seed):
    """Random weights to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        safetensors.torch.save_file(build_network(Hyperparameters(width=4)).state_dict(), path)


def found_by_replay(*, difference=0.0, **others):
    """What judge is asked about: other bits, whose accuracy differs so."""
    rows = [
        {"name": "validation_accuracy", "difference": difference, "allowed": 0.02},
        {"name": "train_loss", "difference": 9.0, "allowed": None},
    ]
    names = ("is_same_device_class", "is_same_code", "is_same_data", "is_same_start", "is_deterministic")
    same = dict.fromkeys(names, True) | {"start": "a" * 64}
    return {"is_same_bits": False, **same, "metrics": rows, **others}


@pytest.mark.parametrize(
    ("found", "is_reproduced", "words"),
    [
        (found_by_replay(is_same_bits=True, metrics=None), True, "bit for bit"),
        (found_by_replay(), False, "although data, start, code and device class are the same"),
        (found_by_replay(is_same_device_class=False, difference=-0.01), True, "by -0.0100 (allowed 0.0200)"),
        (found_by_replay(is_same_device_class=False, difference=0.03), False, "the device class is another"),
        (found_by_replay(is_deterministic=False, difference=0.01), True, "determinism switched off"),
        (found_by_replay(is_deterministic=False, difference=0.03), False, "determinism switched off"),
        (found_by_replay(is_same_code=False), False, "the code is another"),
        (found_by_replay(is_same_data=False), False, "photos were forgotten since"),
        (found_by_replay(is_same_start=False, is_same_device_class=False), False, "of sha256 aaaa"),
    ],
    ids=[
        "same bits",
        "same class",
        "near elsewhere",
        "far elsewhere",
        "near unfixed",
        "far unfixed",
        "other code",
        "other data",
        "other start",
    ],
)
def test_the_verdict_of_a_replay(found, is_reproduced, words):
    """Exit code 0 promises an auditor something: the same bits, or another device and near metrics."""
    verdict = judge(found)
    assert verdict[0] is is_reproduced
    assert words in verdict[1]


def test_what_is_allowed_shrinks_with_the_photos_and_is_never_nothing():
    """One photo of thirty-two is three points: no processor is to blame for it."""
    assert allowed_difference(0.97, 4000) == pytest.approx(0.015, abs=0.001)
    assert allowed_difference(1.0, 32) > 1 / 32


def test_an_attempt_keeps_the_name_it_was_begun_under(trained):
    """A recipe that gets a field tomorrow must not hide the models of today."""
    home, attempt, _ = trained
    found = find_attempt(home.store, "v0001", attempt.id)
    assert found == attempt
    assert dataclasses.replace(found, recipe=override(found.recipe, {"seed": 5})).id == attempt.id
