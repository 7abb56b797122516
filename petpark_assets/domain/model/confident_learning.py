"""Which given labels a model doubts, from what it answered about photos that it never learned from.

Confident learning: C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident learning: estimating uncertainty in dataset
labels", Journal of Artificial Intelligence Research 70 (2021), 1373-1411. Written here for two classes; the package of
the same authors, cleanlab, is under the AGPL.
Not here: how the answers come about (cross_validation.py).
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def find_label_issues(labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.floating[Any]]) -> list[int]:
    """The places of the photos whose label is doubted, the least believed label first.

    A class's threshold is the mean probability that photos labelled so are given for it (its self-confidence). A label
    is doubted when the other class is the more probable one and reaches that class's threshold: the photo then looks
    like one of the other class as much as those do (off the diagonal of the paper's confident joint). So a model that
    is sure of cats alone does not doubt every dog. The order is that of self-confidence.

    Args:
        labels: uint8 [N], as given: 0 cat, 1 dog.
        probabilities: float [N] of dog, 0 to 1, each by a model that did not learn from the photo.
    """
    of_dog = np.asarray(probabilities, dtype=np.float64)
    self_confidence = np.where(labels == 1, of_dog, 1 - of_dog)
    thresholds = np.array(
        [self_confidence[labels == label].mean() if (labels == label).any() else 1 for label in (0, 1)]
    )
    other = 1 - self_confidence
    is_doubted = (other >= thresholds[1 - labels]) & (other > self_confidence)
    doubted = np.flatnonzero(is_doubted)
    return [int(place) for place in doubted[np.argsort(self_confidence[doubted], kind="stable")]]
