"""How an ingestion uses memory: it keeps what it freed, and looks for no garbage among what is none.

Not here: memory that is used again by name (resizing.kept_memory).
"""

import contextlib
import ctypes
import gc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

_LARGEST_KEPT_BYTES = 31 * 2**20
"""A little less than the largest block that glibc keeps, 32 MiB (mallopt(3), M_MMAP_THRESHOLD)."""
_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Arrow's tables in memory of the C library, which uses again what was freed, blocks of some megabytes too.

    Arrow's own pool gives it back to the system within milliseconds, page by page, and then asks for it anew, which is
    cleared each time: a tenth of the time that a thousand new photos take on a lake of 100,000. So does glibc with
    blocks of more than 128 KiB, Lance's of a shard's pixels among them, until one that is as large was freed: some 3 %
    of the time of a first ingestion. And so that what one thread freed serves the next, threads that begin from now on
    share the heaps that there are: with one for each, 100,000 photos needed 160 MB more, and no less time. These rules
    of glibc's hold for the rest of the process.
    """
    _of_glibc("mallopt", _M_ARENA_MAX, 1)
    np.empty(_LARGEST_KEPT_BYTES, np.uint8)  # and freed at once
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def give_back_what_is_free() -> None:
    """What the C library keeps for later goes to the system, if it is glibc: between two steps that each need much.

    Else the second comes on top of what was only needed by the first. 13 ms with what 100,000 photos leave.
    """
    _of_glibc("malloc_trim", 0)


def _of_glibc(name: str, *arguments: int) -> None:
    """Call a function that other C libraries need not have; of small numbers."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)


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


@contextlib.contextmanager
def passing_over_what_is_there() -> Iterator[None]:
    """Garbage is looked for among what is made from now on: a look at a listing of 100,000 takes 0.2 s each time."""
    if gc.get_freeze_count():  # somebody else's, to whom it was handed over
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
