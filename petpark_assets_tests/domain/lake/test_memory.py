"""An ingestion handles the process's memory in its own way, and hands it back as it was, in a server too."""

import gc
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from petpark_assets.domain.lake.memory import (
    collecting_no_garbage,
    give_back_what_is_free,
    keeping_memory,
    passing_over_what_is_there,
)


class Cycle:
    """Garbage that only the collector finds."""

    num_left = 0

    def __init__(self):
        self.itself = self
        Cycle.num_left += 1

    def __del__(self):
        Cycle.num_left -= 1


COUNT_PAGES = """
import resource, sys
import numpy as np
from petpark_assets.domain.lake.memory import keeping_memory
if sys.argv[1] == "kept":
    with keeping_memory():
        pass
np.ones(2**23, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""How many pages 8 MiB are asked for when as many have just been freed."""

COUNT_HEAPS = """
import ctypes, sys, tempfile, threading
from petpark_assets.domain.lake.memory import keeping_memory
if sys.argv[1] == "kept":
    with keeping_memory():
        pass
def num_heaps():
    with tempfile.NamedTemporaryFile("r") as file:
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        opened = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        libc.malloc_info(0, opened)
        libc.fclose(opened)
        return file.read().count("<heap ")
before, barrier = num_heaps(), threading.Barrier(4)
def use():
    block = bytearray(2**16)
    barrier.wait()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(num_heaps() - before)
"""
"""How many heaps more there are when four threads took memory at once."""

of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has rules of its own")


def count(script, manner):
    """What a script prints, in a process of its own, since the rules are for good."""
    command = [sys.executable, "-c", script, manner]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@of_glibc
def test_a_block_that_was_freed_is_used_again():
    """Else each page is cleared by the system, time and again."""
    assert count(COUNT_PAGES, "kept") < 100 < count(COUNT_PAGES, "not kept")


@of_glibc
def test_threads_share_the_heaps_that_there_are():
    """Else each has one of its own, with what it freed and no other may use."""
    assert (count(COUNT_HEAPS, "kept"), count(COUNT_HEAPS, "not kept")) == (0, 4)


@of_glibc
def test_what_is_free_goes_back_to_the_system():
    """A step must not come on top of what only the one before it needed."""
    blocks = [np.ones(2**16, np.uint8) for _ in range(512)]
    kept = blocks[::16]  # here and there, as facts lie between the pixels that they are about
    before = resident_bytes()
    del blocks
    give_back_what_is_free()
    assert before - resident_bytes() > 24 * 2**20
    assert all(block.all() for block in kept)


def resident_bytes():
    """The memory that this process has, by Linux's count."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_garbage_made_meanwhile_is_collected_and_what_was_there_afterwards():
    """What is passed over must not stay for ever."""
    before = Cycle()
    with passing_over_what_is_there():
        del before
        Cycle()
        gc.collect()
        assert Cycle.num_left == 1
    gc.collect()
    assert Cycle.num_left == 0


def test_what_somebody_else_has_frozen_stays_frozen():
    """Servers freeze what they loaded before they fork."""
    gc.freeze()
    try:
        with passing_over_what_is_there():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("manner", [collecting_no_garbage, keeping_memory, passing_over_what_is_there])
def test_a_failure_gives_everything_back(manner):
    """An ingestion that fails in a server must not leave it without a collector."""
    pool = pa.default_memory_pool().backend_name
    with pytest.raises(ZeroDivisionError), manner():
        _ = 1 / 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert pa.default_memory_pool().backend_name == pool
