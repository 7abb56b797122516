"""Where work on many photos runs, piece by piece: on this machine's processors, or wherever else a caller says.

Not here: a cluster's workers (resources/ray_cluster.py).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class MapShards(Protocol):
    """Like the built-in `map`: results in the order of the shards, wherever the function runs (it can be pickled)."""

    def __call__(self, function: Callable[[Shard], Result], shards: Iterable[Shard], /) -> Iterable[Result]:
        """Apply the function to every shard."""


def map_in_threads(function: Callable[[Shard], Result], shards: Iterable[Shard], /) -> Iterator[Result]:
    """On this machine's processors. Threads, since decoding, hashing and squeezing let go of the interpreter's lock.

    One more than there are processors, while one waits for the disk.
    """
    num_threads = (os.cpu_count() or 1) + 1
    # The threads of BLAS would spin beside ours: 0.9 ms of processor time a photo.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads, thread_name_prefix="photos") as pool:
        yield from pool.map(function, shards)
