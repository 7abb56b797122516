"""Claims about one trial: it learns from its share of the photos, and is judged on all of the validation part."""

import dataclasses
import gc
import shutil

import numpy as np
import pytest
import torch

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import trial
from petpark_assets.domain.model.train import Training, TrainingData
from petpark_assets.domain.recipes import Hyperparameters, Recipe, Search


def test_a_trial_learns_from_its_share_alone_and_is_judged_on_all_of_the_validation_part(tmp_path):
    """A share saves time only if the rest is left out; what is left out must not change what is learnt."""
    dice = np.random.default_rng(0)
    data = TrainingData(
        images=dice.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8),
        labels=np.arange(40, dtype=np.uint8) % 2,
        validation=np.arange(40) < 10,
    )
    other = dataclasses.replace(data, images=data.images.copy())
    other.images[25:] = 0  # 30 to learn from, half of them left out

    assert epochs_of(data, tmp_path / "a", share=0.5) == epochs_of(other, tmp_path / "b", share=0.5)
    assert epochs_of(data, tmp_path / "a", share=1.0) != epochs_of(other, tmp_path / "b", share=1.0)
    tenths = {count / 10 for count in range(11)}
    assert {accuracy for *_, accuracy in epochs_of(data, tmp_path / "a", share=0.5)} <= tenths


class Stopped(Exception):
    """Ends a trial from outside."""


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_a_trial_leaves_nothing_on_the_gpu(tmp_path, monkeypatch, ends_by_itself):
    """Its process goes on with another trial: what it kept would be missing there, and to its neighbours.

    Torch gives back what nobody holds; on a CPU one sees who holds it at that moment, and that it is asked to.
    """

    def num_held():
        return sum(type(thing) is Training for thing in gc.get_objects())

    def on_epoch(_curve):
        if not ends_by_itself:
            raise Stopped

    gc.collect()  # of what tests before this one have left
    held, before = [], num_held()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(num_held()))
    data = TrainingData(np.zeros((8, 16, 16, 3), np.uint8), np.arange(8, dtype=np.uint8) % 2, np.arange(8) < 2)
    task = task_of(data, tmp_path, share=1.0)
    if ends_by_itself:
        trial.train(task, 1, {}, on_epoch)
    else:
        with pytest.raises(Stopped):
            trial.train(task, 1, {}, on_epoch)
    assert held == [before]


def epochs_of(data, folder, *, share):
    """What the two epochs of a trial came to."""
    task = task_of(data, folder, share=share)
    curve = trial.train(task, 1, {}, lambda _: None)
    shutil.rmtree(task.folder)  # or its checkpoint would be gone on from
    return [(point["train_loss"], point["validation_loss"], point["validation_accuracy"]) for point in curve]


def task_of(data, folder, *, share):
    """A trial of two epochs on the CPU."""
    return trial.Task(
        folder=folder / str(share),
        data=trial.save(data, folder),
        preprocessing=Preprocessing(resolution_px=16, channel_means=(0.5,) * 3, channel_deviations=(0.3,) * 3),
        recipe=Recipe(
            name="noise", description="", resolution_px=16, hyperparameters=Hyperparameters(width=2, batch_size=5),
            search=Search(trial_epochs=2, photos_share=share),
        ),
        cpus=1,
        gpus=0,
    )  # fmt: skip


def test_on_a_node_that_does_not_see_the_copy_photos_are_read_from_the_store(tmp_path):
    """The same code runs on a cluster whose nodes share nothing but the store."""
    images = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    data = TrainingData(images=images, labels=np.zeros(2, np.uint8), validation=np.zeros(2, bool))
    saved = trial.save(data, tmp_path, read_photos=lambda: images + 1)

    assert np.array_equal(saved.open().images, images)
    saved.images.unlink()
    assert np.array_equal(saved.open().images, images + 1)
    assert list(tmp_path.iterdir()) == []
