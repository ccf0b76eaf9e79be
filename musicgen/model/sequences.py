"""Sequences that are processed piece by piece: caches of past frames, moving averages, ages."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Cache(NamedTuple):
    """The last frames of a sequence, in a preallocated buffer.

    The buffer has the shape (batch, capacity, size); its first `end` frames are in use.
    A call that continues from a cache writes into its buffer, so continue from each state only once.
    """

    buffer: Tensor
    end: int


def append(cache: Cache | None, new: Tensor, span: int) -> tuple[Tensor, Cache]:
    """Add frames to a cache.

    Parameters
    ----------
    cache : Cache or None
        None at the start of the sequence.
    new : Tensor, shape (batch, n_new, size)
    span : int
        Each frame sees ``span - 1`` frames before it.

    Returns
    -------
    recent : Tensor, shape (batch, n_past + n_new, size)
        The last ``span - 1`` frames of the cache, or fewer at the start, and the new ones.
    cache : Cache
    """
    if cache is None:
        return new, Cache(new, new.shape[1])
    start, n_new = max(0, cache.end - (span - 1)), new.shape[1]
    if cache.end + n_new > cache.buffer.shape[1]:
        buffer = new.new_empty(len(new), 2 * span + n_new, new.shape[2])
        buffer[:, : cache.end - start] = cache.buffer[:, start : cache.end]
        cache, start = Cache(buffer, cache.end - start), 0
    cache.buffer[:, cache.end : cache.end + n_new] = new
    return cache.buffer[:, start : cache.end + n_new], Cache(cache.buffer, cache.end + n_new)


def spans(n_frames: int, n_past: int, span: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of at most `span` queries, each with the slice of keys that they see."""
    for start in range(0, n_frames, span):
        end = min(start + span, n_frames)
        yield slice(start, end), slice(max(0, n_past + start - (span - 1)), n_past + end)


def frames_since(changed: Tensor, age: Tensor, max_age: float) -> Tensor:
    """Return the number of frames since each value last changed.

    Parameters
    ----------
    changed : Tensor, shape (batch, n_frames, size)
        1 where a value differs from that of the frame before.
    age : Tensor, shape (batch, size)
        The count before the first frame.
    max_age : float
        The count stays at this limit.

    Returns
    -------
    Tensor, shape (batch, n_frames, size)
    """
    if changed.shape[1] == 1:
        return ((age[:, None] + 1) * (1 - changed)).clamp(max=max_age)
    frame = torch.arange(changed.shape[1], device=changed.device, dtype=changed.dtype)[:, None]
    last = torch.where(changed > 0, frame, -1 - age[:, None]).cummax(dim=1).values
    return (frame - last).clamp(max=max_age)


def moving_averages(signals: Tensor, decays: tuple[float, ...], before: Tensor) -> Tensor:
    """Compute exponential moving averages over time, with one decay per signal.

    Parameters
    ----------
    signals : Tensor, shape (batch, n_signals, n_frames, size)
    decays : tuple of float
    before : Tensor, shape (batch, n_signals, size)
        The averages before the first frame.

    Returns
    -------
    Tensor, shape (batch, n_signals, n_frames, size)
    """
    decay = torch.tensor(decays, device=signals.device, dtype=signals.dtype)[:, None, None]
    if signals.shape[2] == 1:
        return decay * before[:, :, None] + (1 - decay) * signals
    frame = torch.arange(signals.shape[2], device=signals.device, dtype=signals.dtype)
    distance = frame[:, None] - frame  # (T, T)
    weights = torch.where(distance < 0, 0.0, (1 - decay) * decay ** distance.clamp(min=0))  # (D, T, T)
    return weights @ signals + decay ** (frame[:, None] + 1) * before[:, :, None]
