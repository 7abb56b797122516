"""Claims about crops: of the asked size, seeded, right to the pixel, and growing."""

import dataclasses

import pytest
import torch

from petpark_assets.domain.model import augmentation
from petpark_assets.domain.model.augmentation import augment, draw, hide, resolution_at
from petpark_assets.domain.model.network import Classifier, build_network
from petpark_assets_tests.domain.model.squares import PREPROCESSING, SIDE_PX, TINY


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
        told = dataclasses.replace(TINY, crop_scale_min=scale_min)
        draws = draw(8, told, torch.Generator().manual_seed(seed))
        return augment(torch.from_numpy(data.images[:8]), draws, 12, told)

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
    told = dataclasses.replace(TINY, crop_scale_min=1.0)
    crops = augment(photos, draw(32, told, torch.Generator().manual_seed(0)), SIDE_PX, told)
    whole = photos.permute(0, 3, 1, 2).float()
    same = (crops - whole).abs().amax(dim=(1, 2, 3)) < 0.01
    mirrored = (crops - whole.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.01
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_colours_change_within_what_was_asked_and_stay_levels(data):
    """A network must not learn that evening light makes a dog; a level above 255 is no colour."""
    told = dataclasses.replace(TINY, crop_scale_min=1.0, colour_jitter=0.3)
    photos, draws = torch.from_numpy(data.images[:32]), draw(32, told, torch.Generator().manual_seed(0))
    assert 0.7 <= draws.colours.min() < 0.75
    assert 1.25 < draws.colours.max() <= 1.3
    plain, changed = augment(photos, draws, SIDE_PX, TINY), augment(photos, draws, SIDE_PX, told)
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not torch.allclose(plain, changed)
    same = draws._replace(colours=torch.ones(32, 3))
    assert torch.allclose(augment(photos, same, SIDE_PX, told), plain, atol=1e-3)


def test_half_of_the_crops_hide_a_rectangle_of_no_more_than_the_share():
    """As large as asked, or the animal itself is hidden."""
    told = dataclasses.replace(TINY, hidden_share_max=0.25)
    boxes = draw(400, told, torch.Generator().manual_seed(0)).boxes
    hidden = (hide(torch.ones(400, 3, 32, 32), boxes) == 0).float()
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    shares = hidden[:, 0].mean(dim=(1, 2))
    assert shares.max() < 0.3
    assert 0.4 < (shares > 0).float().mean() < 0.6
    assert (hide(torch.ones(400, 3, 8, 8), draw(400, TINY, torch.Generator()).boxes) == 1).all()


@pytest.mark.parametrize("resolution_px", [12, SIDE_PX])
@pytest.mark.parametrize("colour_jitter", [0.0, 0.2])
def test_batches_reach_the_network_in_channels_last_order(data, resolution_px, colour_jitter):
    """In another order convolutions are slower, and a compiled network is compiled anew in the middle of an epoch."""
    told = dataclasses.replace(TINY, colour_jitter=colour_jitter, hidden_share_max=0.25)
    draws = draw(8, told, torch.Generator().manual_seed(0))
    crops = augment(torch.from_numpy(data.images[:8]), draws, resolution_px, told)
    scaled = Classifier(build_network(told), PREPROCESSING).scale(crops)
    for batch in (crops, scaled, hide(scaled, draws.boxes)):
        assert batch.stride() == (3 * resolution_px**2, 1, 3 * resolution_px, 3)


def test_hiding_leaves_the_given_inputs_as_they_are():
    """Whoever calls it still has the whole photos."""
    inputs = torch.ones(2, 3, 8, 8)
    hide(inputs, torch.tensor([[0.0, 1.0, 0.0, 1.0]] * 2))
    assert (inputs == 1).all()
