"""Claims about the training loop: it learns, it repeats itself, it keeps what did best, and it never cheats."""

import dataclasses

import numpy as np
import pytest
import torch

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import sha256
from petpark_assets.domain.model import optimiser, train
from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.train import TrainingData, fit
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes


def test_a_coloured_square_is_learnt(data):
    """The whole loop, from pixels to accuracy: a bug anywhere in it shows here."""
    fitted = fit(data, PREPROCESSING, dataclasses.replace(TINY, epochs=8), seed=0, device="cpu")
    assert fitted.epochs[fitted.best_epoch - 1].validation_accuracy >= 0.95
    assert fitted.epochs[-1].train_loss < fitted.epochs[0].train_loss


def test_a_gpus_half_precision_learns_it_as_well(data, fitted, monkeypatch):
    """Of bfloat16's 8 bits neither the loss nor Muon may lose the way; the products are a CPU's, the format is a GPU's.

    Bits that differ from float32's show that it was used, in the network and in Muon.
    """
    told = dataclasses.replace(TINY, epochs=8)
    halves = {
        "network": (train, "half_precision", lambda device: torch.autocast(device.type, torch.bfloat16)),
        "muon": (optimiser, "_precision", lambda _rows: torch.bfloat16),
    }
    for name, half in halves.items():
        with monkeypatch.context() as alone:
            alone.setattr(*half)
            other = fit(data, PREPROCESSING, TINY, seed=0, device="cpu")
        assert sha256(weights_bytes(other)) != sha256(weights_bytes(fitted)), name
    for half in halves.values():
        monkeypatch.setattr(*half)
    found = fit(data, PREPROCESSING, told, seed=0, device="cpu")
    assert found.epochs[found.best_epoch - 1].validation_accuracy >= 0.95
    assert found.epochs[-1].train_loss < found.epochs[0].train_loss
    assert {value.dtype for value in found.weights.values() if value.is_floating_point()} == {torch.float32}


def test_the_same_seed_gives_the_same_bits(data, fitted):
    """Records are digests of weights: the same work again must be the same model."""
    torch.manual_seed(123)  # the caller's random state must not matter
    again = fit(data, PREPROCESSING, TINY, seed=0, device="cpu")
    assert weights_bytes(again) == weights_bytes(fitted)
    assert [dataclasses.replace(epoch, seconds=0) for epoch in again.epochs] == [
        dataclasses.replace(epoch, seconds=0) for epoch in fitted.epochs
    ]


def test_another_seed_gives_another_network(data, fitted):
    """A seed that did nothing would make the test above empty."""
    other = fit(data, PREPROCESSING, TINY, seed=1, device="cpu")
    assert weights_bytes(other) != weights_bytes(fitted)


def test_the_callers_random_state_is_left_alone(data):
    """A training inside a longer program must not reseed it."""
    before = torch.random.get_rng_state()
    fit(data, PREPROCESSING, dataclasses.replace(TINY, epochs=1), seed=0, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_validation_photos_never_touch_the_weights(data):
    """Poisoned in every pixel and label, they change what is measured and no bit of what is learnt."""
    poisoned = TrainingData(
        images=np.where(data.validation[:, None, None, None], 255 - data.images, data.images),
        labels=np.where(data.validation, 1 - data.labels, data.labels).astype(np.uint8),
        validation=data.validation,
    )
    one_epoch = dataclasses.replace(TINY, epochs=1)  # of one epoch, so that the choice of the best cannot differ
    clean, dirty = (fit(given, PREPROCESSING, one_epoch, seed=0, device="cpu") for given in (data, poisoned))
    assert weights_bytes(clean) == weights_bytes(dirty)
    assert clean.epochs[0].train_loss == dirty.epochs[0].train_loss
    assert clean.epochs[0].validation_loss != dirty.epochs[0].validation_loss


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ([0.6, 0.9, 0.7], [0.5, 0.5, 0.5], 2),
        ([0.9, 0.9, 0.7], [0.5, 0.4, 0.3], 2),
        ([0.9, 0.9, 0.9], [0.5, 0.5, 0.5], 1),
    ],
)
def test_the_best_epoch_is_the_one_returned(monkeypatch, data, accuracies, losses, best):
    """By accuracy; of equals the lowest loss, then the first. The weights are those it had at that moment."""
    seen = []

    def pretend(classifier, _photos, _validated):
        seen.append({name: value.clone() for name, value in classifier.network.state_dict().items()})
        return torch.tensor([losses[len(seen) - 1], accuracies[len(seen) - 1]], dtype=torch.float64)

    monkeypatch.setattr(train, "_validate", pretend)
    fitted = fit(data, PREPROCESSING, TINY, seed=0, device="cpu")
    assert fitted.best_epoch == best
    assert all(torch.equal(value, seen[best - 1][name]) for name, value in fitted.weights.items())


def test_epochs_are_told_as_they_end_and_what_the_listener_raises_ends_the_training(data):
    """The search stops a trial so."""
    told = []

    def stop_after_two(epoch):
        told.append(epoch)
        if epoch.number == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        fit(data, PREPROCESSING, TINY, seed=0, device="cpu", on_epoch=stop_after_two)
    assert [epoch.number for epoch in told] == [1, 2]
    assert [epoch.schedule_share for epoch in told] == [1 / 3, 2 / 3]


def test_the_schedule_rises_to_its_peak_and_anneals_to_zero(fitted):
    """The last steps' small rates are worth points of accuracy."""
    rates = [train.schedule(step / 100) for step in range(1, 101)]
    assert max(rates) == pytest.approx(1)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert fitted.epochs[-1].learning_rate == pytest.approx(0, abs=1e-12)


def test_the_weights_returned_are_those_that_were_validated(data, fitted):
    """A single look of the loaded classifier repeats the best epoch's figures."""
    classifier = load_classifier(weights_bytes(fitted))
    photos = torch.from_numpy(data.images[data.validation])
    with torch.inference_mode():
        answers = classifier.network(classifier.prepare(photos)).argmax(dim=1).numpy()
    accuracy = (answers == data.labels[data.validation]).mean()
    assert accuracy == fitted.epochs[fitted.best_epoch - 1].validation_accuracy


def test_photos_may_be_a_read_only_memory_map(tmp_path, data, fitted):
    """All trials of a search share one file, and none may write to it."""
    np.save(tmp_path / "images.npy", data.images)
    mapped = dataclasses.replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    again = fit(mapped, PREPROCESSING, TINY, seed=0, device="cpu")
    assert weights_bytes(again) == weights_bytes(fitted)
    predict(load_classifier(weights_bytes(again)), mapped.images, device="cpu")


def test_a_diverging_training_says_what_to_lower(data):
    """A model of nan must not be stored."""
    with pytest.raises(InvalidInput, match=r"diverged in epoch 1 .*lower learning_rate, it is 1e\+30"):
        fit(data, PREPROCESSING, dataclasses.replace(TINY, learning_rate=1e30), seed=0, device="cpu")


def test_too_few_photos_are_refused_with_their_numbers(data):
    """A lake can be that small."""
    few = TrainingData(images=data.images[:2], labels=data.labels[:2], validation=np.array([True, False]))
    with pytest.raises(InvalidInput, match="1 photos to learn from and 1 to validate on"):
        fit(few, PREPROCESSING, TINY, seed=0, device="cpu")


def test_fitted_says_what_its_bits_depend_on(fitted):
    """Weights made elsewhere may differ in their last bits; the record says where."""
    assert fitted.device.startswith("cpu ")
    assert fitted.device.endswith(f"{torch.get_num_threads()} threads")
    assert fitted.num_parameters > 10_000
