"""What training does to photos so that no epoch sees the same ones: random crops, mirrored, of growing resolution.

Chance is asked once an epoch, on the CPU (`draw`); what it decided is carried out on whole batches, on the device that
learns. The policy in words is features.AUGMENTATION.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from petpark_assets.domain.recipes import Hyperparameters

CROP_ASPECT_MAX = 4 / 3
"""A crop's sides differ by no more than this factor from the photo's."""
BOX_ASPECT_MAX = 3.0
"""A hidden rectangle is no more than three times as wide as high, or as high as wide."""
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


class Draws(NamedTuple):
    """What chance decided about N crops, on one device."""

    maps: Tensor
    """[N, 2, 3]: the affine map from a crop to its photo, both spanning -1 to 1."""
    colours: Tensor
    """[N, 3]: what brightness, contrast and saturation are multiplied by."""
    boxes: Tensor
    """[N, 4]: left, right, top and bottom of what is hidden, in crops that span 0 to 1; nothing where left >= right."""

    def to(self, device: torch.device) -> "Draws":
        """The same there."""
        return Draws(*(tensor.to(device) for tensor in self))

    def split(self, count: int) -> Iterator["Draws"]:
        """So many crops at a time."""
        return (Draws(*parts) for parts in zip(*(torch.split(tensor, count) for tensor in self), strict=True))


def draw(count: int, hyperparameters: Hyperparameters, generator: torch.Generator) -> Draws:
    """Throw the dice for so many crops; the generator is of the CPU, so that every device sees the same crops."""
    told = hyperparameters
    return Draws(
        maps=_draw_crops(count, told.crop_scale_min, generator),
        colours=1 + told.colour_jitter * (2 * torch.rand(count, 3, generator=generator) - 1),
        boxes=_draw_boxes(count, told.hidden_share_max, generator),
    )


def augment(photos: Tensor, draws: Draws, resolution_px: int, hyperparameters: Hyperparameters) -> Tensor:
    """A random crop of each photo, half of them mirrored, resized to one resolution, its colours changed.

    Crops and mirrors are one affine map a photo, sampled for the whole batch at once on its device. Where the
    result is small, all photos are shrunk first, with antialiasing: sampling skips pixels, it does not average.

    Args:
        photos: uint8 [N, R, R, 3].
        draws: for these photos, on their device.
        resolution_px: side of the result.
        hyperparameters: that the draws were made with.

    Returns:
        Levels 0 to 255, float32 [N, 3, resolution_px, resolution_px], in channels_last order.
    """
    count, full_px = photos.shape[:2]
    levels = photos.permute(0, 3, 1, 2).float()
    middling_share = ((1 + hyperparameters.crop_scale_min) / 2) ** 0.5  # a crop of middling area is sampled one to one
    shrunk_px = round(resolution_px / middling_share)
    if shrunk_px < full_px:
        levels = functional.interpolate(
            levels, size=(shrunk_px, shrunk_px), mode="bilinear", antialias=True, align_corners=False
        )
    grid = functional.affine_grid(draws.maps, [count, 3, resolution_px, resolution_px], align_corners=False)
    crops = functional.grid_sample(levels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if hyperparameters.colour_jitter > 0:
        crops = _recolour(crops, draws.colours)
    return crops.contiguous(memory_format=torch.channels_last)


def hide(inputs: Tensor, boxes: Tensor) -> Tensor:
    """Scaled inputs [N, 3, R, R] with a rectangle of each set to 0, the train side's mean (random erasing).

    In the inputs' own memory order: a network that was compiled for one is compiled again for another.
    Z. Zhong et al., "Random erasing data augmentation", AAAI 2020.
    """
    centres = (torch.arange(inputs.shape[-1], device=inputs.device) + 0.5) / inputs.shape[-1]
    left, right, top, bottom = boxes[:, :, None].unbind(dim=1)
    columns, rows = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
    is_hidden = (rows[:, :, None] & columns[:, None, :])[:, None]
    return inputs.clone().masked_fill_(is_hidden, 0.0)  # masked_fill would give them back channel by channel


def _recolour(levels: Tensor, colours: Tensor) -> Tensor:
    """Saturation about each pixel's grey, contrast about the photo's mean, brightness about black; 0 to 255."""
    brightness, contrast, saturation = colours[:, :, None, None, None].unbind(dim=1)
    grey = levels.mean(dim=1, keepdim=True)
    levels = grey + saturation * (levels - grey)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    return (brightness * (mean + contrast * (levels - mean))).clamp(0, 255)


def _draw_crops(count: int, scale_min: float, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3]."""

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


def _draw_boxes(count: int, share_max: float, generator: torch.Generator) -> Tensor:
    """Rectangles [count, 4] of up to this share of a crop, sides within a factor of 3, in half of the crops."""
    area, aspect, x, y, is_hidden = torch.rand(5, count, generator=generator)
    area, aspect = share_max * area, torch.exp(math.log(BOX_ASPECT_MAX) * (2 * aspect - 1))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    width = torch.where(is_hidden < 0.5, width, 0)
    left, top = x * (1 - width), y * (1 - height)
    return torch.stack([left, left + width, top, top + height], dim=1)
