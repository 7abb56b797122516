"""A network compiled once for all the resolutions it meets, where the machine can: fewer, fused kernels.

Not here: when that is wanted (recipes.Hyperparameters.is_compiled), or the network (network.py).
"""

import logging
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from petpark_assets.domain.model.devices import half_precision


def compiled(network: nn.Module, samples: Sequence[Tensor]) -> nn.Module | None:
    """The network compiled by torch and tried on batches of inputs; None, with a warning, where that fails.

    It shares the network's weights, and neither they nor any statistic is changed by the trial. Triton needs a C
    compiler and Python's headers, which a bare machine with a GPU may lack.

    Args:
        network: in training.
        samples: inputs [N, 3, R, R] of every resolution that training will meet: nothing is compiled in an epoch, and a
            training that was resumed at a later resolution has the kernels of an undisturbed one.
    """
    torch.compiler.reset()  # earlier trainings of this process count against the limit of recompilations
    faster = cast("nn.Module", torch.compile(network))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gpus = [sample.device for sample in samples[:1] if sample.device.type == "cuda"]
    try:
        with torch.random.fork_rng(devices=gpus):
            for sample in samples:
                torch._dynamo.maybe_mark_dynamic(sample, (2, 3))  # noqa: SLF001 - documented; one graph for all sides
                with half_precision(sample.device):
                    faster(sample).float().sum().backward()
    except RuntimeError as error:  # all that torch's compilers raise
        reason = " ".join(str(error).split())[:200]
        logging.getLogger(__name__).warning("the network is trained uncompiled, compiling it failed: %s", reason)
        return None
    finally:
        network.load_state_dict(before)
        network.zero_grad()
    return faster
