"""Claims about compiled networks: they leave the weights alone, and a machine without a compiler trains too."""

import logging

import pytest
import torch

from petpark_assets.domain.model.compiling import compiled
from petpark_assets.domain.model.network import build_network
from petpark_assets_tests.domain.model.squares import TINY


@pytest.fixture
def network():
    """A small one, training."""
    torch.manual_seed(0)
    return build_network(TINY).train()


SAMPLES = [torch.rand(4, 3, side_px, side_px) for side_px in (32, 48, 64)]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_answers_alike_and_its_trial_changes_nothing(network, monkeypatch, backend):
    """Batch statistics of a made-up batch would be the first thing the average remembers."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda given, **told: real(given, backend=backend, **told))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    faster = compiled(network, SAMPLES)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    for sample in SAMPLES:
        assert torch.allclose(faster(sample), network(sample), atol=1e-5)


def test_all_resolutions_share_one_graph(network, monkeypatch):
    """A graph costs some twenty seconds on a GPU, as much as dozens of epochs."""
    real, graphs = torch.compile, []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda given: real(given, backend=count))
    faster = compiled(network, SAMPLES)
    faster(torch.rand(4, 3, 80, 80))
    assert len(graphs) == 1


def test_without_a_compiler_it_is_said_and_trained_as_written(network, monkeypatch, caplog):
    """A bare machine with a GPU may have no C compiler, which Triton needs."""

    def refuse(_network, **_):
        def forward(_inputs):
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

        return forward

    monkeypatch.setattr(torch, "compile", refuse)
    with caplog.at_level(logging.WARNING):
        assert compiled(network, SAMPLES) is None
    (line,) = caplog.messages
    assert line.startswith("the network is trained uncompiled, compiling it failed: Failed to find C compiler. Please")
