"""Where torch computes, and what the bits of a result depend on."""

import contextlib

import numpy as np
import torch

from petpark_assets.domain.errors import InvalidInput


def find_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one. Raises InvalidInput on `cuda` without a GPU and on other names."""
    choices = ("auto", "cpu", "cuda")
    if name not in choices:
        raise InvalidInput(f"device is {name!r}: it must be one of {', '.join(choices)}")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise InvalidInput("device is 'cuda', but torch sees no GPU here: choose cpu or auto")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def describe_device(device: torch.device) -> str:
    """What a training's bits depend on beside its seed: `cpu AVX512, 2 threads` or `cuda NVIDIA H200`."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def describe_environment(device: torch.device) -> dict[str, str | int]:
    """What the bits of a training on a device depend on beside what it was told: equal names mean one device class."""
    common: dict[str, str | int] = {"torch": torch.__version__, "numpy": np.__version__}
    if device.type == "cuda":
        name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return common | {"device": name, "cuda": torch.version.cuda or "", "cudnn": cudnn}
    return common | {"device": f"cpu {torch.backends.cpu.get_cpu_capability()}", "threads": torch.get_num_threads()}


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 for convolutions on a GPU; float32 on a CPU, where it is faster (see the top)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
