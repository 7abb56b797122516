"""Claims about temperature and threshold: they make probabilities true, and change no label."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch.nn import functional

from petpark_assets.domain.model.calibration import (
    ANSWERED_SHARE_MIN,
    Floats,
    _chance_of_so_few,
    calibrate,
    choose_threshold,
    fit_temperature,
    negative_log_likelihood,
    save_calibrated,
)
from petpark_assets.domain.model.network import Classifier
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes


def _draw(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Two looks' margins, and labels that follow the averaged answer at a temperature."""
    random = np.random.default_rng(0)
    margins = random.normal(0, 3, (count, 1)) + random.normal(0, 0.5, (count, 2))
    probabilities = (1 / (1 + np.exp(-margins / temperature))).mean(axis=1)
    return margins, (random.random(count) < probabilities).astype(np.uint8)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    """Too sure and too unsure networks alike."""
    assert fit_temperature(*_draw(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_is_likelier():
    """The search narrows in rounds: it must not be caught beside the best."""
    margins, labels = _draw(2_000, 1.7)
    best = negative_log_likelihood(margins, labels, fit_temperature(margins, labels))
    others = [negative_log_likelihood(margins, labels, temperature) for temperature in np.geomspace(0.1, 10, 500)]
    assert best <= min(others) + 1e-6


def test_a_few_photos_that_are_all_right_make_nobody_certain():
    """Their likelihood alone would drive the temperature to zero, and every probability to one."""
    margins = np.array([[2.0, 2.0], [-2.0, -2.0]] * 8)
    labels = np.array([1, 0] * 8, dtype=np.uint8)
    assert 0.3 < fit_temperature(margins, labels) < 1


def test_the_likelihood_is_that_of_the_averaged_answer():
    """What people get is the mean of two looks: torch's own cross-entropy of it is the judge."""
    margins, labels = _draw(50, 1.0)
    looks = torch.from_numpy(np.stack([np.zeros_like(margins), margins], axis=-1) / 1.3).softmax(dim=-1)
    expected = functional.nll_loss(looks.mean(dim=1).log(), torch.from_numpy(labels.astype(np.int64)))
    assert negative_log_likelihood(margins, labels, 1.3) == pytest.approx(float(expected))


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_no_label_changes_with_the_temperature(temperature, data, fitted):
    """Accuracy is that of the network, whatever its probabilities are worth."""
    plain = load_classifier(weights_bytes(fitted))
    scaled = Classifier(plain.network, plain.preprocessing, temperature).eval()
    photos = torch.from_numpy(data.images)
    with torch.inference_mode():
        before, after = plain(photos), scaled(photos)
    assert torch.equal(before.argmax(dim=1), after.argmax(dim=1))
    assert not torch.allclose(before, after, atol=0.01)


def test_calibration_looks_at_the_validation_part_alone(data, fitted):
    """A photo learnt by heart is answered more surely than a new one ever will be."""
    classifier = load_classifier(weights_bytes(fitted))
    spoiled = data.images.copy()
    spoiled[~data.validation] = 0
    first = calibrate(classifier, data, answered_accuracy=0.9, device="cpu")
    assert (
        calibrate(classifier, dataclasses.replace(data, images=spoiled), answered_accuracy=0.9, device="cpu") == first
    )
    assert first.validation_nll_after <= first.validation_nll_before


def test_looks_are_taken_as_answers_are_given(data, fitted):
    """Repeatably and without TF32: the temperature is part of the weights' file, and its digest of the record."""
    classifier, cudnn, seen = load_classifier(weights_bytes(fitted)), torch.backends.cudnn, set()
    classifier.network.register_forward_hook(lambda *_: seen.add((cudnn.deterministic, cudnn.allow_tf32)))
    calibrate(classifier, data, answered_accuracy=0.9, device="cpu")
    assert seen == {(True, False)}


def test_the_file_has_the_temperature_that_was_found(data, fitted):
    """A replay of the training must come to the same bytes."""
    told = fitted.weights, TINY, PREPROCESSING, data
    file, found = save_calibrated(*told, answered_accuracy=0.9)
    assert load_classifier(file).temperature == found.temperature != 1
    assert save_calibrated(*told, answered_accuracy=0.9) == (file, found)


def answers(num_photos: int, *, seed: int) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Probabilities of dog, and labels drawn by them: a perfectly calibrated model, right in 92.5 % of its answers."""
    random = np.random.default_rng(seed)
    sureness = 1 - random.uniform(0, 1, num_photos) ** 3 * 0.3
    is_dog = random.random(num_photos) < 0.5
    is_right = random.random(num_photos) < sureness
    return np.where(is_dog == is_right, sureness, 1 - sureness), is_dog.astype(np.uint8)


def answered_rightly(probabilities: Floats, labels: npt.NDArray[np.uint8], threshold: float) -> float:
    """The share of right answers among those of at least this probability."""
    is_answered = np.maximum(probabilities, 1 - probabilities) >= threshold
    return float(((probabilities >= 0.5) == (labels == 1))[is_answered].mean())


def test_the_promise_is_kept_on_photos_that_chose_no_threshold():
    """Where the lowest threshold that does on the sample was taken, half of all models broke it."""
    elsewhere = answers(200_000, seed=0)
    thresholds = [choose_threshold(*answers(1600, seed=seed), answered_accuracy=0.97) for seed in range(1, 101)]
    kept = [answered_rightly(*elsewhere, threshold) >= 0.97 for threshold in thresholds]
    assert sum(kept) >= 90  # 95 of 100 on average
    assert 0.7 < np.median(thresholds) < 0.93  # and hardly more is left to the staff than must be


def test_more_photos_leave_less_to_the_staff():
    """What chance may have done shrinks with the sample, and with it the margin: of all there is, 0.88 would do."""
    few, many = (choose_threshold(*answers(number, seed=1), answered_accuracy=0.97) for number in (400, 100_000))
    assert 0.88 <= many < few


def test_a_promise_that_every_answer_keeps_leaves_none_unknown():
    """Twenty wrong answers of a thousand show at least 0.95, as scipy's exact binomial test says (p below 0.00001)."""
    probabilities, labels = np.full(1000, 0.9), np.ones(1000, np.uint8)
    labels[:20] = 0
    assert choose_threshold(probabilities, labels, answered_accuracy=0.95) == 0.5


def test_the_chance_is_that_of_the_exact_binomial_test():
    """Against scipy's, where all, some or none were wrong."""
    for num_wrong, num_answered, share in ((0, 800, 0.01), (22, 1400, 0.02), (28, 1400, 0.02), (9, 9, 0.3)):
        expected = scipy.stats.binom.cdf(num_wrong, num_answered, share)
        assert _chance_of_so_few(num_wrong, num_answered, share) == pytest.approx(expected, rel=1e-9)


def test_sure_cats_count_like_sure_dogs():
    """Sureness is that of the label, not that of dog."""
    probabilities, labels = answers(1600, seed=3)
    assert choose_threshold(1 - probabilities, 1 - labels, 0.97) == choose_threshold(probabilities, labels, 0.97)


@pytest.mark.parametrize("asked", [0.9, 1.0])
def test_a_promise_that_cannot_be_kept_leaves_the_surer_half_answered(asked: float):
    """A model whose surest answer is wrong must not call everything unknown; nor can any number of photos show 1."""
    sureness, labels = np.array([0.55, 0.65, 0.75, 0.85, 0.95, 0.99]), np.array([1, 1, 1, 1, 1, 0], np.uint8)
    threshold = choose_threshold(sureness, labels, answered_accuracy=asked)
    assert (threshold <= sureness).mean() == ANSWERED_SHARE_MIN
