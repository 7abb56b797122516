"""Claims about the launchpad: it offers what recipes have, and leaving it alone is the recipe itself."""

import dataclasses
import typing

import dagster as dg
import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import digest
from petpark_assets.domain.recipes import RECIPES, Choices, Hyperparameters, Range, Search, Targets, override
from petpark_assets.resources.recipe import (
    HyperparametersConfig,
    RunRecipe,
    SearchConfig,
    TargetsConfig,
    as_run_config,
)


@pytest.mark.parametrize(
    ("config", "settings"),
    [(TargetsConfig, Targets), (SearchConfig, Search), (HyperparametersConfig, Hyperparameters)],
)
def test_the_launchpad_has_the_recipes_fields(config, settings):
    """A field added to a recipe must not be forgotten in the UI, nor have another type or no words there."""
    kinds = {name: kind | None for name, kind in typing.get_type_hints(settings).items() if name != "space"}
    assert {name: field.annotation for name, field in config.model_fields.items() if name != "space"} == kinds
    assert set(config.model_fields) == {field.name for field in dataclasses.fields(settings)}
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize("name", RECIPES)
def test_an_untouched_launchpad_is_the_recipe(name: str):
    """So a run from the UI is the same attempt as one from the terminal."""
    assert digest(RunRecipe(recipe=name).resolve()) == digest(RECIPES[name])


def test_what_is_set_is_set_and_nothing_else():
    """One changed target must not reset the others."""
    recipe = RunRecipe(recipe="demo", targets=TargetsConfig(accuracy=0.5), seed=7).resolve()
    assert (recipe.targets.accuracy, recipe.targets.recall) == (0.5, RECIPES["demo"].targets.recall)
    assert recipe.seed == 7


def test_a_wrong_field_is_named():
    """And so is a value of another kind, before anything runs."""
    with pytest.raises(dg.DagsterInvalidConfigError, match=r'unexpected config entry "learning_rte" .*learning_rate'):
        _validated({"hyperparameters": {"learning_rte": 0.1}})
    with pytest.raises(dg.DagsterInvalidConfigError, match=r'hyperparameters:epochs\. Value "2\.5"'):
        _validated({"hyperparameters": {"epochs": 2.5}})


def _validated(config: dict) -> dict:
    """A run config as Dagster takes it."""

    @dg.op
    def step(recipe: RunRecipe) -> None:
        del recipe

    @dg.job(resource_defs={"recipe": RunRecipe()})
    def one_step() -> None:
        step()

    dg.validate_run_config(one_step, {"resources": {"recipe": {"config": config}}})
    return config


def test_a_recipe_can_be_told_as_run_config_whole():
    """What a sensor asks for is what is trained: also a space, and after the way through JSON and Dagster."""
    space = {"learning_rate": Range(low=0.01, high=0.2, log=True), "batch_size": Choices(values=(16, 32))}
    told = override(RECIPES["laptop"], {"seed": 3, "targets": {"accuracy": 0.5}, "search": {"space": space}})
    assert digest(RunRecipe(**_validated(as_run_config(told))).resolve()) == digest(told)


def test_a_wrong_space_is_named():
    """It is typed by hand in the launchpad."""
    with pytest.raises(InvalidInput, match=r"search\.space has .*: give it values, or low and high"):
        RunRecipe(search=SearchConfig(space={"learning_rate": {"lowest": 1}})).resolve()
