"""Which trials go on: Ray Tune's ASHA and population-based training, as a search of ours uses them.

Not here: what is tried (proposals.py), or the search itself (search.py).
"""

import random
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from petpark_assets.domain.model import space
from petpark_assets.domain.recipes import Choices, Recipe

METRIC = "validation_accuracy"

GRACE_PERCENT = 33
"""No trial is stopped before a third of its schedule; the second and last look is at two thirds."""

REDUCTION_FACTOR = 2
"""At each look, ASHA stops a trial below the median of those that were there before it.

A larger factor saves more, but high learning rates look worse early and win late.
"""

NUM_GENERATIONS = 4
"""How often a population looks at itself before its schedules end, as far as there are epochs for it."""


def scheduler(recipe: Recipe, ended: Iterable[Mapping[str, Any]]) -> Any:
    """What stops trials or lets them take over, by the recipe's name of it.

    Args:
        recipe: its search.
        ended: the trials that ended before this process began; ASHA compares with them too.
    """
    from ray.tune.schedulers import FIFOScheduler

    if recipe.search.scheduler == "asha":
        return _asha(ended)
    if recipe.search.scheduler == "pbt":
        return _population(recipe)
    return FIFOScheduler()  # type: ignore[no-untyped-call]


def schedule_percent(epoch: int, num_epochs: int) -> int:
    """How much of its own schedule a trial has done."""
    return 100 * epoch // num_epochs


def generation_epochs(recipe: Recipe) -> int:
    """Epochs between two looks of a population at itself."""
    return -(-recipe.search.trial_epochs // (NUM_GENERATIONS + 1))


def _asha(ended: Iterable[Mapping[str, Any]]) -> Any:
    """ASHA by the share of each trial's own schedule, but it never stops the defaults."""
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    class Asha(ASHAScheduler):
        def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:  # noqa: ARG002
            return True  # it has them since it was made, or it could not have been told of the trials that ended

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            """By all of its curve: a trial that goes on after a kill reports later epochs alone.

            The first of them would stand for what it came to at the looks before, and the next would be held to that.
            """
            decide, decisions = super().on_trial_result, []
            for point in result["curve"]:  # one that was compared before changes nothing
                percent = schedule_percent(point["epoch"], result["num_epochs"])
                decisions.append(decide(tune_controller, trial, {"schedule_percent": percent, METRIC: point[METRIC]}))
            is_over = TrialScheduler.STOP in decisions and trial.config["number"] != 1
            return TrialScheduler.STOP if is_over else TrialScheduler.CONTINUE

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
            """Its end was compared when it was reported; here, it would stand for a look that it never came to."""

    asha: Any = Asha(
        time_attr="schedule_percent", metric=METRIC, mode="max", max_t=100, grace_period=GRACE_PERCENT,
        reduction_factor=REDUCTION_FACTOR,
    )  # fmt: skip
    for trial in ended:
        shade: Any = SimpleNamespace(trial_id=f"ended {trial['number']}", config=trial)
        asha.on_trial_add(None, shade)
        num_epochs = trial["hyperparameters"]["epochs"]
        asha.on_trial_result(None, shade, {"curve": trial["curve"], "num_epochs": num_epochs})
    return asha


def _population(recipe: Recipe) -> Any:
    """Ray Tune's population-based training within the space; the defaults take part, but take nothing over."""
    from ray.tune.schedulers import PopulationBasedTraining

    class Population(PopulationBasedTraining):
        def _exploit(self, tune_controller: Any, trial: Any, trial_to_clone: Any) -> None:
            if trial.config["number"] != 1:
                super()._exploit(tune_controller, trial, trial_to_clone)

        def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            config, operations = super()._get_new_config(trial, trial_to_clone)
            values = {name: _inside(recipe, name, value) for name, value in config["values"].items()}
            return {"number": trial.config["number"], "values": values}, operations

    return Population(
        time_attr="epoch",
        perturbation_interval=generation_epochs(recipe),
        hyperparam_mutations={"values": {name: _mutation(recipe, name) for name in recipe.search.space}},
        log_config=False,
    )


def _mutation(recipe: Recipe, name: str) -> Any:
    """Neighbours in a list of choices, or values drawn anew from a range."""
    domain = recipe.search.space[name]
    if isinstance(domain, Choices):
        return list(domain.values)
    return lambda: space.draw(domain, getattr(recipe.hyperparameters, name), random.Random())  # noqa: S311 - no secret


def _inside(recipe: Recipe, name: str, value: Any) -> Any:
    """Steps of a fifth up or down may leave a range."""
    domain = recipe.search.space[name]
    return value if isinstance(domain, Choices) else min(max(value, domain.low), domain.high)
