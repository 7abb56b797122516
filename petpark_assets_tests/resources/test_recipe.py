"""Claims about the launchpad: it offers what recipes have, and leaving it alone is the recipe itself."""

import dataclasses

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import digest
from petpark_assets.domain.recipes import RECIPES, Choices, Range, Search, Targets, override
from petpark_assets.resources.recipe import RunRecipe, SearchConfig, TargetsConfig, as_run_config


@pytest.mark.parametrize(("config", "settings"), [(TargetsConfig, Targets), (SearchConfig, Search)])
def test_the_launchpad_has_the_recipes_fields(config, settings):
    """A field added to a recipe must not be forgotten in the UI."""
    fields = {field.name for field in dataclasses.fields(settings)}
    assert set(config.model_fields) == fields
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
    """With the nearest right one."""
    with pytest.raises(InvalidInput, match="did you mean learning_rate"):
        RunRecipe(hyperparameters={"learning_rte": 0.1}).resolve()


def test_a_recipe_can_be_told_as_run_config_whole():
    """What a sensor asks for is what is trained: also a space, and after the way through JSON."""
    space = {"learning_rate": Range(low=0.01, high=0.2, log=True), "batch_size": Choices(values=(16, 32))}
    told = override(RECIPES["laptop"], {"seed": 3, "targets": {"accuracy": 0.5}, "search": {"space": space}})
    assert digest(RunRecipe(**as_run_config(told)).resolve()) == digest(told)


def test_a_wrong_space_is_named():
    """It is typed by hand in the launchpad."""
    with pytest.raises(InvalidInput, match=r"search\.space has .*: give it values, or low and high"):
        RunRecipe(search=SearchConfig(space={"learning_rate": {"lowest": 1}})).resolve()
