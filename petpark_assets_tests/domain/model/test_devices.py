"""Claims about devices: none is guessed, and computing repeatably is switched on and off again."""

import contextlib
import dataclasses
import os
import re

import pytest
import torch

from petpark_assets.domain.errors import InvalidInput, TooLittleMemory, TransientError
from petpark_assets.domain.model.devices import arithmetic, describe_environment, find_device
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


def test_on_a_cpu_the_switch_changes_no_bit(data, fitted):
    """Processors repeat themselves anyway: the same weights, with the switch in their notes alone."""
    freely = fit(data, PREPROCESSING, dataclasses.replace(TINY, is_deterministic=False), seed=0, device="cpu")
    assert weights_bytes(freely) == weights_bytes(fitted)


def test_an_environment_names_its_device_class():
    """Threads divide sums, and divided sums round otherwise: they are part of the class."""
    found = describe_environment(CPU)
    assert re.fullmatch(rf"cpu \w+, {torch.get_num_threads()} threads", found["device"])
    assert found["torch"] == torch.__version__
