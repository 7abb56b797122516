"""What a search tries next: a pure function of the recipe, the number of the trial and what the others came to.

So a search that was killed goes on as if it had not been: nothing but the trials' own files needs to be kept.
Not here: which points a space has (space.py), who runs them (search.py).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.model import space
from petpark_assets.domain.recipes import Choices, Range, Recipe

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A point that was proposed before."""

    values: space.Values
    is_running: bool
    accuracy: float | None
    """On the validation part, 0 to 1; None while it runs, or when it failed."""


def propose(recipe: Recipe, number: int, tried: Sequence[Tried]) -> space.Values | None:
    """The point of a trial, numbered from 1; None when there is none left.

    Args:
        recipe: its search, hyperparameters and seed.
        number: of the trial; the first is the recipe's defaults.
        tried: all trials of smaller numbers, in their order; only TPE looks at them.
    """
    if recipe.search.algorithm == "tpe":
        return _tpe_point(recipe, number, tried) if number <= recipe.search.num_trials else None
    points = space.listed_points(recipe)
    return points[number - 1] if number <= len(points) else None


def _tpe_point(recipe: Recipe, number: int, tried: Sequence[Tried]) -> space.Values:
    """Optuna's tree-structured Parzen estimator, which draws where earlier trials were good."""
    if number == 1:
        return space.default_values(recipe)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    num_random = max(2, recipe.search.num_trials // 3)  # Optuna's own 10 would leave a short search random
    seed = random.Random(f"{recipe.seed}, trial {number}").getrandbits(32)  # noqa: S311 - to be repeated, not secret
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=num_random, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {name: _distribution(domain, recipe, name) for name, domain in recipe.search.space.items()}
    _teach(study, recipe, tried, distributions)
    return dict(study.ask(distributions).params)


def _teach(study: "Study", recipe: Recipe, tried: Sequence[Tried], distributions: dict[str, Any]) -> None:
    """Tell what is known; Optuna takes a running trial for a poor one, and looks elsewhere meanwhile."""
    from optuna.trial import TrialState, create_trial

    for each in tried:
        if (each.accuracy is None and not each.is_running) or not space.is_inside(recipe, each.values):
            continue  # failed, or the defaults, which may lie outside the space
        state = TrialState.RUNNING if each.is_running else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=each.accuracy, params=each.values, distributions=distributions))


def _distribution(domain: Choices | Range, recipe: Recipe, name: str) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.values)
    if isinstance(getattr(recipe.hyperparameters, name), int):
        return IntDistribution(round(domain.low), round(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
