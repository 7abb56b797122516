"""Claims about a search in MLflow: every trial a run with its parameters and curve, below one run of the search."""

import dataclasses

import pytest

from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.files import digest
from petpark_assets.domain.registry.mlflow_store import SEARCH_TAG
from petpark_assets_tests.domain.report import toy

CONTEXT = toy.context()
CURVE = [
    {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 2 / epoch, "validation_accuracy": 1 - 0.5 / epoch}
    for epoch in range(1, 401)
]
"""Longer than one call of MLflow takes."""


@pytest.fixture
def search(request):
    """A search of eight trials, one of which failed; another one for each test."""
    found = CONTEXT.hyperparameter_search
    trials = tuple({**trial, "curve": [] if "error" in trial else CURVE} for trial in found.trials)
    return dataclasses.replace(found, recipe=request.node.name, trials=trials)


def runs(registry, search):
    """The search's run, and those of its trials by number."""
    client = registry._store._client
    found = client.search_runs([registry._store._experiment(f"{registry.model_name} searches")])
    ours = [run for run in found if run.data.tags[SEARCH_TAG] == digest(search)]
    parents = [run for run in ours if "mlflow.parentRunId" not in run.data.tags]
    return client, parents, {int(run.data.tags["trial"]): run for run in ours if run not in parents}


def test_a_trial_is_a_run_with_its_parameters_curve_and_parent(registry, search):
    """People compare trials where they are used to: in MLflow's own pages."""
    registry.log_search(search)

    client, (parent,), trials = runs(registry, search)
    assert sorted(trials) == list(range(1, 9))
    assert parent.data.tags["train_split"] == search.train_split
    assert parent.data.tags["attempt"] == search.attempt
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}
    assert trials[3].data.params == {"learning_rate": "0.01369", "label_smoothing": "0.1"}
    history = client.get_metric_history(trials[3].info.run_id, "validation_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [
        (p["epoch"], p["validation_accuracy"]) for p in CURVE
    ]
    assert {number: run.info.status for number, run in trials.items() if run.info.status != "FINISHED"} == {5: "FAILED"}
    assert trials[5].data.tags["error"] == "out of memory"


def test_logged_again_also_after_a_crash_half_way_no_run_is_double(registry, search, monkeypatch):
    """A search is logged before its record is written, so a kill between the two logs it again."""
    store = registry._store
    begin = store._client.log_batch

    def crash(run_id, **what):
        if 4 in runs(registry, search)[2]:
            raise TransientError("killed")
        begin(run_id, **what)

    with monkeypatch.context() as patched:
        patched.setattr(store._client, "log_batch", crash)
        with pytest.raises(TransientError, match="killed"):
            registry.log_search(search)
    registry.log_search(search)
    registry.log_search(search)

    _, parents, trials = runs(registry, search)
    assert len(parents) == 1
    found = store._client.search_runs([store._experiment(f"{registry.model_name} searches")])
    assert len([run for run in found if run.data.tags[SEARCH_TAG] == digest(search)]) == 1 + len(search.trials)
    assert trials[4].data.params
