"""Claims about crops: of the asked size, seeded, right to the pixel, and growing."""

import dataclasses

import pytest
import torch

from petpark_assets.domain.model import augmentation
from petpark_assets.domain.model.augmentation import augment, resolution_at
from petpark_assets_tests.domain.model.squares import SIDE_PX, TINY


def test_crops_grow_from_the_first_resolution_to_the_last():
    """Early epochs at half the side cost a quarter."""

    def sides(full_px: int, first: float, last: float) -> list[int]:
        told = dataclasses.replace(TINY, first_resolution_share=first, last_resolution_share=last)
        return [resolution_at(step / 4, full_px, told) for step in range(5)]

    assert sides(96, 0.5, 1) == [48, 64, 64, 80, 96]
    assert sides(96, 0.5, 0.83) == [48, 48, 64, 64, 80]
    assert sides(40, 0.4, 1) == [16, 16, 32, 32, 40]  # the full resolution need be no multiple of anything
    assert sides(24, 0.1, 0.1) == [16] * 5


@pytest.mark.parametrize("scale_min", [0.3, 1.0])
def test_augmented_photos_are_levels_of_the_asked_resolution_and_seeded(data, scale_min):
    """What the network learns from has the scale of what it will answer about."""

    def crop(seed: int) -> torch.Tensor:
        photos = torch.from_numpy(data.images[:8])
        return augment(photos, 12, scale_min, generator=torch.Generator().manual_seed(seed))

    crops = crop(0)
    assert crops.dtype == torch.float32
    assert crops.shape == (8, 3, 12, 12)
    assert crops.min() >= 0
    assert crops.max() <= 255
    assert torch.equal(crops, crop(0))
    assert not torch.equal(crops, crop(1))


def test_a_crop_of_the_whole_photo_is_the_photo_or_its_mirror_image(monkeypatch, data):
    """Coordinates are right to the pixel: an off-by-half shifts every training photo against every answer."""
    monkeypatch.setattr(augmentation, "CROP_ASPECT_MAX", 1)
    photos = torch.from_numpy(data.images[:32])
    crops = augment(photos, SIDE_PX, 1.0, generator=torch.Generator().manual_seed(0))
    whole = photos.permute(0, 3, 1, 2).float()
    same = (crops - whole).abs().amax(dim=(1, 2, 3)) < 0.01
    mirrored = (crops - whole.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.01
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()
