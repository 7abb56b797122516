"""What training does to photos so that no epoch sees the same ones: random crops, mirrored, of growing resolution.

On whole batches, on the device that learns. The policy in words is features.AUGMENTATION.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from petpark_assets.domain.recipes import Hyperparameters

CROP_ASPECT_MAX = 4 / 3
"""A crop's sides differ by no more than this factor from the photo's."""
RESOLUTION_STEP_PX = 16
"""Training resolutions are multiples of it: petnet halves its maps four times."""


def resolution_at(share: float, full_px: int, hyperparameters: Hyperparameters) -> int:
    """The side in pixels of training crops at a share (0 to 1) of the epochs, growing from the first to the last.

    A whole number of steps of 16 px, unless it is the full resolution.
    """
    first, last = hyperparameters.first_resolution_share, hyperparameters.last_resolution_share
    side = full_px * (first + (last - first) * share)
    steps = max(1, round(side / RESOLUTION_STEP_PX))
    return full_px if side >= full_px else min(full_px, steps * RESOLUTION_STEP_PX)


def augment(photos: Tensor, resolution_px: int, crop_scale_min: float, *, generator: torch.Generator) -> Tensor:
    """A random crop of each photo, half of them mirrored, resized to one resolution.

    Crops and mirrors are one affine map a photo, sampled for the whole batch at once on its device. Where the
    result is small, all photos are shrunk first, with antialiasing: sampling skips pixels, it does not average.

    Args:
        photos: uint8 [N, R, R, 3].
        resolution_px: side of the result.
        crop_scale_min: smallest share of a photo's area to keep, above 0 up to 1.
        generator: of the CPU, whatever the photos' device is.

    Returns:
        Levels 0 to 255, float32 [N, 3, resolution_px, resolution_px], in channels_last order.
    """
    count, full_px = photos.shape[:2]
    levels = photos.permute(0, 3, 1, 2).float()
    middling_share = ((1 + crop_scale_min) / 2) ** 0.5  # a crop of middling area is then sampled one to one
    shrunk_px = round(resolution_px / middling_share)
    if shrunk_px < full_px:
        levels = functional.interpolate(
            levels, size=(shrunk_px, shrunk_px), mode="bilinear", antialias=True, align_corners=False
        )
    maps = _draw_crops(count, crop_scale_min, generator).to(photos.device)
    size = [count, 3, resolution_px, resolution_px]
    grid = functional.affine_grid(maps, size, align_corners=False)
    crops = functional.grid_sample(levels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def _draw_crops(count: int, scale_min: float, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3] from a crop to its photo, both spanning -1 to 1."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    area = uniform(scale_min, 1)
    aspect = uniform(-math.log(CROP_ASPECT_MAX), math.log(CROP_ASPECT_MAX)).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=generator)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, (1 - width) * uniform(-1, 1)
    maps[:, 1, 1], maps[:, 1, 2] = height, (1 - height) * uniform(-1, 1)
    return maps
