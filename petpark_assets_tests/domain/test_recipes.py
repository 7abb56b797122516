"""Claims about recipes: what cannot be is refused where it is said, with the received value."""

import dataclasses

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import (
    RECIPES,
    Choices,
    Hyperparameters,
    Range,
    Search,
    Targets,
    find_recipe,
    override,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyperparameters": {"epochs": 0}}, "epochs is 0"),
        ({"targets": {"accuracy": 97}}, "accuracy is 97.0: it must be a share from 0 to 1"),
        ({"search": {"algorithm": "genetic"}}, "algorithm is 'genetic': it must be one of none, grid, random, tpe"),
        ({"search": {"scheduler": "hyperband"}}, "scheduler is 'hyperband': it must be one of none, asha, pbt"),
        ({"search": {"scheduler": "pbt"}}, "algorithm is 'tpe': it must be random or grid"),
        ({"search": {"cpus_per_trial": -2}}, "cpus_per_trial is -2: it must be 0 or more"),
        ({"search": {"gpus_per_trial": 0.75, "workers_per_trial": 2}}, "gpus_per_trial is 0.75: it must be at most 1"),
        ({"search": {"space": {"learning_rat": Choices(values=(1,))}}}, "learning_rat"),
        ({"hyperparameters": {"epochs": 2.5}}, "epochs is 2.5: it must be a whole number, like"),
        ({"hyperparameters": {"learning_rate": "1e-3"}}, "learning_rate is '1e-3': it must be a number, like"),
        ({"seed": -1}, "seed is -1"),
        ({"resolution_px": 4}, "resolution_px is 4"),
        ({"target": {}}, "has no field 'target': did you mean targets"),
        ({"hyperparameters": {"learning_rat": 1}}, "did you mean learning_rate"),
    ],
)
def test_what_cannot_be_is_refused_with_the_value(changes, message):
    """A typo in the launchpad must be one clear line, not a failure an hour later."""
    with pytest.raises(InvalidInput, match=message):
        override(RECIPES["demo"], changes)


def test_an_unknown_recipe_lists_the_known_ones():
    """Nobody should have to read the source for the names."""
    with pytest.raises(InvalidInput, match="choose one of demo, laptop, gpu"):
        find_recipe("desktop")


def test_a_range_must_rise():
    """An empty range would only fail inside the search."""
    with pytest.raises(InvalidInput, match="low is 2"):
        Range(low=2, high=1)
    with pytest.raises(InvalidInput, match="logarithmic"):
        Range(low=0, high=1, log=True)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"low": "0.02", "high": "0.08"}, "low is '0.02': it must be a number"),
        ({"low": 0.02, "high": None}, "high is None: it must be a number"),
        ({"low": False, "high": True}, "low is False: it must be a number"),
        ({"low": 1, "high": float("inf")}, "high is inf: it must be a number"),
        ({"low": 1, "high": 2, "log": "yes"}, "log is 'yes': it must be true or false"),
    ],
)
def test_a_range_is_between_numbers(told, message):
    """Quotes around a number are easily written; what then failed was a sum, and said nothing of the space."""
    with pytest.raises(InvalidInput, match=message):
        Range(**told)


def test_overriding_leaves_the_recipe_alone():
    """Recipes are shared by every run of a process."""
    changed = override(RECIPES["demo"], {"targets": {"accuracy": 0.5}})
    assert (changed.targets.accuracy, changed.targets.recall) == (0.5, RECIPES["demo"].targets.recall)
    assert RECIPES["demo"].targets.accuracy != 0.5


def test_searches_are_as_wide_as_promised():
    """A search has at least 8 trials, 4 in the demo; its space names real hyperparameters and holds the defaults."""
    for recipe in RECIPES.values():
        assert recipe.search.num_trials >= (4 if recipe.name == "demo" else 8)
        assert recipe.search.algorithm != "none"
        for name, dimension in recipe.search.space.items():
            default = getattr(recipe.hyperparameters, name)
            if isinstance(dimension, Range):
                assert dimension.low <= default <= dimension.high
            else:
                assert default in dimension.values


@pytest.mark.parametrize("settings", [Hyperparameters, Search, Targets])
def test_settings_are_frozen_and_named(settings):
    """A run's settings are digested: they must not change behind the digest, nor be given by position."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().whatever = 1
    with pytest.raises(TypeError):
        settings(1)
