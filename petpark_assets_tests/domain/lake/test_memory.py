"""An ingestion handles the process's memory in its own way, and hands it back as it was, in a server too."""

import gc

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
