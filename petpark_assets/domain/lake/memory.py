"""How an ingestion uses memory: it keeps what it freed, and looks for no garbage among what is none.

The system hands memory over page by page, each cleared first. Arrays of megabytes that are made and freed for every
dozen photos were half of squeezing's time so, and a tenth of all that a thousand photos take on a lake of 100,000.
Not here: memory that is used again by name (squeezing.kept_memory).
"""

import contextlib
import ctypes
import gc
from collections.abc import Iterator

import pyarrow as pa

KEPT_BYTES = 256 * 2**20
"""Of freed memory that the C library keeps in the end, at most, for each of its heaps."""
LARGE_BYTES = 32 * 2**20
"""Single pieces that large come from the system and go back to it; the C library's own rule never goes higher."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers for mallopt."""


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Have freed memory used again: Arrow's by the C library, whose own pool gives it back within milliseconds.

    What the C library (glibc; others are left alone) was told stays: it cannot be asked what it was told before. What
    it has kept by the end goes back to the system.
    """
    library = ctypes.CDLL(None)
    if is_glibc := hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
        if is_glibc:
            library.malloc_trim(0)


@contextlib.contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Photos are half a million small objects and no cycles: looking for some among them took a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
