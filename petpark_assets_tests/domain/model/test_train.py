"""Claims about the training loop: it learns, it repeats itself, it keeps what did best, and it never cheats."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import train
from petpark_assets.domain.model.train import TrainingData, augment, carve_validation, fit
from petpark_assets.domain.recipes import Hyperparameters

SIDE_PX = 16
PREPROCESSING = Preprocessing(
    resolution_px=SIDE_PX, channel_means=(0.5, 0.5, 0.5), channel_deviations=(0.25, 0.25, 0.25)
)
TINY = Hyperparameters(width=8, epochs=3, batch_size=16, ema_decay=0.8, crop_scale_min=0.8, first_resolution_share=1.0)


def draw_data(count: int = 96) -> TrainingData:
    """Noise with a square somewhere: reddish for label 0, bluish for label 1."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.uint8)
    images = random.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(0, SIDE_PX - 10, 2)
        image[top : top + 10, left : left + 10] = (40, 60, 220) if label else (220, 60, 40)
    return TrainingData(images=images, labels=labels, validation=np.arange(count) % 6 < 2)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Drawn once: no test changes it."""
    return draw_data()


@pytest.fixture(scope="module")
def fitted(data) -> train.Fitted:
    """One short training that several claims look at."""
    return fit(data, PREPROCESSING, TINY, seed=0, device="cpu")


def weights_bytes(fitted: train.Fitted) -> bytes:
    """Weights as they are stored: equal only when every bit is."""
    return train.save_weights(fitted.weights, TINY, PREPROCESSING)


def test_a_coloured_square_is_learnt(data):
    """The whole loop, from pixels to accuracy: a bug anywhere in it shows here."""
    fitted = fit(data, PREPROCESSING, dataclasses.replace(TINY, epochs=8), seed=0, device="cpu")
    assert fitted.epochs[fitted.best_epoch - 1].validation_accuracy >= 0.95
    assert fitted.epochs[-1].train_loss < fitted.epochs[0].train_loss


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
        return losses[len(seen) - 1], accuracies[len(seen) - 1]

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


def test_crops_grow_from_the_first_resolution_to_the_last():
    """Early epochs at half the side cost a quarter."""

    def sides(full_px: int, first: float, last: float) -> list[int]:
        told = dataclasses.replace(TINY, first_resolution_share=first, last_resolution_share=last)
        return [train.resolution_at(step / 4, full_px, told) for step in range(5)]

    assert sides(96, 0.5, 1) == [48, 64, 64, 80, 96]
    assert sides(96, 0.5, 0.83) == [48, 48, 64, 64, 80]
    assert sides(40, 0.4, 1) == [16, 16, 32, 32, 40]  # the full resolution need be no multiple of anything
    assert sides(24, 0.1, 0.1) == [16] * 5


@pytest.mark.parametrize("scale_min", [0.3, 1.0])
def test_augmented_photos_are_levels_of_the_asked_resolution_and_seeded(data, scale_min):
    """What the network learns from has the scale of what it will answer about."""

    def crop(seed: int) -> torch.Tensor:
        photos = torch.from_numpy(data.images[:8])
        return augment(photos, 12, scale_min, generator=torch.Generator().manual_seed(seed))

    crops = crop(0)
    assert crops.dtype == torch.float32
    assert crops.shape == (8, 3, 12, 12)
    assert crops.min() >= 0
    assert crops.max() <= 255
    assert torch.equal(crops, crop(0))
    assert not torch.equal(crops, crop(1))


def test_a_crop_of_the_whole_photo_is_the_photo_or_its_mirror_image(monkeypatch, data):
    """Coordinates are right to the pixel: an off-by-half shifts every training photo against every answer."""
    monkeypatch.setattr(train, "CROP_ASPECT_MAX", 1)
    photos = torch.from_numpy(data.images[:32])
    crops = augment(photos, SIDE_PX, 1.0, generator=torch.Generator().manual_seed(0))
    whole = photos.permute(0, 3, 1, 2).float()
    same = (crops - whole).abs().amax(dim=(1, 2, 3)) < 0.01
    mirrored = (crops - whole.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.01
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def sha256s(count: int) -> list[str]:
    """Of that many photos."""
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_validation_is_carved_from_each_class_whatever_the_order():
    """A photo must not change sides with the listing."""
    names, labels = sha256s(300), (np.arange(300) % 3 == 0).astype(np.uint8)
    carved = carve_validation(names, labels, 0.1)
    assert carved[labels == 0].sum() == 20
    assert carved[labels == 1].sum() == 10
    order = np.random.default_rng(0).permutation(300)
    again = carve_validation([names[index] for index in order], labels[order], 0.1)
    assert np.array_equal(again, carved[order])


def test_a_small_class_still_gives_a_photo_to_validation():
    """Without one, its errors could not choose the epoch."""
    assert carve_validation(sha256s(5), np.array([0, 0, 0, 1, 1], np.uint8), 0.1)[:3].sum() == 1
    assert carve_validation(sha256s(1), np.array([0], np.uint8), 0.1).sum() == 0


def test_weights_are_the_same_bytes_after_a_round_trip(data, fitted):
    """Digests of models rest on it."""
    first = weights_bytes(fitted)
    classifier = train.load_classifier(first)
    assert train.save_weights(classifier.network.state_dict(), TINY, PREPROCESSING) == first
    assert classifier.preprocessing == PREPROCESSING
    again = train.load_classifier(first)
    assert np.array_equal(
        train.predict(classifier, data.images, device="cpu"),
        train.predict(again, data.images, device="cpu"),
    )


def test_the_weights_returned_are_those_that_were_validated(data, fitted):
    """A single look of the loaded classifier repeats the best epoch's figures."""
    classifier = train.load_classifier(weights_bytes(fitted))
    photos = torch.from_numpy(data.images[data.validation])
    with torch.inference_mode():
        answers = classifier.network(classifier.prepare(photos)).argmax(dim=1).numpy()
    accuracy = (answers == data.labels[data.validation]).mean()
    assert accuracy == fitted.epochs[fitted.best_epoch - 1].validation_accuracy


