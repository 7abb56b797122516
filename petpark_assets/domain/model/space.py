"""Which points a search may try: the recipe's defaults, a grid, random draws; and what a trial of a point trains with.

Plain Python: no Ray, and no algorithm that learns from results (search.py).
"""

import dataclasses
import itertools
import math
import random
from typing import Any

from petpark_assets.domain.attempts import starting_weights
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import ARCHITECTURES, KINDS, Choices, Hyperparameters, Range, Recipe, of_kind

PERTURBABLE = ("learning_rate", "weight_decay", "label_smoothing", "crop_scale_min", "ema_decay")
"""What a training may go on with otherwise, and so what population-based training may look for: these are read at
every step, and shape no tensor."""

Values = dict[str, Any]
"""One point of the space: a value for each of its hyperparameters."""


def check_space(recipe: Recipe) -> None:
    """Raises InvalidInput, before anything is trained, for a space of which some point cannot be trained."""
    space = recipe.search.space
    if not space:
        raise InvalidInput("search.space is empty: name a hyperparameter to look for, or set search.algorithm to none")
    fixed = [name for name in space if name not in PERTURBABLE]
    if recipe.search.scheduler == "pbt" and fixed:
        raise InvalidInput(
            f"search.space has {', '.join(fixed)}, with which a training cannot go on otherwise: the scheduler pbt "
            f"looks for {', '.join(PERTURBABLE)}; set search.scheduler to asha or none"
        )
    for name, domain in space.items():
        default = getattr(recipe.hyperparameters, name)
        if isinstance(domain, Range) and type(default) not in {int, float}:
            kind = KINDS[type(default)]
            raise InvalidInput(f"search.space has a range for {name}, which must be {kind}: give it choices")
        if isinstance(domain, Choices) and not domain.values:
            raise InvalidInput(f"search.space has no values for {name}: give it some, or leave it out")
        for value in _grid_values(domain, default):
            _check_value(name, value, default)
            trial_hyperparameters(recipe, {name: value})
    starting_weights(recipe)


def _check_value(name: str, value: Any, default: Any) -> None:
    of_kind(default, value, f"search.space: {name}")
    if name == "architecture" and value not in ARCHITECTURES:
        raise InvalidInput(f"search.space has no architecture {value!r}: choose from {', '.join(ARCHITECTURES)}")


def default_values(recipe: Recipe) -> Values:
    """The recipe's own values of what is looked for; they may lie outside the space."""
    return {name: getattr(recipe.hyperparameters, name) for name in recipe.search.space}


def is_inside(recipe: Recipe, values: Values) -> bool:
    """Whether the space has this point."""
    return all(
        values[name] in domain.values if isinstance(domain, Choices) else domain.low <= values[name] <= domain.high
        for name, domain in recipe.search.space.items()
    )


def listed_points(recipe: Recipe) -> list[Values]:
    """The points of an algorithm that knows them beforehand, `grid` or `random`, in their order."""
    return grid_points(recipe) if recipe.search.algorithm == "grid" else random_points(recipe)


def num_trials(recipe: Recipe) -> int:
    """How many trials a search has, unless its time ends before."""
    return len(grid_points(recipe)) if recipe.search.algorithm == "grid" else recipe.search.num_trials


def grid_points(recipe: Recipe) -> list[Values]:
    """The defaults, then every combination; the defaults come once, also where the grid has them."""
    space, default = recipe.search.space, default_values(recipe)
    axes = [_grid_values(domain, default[name]) for name, domain in space.items()]
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]
    return [default, *(point for point in points if point != default)]


def random_points(recipe: Recipe) -> list[Values]:
    """The defaults, then points drawn evenly by the recipe's seed; `num_trials` in all."""
    dice, default = random.Random(recipe.seed), default_values(recipe)  # noqa: S311 - drawn to be repeated, not secret
    points = (
        {name: draw(domain, default[name], dice) for name, domain in recipe.search.space.items()}
        for _ in range(recipe.search.num_trials - 1)
    )
    return [default, *points]


def trial_hyperparameters(recipe: Recipe, values: Values) -> Hyperparameters:
    """What the trial of a point trains with: `trial_epochs` epochs at the first epoch's side, unless looked for.

    At 64 px instead of 64 to 96 a trial of `laptop` costs a third less, for every trial alike.
    """
    shorter = {
        "epochs": recipe.search.trial_epochs,
        "last_resolution_share": recipe.hyperparameters.first_resolution_share,
        "is_compiled": False,  # compiling takes longer than so short a training saves
    }
    return dataclasses.replace(recipe.hyperparameters, **{**shorter, **values})


def final_hyperparameters(recipe: Recipe, values: Values) -> Hyperparameters:
    """What the final training of a point trains with: the recipe's own schedule, save for what was looked for."""
    return dataclasses.replace(recipe.hyperparameters, **values)


def _grid_values(domain: Choices | Range, default: Any) -> list[Any]:
    """Choices as they are; a range at its low, middle and high."""
    if isinstance(domain, Choices):
        return list(domain.values)
    middle = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
    return list(dict.fromkeys(_like(default, value) for value in (domain.low, middle, domain.high)))


def draw(domain: Choices | Range, default: Any, dice: random.Random) -> Any:
    """A value of one hyperparameter by chance, of the kind of its default."""
    if isinstance(domain, Choices):
        return dice.choice(domain.values)
    if domain.log:
        value = math.exp(dice.uniform(math.log(domain.low), math.log(domain.high)))
    else:
        value = dice.uniform(domain.low, domain.high)
    return _like(default, min(max(value, domain.low), domain.high))  # exp(log(x)) may leave the range by its last bit


def _like(default: Any, value: float) -> float:
    """A whole number where the hyperparameter is one."""
    return round(value) if isinstance(default, int) else float(value)
