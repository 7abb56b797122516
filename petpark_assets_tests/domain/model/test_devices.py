"""Claims about devices: none is guessed, and computing repeatably is switched on and off again."""

import contextlib
import dataclasses
import importlib.metadata
import os
import re
import weakref

import pytest
import torch

from petpark_assets.domain.errors import InvalidInput, TooLittleMemory, TransientError
from petpark_assets.domain.model.devices import (
    arithmetic,
    describe_environment,
    find_device,
    memory_given_back,
    named_failures,
)
from petpark_assets.domain.model.train import Training, fit
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes

CPU = torch.device("cpu")


def settings():
    """What arithmetic() changes, all of it the process's."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )


def test_an_unknown_device_is_refused():
    """Falling back in silence would cost a day on the wrong machine."""
    with pytest.raises(InvalidInput, match="device is 'tpu': it must be one of auto, cpu, cuda"):
        find_device("tpu")


@pytest.mark.parametrize("is_deterministic", [True, False])
def test_a_gpu_computes_as_asked_and_the_settings_are_given_back(monkeypatch, is_deterministic):
    """They are the process's: Ray's next trial, or the exam, must find its own, also after a failure."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # so that what is set here is taken back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before, gpu = settings(), torch.device("cuda")
    with contextlib.suppress(KeyError), arithmetic(gpu, is_deterministic=is_deterministic):
        inside = settings(), os.environ["CUBLAS_WORKSPACE_CONFIG"]
        raise KeyError
    assert inside == ((is_deterministic, False, not is_deterministic, is_deterministic), ":4096:8")
    assert settings() == before


@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nHints."),
            TooLittleMemory,
            "the GPU ran out of memory (CUDA out of memory. Tried to allocate 2.00 GiB): lower batch_size, or raise",
        ),
        (
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nHints."),
            TransientError,
            "the GPU failed (CUDA error: uncorrectable ECC error encountered): see what",
        ),
    ],
)
def test_a_gpus_failure_has_a_name_and_one_line(data, monkeypatch, failure, kind, told):
    """A traceback mends nothing. The errors are fakes, in the place of a card that fails: there is none here."""

    def fail(*_):
        raise failure

    monkeypatch.setattr(Training, "step", fail)
    with pytest.raises(kind) as raised:
        fit(data, PREPROCESSING, TINY, seed=0, device="cpu")
    assert type(raised.value) is kind
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


class Card:
    """Stands for a GPU, which is not here: what it is asked to free, and how it answers."""

    def __init__(self, monkeypatch, error=None):
        self.error, self.network, self.is_held = error, None, None
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.free)

    def free(self):
        """Give back what nothing holds."""
        self.is_held = self.network() is not None
        if self.error:
            raise self.error

    def train(self, error):
        """A network that only this frame holds, and a failure that torch tells and `named_failures` renames."""
        network = torch.nn.Linear(2, 2)
        self.network = weakref.ref(network)
        raise error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), KeyError("a bug")])
def test_what_a_failure_held_is_let_go_before_memory_is_given_back(monkeypatch, error):
    """Else torch frees it later, for a process that lives on: the trials beside it would find the card full."""
    card = Card(monkeypatch)
    with pytest.raises((TooLittleMemory, KeyError)), memory_given_back(), named_failures():
        card.train(error)
    assert card.is_held is False


def test_a_failed_card_that_cannot_even_free_is_told_by_its_name(monkeypatch):
    """CUDA's answer to the cleaning up would be noted as what the trial's point came to."""
    failure = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    card = Card(monkeypatch, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(TransientError, match="the GPU failed"), memory_given_back(), named_failures():
        card.train(failure)


def test_on_a_cpu_the_switch_changes_no_bit(data, fitted):
    """Processors repeat themselves anyway: the same weights, with the switch in their notes alone."""
    freely = fit(data, PREPROCESSING, dataclasses.replace(TINY, is_deterministic=False), seed=0, device="cpu")
    assert weights_bytes(freely) == weights_bytes(fitted)


@pytest.mark.parametrize(("is_there", "more"), [(True, {"triton": "9.9.9"}), (False, {})])
def test_a_gpus_environment_names_all_that_writes_its_kernels(monkeypatch, is_there, more):
    """A compiled network's are Triton's: a checkpoint of another one's is of another device class. The GPU is made up.

    Where there is no Triton nothing is compiled.
    """

    def find(name):
        assert name == "triton"
        if is_there:
            return "9.9.9"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", find)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = describe_environment(torch.device("cuda"))
    plain = {"device", "torch", "numpy"}
    assert {name: value for name, value in found.items() if name not in plain} == {
        "cuda": "13.0", "cudnn": "91900", **more
    }  # fmt: skip
    assert found["device"] == "cuda NVIDIA H200"


def test_an_environment_names_its_device_class():
    """Threads divide sums, and divided sums round otherwise: they are part of the class."""
    found = describe_environment(CPU)
    assert re.fullmatch(rf"cpu \w+, {torch.get_num_threads()} threads", found["device"])
    assert found["torch"] == torch.__version__
