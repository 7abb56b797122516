"""Claims about interrupted trainings: killed anywhere, they end in the bits of an undisturbed one."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError
from petpark_assets.domain.model import checkpoints, space
from petpark_assets.domain.model.train import fit
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, draw_data, weights_bytes

LONGER = dataclasses.replace(TINY, epochs=20)
DROPPING = dataclasses.replace(TINY, architecture="mobilenet_v3_small")
"""It has dropout, whose chance is torch's own."""


class StoppedError(Exception):
    """What ends a training from outside, as a search does."""


def train(checkpoint, hyperparameters=TINY, *, data=None, stop_after=None, seed=0):
    """A training on the squares, its epochs told in a list; stopped after an epoch if so said."""
    told = []

    def on_epoch(epoch):
        told.append(epoch.number)
        if epoch.number == stop_after:
            raise StoppedError

    given = data or draw_data()
    try:
        return told, fit(
            given, PREPROCESSING, hyperparameters, seed=seed, device="cpu", checkpoint=checkpoint, on_epoch=on_epoch
        )
    except StoppedError:
        return told, None


def without_seconds(epochs):
    """What must be the same whenever the work is done."""
    return [dataclasses.replace(epoch, seconds=0) for epoch in epochs]


@pytest.mark.slow
def test_a_training_killed_by_sigkill_goes_on_to_the_same_bits(tmp_path):
    """A real process, a real kill, at a moment that nobody chose: the machine's out-of-memory killer asks nobody."""
    path = tmp_path / "checkpoint.safetensors"
    child = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()}); from pathlib import Path\n"
        "from petpark_assets_tests.domain.model.test_checkpoints import *\n"
        f"fit(draw_data(), PREPROCESSING, LONGER, seed=0, device='cpu', checkpoint=Path({str(path)!r}),\n"
        "    on_epoch=lambda epoch: print(epoch.number, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    told, resumed = train(path, LONGER)
    assert told[0] in range(4, 20)
    assert told[-1] == 20
    _, undisturbed = train(None, LONGER)
    assert weights_bytes(resumed) == weights_bytes(undisturbed)
    assert without_seconds(resumed.epochs) == without_seconds(undisturbed.epochs)
    assert resumed.best_epoch == undisturbed.best_epoch


@pytest.mark.parametrize("hyperparameters", [TINY, DROPPING], ids=["petnet", "with dropout"])
def test_every_epoch_is_a_place_to_go_on_from(tmp_path, hyperparameters):
    """Stopped after each epoch in turn; another one's random state in between must not matter."""
    path = tmp_path / "checkpoint.safetensors"
    for epoch in (1, 2, 3):
        torch.manual_seed(epoch)
        assert train(path, hyperparameters, stop_after=epoch)[0] == [epoch]
    told, resumed = train(path, hyperparameters)
    assert told == []
    _, undisturbed = train(None, hyperparameters)
    assert all(torch.equal(value, undisturbed.weights[name]) for name, value in resumed.weights.items())
    assert without_seconds(resumed.epochs) == without_seconds(undisturbed.epochs)


def test_a_checkpoint_changes_no_bit_of_the_training(tmp_path, fitted):
    """What is written for the case of a kill must not make another model."""
    _, watched = train(tmp_path / "deep" / "checkpoint.safetensors")
    assert weights_bytes(watched) == weights_bytes(fitted)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_torn_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, fitted, kept):
    """A disk may lose the end of a file; only time may be lost by it."""
    path = tmp_path / "checkpoint.safetensors"
    train(path, stop_after=1)
    path.write_bytes(path.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        told, again = train(path)
    assert told == [1, 2, 3]
    assert "is passed over, the training starts anew" in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    assert weights_bytes(again) == weights_bytes(fitted)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"hyperparameters": dataclasses.replace(TINY, label_smoothing=0.2)}, "hyperparameters"),
        ({"data": draw_data(90)}, "data"),
        ({"data": dataclasses.replace(draw_data(), left_out=np.arange(96) == 95)}, "data"),
    ],
    ids=["seed", "hyperparameters", "fewer photos", "a photo left out"],
)
def test_the_checkpoint_of_another_training_is_passed_over(tmp_path, caplog, other, named):
    """A photo was forgotten, or a recipe changed, since the kill: going on would make what nobody asked for."""
    path = tmp_path / "checkpoint.safetensors"
    train(path, stop_after=2)
    with caplog.at_level(logging.WARNING):
        told, again = train(path, **other)
    assert told == [1, 2, 3]
    assert f"it was made with other {named}" in caplog.messages[0]
    _, undisturbed = train(None, **other)
    assert weights_bytes(again) == weights_bytes(undisturbed)


def test_a_changed_pixel_makes_other_data(tmp_path, caplog):
    """One photo's new bytes under an unchanged number of photos."""
    path, changed = tmp_path / "checkpoint.safetensors", draw_data()
    train(path, stop_after=1)
    changed.images[-1, 0, 0, 0] ^= 1
    with caplog.at_level(logging.WARNING):
        assert train(path, data=changed)[0] == [1, 2, 3]


def test_a_fork_goes_on_from_anothers_weights_with_other_strengths(tmp_path, fitted):
    """Population-based training: the weak go on from the strong, a little otherwise."""
    source, target = tmp_path / "strong.safetensors", tmp_path / "weak.safetensors"
    train(source, stop_after=2)
    strengths = {"learning_rate": 0.02, "label_smoothing": 0.05, "weight_decay": 0.01}
    strengths |= {"crop_scale_min": 0.9, "ema_decay": 0.7}
    assert set(strengths) == set(space.PERTURBABLE)
    changed = dataclasses.replace(TINY, **strengths)
    checkpoints.fork(source, target, changed)
    told, forked = train(target, changed)
    assert told == [3]
    assert without_seconds(forked.epochs)[:2] == without_seconds(fitted.epochs)[:2]
    assert forked.epochs[2].train_loss != fitted.epochs[2].train_loss
    assert weights_bytes(forked) != weights_bytes(fitted)
    checkpoints.fork(source, target, TINY)
    assert weights_bytes(train(target)[1]) == weights_bytes(fitted)


def test_a_fork_cannot_change_a_networks_shape(tmp_path):
    """Refused with the name of what differs, before a trial fails with torch's own words."""
    source = tmp_path / "source.safetensors"
    train(source, stop_after=1)
    with pytest.raises(InvalidInput, match="with other epochs, width: only learning_rate"):
        checkpoints.fork(source, tmp_path / "target.safetensors", dataclasses.replace(LONGER, width=4))
    with pytest.raises(FileNotFoundError):
        checkpoints.fork(tmp_path / "none.safetensors", source, TINY)
    source.write_bytes(b"no checkpoint")
    with pytest.raises(CorruptData):
        checkpoints.fork(source, tmp_path / "target.safetensors", TINY)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, fitted):
    """A full disk half-way through a long training: free some space, and it goes on where it was."""
    path = tmp_path / "checkpoint.safetensors"
    train(path, stop_after=2)

    def refuse(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(TransientError, match="no space left on the disk"):
            train(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    told, resumed = train(path)
    assert told == [3]
    assert weights_bytes(resumed) == weights_bytes(fitted)
