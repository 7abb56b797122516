"""Claims about Muon: what it makes orthogonal, what it leaves, and what decays."""

import pytest
import torch
from torch import nn

from petpark_assets.domain.model import optimiser as optimiser_module
from petpark_assets.domain.model.optimiser import Muon, orthogonalise


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32, 32), (16, 8, 3, 3), (64, 8), (8, 64)])
def test_an_orthogonal_update_moves_all_directions_about_as_far(monkeypatch, shape, precision):
    """That is Muon's whole idea: rare directions learn as fast as common ones. In a GPU's precision too, made here."""
    monkeypatch.setattr(optimiser_module, "_precision", lambda _rows: precision)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (update,) = orthogonalise([gradient])
    assert update.dtype == torch.float32  # as the weights that it changes
    rows = update.flatten(1)
    scale = max(1.0, rows.shape[0] / rows.shape[1]) ** 0.5
    strengths = torch.linalg.svdvals(rows) / scale
    before = torch.linalg.svdvals(gradient.flatten(1))
    assert strengths.max() < 1.3
    assert strengths.median() > 0.6
    assert strengths.max() / strengths.median() < before.max() / before.median()


def test_an_orthogonal_update_goes_the_gradients_way_whatever_its_size():
    """A step of the same length for a gradient of any scale; along it, not against it."""
    gradient = torch.randn(16, 48, generator=torch.Generator().manual_seed(0))
    (update,) = orthogonalise([gradient])
    assert (update * gradient).sum() > 0
    assert torch.allclose(orthogonalise([1e-3 * gradient])[0], update, atol=1e-3)


def test_every_parameter_is_changed_and_only_matrices_decay():
    """With no gradient there is only decay: weights shrink by the same factor, normalisation stays."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimiser = Muon(network, learning_rate=0.1, weight_decay=0.5)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(network.parameters()))
    optimiser.step()
    for parameter in network.parameters():
        expected = 0.95 if parameter.ndim > 1 else 1.0
        assert torch.allclose(parameter, torch.full_like(parameter, expected))


def test_a_parameter_without_gradient_is_left_alone():
    """Frozen layers stay as they are, decay included."""
    network = nn.Linear(8, 8)
    before = network.weight.detach().clone()
    Muon(network, learning_rate=0.1, weight_decay=0.5).step()
    assert torch.equal(network.weight, before)
