"""Which photos of the train side are kept from learning, to choose hyperparameters and the best epoch by."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def carve_validation(groups: Sequence[str], labels: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.bool_]:
    """Which photos are kept from learning: the given share of each class, in whole groups, the first by name.

    A copy of a learnt photo among those that judge would praise what was learnt by heart: near-duplicates stay
    together. Depends on the set of photos alone, not on their order.

    Args:
        groups: the name of each photo's group of near-duplicates (the sha256 of its first photo).
        labels: [N], index of the label; a group may have photos of several.
        share: above 0, below 1.

    Returns:
        Booleans [N]: of each class the share, or fewer by less than a group; of one of two groups or more at least one.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.zeros((len(names), int(labels.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(sizes, (group_of, labels), 1)
    quotas = np.round(share * sizes.sum(axis=0)).astype(np.int64)
    is_chosen = np.zeros(len(names), dtype=np.bool_)
    filled = np.zeros_like(quotas)
    for group, size in enumerate(sizes):
        if (filled + size <= np.where(size > 0, quotas, filled)).all():
            is_chosen[group] = True
            filled += size
    for label in np.flatnonzero((filled == 0) & ((sizes > 0).sum(axis=0) > 1)):
        others = np.flatnonzero(sizes[:, label] > 0)
        is_chosen[others[np.argmin(sizes[others].sum(axis=1))]] = True
    return is_chosen[group_of]
