"""Train in several processes that ``torchrun`` started, on one machine or on many.

Each process computes its part of every batch. Gradients and losses are added up, so that all take the same step.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed

from musicgen.dataset import Batch
from musicgen.training import Trainer

TIMEOUT = timedelta(minutes=5)  # for a process that hangs; one that ended is noticed at once
PREPARATION = timedelta(days=7)  # for the first process to sample the data while the others wait


@contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """Connect the processes of ``torchrun`` during the block; do nothing for a single process.

    They communicate through gloo, and for tensors on a GPU through NCCL. With the device "cpu" they use no GPU.

    Raises
    ------
    ValueError
        If a machine has fewer GPUs than processes, but not none.
    ConnectionError
        If the other processes cannot be reached.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield
        return
    n_gpus = 0 if device == "cpu" else torch.cuda.device_count()
    local_rank = _local_rank()
    if n_gpus:
        if local_rank >= n_gpus:
            raise ValueError(f"this machine has {n_gpus} GPUs, but more processes: start one per GPU")
        torch.cuda.set_device(local_rank)
    with _or_lost():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if n_gpus else "gloo", timeout=TIMEOUT)
    yield
    with _or_lost():
        distributed.barrier()  # wait for all: when one exits with a code other than 0, torchrun stops the others
    distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def n_ranks() -> int:
    """Return the number of processes (the world size)."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def one_by_one() -> Iterator[None]:
    """Run the block in the first process, then in the first process of each machine, then in all others."""
    turn = 0 if rank() == 0 else 1 if _local_rank() == 0 else 2
    waiting = distributed.new_group(backend="gloo", timeout=PREPARATION) if n_ranks() > 1 else None
    for step in range(3):
        if step == turn:
            yield
        if waiting:
            with _or_lost():
                distributed.barrier(waiting)


class DistributedTrainer(Trainer):
    """A `Trainer` for several processes, with the same result as one process up to rounding."""

    @property
    def writes(self) -> bool:
        """True in the first process, which alone writes checkpoints and shows progress."""
        return rank() == 0

    def _broadcast_weights(self) -> None:
        first = torch.tensor(self.progress.updates)  # of the first process, after the broadcast
        with _or_lost(), torch.no_grad():
            distributed.broadcast(first, 0)
            for weight in self.model.parameters():
                distributed.broadcast(weight, 0)
        if self._any_process(first.item() != self.progress.updates):
            raise ValueError("the processes find different checkpoints: they must share the run folder")

    def _shard(self, batch: Batch) -> Batch:
        """Return the windows of this process: of n processes, each takes every n-th window of the batch.

        All processes but the first also set their own seed for dropout, which is the same after a resume.
        """
        if rank():
            seed = np.random.SeedSequence([self.config.seed, rank(), self.progress.updates])
            torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        if rank() < len(batch.lengths):
            return Batch(*(each[rank() :: n_ranks()] for each in batch))
        shard = Batch(*(each[:1] for each in batch))
        return shard._replace(lengths=shard.lengths * 0 + 1)  # one window without a frame to predict

    def _all_reduce(self, tensors: list[Tensor]) -> None:
        all_reduce(tensors)

    def _any_process(self, flag: bool) -> bool:
        n_raised = torch.tensor(float(flag))
        all_reduce([n_raised])
        return bool(n_raised)

    def _mean_of_processes(self, value: float) -> float:
        return mean_of(value, 1.0)


def all_reduce(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, with one all-reduce.

    All tensors must have the same type and device.
    """
    if n_ranks() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _or_lost():
        distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(total.view_as(tensor))


def mean_of(total: float, count: float) -> float:
    """Return the mean over all processes, given the sum and count of each."""
    sums = torch.tensor([total, count], dtype=torch.float64)
    all_reduce([sums])
    return float(sums[0] / sums[1])


def _local_rank() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


@contextmanager
def _or_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = "another process of this run ended or does not answer; the last checkpoint is kept, resume from it"
        raise ConnectionError(f"process {rank()}: {lost}") from error
