"""Claims about the name of a search: what its trials follow from, all of it, and nothing else."""

import dataclasses

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.recipes import RECIPES, Range, override
from petpark_assets.domain.workflow.training import _search_name
from petpark_assets_tests.domain.report import toy

SCALING = toy.context().feature_scaling
DEMO = RECIPES["demo"]


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
