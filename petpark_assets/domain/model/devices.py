"""Where torch computes, how exactly, and what the bits of a result depend on."""

import contextlib
import gc
import importlib.metadata
import os
import traceback
from collections.abc import Iterator

import numpy as np
import torch

from petpark_assets.domain.errors import InvalidInput, TooLittleMemory, TransientError

CUBLAS_WORKSPACE = ":4096:8"
"""Without it torch refuses matrix products that must be repeatable; of 32 MB, as is cuBLAS's own choice for Hopper."""


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


def describe_environment(device: torch.device) -> dict[str, str]:
    """What the bits of a training on a device depend on beside what it was told: the same is one device class."""
    versions = {"device": describe_device(device), "torch": torch.__version__, "numpy": np.__version__}
    if device.type != "cuda":
        return versions
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    versions |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # then nothing is compiled
        versions["triton"] = importlib.metadata.version("triton")
    return versions


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 for convolutions on a GPU; float32 on a CPU, where it is faster (see train.py)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@contextlib.contextmanager
def named_failures() -> Iterator[None]:
    """A GPU's failures by our own names: TooLittleMemory, or TransientError where the card itself failed.

    After the latter CUDA answers nothing to this process any more: whoever tries again does so in another.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TooLittleMemory(
            f"the GPU ran out of memory ({_first_line(error)}): lower batch_size, or raise search.gpus_per_trial, so "
            "that fewer trials share a GPU"
        ) from error
    except torch.AcceleratorError as error:
        raise TransientError(f"the GPU failed ({_first_line(error)}): see what its driver logged") from error


def _first_line(error: Exception) -> str:
    """Torch's hints for debugging follow it."""
    return str(error).partition("\n")[0].strip(" .")


@contextlib.contextmanager
def memory_given_back() -> Iterator[None]:
    """Leave a GPU nothing of what was computed, however that ended.

    Torch keeps freed memory for this process, which may live on: to others, and to itself, it would count as used.
    """
    if not torch.cuda.is_available():
        yield
        return
    try:
        yield
    except BaseException as error:
        _clear_frames(error)  # their variables hold the network and its photos
        raise
    finally:
        gc.collect()  # as do networks that hold each other
        with contextlib.suppress(torch.AcceleratorError):  # a card that failed, of which `named_failures` has told
            torch.cuda.empty_cache()


def _clear_frames(error: BaseException | None) -> None:
    """Let go of what is held where an error was raised, and where those were that it came from."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def arithmetic(device: torch.device, *, is_deterministic: bool) -> Iterator[None]:
    """Compute repeatably, or as fast as cuDNN finds by trying; the caller's settings are given back.

    An operation that cannot be repeated on a GPU raises RuntimeError when `is_deterministic`. On a CPU nothing is set,
    and nothing costs: its sums are the same whenever the number of threads is.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)  # read when cuBLAS starts
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic
    fills = filling.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(is_deterministic)
    # Nothing here reads what it has not written, and filling costs time.
    filling.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=not is_deterministic, deterministic=is_deterministic, allow_tf32=True
        ):
            yield
    finally:
        filling.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for first weights and dropout, and give the caller's random state back."""
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
