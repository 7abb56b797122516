"""An ingestion handles the process's memory in its own way, and hands it back as it was, in a server too."""

import gc
import platform
import subprocess
import sys

import pyarrow as pa
import pytest

from petpark_assets.domain.lake.memory import collecting_no_garbage, keeping_memory, passing_over_what_is_there


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has rules of its own")
def test_a_block_that_was_freed_is_used_again():
    """Else each page is cleared by the system, time and again; in a process of its own, since the rule is for good."""

    def pages(manner: str) -> int:
        command = [sys.executable, "-c", COUNT_PAGES, manner]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pages("kept") < 100 < pages("not kept")


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
