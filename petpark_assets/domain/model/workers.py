"""Several processes of one machine that train one network together, each on its part of every batch.

All draw the same weights, order and crops by the same seed, and take the same step by the mean of their gradients: so
they stay alike with nothing but gradients between them. Batch statistics are those of a worker's part, as in torch's
own DistributedDataParallel. Those of the first are kept, and its checkpoints.

`part`, `average_gradients` and `mean` are what the training loop asks for; alone they do nothing.
Not here: the loop (train.py), or what a trial is (trial.py).
"""

import contextlib
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from petpark_assets.domain.errors import ProcessLost

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Workers of one machine talk over 127.0.0.1; nobody else reaches them."""

PATIENCE_S = 5
"""How long another worker has to end by itself."""

MEETING_S = 300
"""How long workers wait for each other, at their start and at each exchange: torch itself would for half an hour."""


def part(batch: Tensor) -> Tensor:
    """This worker's part of a batch [N, ...]: at least one photo where there are as many as workers."""
    if not distributed.is_initialized():
        return batch
    return batch.tensor_split(distributed.get_world_size())[distributed.get_rank()]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Let every worker have the mean of all workers' gradients."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange a step, not one a layer
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    parts = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, averaged in zip(gradients, parts, strict=True):
        gradient.copy_(averaged.view_as(gradient))


def mean(value: Tensor) -> Tensor:
    """The mean of all workers' values of a scalar."""
    if not distributed.is_initialized():
        return value
    distributed.all_reduce(total := value.clone())
    return total / distributed.get_world_size()


def own_checkpoint(path: Path) -> Path:
    """Where this worker keeps its state: the first in `path`, from which the others start."""
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        return path
    own = path.with_name(f"{path.name}.{distributed.get_rank()}")
    own.unlink(missing_ok=True)
    if path.exists():
        shutil.copy(path, own)
    return own


def in_step() -> None:
    """Wait until every worker is here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def together(num_workers: int, train: Callable[[], Any], *, has_gpus: bool) -> Iterator[None]:
    """Have this process and others of its kind train together: `train` runs in each of the others meanwhile.

    `train` must be picklable. Without `has_gpus` the machine's GPUs, which Ray leaves visible, are not used.
    Raises ProcessLost when another worker ended before this one, also while it started.
    """
    if num_workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        meeting = f"{folder}/meeting"
        begun = [_begin(rank, num_workers, meeting, has_gpus, train) for rank in range(1, num_workers)]
        others = [other for other, _ in begun]
        for other in others:
            stack.callback(_end, other)
        for _, sign in begun:
            _await(sign)
        try:
            with _member(0, num_workers, meeting, has_gpus):
                yield
        except RuntimeError as error:  # what torch raises when a partner is gone, among others
            for other in others:
                other.join(timeout=PATIENCE_S)
            if any(other.exitcode for other in others):
                raise ProcessLost(f"a worker of the trial ended before it was done ({error})") from error
            raise


def _begin(
    rank: int, num_workers: int, meeting: str, has_gpus: bool, train: Callable[[], Any]
) -> tuple[SpawnProcess, Connection]:
    """Another worker, starting, and where its sign will come from."""
    spawning = multiprocessing.get_context("spawn")
    sign, giver = spawning.Pipe(duplex=False)
    told = (rank, num_workers, meeting, has_gpus, train)
    other = spawning.Process(target=_work, args=told, kwargs={"sign": giver}, daemon=True)
    other.start()
    giver.close()  # the worker alone holds it now, so that the pipe ends with it
    return other, sign


def _await(sign: Connection) -> None:
    """Wait until another worker is about to go to the meeting. Who dies earlier is never seen there, nor missed."""
    try:
        if sign.poll(MEETING_S):
            sign.recv()
            return
    except EOFError:
        pass
    raise ProcessLost("a worker of the trial ended, or hung, before it had begun")


def _work(
    rank: int, num_workers: int, meeting: str, has_gpus: bool, train: Callable[[], Any], *, sign: Connection
) -> None:
    threading.Thread(target=_end_with_the_first, name="first-watch", daemon=True).start()
    sign.send("here")
    with _member(rank, num_workers, meeting, has_gpus):
        train()


def _end_with_the_first() -> None:
    """In a thread: end this worker as soon as the process of the first has ended, killed or not.

    Nobody is left to see to it then, and what waits for the first at an exchange would hold the GPU for MEETING_S.
    """
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


@contextmanager
def _member(rank: int, num_workers: int, meeting: str, has_gpus: bool) -> Iterator[None]:
    """One of the workers, which meet by a file: torch's usual server would listen to the network."""
    os.environ.update(LOOPBACK)
    num_gpus = torch.cuda.device_count() if has_gpus else 0
    if num_gpus:
        torch.cuda.set_device(rank % num_gpus)
    backend = "nccl" if num_gpus >= num_workers else "gloo"  # NCCL wants a card for each
    distributed.init_process_group(
        backend,
        init_method=f"file://{meeting}",
        timeout=timedelta(seconds=MEETING_S),
        rank=rank,
        world_size=num_workers,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _end(process: SpawnProcess) -> None:
    process.join(timeout=PATIENCE_S)
    process.kill()
    process.join()
