"""Answers about photos by networks that never learned from them: one short training a fold of the photos.

Near-duplicates share a fold: a network that knew a copy of a photo would believe whatever label the copy has.
Not here: the training (train.py), what the answers say of labels (confident_learning.py), where they are kept
(workflow/label_issues.py).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.files import sha256
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.train import Epoch, TrainingData, fit
from petpark_assets.domain.model.validation import carve_validation
from petpark_assets.domain.model.weights import load_classifier, save_weights
from petpark_assets.domain.recipes import Recipe

CHUNK = 2048
"""Photos in memory at once."""


def fold_of(groups: Sequence[str], num_folds: int) -> npt.NDArray[np.int64]:
    """Each photo's fold, 0 to num_folds - 1, by its group's name alone: no listing changes it."""
    return np.array([int(sha256(group.encode())[:8], 16) % num_folds for group in groups], dtype=np.int64)


def answer_fold(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    groups: Sequence[str],
    is_asked: npt.NDArray[np.bool_],
    *,
    preprocessing: Preprocessing,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> npt.NDArray[np.float32]:
    """Train with a recipe's values on all photos but those that are asked about, and answer these.

    Args:
        images: uint8 [N, R, R, 3]; may be a memory map.
        labels: uint8 [N], as given: 0 cat, 1 dog.
        groups: [N], each photo's group of near-duplicates.
        is_asked: [N], the fold; a part of the others, in whole groups, chooses the best epoch.
        preprocessing: the network's input resolution and scaling.
        recipe: gives the hyperparameters, the seed and the share of validation.
        on_epoch: is told after each epoch.

    Returns:
        The probability of dog of the photos asked about, float32, in their order.

    Raises:
        InvalidInput: too few photos.
    """
    others = np.flatnonzero(~is_asked)
    validation = np.zeros(len(labels), dtype=np.bool_)
    validation[others] = carve_validation(np.asarray(groups)[others].tolist(), labels[others], recipe.validation_share)
    data = TrainingData(images=images, labels=labels, validation=validation, left_out=is_asked)
    fitted = fit(data, preprocessing, recipe.hyperparameters, seed=recipe.seed, on_epoch=on_epoch)
    classifier = load_classifier(save_weights(fitted.weights, recipe.hyperparameters, preprocessing))
    asked = np.flatnonzero(is_asked)
    chunks = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    return np.concatenate([np.empty(0, np.float32), *(predict(classifier, images[chunk]) for chunk in chunks)])
