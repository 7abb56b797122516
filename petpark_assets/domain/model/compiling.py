"""A network compiled for the shapes it meets, where the machine can: fewer, fused kernels.

Not here: when that is wanted (recipes.Hyperparameters.is_compiled), or the network (network.py).
"""

import logging
from typing import cast

import torch
from torch import Tensor, nn

from petpark_assets.domain.model.devices import half_precision


def compiled(network: nn.Module, sample: Tensor) -> nn.Module | None:
    """The network compiled by torch, tried on a batch of inputs; None, with a warning, where that fails.

    It shares the network's weights, and none of them, nor any statistic, is changed by the trial. Each resolution is
    compiled when it is met first: sizes left open would give slower kernels for every one of them. Triton needs a C
    compiler and Python's headers, which a bare machine with a GPU may lack.
    """
    torch.compiler.reset()  # earlier trainings of this process count against the limit of recompilations
    faster = cast("nn.Module", torch.compile(network, dynamic=False))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gpus = [sample.device] if sample.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpus), half_precision(sample.device):
            faster(sample).float().sum().backward()
    except RuntimeError as error:  # all that torch's compilers raise
        reason = " ".join(str(error).split())[:200]
        logging.getLogger(__name__).warning("the network is trained uncompiled, compiling it failed: %s", reason)
        return None
    finally:
        network.load_state_dict(before)
        network.zero_grad()
    return faster
