"""What a probability is worth, chosen on the validation part: the temperature, and the threshold of `unknown`.

The temperature is that of Guo et al., "On Calibration of Modern Neural Networks" (2017): the logits of each of the
classifier's two looks are divided by one number before their softmax, and it is the mean of both, the answer that
people get, whose likelihood is maximised. No label changes: of two classes the mean is above a half where the sum
of both looks' margins (logit of dog less that of cat) is above zero, whatever the temperature.

Measured on a network of the recipe `laptop` (accuracy 0.9525 on 4,000 test photos): temperature 0.53 took the expected
calibration error, 15 bins of equal mass, from 0.079 to 0.008; of a perfectly calibrated one chance alone shows 0.008.

Not here: where the temperature acts (network.py), the file that keeps it (weights.py), how well probabilities fit on
the test side (report/).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.devices import find_device
from petpark_assets.domain.model.network import Classifier
from petpark_assets.domain.model.train import TrainingData
from petpark_assets.domain.model.weights import load_classifier, save_weights
from petpark_assets.domain.recipes import Hyperparameters

Floats = npt.NDArray[np.float64]

TEMPERATURES = (0.1, 10.0)
"""Where the temperature is looked for; real networks lie between 0.4 (label smoothing) and 3 (none)."""
NUM_CANDIDATES, NUM_ROUNDS = 41, 5
"""Of each round of the search, which then looks between the neighbours of the best: down to a millionth."""
THRESHOLDS = tuple(thousandths / 1000 for thousandths in range(500, 1000))
ANSWERED_SHARE_MIN = 0.5
"""However high the goal, so many of the validation photos are answered."""
CONFIDENCE = 0.95
"""With which those answered are right as often as asked, as far as the validation part is like what is to come: it
chose the best epoch too, so it is a little kinder."""
BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the validation part says about the probabilities; the fields are those of the record of trained_cnn."""

    temperature: float
    validation_nll_before: float
    """Mean negative log-likelihood of the validation photos' labels, nats; at temperature 1."""
    validation_nll_after: float
    """The same at the temperature."""
    unknown_below: float
    """0.5 to 0.999: an answer of lower probability counts as unknown."""


def save_calibrated(
    weights: Mapping[str, Tensor],
    hyperparameters: Hyperparameters,
    preprocessing: Preprocessing,
    data: TrainingData,
    *,
    answered_accuracy: float,
) -> tuple[bytes, Calibration]:
    """What training found as a file with its temperature, and all that calibrate says; see there."""
    plain = load_classifier(save_weights(weights, hyperparameters, preprocessing))
    calibrated = calibrate(plain, data, answered_accuracy=answered_accuracy)
    return save_weights(weights, hyperparameters, preprocessing, calibrated.temperature), calibrated


def calibrate(
    classifier: Classifier, data: TrainingData, *, answered_accuracy: float, device: str = "auto"
) -> Calibration:
    """Fit temperature and threshold to the validation part of the train side.

    Args:
        classifier: after training, of two classes; its own temperature plays no part. It is left on the device.
        data: the train side; only its validation part is looked at.
        answered_accuracy: the accuracy, 0 to 1, that the photos not called unknown should reach.
        device: `auto` (a GPU when there is one), `cpu` or `cuda`.
    """
    validated = np.flatnonzero(data.validation)
    labels = data.labels[validated]
    margins = _margins(classifier, data.images, validated, device)
    temperature = fit_temperature(margins, labels)
    return Calibration(
        temperature=temperature,
        validation_nll_before=round(negative_log_likelihood(margins, labels, 1.0), 6),
        validation_nll_after=round(negative_log_likelihood(margins, labels, temperature), 6),
        unknown_below=choose_threshold(_dog_probabilities(margins, temperature), labels, answered_accuracy),
    )


def fit_temperature(margins: Floats, labels: npt.NDArray[np.uint8]) -> float:
    """The most probable temperature, to four digits, of margins [N, 2] (one a look) and labels [N].

    Its logarithm is taken to be near zero beforehand, with deviation 1. Of hundreds of photos that moves nothing;
    of a few, all of them right, the likelihood alone would grow without end as the temperature falls to zero.
    """
    low, high = np.log(TEMPERATURES)
    for _ in range(NUM_ROUNDS):
        candidates = np.linspace(low, high, NUM_CANDIDATES)
        costs = [_cost(margins, labels, float(candidate)) for candidate in candidates]
        best, step = candidates[int(np.argmin(costs))], candidates[1] - candidates[0]
        low, high = best - step, best + step
    return round(float(np.exp(best)), 4)


