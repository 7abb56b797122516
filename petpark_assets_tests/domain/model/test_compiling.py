"""Claims about compiled networks: they leave the weights alone, and a machine without a compiler trains too."""

import copy
import dataclasses
import logging

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch._inductor import metrics
from torch.nn import functional

from petpark_assets.domain.model import workers
from petpark_assets.domain.model.compiling import compiled
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.train import Training, TrainingData
from petpark_assets.domain.recipes import RECIPES
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY


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


@pytest.mark.long
def test_torchs_own_compiler_makes_one_code_for_all_sides_with_eagers_gradients(
    network, monkeypatch, tmp_path, debian_program
):
    """What a GPU's users get, by Inductor's code for CPUs: all else here is by backends that compile nothing."""
    debian_program("g++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # so that it does compile
    plain, made = copy.deepcopy(network), metrics.ir_nodes_pre_fusion
    graphs = counters["stats"]["unique_graphs"]  # of this process
    with torch._inductor.config.patch(compile_threads=1):  # in this process, which leaves none behind
        faster = compiled(network, SAMPLES)
    assert faster is not None
    assert counters["stats"]["unique_graphs"] == graphs + 1
    assert metrics.ir_nodes_pre_fusion > made
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sample in [*SAMPLES, *SAMPLES]:
            labels = torch.arange(len(sample)) % 2
            for each in (plain, faster):
                each.zero_grad()
                functional.cross_entropy(each(sample), labels).backward()
            for expected, found in zip(plain.parameters(), network.parameters(), strict=True):
                assert torch.allclose(found.grad, expected.grad, rtol=1e-3, atol=1e-5 * expected.grad.abs().max())
    assert counters["stats"]["unique_graphs"] == graphs + 1


@pytest.mark.parametrize("num_workers", [1, 2])
def test_no_batch_of_the_gpu_recipe_is_compiled_for_in_an_epoch(monkeypatch, num_workers):
    """There a failure would end the training, and one resumed at the second side would have other kernels.

    On a CPU with a narrow network; the batches are made as on a card, and one worker's parts by hand.
    """
    told = dataclasses.replace(RECIPES["gpu"].hyperparameters, width=4, epochs=2, batch_size=8)
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    data = TrainingData(images=images, labels=(np.arange(20) % 2).astype(np.uint8), validation=np.arange(20) < 4)
    real, counter = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda given: real(given, backend=counter))
    monkeypatch.setattr(workers, "part", lambda batch: batch.tensor_split(num_workers)[0])

    preprocessing = dataclasses.replace(PREPROCESSING, resolution_px=64)
    training = Training(data, preprocessing, told, seed=0, device=torch.device("cpu"))
    training._compile()
    assert (training.is_compiled, counter.frame_count) == (True, 1)
    for done in range(told.epochs):
        training.learn(done * training.num_batches, training.resolution_px(done))

    assert training.resolution_px(0) != training.resolution_px(1)
    assert counter.frame_count == 1


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
