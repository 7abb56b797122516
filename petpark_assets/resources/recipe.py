"""The recipe of a run as run config: what a person sets in the launchpad, with a line under each field.

Every field left alone is the recipe's own. Not here: the recipes and what their fields mean (domain/recipes.py);
a test holds the fields of both together.
"""

import dataclasses
import json
from collections.abc import Mapping
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
    num_trials: int | None = Field(
        default=None, description="Trials, the recipe's defaults being the first; of fewer than 8 a gain tells little."
    )
    trial_epochs: int | None = Field(default=None, description="Epochs of a trial's whole schedule.")
    photos_share: float | None = Field(default=None, description="Share of the photos that a trial learns from.")
    scheduler: str | None = Field(default=None, description="none, asha (stop what is behind) or pbt (population).")
    max_concurrent_trials: int | None = Field(default=None, description="1 makes the search repeatable.")
    cpus_per_trial: int | None = Field(default=None, description="Processor cores, and threads, of a trial.")
    gpus_per_trial: float | None = Field(
        default=None, description="Share of a GPU a trial takes: 0.25 runs four on one, with 4 concurrent trials."
    )
    workers_per_trial: int | None = Field(default=None, description="Processes that train one trial together.")
    time_budget_s: float | None = Field(default=None, description="No new trial starts after this many seconds.")
    space: dict[str, Any] = Field(
        default={},
        description='What is looked for, in place of the recipe\'s: {"learning_rate": {"low": 0.02, "high": 0.08, '
        '"log": true}, "batch_size": {"values": [64, 128]}}.',
    )


class HyperparametersConfig(dg.Config):
    """What trainings are told, where this run's differs from the recipe's."""

    architecture: str | None = Field(default=None, description="petnet, or one of torchvision's by name (resnet18).")
    width: int | None = Field(default=None, description="Channels of petnet's first stage.")
    epochs: int | None = Field(default=None, description="Passes over the training photos.")
    batch_size: int | None = Field(default=None, description="Photos a step.")
    learning_rate: float | None = Field(default=None, description="The peak of the schedule.")
    weight_decay: float | None = Field(default=None, description="Times the rate: what matrices lose a step.")
    label_smoothing: float | None = Field(default=None, description="Share of a label given to the other class.")
    ema_decay: float | None = Field(default=None, description="Of the moving average of the weights, a step.")
    crop_scale_min: float | None = Field(default=None, description="Smallest share of a photo that a crop keeps.")
    first_resolution_share: float | None = Field(
        default=None, description="Side of the first epoch's crops, as a share of the photos' resolution."
    )
    last_resolution_share: float | None = Field(default=None, description="The same of the last epoch.")
    colour_jitter: float | None = Field(
        default=None, description="Brightness, contrast and saturation of a crop change by up to this share."
    )
    hidden_share_max: float | None = Field(
        default=None, description="Largest share of a crop that a grey rectangle hides, in half of the crops."
    )
    weights: str | None = Field(
        default=None, description="To start from: a .safetensors or .pth file, or DEFAULT for torchvision's own."
    )
    is_deterministic: bool | None = Field(
        default=None, description="Same training, same bits, on the same GPU; on CPUs so anyway."
    )
    is_compiled: bool | None = Field(default=None, description="Whether torch compiles the network on a GPU.")


class RunRecipe(dg.ConfigurableResource[Recipe]):
    """A named recipe and the few fields a run may set otherwise."""

    recipe: str = Field(default="laptop", description=RECIPE_DESCRIPTION)
    seed: int | None = Field(default=None, description="Seed of everything drawn by chance.")
    targets: TargetsConfig = TargetsConfig()
    search: SearchConfig = SearchConfig()
    hyperparameters: HyperparametersConfig = Field(
        default=HyperparametersConfig(),
        description="Hyperparameters set by hand; with the search algorithm none they are trained as given.",
    )
    attempt: str | None = Field(
        default=None,
        description="For a run of part of the graph: the attempt to go on with, when the version has several. What "
        "else is set must then be what that attempt was told.",
    )

    def resolve(self) -> Recipe:
        """The recipe with this run's fields. Raises InvalidInput naming a field or value that cannot be."""
        return override(find_recipe(self.recipe), self._changes())

    def differences(self, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
        """The fields that this run sets otherwise than a recipe has them, by name: here, and there."""
        here, there = _leaves(override(recipe, self._changes())), _leaves(recipe)
        return {name: (value, there[name]) for name, value in here.items() if value != there[name]}

    def _changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {
            "targets": _set_fields(self.targets),
            "search": _set_fields(self.search),
            "hyperparameters": _set_fields(self.hyperparameters),
        }
        if self.seed is not None:
            changes["seed"] = self.seed
        if self.search.space:
            changes["search"]["space"] = {name: as_dimension(value) for name, value in self.search.space.items()}
        return changes


def is_named(run_config: Mapping[str, Any]) -> bool:
    """Whether a run's config names the recipe; a run whose config does not has the environment's."""
    found: Any = run_config
    for name in ("resources", "recipe", "config"):
        found = found.get(name) or {}  # an empty line of YAML is None
    return "recipe" in found


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


def _leaves(settings: Any, before: str = "") -> dict[str, Any]:
    """The fields of a dataclass, and of those in it, by dotted name."""
    found: dict[str, Any] = {}
    for name, value in vars(settings).items():
        found |= _leaves(value, f"{before}{name}.") if dataclasses.is_dataclass(value) else {before + name: value}
    return found