def test_predictions_do_not_depend_on_the_batches(data, fitted):
    """Batch statistics of training must not leak into answers."""
    classifier = train.load_classifier(weights_bytes(fitted))
    whole = train.predict(classifier, data.images, device="cpu")
    parts = train.predict(classifier, data.images, batch_size=7, device="cpu")
    assert whole.dtype == np.float32
    assert whole.shape == (96,)
    assert np.allclose(whole, parts, atol=1e-6)


def test_photos_may_be_a_read_only_memory_map(tmp_path, data, fitted):
    """All trials of a search share one file, and none may write to it."""
    np.save(tmp_path / "images.npy", data.images)
    mapped = dataclasses.replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    again = fit(mapped, PREPROCESSING, TINY, seed=0, device="cpu")
    assert weights_bytes(again) == weights_bytes(fitted)
    train.predict(train.load_classifier(weights_bytes(again)), mapped.images, device="cpu")


def test_weights_of_another_architecture_are_refused_in_one_line(fitted):
    """The message of torch itself is a page."""
    wrong = train.save_weights(fitted.weights, dataclasses.replace(TINY, width=16), PREPROCESSING)
    with pytest.raises(CorruptData, match="not those of petnet with width 16") as refusal:
        train.load_classifier(wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"no weights at all", (5).to_bytes(8, "little") + b"{}   "])
def test_bytes_that_are_no_weights_are_refused(data):
    """Whatever is wrong with the file, the error says so in one line."""
    with pytest.raises(CorruptData, match="no weights of ours"):
        train.load_classifier(data)


def test_a_diverging_training_says_what_to_lower(data):
    """A model of nan must not be stored."""
    with pytest.raises(InvalidInput, match=r"diverged in epoch 1 .*lower learning_rate, it is 1e\+30"):
        fit(data, PREPROCESSING, dataclasses.replace(TINY, learning_rate=1e30), seed=0, device="cpu")


def test_too_few_photos_are_refused_with_their_numbers(data):
    """A lake can be that small."""
    few = TrainingData(images=data.images[:2], labels=data.labels[:2], validation=np.array([True, False]))
    with pytest.raises(InvalidInput, match="1 photos to learn from and 1 to validate on"):
        fit(few, PREPROCESSING, TINY, seed=0, device="cpu")


def test_an_unknown_device_is_refused():
    """Falling back in silence would cost a day on the wrong machine."""
    with pytest.raises(InvalidInput, match="device is 'tpu': it must be one of auto, cpu, cuda"):
        train.find_device("tpu")


def test_fitted_says_what_its_bits_depend_on(fitted):
    """Weights made elsewhere may differ in their last bits; the record says where."""
    assert fitted.device.startswith("cpu ")
    assert fitted.device.endswith(f"{torch.get_num_threads()} threads")
    assert fitted.num_parameters > 10_000
