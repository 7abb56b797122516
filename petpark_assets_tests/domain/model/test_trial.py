"""Claims about one trial: it learns from its share of the photos, and is judged on all of the validation part."""

import dataclasses
import shutil

import numpy as np

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import trial
from petpark_assets.domain.model.train import TrainingData
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


def epochs_of(data, folder, *, share):
    """What the two epochs of a trial came to."""
    task = trial.Task(
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
    curve = trial.train(task, 1, {}, lambda _: None)
    shutil.rmtree(task.folder)  # or its checkpoint would be gone on from
    return [(point["train_loss"], point["validation_loss"], point["validation_accuracy"]) for point in curve]


def test_on_a_node_that_does_not_see_the_copy_photos_are_read_from_the_store(tmp_path):
    """The same code runs on a cluster whose nodes share nothing but the store."""
    images = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    data = TrainingData(images=images, labels=np.zeros(2, np.uint8), validation=np.zeros(2, bool))
    saved = trial.save(data, tmp_path, read_photos=lambda: images + 1)

    assert np.array_equal(saved.open().images, images)
    saved.images.unlink()
    assert np.array_equal(saved.open().images, images + 1)
    assert list(tmp_path.iterdir()) == []
