"""Claims about a search that is killed: with real SIGKILLs of its driver, of a trial and of Ray, nothing is lost."""

import contextlib
import os
import signal

import pytest
from psutil import NoSuchProcess, Process

from petpark_assets.domain.model import trial
from petpark_assets.domain.model.proposals import Tried, propose
from petpark_assets.domain.model.space import num_trials
from petpark_assets_tests.domain.model import searching
from petpark_assets_tests.domain.model.squares import PREPROCESSING, draw_data


def undisturbed(folder, recipe):
    """The trials without Ray and without any kill, one after the other in this process: what must come out."""
    tried, curves, number = [], [], 1
    data = trial.save(draw_data(), folder)
    task = trial.Task(folder=folder, data=data, preprocessing=PREPROCESSING, recipe=recipe, cpus=1, gpus=0)
    while (values := propose(recipe, number, tried)) is not None:
        curves.append(trial.train(task, number, values, lambda _: None))
        tried.append(Tried(values=values, is_running=False, accuracy=curves[-1][-1]["validation_accuracy"]))
        number += 1
    return [(each.values["learning_rate"], curve) for each, curve in zip(tried, curves, strict=True)]


def live(folder, seen, kills, **settings):
    """Run the search; at some epochs of some trials something is killed. Everything that it says is kept."""
    with searching.begin(folder, **settings) as process:
        servers = None
        for news in searching.lines(process):
            servers = servers or news["servers"]
            seen.append(news)
            victim = kills.get((news.get("number"), news.get("epoch")))
            if victim is not None:
                os.kill(process.pid if victim == "driver" else pid_of(victim, servers), signal.SIGKILL)
    return process.returncode


def pid_of(victim, servers):
    """A server of Ray's, or the process of the only trial that runs: the worker that is no idle one."""
    if victim != "trial":
        return servers[victim]
    for worker in Process(servers["raylet"]).children():
        with contextlib.suppress(NoSuchProcess):  # an idle one that has just ended
            if "ImplicitFunc" in " ".join(worker.cmdline()):
                return worker.pid
    raise AssertionError("no trial runs")


def trained(seen):
    """Epochs as (trial, epoch), in the order in which they were trained."""
    return [(news["number"], news["epoch"]) for news in seen if "epoch" in news]


@pytest.mark.parametrize(
    ("algorithm", "lives"),
    [
        ("random", [{(2, 4): "trial", (4, 3): "raylet"}, {(6, 5): "driver"}]),
        pytest.param("grid", [{(2, 4): "gcs_server"}, {(3, 3): "trial", (4, 5): "driver"}], marks=pytest.mark.long),
        pytest.param("tpe", [{(5, 5): "driver"}], marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_anywhere_it_goes_on_and_comes_to_what_an_undisturbed_search_does(tmp_path, algorithm, lives):
    """The promise of a search of hours: no finished trial is run again, and a killed one goes on where it was.

    An epoch may come twice only where the kill came before its checkpoint.
    """
    settings, seen, num_kills = {"algorithm": algorithm}, [], sum(map(len, lives))

    codes = [live(tmp_path / "search", seen, kills, **settings) for kills in [*lives, {}]]

    assert codes[-1] == 0
    assert codes[-2] == -signal.SIGKILL
    recipe = searching.toy(**settings)
    expected = undisturbed(tmp_path / "undisturbed", recipe)
    ended = {news["ended"]["number"]: news["ended"] for news in seen if "ended" in news}
    assert [(t["hyperparameters"]["learning_rate"], t["curve"]) for _, t in sorted(ended.items())] == expected
    assert seen[-1]["winner"]["learning_rate"] == max(expected, key=lambda each: each[1][-1]["validation_accuracy"])[0]
    epochs = range(1, searching.TRIAL_EPOCHS + 1)
    every = {(number, epoch) for number in range(1, num_trials(recipe) + 1) for epoch in epochs}
    assert set(trained(seen)) <= every
    assert len(every) - num_kills <= len(trained(seen)) <= len(every) + num_kills
    assert {path.name for path in (tmp_path / "search/trials/0003").iterdir()} == {"proposed.json", "ended.json"}


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_search_that_stops_or_mixes_trials_goes_on_too(tmp_path, scheduler):
    """These depend on who is there when, so the winner may differ; what ended is kept, and so are the defaults."""
    settings, seen = {"scheduler": scheduler, "max_concurrent_trials": 2}, []

    live(tmp_path, seen, {(2, 6): "driver"}, **settings)
    before = [news["ended"] for news in seen if "ended" in news]
    assert live(tmp_path, seen, {}, **settings) == 0

    again = [news["ended"] for news in seen if "ended" in news][len(before) :]
    assert again[: len(before)] == sorted(before, key=lambda each: each["number"])
    assert sorted(each["number"] for each in again) == list(range(1, 9))
    defaults = next(each for each in again if each["is_default"])
    assert defaults["hyperparameters"]["learning_rate"] == searching.toy().hyperparameters.learning_rate
    assert defaults["schedule_share"] == 1
    for each in again:
        assert [point["epoch"] for point in each["curve"]] == list(range(1, len(each["curve"]) + 1))
