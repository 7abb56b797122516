"""Claims about which trials go on: a search that was killed compares as before, and nothing leaves the space."""

from types import SimpleNamespace

import pytest

from petpark_assets.domain.model.search_schedulers import METRIC, generation_epochs, scheduler
from petpark_assets.domain.recipes import Choices, Range
from petpark_assets_tests.domain.model.searching import toy


def ended(number, accuracy):
    """A trial that was there before the kill."""
    curve = [{"epoch": epoch, METRIC: accuracy} for epoch in (1, 2, 3)]
    return {"number": number, "hyperparameters": {"epochs": 3}, "curve": curve}


def decision(asha, number):
    """What ASHA says of a trial that has 0.7 after a third of its schedule."""
    trial = SimpleNamespace(trial_id=str(number), config={"number": number})
    asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, {"schedule_percent": 33, METRIC: 0.7})


@pytest.mark.parametrize(
    ("before", "number", "expected"),
    [
        ([], 3, "CONTINUE"),
        ([ended(1, 0.9), ended(2, 0.8)], 3, "STOP"),
        ([ended(1, 0.6), ended(2, 0.5)], 3, "CONTINUE"),
        ([ended(2, 0.9), ended(3, 0.8)], 1, "CONTINUE"),
    ],
    ids=["first", "behind those before", "ahead of them", "never the defaults"],
)
def test_asha_compares_with_the_trials_that_ended_before_a_kill(before, number, expected):
    """Otherwise every kill would give poor trials their whole schedule again."""
    assert decision(scheduler(toy(scheduler="asha"), before), number) == expected


def test_a_population_stays_inside_the_space_and_its_members_keep_their_numbers():
    """Steps of a fifth add up; a value outside the space is one that nobody asked for."""
    space = {"learning_rate": Range(low=0.01, high=0.1), "label_smoothing": Choices(values=(0.0, 0.1))}
    population = scheduler(toy(scheduler="pbt", space=space), [])
    best = SimpleNamespace(config={"number": 5, "values": {"learning_rate": 0.1, "label_smoothing": 0.1}})
    worst = SimpleNamespace(config={"number": 3, "values": {"learning_rate": 0.01, "label_smoothing": 0.0}})

    drawn = [population._get_new_config(worst, best)[0] for _ in range(200)]

    assert {config["number"] for config in drawn} == {3}
    rates = {config["values"]["learning_rate"] for config in drawn}
    assert (min(rates) >= 0.01, max(rates)) == (True, 0.1)
    assert len(rates) > 10
    assert {config["values"]["label_smoothing"] for config in drawn} == {0.0, 0.1}


@pytest.mark.parametrize(("trial_epochs", "expected"), [(2, 1), (5, 1), (15, 3), (40, 8)])
def test_a_population_has_time_left_after_its_last_look(trial_epochs, expected):
    """Weights taken over at the very end would have no epoch to learn in."""
    assert generation_epochs(toy(trial_epochs=trial_epochs, scheduler="pbt")) == expected
