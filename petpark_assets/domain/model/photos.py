"""The photos that a training reads: which are learnt from, and batches of them on the device that learns.

Not here: what is done to a batch (augmentation.py), which photos judge (validation.py).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from petpark_assets.domain.errors import InvalidInput

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """The train side's photos at the recipe's resolution R."""

    images: npt.NDArray[np.uint8]
    """[N, R, R, 3]; may be a memory map: only the photos of a batch are read."""
    labels: npt.NDArray[np.uint8]
    """[N], index of the label."""
    validation: npt.NDArray[np.bool_]
    """[N], true where a photo belongs to the part that chooses the epoch and is never learnt from."""
    left_out: npt.NDArray[np.bool_] | None = None
    """[N], true where a photo is used for nothing, as in trials that learn from a share; None: nowhere."""


def sides(data: TrainingData) -> tuple[Indices, Indices]:
    """Indices of the photos to learn from and of those to validate on. Raises InvalidInput on too few."""
    is_learnt = ~data.validation if data.left_out is None else ~(data.validation | data.left_out)
    learnt, validated = np.flatnonzero(is_learnt), np.flatnonzero(data.validation)
    if len(learnt) < 2 or len(validated) < 1:  # batch statistics need two
        raise InvalidInput(
            f"{len(learnt)} photos to learn from and {len(validated)} to validate on are too few: "
            "it takes at least 2 and 1; add photos to the lake"
        )
    return learnt, validated


class Photos:
    """Batches of photos and labels on the device that learns; on a GPU all photos are moved there once."""

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self.device = device
        self.images = data.images
        self.labels = torch.from_numpy(data.labels.astype(np.int64)).to(device)
        self.resident: Tensor | None = None
        # A third of what is free leaves the rest to the network; larger sides are read from disk a batch at a time.
        if device.type == "cuda" and 3 * data.images.nbytes < torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.from_numpy(np.array(data.images)).to(device)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Photos uint8 [n, R, R, 3] and labels int64 [n]."""
        if self.resident is not None:
            chosen = torch.from_numpy(indices).to(self.device)
            return self.resident[chosen], self.labels[chosen]
        photos = torch.from_numpy(self.images[indices]).to(self.device)
        return photos, self.labels[torch.from_numpy(indices).to(self.device)]
