"""Claims about the name of a search: what its trials follow from, all of it, and nothing else."""

import dataclasses

import pytest

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import RECIPES, Choices, Range, override
from petpark_assets.domain.workflow import training
from petpark_assets.domain.workflow.training import _search_name
from petpark_assets_tests.domain.report import toy

SCALING = toy.context().feature_scaling
DEMO = RECIPES["demo"]
NAME = "v0001-demo-eac6f2f7da20a703"
"""Of the demo, as it was before files of weights were looked at."""


def name(recipe=DEMO, *, version="v0001", code_version="a", scaling=SCALING, forgotten=()):
    """The name of the search of such an attempt."""
    return _search_name(Attempt(dataset_version=version, recipe=recipe, code_version=code_version), scaling, forgotten)


def test_a_search_is_found_again_whatever_comes_after_it():
    """Another gate, or an edit of the report, must not cost the hours of a search that was killed."""
    assert name() == name(override(DEMO, {"targets": {"accuracy": 0.5}})) == name(code_version="b")
    assert name().startswith("v0001-demo-")


def test_whatever_a_trial_follows_from_names_another_search():
    """Trials of other photos, spaces or seeds, mixed in unnoticed, would choose by what was never asked."""
    wider = {"learning_rate": Range(low=0.01, high=0.1, log=True)}
    searches = [
        name(),
        name(version="v0002"),
        name(forgotten=("a" * 64,)),
        name(override(DEMO, {"seed": 1})),
        name(override(DEMO, {"resolution_px": 64})),
        name(override(DEMO, {"validation_share": 0.2})),
        name(override(DEMO, {"hyperparameters": {"width": 16}})),
        name(override(DEMO, {"search": {"trial_epochs": 6}})),
        name(dataclasses.replace(DEMO, search=dataclasses.replace(DEMO.search, space=wider))),
        name(scaling=dataclasses.replace(SCALING, channel_means=(0.1, 0.2, 0.3))),
    ]
    assert len(set(searches)) == len(searches)


def test_another_file_of_weights_names_another_search(tmp_path):
    """Trials that started from the one and from the other cannot be compared; without a file the name is as ever."""
    path = tmp_path / "start.safetensors"
    looked_for = dataclasses.replace(DEMO.search, space={"weights": Choices(values=("", str(path)))})
    told = [override(DEMO, {"hyperparameters": {"weights": str(path)}}), dataclasses.replace(DEMO, search=looked_for)]
    names = []
    for content in (b"first", b"second"):
        path.write_bytes(content)
        names += map(name, told)
    assert len(set(names)) == 4
    path.unlink()
    with pytest.raises(InvalidInput, match=r"start\.safetensors': it cannot be read"):
        name(told[0])


def test_a_search_without_weights_keeps_its_name(monkeypatch):
    """Hours of trials are found by it."""
    monkeypatch.setattr(training, "code_version", lambda *_: "c" * 64)
    assert name() == NAME
