"""Claims about an epoch on an accelerator, shown on torch's device `meta`: it has shapes and no data.

Whatever asks it for a value fails there, as it would make the host wait for a GPU. Speed, streams and the GPU's own
kernels cannot be seen so: `make bench-gpu` is for these.
"""

import contextlib
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from petpark_assets.domain.model import photos, train
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, draw_data

META = torch.device("meta")
COPIES = ("aten._to_copy.", "aten.copy_.", "aten.to.")
FULL = dataclasses.replace(TINY, hidden_share_max=0.2, colour_jitter=0.2)


@pytest.fixture(params=[TINY, FULL, dataclasses.replace(FULL, architecture="resnet18")], ids=["tiny", "full", "resnet"])
def training(request, monkeypatch):
    """One whose photos all fit the device; autocast knows no such device."""
    monkeypatch.setattr(photos, "_fits", lambda *_: True)
    monkeypatch.setattr(train, "half_precision", lambda _device: contextlib.nullcontext())
    return train.Training(draw_data(), PREPROCESSING, request.param, 0, META)


class Watch(TorchDispatchMode):
    """Notes what is sent to the device, whether it is waited for, and each convolution; fails where both are mixed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, _types, args=(), kwargs=None):
        """Called for every operation, those of the backward pass too."""
        result = operation(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {}, result)) if isinstance(leaf, torch.Tensor)]
        is_mixed = len({tensor.device for tensor in tensors if tensor.ndim > 0}) > 1
        if is_mixed:
            assert str(operation).startswith(COPIES), f"{operation} mixes host and device"
            self.seen.append("sent" if (kwargs or {}).get("non_blocking") else "sent and waited for")
        elif "convolution" in str(operation):
            self.seen.append("convolution")
        return result


def test_no_step_of_an_epoch_waits_for_the_device_or_is_sent_anything(training):
    """Order, crops and photos are there before the first step; from then on the host only says what to do."""
    with Watch() as watch:
        total = training.learn(0, PREPROCESSING.resolution_px)
    first = watch.seen.index("convolution")
    assert {"sent", "sent and waited for"} == {*watch.seen[:first]}  # the device has nothing to do as yet
    assert {*watch.seen[first:]} == {"convolution"}
    assert watch.seen.count("convolution") > 2 * training.num_batches  # back and forth
    assert total.device == META


def test_the_end_of_an_epoch_waits_once(training, monkeypatch):
    """For loss and accuracy together: all before it, validation included, asks the device for nothing."""
    asked = []

    def to_list(tensor):
        asked.append(tensor.device)
        return [0.7, 0.7, 0.5]

    monkeypatch.setattr(torch.Tensor, "tolist", to_list)
    monkeypatch.setattr(training.average, "weights", dict)  # the best ones go to the host, after that
    with Watch() as watch:
        training.run_epoch()
    first = watch.seen.index("convolution")
    assert {*watch.seen[first:]} == {"sent", "convolution"}  # which photos to validate on
    assert asked == [META]
    assert training.epochs[0].validation_accuracy == 0.5


@pytest.mark.parametrize("ask", [torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.nonzero, bool])
def test_whoever_asks_this_device_for_a_value_fails(ask):
    """Else the claims above would be empty."""
    with pytest.raises((NotImplementedError, RuntimeError)):
        ask(torch.zeros(1, device=META))