def _cost(margins: Floats, labels: npt.NDArray[np.uint8], log_temperature: float) -> float:
    """The negative logarithm of what fit_temperature maximises."""
    likelihood = len(labels) * negative_log_likelihood(margins, labels, np.exp(log_temperature))
    return likelihood + log_temperature**2 / 2


def negative_log_likelihood(margins: Floats, labels: npt.NDArray[np.uint8], temperature: float) -> float:
    """The mean over photos, nats, of the answer averaged over looks. Margins [N, 2], labels [N]."""
    towards_label = np.where(labels[:, np.newaxis] == 1, margins, -margins) / temperature
    log_of_looks = -np.logaddexp(0, -towards_label)
    return float(np.mean(np.log(2) - np.logaddexp(log_of_looks[:, 0], log_of_looks[:, 1])))


def choose_threshold(dog_probabilities: Floats, labels: npt.NDArray[np.uint8], answered_accuracy: float) -> float:
    """The smallest probability, in thousandths, above which these photos show that answers are right as often as asked.

    A park's visitors are promised how often an answer is right; the photos below the threshold are what its staff look
    at themselves, as few as the promise allows. Shown means: were answers right less often, so few wrong ones among
    these photos would have a chance of at most 1 - CONFIDENCE. Thresholds are asked from that of the surer half down,
    and the first that fails ends it, so that asking many does not raise that chance (fixed sequence testing: A.
    Angelopoulos, S. Bates, E. Candes, M. Jordan and L. Lei, "Learn then Test", arXiv:2110.01052). Where already the
    surer half shows nothing, for it is wrong too often or too small, it is what is answered.
    """
    sureness = np.maximum(dog_probabilities, 1 - dog_probabilities)
    is_right = (dog_probabilities >= 0.5) == (labels == 1)
    asked = [threshold for threshold in THRESHOLDS if (sureness >= threshold).mean() >= ANSWERED_SHARE_MIN]
    chosen = asked[-1]
    for threshold in reversed(asked):
        answered = is_right[sureness >= threshold]
        num_wrong = len(answered) - int(answered.sum())
        if _chance_of_so_few(num_wrong, len(answered), 1 - answered_accuracy) > 1 - CONFIDENCE:
            break
        chosen = threshold
    return chosen


def _chance_of_so_few(num_wrong: int, num_answered: int, share_wrong: float) -> float:
    """The chance of at most so many wrong answers, each being wrong with this share: the exact binomial test's p."""
    if share_wrong <= 0:
        return 1.0
    counts = np.arange(1, num_wrong + 1)
    steps = np.log((num_answered - counts + 1) / counts) + np.log(share_wrong) - np.log1p(-share_wrong)
    logarithms = num_answered * np.log1p(-share_wrong) + np.concatenate([[0.0], np.cumsum(steps)])
    return float(np.exp(logarithms).sum())


def _dog_probabilities(margins: Floats, temperature: float) -> Floats:
    """[N], the mean over both looks."""
    probabilities: Floats = np.exp(-np.logaddexp(0, -margins / temperature)).mean(axis=1)
    return probabilities


def _margins(
    classifier: Classifier, images: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64], device: str
) -> Floats:
    """Logit of dog less that of cat, of the chosen photos: [n, 2], the photo and its mirror image."""
    target = find_device(device)
    classifier.to(target).to(memory_format=torch.channels_last).eval()
    margins = np.empty((len(chosen), 2))
    # Without TF32, as the answers are given.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for start in range(0, len(chosen), BATCH_SIZE):
            photos = torch.from_numpy(images[chosen[start : start + BATCH_SIZE]]).to(target)
            looks = classifier.looks(photos)
            margins[start : start + BATCH_SIZE] = (looks[..., 1] - looks[..., 0]).T.cpu().numpy()
    return margins
