"""Claims about temperature and threshold: they make probabilities true, and change no label."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from petpark_assets.domain.model.calibration import (
    ANSWERED_SHARE_MIN,
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


def test_the_file_has_the_temperature_that_was_found(data, fitted):
    """A replay of the training must come to the same bytes."""
    told = fitted.weights, TINY, PREPROCESSING, data
    file, found = save_calibrated(*told, answered_accuracy=0.9)
    assert load_classifier(file).temperature == found.temperature != 1
    assert save_calibrated(*told, answered_accuracy=0.9) == (file, found)


SURENESS = np.array([0.55, 0.65, 0.75, 0.85, 0.95, 0.99])


def test_the_threshold_is_the_smallest_that_keeps_the_promise():
    """Each further photo that the staff must look at costs; each wrong answer costs more."""
    labels = np.array([0, 1, 0, 1, 1, 1], dtype=np.uint8)  # the first and the third are answered wrongly
    threshold = choose_threshold(SURENESS, labels, answered_accuracy=1.0)
    assert 0.75 < threshold <= 0.752
    assert choose_threshold(SURENESS, labels, answered_accuracy=0.8) == pytest.approx(0.551)
    assert choose_threshold(SURENESS, labels, answered_accuracy=0.6) == 0.5


def test_sure_cats_count_like_sure_dogs():
    """Sureness is that of the label, not that of dog."""
    labels = np.array([0, 1, 0, 1, 1, 1], dtype=np.uint8)
    assert choose_threshold(1 - SURENESS, 1 - labels, 1.0) == choose_threshold(SURENESS, labels, 1.0)


def test_a_promise_that_cannot_be_kept_leaves_the_surer_half_answered():
    """A model whose surest answer is wrong must not call everything unknown."""
    labels = np.array([1, 1, 1, 1, 1, 0], dtype=np.uint8)
    threshold = choose_threshold(SURENESS, labels, answered_accuracy=1.0)
    assert (threshold <= SURENESS).mean() == ANSWERED_SHARE_MIN
