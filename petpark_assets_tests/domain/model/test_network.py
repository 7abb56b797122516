"""Claims about the networks and the classifier around them."""

import pytest
import torch
from torch import nn

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.network import ARCHITECTURES, Classifier, build_network
from petpark_assets.domain.recipes import Hyperparameters

PREPROCESSING = Preprocessing(resolution_px=32, channel_means=(0.5, 0.4, 0.3), channel_deviations=(0.25, 0.2, 0.1))


def draw_photos(*shape: int) -> torch.Tensor:
    """Noise: every pixel matters."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier() -> Classifier:
    """A small network whose answers vary, with batch statistics as training leaves them."""
    torch.manual_seed(0)
    network = build_network(Hyperparameters(width=8))
    for _ in range(50):
        network(torch.randn(32, 3, 32, 32))
    nn.init.normal_(network.head.weight, std=0.05)
    return Classifier(network, PREPROCESSING).eval()


@pytest.mark.parametrize("name", ["petnet", "resnet18", "mobilenet_v3_small"])
def test_each_architecture_answers_for_two_classes(name):
    """Ours, and two of torchvision's kinds."""
    network = build_network(Hyperparameters(architecture=name, width=8)).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


@pytest.mark.parametrize("side", [16, 40, 47, 96])
def test_petnet_takes_any_resolution(side):
    """Progressive training changes the resolution; odd maps must fit their shortcuts."""
    network = build_network(Hyperparameters(width=8)).eval()
    assert network(torch.zeros(1, 3, side, side)).shape == (1, 2)


def test_an_unknown_architecture_is_refused_with_the_choices():
    """A typing error is mended from the message alone."""
    with pytest.raises(InvalidInput, match="no architecture 'petnett': choose one of petnet, resnet18") as refusal:
        build_network(Hyperparameters(architecture="petnett"))
    assert all(name in str(refusal.value) for name in ARCHITECTURES)


def test_photos_at_the_resolution_are_only_scaled(classifier):
    """Resizing stands in the graph for every size, so at the trained size it must change no bit."""
    photos = draw_photos(4, 32, 32, 3)
    levels = photos.permute(0, 3, 1, 2).float()
    means, deviations = (
        255 * torch.tensor(shares).view(3, 1, 1)
        for shares in (PREPROCESSING.channel_means, PREPROCESSING.channel_deviations)
    )
    assert torch.equal(classifier.prepare(photos), (levels - means) / deviations)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (60, 41), (17, 200)])
def test_a_photo_of_any_size_gets_probabilities_that_add_to_one(classifier, height, width):
    """What the service promises for any camera."""
    probabilities = classifier(draw_photos(3, height, width, 3))
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (3, 2)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(3), atol=1e-6)
    assert probabilities.min() >= 0


def test_a_mirrored_photo_gets_the_same_answer(classifier):
    """The second look is inside, for every user of the classifier."""
    photos = draw_photos(8, 32, 32, 3)
    single = classifier.network(classifier.prepare(photos)).softmax(dim=1)
    mirrored = classifier.network(classifier.prepare(photos.flip(2))).softmax(dim=1)
    assert not torch.allclose(single, mirrored, atol=1e-3)  # without the second look it would not
    assert torch.allclose(classifier(photos), classifier(photos.flip(2)), atol=1e-6)


def test_a_shrunken_photo_is_antialiased(classifier):
    """A fine chequer is grey from afar; picking pixels would make it black or white."""
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    chequer = (255 * ((rows + columns) % 2)).to(torch.uint8).view(1, 128, 128, 1).expand(1, 128, 128, 3)
    grey = torch.full((1, 32, 32, 3), 127.5)
    assert torch.allclose(classifier.prepare(chequer), classifier.prepare(grey), atol=0.05)


def test_scaling_is_no_part_of_the_weights(classifier):
    """It travels as the preprocessing record; kept twice it could disagree."""
    assert all(name.startswith("network.") for name in classifier.state_dict())
