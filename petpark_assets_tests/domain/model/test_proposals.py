"""Claims about what is tried next: it follows from the trials alone, and TPE does learn from them."""

import pytest

from petpark_assets.domain.model import space
from petpark_assets.domain.model.proposals import Tried, propose
from petpark_assets.domain.recipes import Choices, Range
from petpark_assets_tests.domain.model.searching import toy


def play(recipe, merit):
    """All points of a search whose trials are as good as merit says."""
    tried = []
    while (values := propose(recipe, len(tried) + 1, tried)) is not None:
        tried.append(Tried(values=values, is_running=False, accuracy=merit(values)))
    return tried


def nearness(values):
    """Best at 0.03."""
    return 1 - abs(values["learning_rate"] - 0.03)


@pytest.mark.parametrize("algorithm", ["grid", "random", "tpe"])
def test_the_defaults_come_first_and_the_same_trials_lead_to_the_same_next_one(algorithm):
    """A search that is gone on with after a kill knows nothing but its trials' files."""
    recipe = toy(algorithm=algorithm, num_trials=6)
    tried = play(recipe, nearness)
    assert tried[0].values == space.default_values(recipe)
    assert len(tried) == (4 if algorithm == "grid" else 6)
    for number in range(1, len(tried) + 1):
        assert propose(recipe, number, tried[: number - 1]) == tried[number - 1].values


def test_tpe_draws_where_trials_were_good():
    """Otherwise it would be a slower random search."""
    recipe = toy(algorithm="tpe", num_trials=40, space={"learning_rate": Range(low=0.0, high=1.0)})
    late = [each.values["learning_rate"] for each in play(recipe, nearness)[20:]]
    assert sum(value < 0.2 for value in late) > 15


def test_tpe_takes_choices_whole_numbers_and_failures():
    """A failed trial teaches nothing, and must not stop the search."""
    space_of_all = {"batch_size": Range(low=8, high=64, log=True), "architecture": Choices(values=("petnet", "other"))}
    recipe = toy(algorithm="tpe", num_trials=12, space=space_of_all)
    tried = play(recipe, lambda values: None if values["architecture"] == "other" else values["batch_size"] / 64)
    assert all(isinstance(each.values["batch_size"], int) for each in tried)
    assert all(space.is_inside(recipe, each.values) for each in tried[1:])


def test_tpe_looks_elsewhere_while_a_trial_runs():
    """Trials at the same time that try the same point are a waste of one."""
    recipe = toy(algorithm="tpe", num_trials=30)
    tried = play(recipe, nearness)[:20]
    alone = propose(recipe, 22, tried)
    running = Tried(values=alone, is_running=True, accuracy=None)
    assert propose(recipe, 22, [*tried, running]) != alone
    failed = Tried(values=alone, is_running=False, accuracy=None)
    assert propose(recipe, 22, [*tried, failed]) == alone
