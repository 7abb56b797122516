"""The recipe of a run as run config: what a person sets in the launchpad, with a line under each field.

Every field left alone is the recipe's own. Not here: the recipes and what their fields mean (domain/recipes.py);
a test holds the fields of both together.
"""

import json
from typing import Any

import dagster as dg
from pydantic import Field

from petpark_assets.domain.attempts import as_dimension
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.recipes import RECIPES, Recipe, find_recipe, override

RECIPE_DESCRIPTION = "Named recipe. " + " ".join(f"{name}: {recipe.description}" for name, recipe in RECIPES.items())


class TargetsConfig(dg.Config):
    """The gate, where this run's differs from the recipe's. Shares from 0 to 1."""

    accuracy: float | None = Field(default=None, description="Least accuracy on the test side.")
    precision: float | None = Field(default=None, description="Least precision of each class.")
    recall: float | None = Field(default=None, description="Least recall of each class.")


class SearchConfig(dg.Config):
    """The hyper-parameter search, where this run's differs from the recipe's."""

    algorithm: str | None = Field(default=None, description="none, grid, random or tpe (Optuna's).")
    num_trials: int | None = Field(default=None, description="Trials, the recipe's defaults being the first of them.")
    trial_epochs: int | None = Field(default=None, description="Epochs of a trial's whole schedule.")
    photos_share: float | None = Field(default=None, description="Share of the photos that a trial learns from.")
    scheduler: str | None = Field(default=None, description="none, asha (stop what is behind) or pbt (population).")
    max_concurrent_trials: int | None = Field(default=None, description="1 makes the search repeatable.")
    cpus_per_trial: int | None = Field(default=None, description="Processor cores, and threads, of a trial.")
    gpus_per_trial: float | None = Field(default=None, description="Share of a GPU a trial takes, where there is one.")
    workers_per_trial: int | None = Field(default=None, description="Processes that train one trial together.")
    time_budget_s: float | None = Field(default=None, description="No new trial starts after this many seconds.")
    space: dict[str, Any] = Field(
        default={},
        description='What is looked for, in place of the recipe\'s: {"learning_rate": {"low": 0.02, "high": 0.08, '
        '"log": true}, "batch_size": {"values": [64, 128]}}.',
    )


class RunRecipe(dg.ConfigurableResource[Recipe]):
    """A named recipe and the few fields a run may set otherwise."""

    recipe: str = Field(default="laptop", description=RECIPE_DESCRIPTION)
    seed: int | None = Field(default=None, description="Seed of everything drawn by chance.")
    targets: TargetsConfig = TargetsConfig()
    search: SearchConfig = SearchConfig()
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Hyperparameters set by hand, by name; with the search algorithm none they are trained as given.",
    )
    attempt: str | None = Field(
        default=None,
        description="For a run of part of the graph: the attempt to go on with, when the version has several.",
    )

    def resolve(self) -> Recipe:
        """The recipe with this run's fields. Raises InvalidInput naming a field or value that cannot be."""
        changes: dict[str, Any] = {
            "targets": _set_fields(self.targets),
            "search": _set_fields(self.search),
            "hyperparameters": self.hyperparameters,
        }
        if self.seed is not None:
            changes["seed"] = self.seed
        if self.search.space:
            changes["search"]["space"] = {name: as_dimension(value) for name, value in self.search.space.items()}
        return override(find_recipe(self.recipe), changes)


def as_run_config(recipe: Recipe) -> dict[str, Any]:
    """The run config that resolves to a recipe, as far as a run may set its fields; plain JSON."""
    told = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "targets": recipe.targets,
        "search": {name: value for name, value in vars(recipe.search).items() if value is not None},
        "hyperparameters": recipe.hyperparameters,
    }
    config: dict[str, Any] = json.loads(canonical_json(told))
    return config


def _set_fields(config: dg.Config) -> dict[str, Any]:
    return {name: value for name, value in config.model_dump(exclude={"space"}).items() if value is not None}
