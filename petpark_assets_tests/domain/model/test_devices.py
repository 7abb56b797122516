"""Claims about devices: none is guessed, and computing repeatably is switched on and off again."""

import dataclasses
import re

import pytest
import torch

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.model.devices import arithmetic, describe_environment, find_device
from petpark_assets.domain.model.train import fit
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
def test_a_training_computes_as_asked_and_gives_the_settings_back(data, is_deterministic):
    """They are the process's: Ray's next trial, or the exam, must find its own."""
    before, seen = settings(), []
    told = dataclasses.replace(TINY, epochs=1, is_deterministic=is_deterministic)
    fit(data, PREPROCESSING, told, seed=0, device="cpu", on_epoch=lambda _: seen.append(settings()))
    assert seen == [(is_deterministic, False, not is_deterministic, is_deterministic)]
    assert settings() == before
    with pytest.raises(KeyError), arithmetic(CPU, is_deterministic=is_deterministic):
        raise KeyError
    assert settings() == before


def test_on_a_cpu_the_switch_changes_no_bit(data, fitted):
    """Processors repeat themselves anyway: the same weights, with the switch in their notes alone."""
    freely = fit(data, PREPROCESSING, dataclasses.replace(TINY, is_deterministic=False), seed=0, device="cpu")
    assert weights_bytes(freely) == weights_bytes(fitted)


def test_an_environment_names_its_device_class():
    """Threads divide sums, and divided sums round otherwise: they are part of the class."""
    found = describe_environment(CPU)
    assert re.fullmatch(rf"cpu \w+, {torch.get_num_threads()} threads", found["device"])
    assert found["torch"] == torch.__version__
