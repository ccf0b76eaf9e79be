"""One training run in several processes, of one machine or of many: what they share, and how they agree.

Where there is one process, nothing here does anything. Of several each takes its share of every batch; gradients and
losses are added up, so that all take the same step.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed

PATIENCE = timedelta(minutes=5)  # for a process that does not answer; one that has ended is noticed at once
PREPARATION = timedelta(days=7)  # the others wait so long for the data


@contextmanager
def joined() -> Iterator[None]:
    """Until the block ends, be one of the processes that ``torchrun`` started, if it did.

    They talk by gloo, and about what lies on a GPU by NCCL.

    Raises
    ------
    ValueError
        If there are more processes than GPUs on a machine that has any.
    ConnectionError
        If the others cannot be reached.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield
        return
    n_gpus, place = torch.cuda.device_count(), _place()
    if n_gpus:
        if place >= n_gpus:
            raise ValueError(f"{n_gpus} GPUs on this machine, but more processes: start one for each")
        torch.cuda.set_device(place)
    with _or_lost():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if n_gpus else "gloo", timeout=PATIENCE)
    yield
    distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0; the first one writes and speaks for all."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def n_ranks() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def one_by_one() -> Iterator[None]:
    """Let the first process go through the block, then the first of each other machine, then the rest."""
    turn = 0 if rank() == 0 else 1 if _place() == 0 else 2
    waiting = distributed.new_group(backend="gloo", timeout=PREPARATION) if n_ranks() > 1 else None
    for place in range(3):
        if place == turn:
            yield
        if waiting:
            with _or_lost():
                distributed.barrier(waiting)


def share(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return this process's part of a batch: frames, lengths and labels, as `training.Batches` yields them.

    Where there are fewer windows than processes, it is one without a frame to predict: its gradients are zeros.
    """
    frames, lengths, labels = (part[rank() :: n_ranks()] for part in batch)
    return [frames, lengths, labels] if len(frames) else [batch[0][:1], np.ones_like(batch[1][:1]), batch[2][:1]]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Put into each tensor its sum over all processes, in one exchange; they are of one type, on one device."""
    if n_ranks() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _or_lost():
        distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(total.view_as(tensor))


def any_of(flag: bool) -> bool:
    """Tell every process whether one of them has the flag up."""
    add_up([raised := torch.tensor(float(flag))])
    return bool(raised)


def mean_of(total: float, count: float) -> float:
    """Return the mean over all processes' parts, of which each knows its sum and how many there are."""
    add_up([sums := torch.tensor([total, count], dtype=torch.float64)])
    return float(sums[0] / sums[1])


@contextmanager
def stop_on_signal() -> Iterator[Callable[[bool], bool]]:
    """Turn Ctrl-C, the notebook's stop button or a cluster's SIGTERM into a question to be asked between updates.

    All processes ask at the same time and get the same answer: yes, when one of them has had a signal, or asks with
    true for a reason of its own.
    """
    stop = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield lambda asked=False: any_of(asked or stop.is_set())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_alike(weights: Sequence[Tensor], updates: int) -> None:
    """Give every process the first one's weights; ValueError where they do not stand at the same update."""
    if n_ranks() == 1:
        return
    with _or_lost(), torch.no_grad():
        distributed.broadcast(first := torch.tensor(updates), 0)
        for weight in weights:
            distributed.broadcast(weight, 0)
    if any_of(first.item() != updates):
        raise ValueError("the processes do not find the same checkpoint: the run folder must be one that all share")


def scatter_chance(seed: int, updates: int) -> None:
    """Let every process but the first draw its own random numbers, in each update the same, also after a resume."""
    if rank():
        torch.manual_seed(int(np.random.SeedSequence([seed, rank(), updates]).generate_state(1, np.uint64)[0]))


def _place() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


@contextmanager
def _or_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = "another process of this run has ended or does not answer; the last checkpoint is kept, resume from it"
        raise ConnectionError(f"process {rank()}: {lost}") from error
