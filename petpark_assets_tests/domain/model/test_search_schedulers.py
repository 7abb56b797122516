"""Claims about which trials go on: a search that was killed compares as before, and nothing leaves the space."""

from types import SimpleNamespace

import pytest

from petpark_assets.domain.model.search_schedulers import METRIC, generation_epochs, scheduler
from petpark_assets.domain.recipes import Choices, Range
from petpark_assets_tests.domain.model.searching import toy


def curve_of(accuracies):
    """What a trial had after each epoch."""
    return [{"epoch": epoch, METRIC: accuracy} for epoch, accuracy in enumerate(accuracies, start=1)]


def ended(number, *accuracies):
    """A trial that was there before the kill."""
    return {"number": number, "hyperparameters": {"epochs": len(accuracies)}, "curve": curve_of(accuracies)}


def begin(asha, number):
    """A trial that runs in this process."""
    trial = SimpleNamespace(trial_id=str(number), config={"number": number})
    asha.on_trial_add(None, trial)
    return trial


def decision(asha, number, *accuracies, num_epochs=3):
    """What ASHA says of a trial at its first report, with what it has had so far."""
    told = {"curve": curve_of(accuracies), "num_epochs": num_epochs}
    return asha.on_trial_result(None, begin(asha, number), told)


@pytest.mark.parametrize(
    ("before", "number", "expected"),
    [
        ([], 3, "CONTINUE"),
        ([ended(1, 0.9, 0.9, 0.9), ended(2, 0.8, 0.8, 0.8)], 3, "STOP"),
        ([ended(1, 0.6, 0.6, 0.6), ended(2, 0.5, 0.5, 0.5)], 3, "CONTINUE"),
        ([ended(2, 0.9, 0.9, 0.9), ended(3, 0.8, 0.8, 0.8)], 1, "CONTINUE"),
    ],
    ids=["first", "behind those before", "ahead of them", "never the defaults"],
)
def test_asha_compares_with_the_trials_that_ended_before_a_kill(before, number, expected):
    """Otherwise every kill would give poor trials their whole schedule again."""
    assert decision(scheduler(toy(scheduler="asha"), before), number, 0.7) == expected


def test_a_trial_that_goes_on_after_a_kill_is_compared_at_each_share_by_what_it_had_there():
    """It reports from 60 % on. Taken for what it had at 33 %, its 0.85 there would stop the next trial for its 0.72."""
    asha = scheduler(toy(scheduler="asha"), [ended(1, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)])
    assert decision(asha, 2, 0.3, 0.4, 0.5, 0.6, 0.71, 0.75, 0.8, 0.82, 0.85, num_epochs=15) == "CONTINUE"
    assert decision(asha, 3, 0.3, 0.4, 0.5, 0.6, 0.72, num_epochs=15) == "CONTINUE"
    assert decision(asha, 4, 0.3, 0.4, 0.5, 0.6, 0.64, num_epochs=15) == "STOP"


def test_what_stops_a_trial_stops_it_also_when_the_kill_came_first():
    """Its checkpoint is older than the decision; a better epoch after it must not hide what was decided."""
    asha = scheduler(toy(scheduler="asha"), [ended(1, 0.9, 0.9, 0.9), ended(2, 0.8, 0.8, 0.8)])
    assert decision(asha, 3, 0.7, 0.95) == "STOP"


def test_the_end_of_a_short_schedule_is_no_look_at_two_thirds_of_it():
    """Two epochs end at 100 %: what they came to then says nothing of who is at 67 %."""
    asha, short = scheduler(toy(scheduler="asha"), []), {"curve": curve_of([0.5, 0.9]), "num_epochs": 2}
    trial = begin(asha, 1)
    asha.on_trial_result(None, trial, short)
    asha.on_trial_complete(None, trial, short | {"schedule_percent": 100, METRIC: 0.9})
    assert decision(asha, 2, 0.6, 0.7) == "CONTINUE"


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
