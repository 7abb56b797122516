"""Claims about workers that train one trial together: they learn what one alone learns, and go on after a kill."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from petpark_assets.domain.errors import ProcessLost
from petpark_assets.domain.model import train, trial, workers
from petpark_assets_tests.domain.model.searching import toy
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, draw_data

VALUES = {"learning_rate": 0.04}


def task(folder, num_workers):
    """A trial of 6 epochs."""
    recipe = toy(workers_per_trial=num_workers, trial_epochs=6)
    data = trial.save(draw_data(), folder)
    return trial.Task(folder=folder, data=data, preprocessing=PREPROCESSING, recipe=recipe, cpus=1, gpus=0)


class Stopped(Exception):
    """Ends a training from outside."""


def test_two_workers_learn_as_one_does_and_go_on_to_the_same_bits(tmp_path):
    """Two cards must halve the time and change nothing but batch statistics; and an interruption nothing at all."""
    alone = trial.train(task(tmp_path / "alone", 1), 1, VALUES, lambda _: None)
    pair = trial.train(task(tmp_path / "pair", 2), 1, VALUES, lambda _: None)

    def stop(curve):
        if len(curve) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        trial.train(task(tmp_path / "again", 2), 1, VALUES, stop)
    seen = []
    again = trial.train(task(tmp_path / "again", 2), 1, VALUES, seen.append)

    assert again == pair
    assert [curve[-1]["epoch"] for curve in seen] == [4, 5, 6]
    assert pair[0]["train_loss"] == pytest.approx(alone[0]["train_loss"], rel=0.05)
    assert pair[-1]["validation_accuracy"] > 0.9
    assert alone[-1]["validation_accuracy"] > 0.9
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_noticed_and_named_for_what_it_is(tmp_path):
    """The trial is then started again from its checkpoint; it must not wait for ever for the dead."""

    def kill(curve):
        if len(curve) == 2:
            (other,) = multiprocessing.active_children()
            os.kill(other.pid, signal.SIGKILL)

    with pytest.raises(ProcessLost, match="a worker of the trial ended"):
        trial.train(task(tmp_path, 2), 1, VALUES, kill)


@pytest.mark.timeout(120, method="thread")  # torch would wait in C++, where no signal's handler runs
def test_a_worker_that_dies_while_it_starts_is_noticed_too(tmp_path):
    """Out of memory while torch is imported, for one: the first would wait half an hour for it at their meeting."""

    def kill_the_first_that_comes():
        while not (others := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(others[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_that_comes)
    killer.start()
    with pytest.raises(ProcessLost, match="ended, or hung, before it had begun"):
        trial.train(task(tmp_path, 2), 1, VALUES, lambda _: None)
    killer.join()
    assert multiprocessing.active_children() == []


FIRST = """
import time
from functools import partial
from petpark_assets.domain.model import workers

with workers.together(2, partial(time.sleep, 60), has_gpus=False):
    print("met", flush=True)
    time.sleep(60)
"""


def test_when_the_first_is_killed_the_others_go_with_it():
    """At an exchange by NCCL they would wait for it for five minutes, and hold their cards; here the second sleeps.

    Whoever lives holds the pipe that the first was given to speak into.
    """
    with subprocess.Popen([sys.executable, "-c", FIRST], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        assert first.stdout.readline() == b"met\n"
        first.kill()
        first.communicate(timeout=10)


def test_a_worker_crops_its_own_part_alone_and_to_the_same_bits(data, monkeypatch):
    """Augmentation would not be halved by two cards; by chance of its own a worker would change what is learnt."""
    told = dataclasses.replace(TINY, hidden_share_max=0.3, colour_jitter=0.3)
    plainly, cropped = train.augment, []

    def learn(part):
        monkeypatch.setattr(workers, "part", part)
        monkeypatch.setattr(train, "augment", lambda *given: (cropped.append(len(given[0])), plainly(*given))[1])
        training, batches = train.Training(data, PREPROCESSING, told, 0, torch.device("cpu")), []
        monkeypatch.setattr(training, "step", lambda *given: (batches.append(given[:2]), torch.zeros(()))[1])
        training.learn(0, PREPROCESSING.resolution_px)
        return batches

    whole, *parts = (
        learn(part) for part in (lambda b: b, lambda b: b.tensor_split(2)[0], lambda b: b.tensor_split(2)[1])
    )
    assert cropped == [16] * 4 + [8] * 8
    for batch, *own in zip(whole, *parts, strict=True):
        for together, *apart in zip(batch, *own, strict=True):
            assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize(("has_gpus", "backend"), [(False, "gloo"), (True, "nccl")])
def test_a_machines_gpus_are_left_alone_by_a_trial_that_asked_for_none(monkeypatch, has_gpus, backend):
    """Ray leaves them visible; NCCL carries nothing between tensors on the CPU. The GPUs here are made up."""
    begun, chosen = [], []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(workers.distributed, "init_process_group", lambda backend, **_: begun.append(backend))
    monkeypatch.setattr(workers.distributed, "destroy_process_group", lambda: None)
    with workers._member(1, 2, "nowhere", has_gpus):
        assert begun == [backend]
    assert chosen == [1] * has_gpus


def test_alone_there_is_nothing_to_share():
    """The loop is the same for one worker, and costs it nothing."""
    batch = torch.arange(6)
    assert workers.part(batch) is batch
    assert workers.mean(batch) is batch
