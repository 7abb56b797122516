"""Many photos squeezed to squares by torch: the bytes of `resizing.resize`, in a fraction of its time.

Importing torch takes 2 s and 0.5 GB, which pays from some thousand photos on. Not here: the rule (resizing.py; a test
holds the two together).
"""

import sys
from collections.abc import Sequence

import numpy as np

from petpark_assets.domain.resizing import Pixels, kept_memory, resize_all

PAYS_FROM = 5000
"""Photos in a job: fewer are done before torch is imported."""


def is_torch_worth_it(num_photos: int) -> bool:
    """Whether a job of so many photos should use torch."""
    return num_photos >= PAYS_FROM or "torch" in sys.modules


def squeeze(photos: Sequence[Pixels], squares: Sequence[Pixels], *, by_torch: bool) -> None:
    """Fill squares, each uint8 [N, R, R, 3] of any R, with N photos [H, W, 3] of one size.

    Torch does a few dozen small photos at once in 0.7 of the time that they take one by one.
    """
    together = np.stack(photos, out=kept_memory("photos", (len(photos), *photos[0].shape)))
    if not by_torch:
        for square in squares:
            square[:] = resize_all(together, square.shape[1])
        return
    import torch
    from torch.nn import functional

    stack = torch.from_numpy(together).permute(0, 3, 1, 2)  # so torch sees that channels lie innermost
    for square in squares:
        size = square.shape[1:3]
        small = functional.interpolate(stack, size=size, mode="bilinear", antialias=True, align_corners=False)
        square[:] = small.permute(0, 2, 3, 1).numpy()
