"""Sampling from probabilities."""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

DEFAULT_VELOCITY = 64


def top_p_mask(p: Tensor, top_p: float) -> Tensor:
    """Mark the most likely entries of each row that together hold the share `top_p` of its sum."""
    if top_p == 1:
        return torch.ones_like(p, dtype=torch.bool)
    ordered, order = p.sort(-1, descending=True)
    likelier = ordered.cumsum(-1) - ordered
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, likelier < top_p * p.sum(-1, keepdim=True))


def limit_polyphony(on: Tensor, may_start: Tensor, logits: Tensor, most: int) -> Tensor:
    """Leave out the least likely onsets until at most `most` pitches of each row sound."""
    if most >= on.shape[-1]:
        return on
    rank = torch.where(on & may_start, logits, torch.where(on, math.inf, -math.inf))
    top = torch.zeros_like(on).scatter(-1, rank.topk(most).indices, True)
    return on & (~may_start | top)


def median_velocity(primes: Tensor) -> Tensor:
    """Return the median velocity of each prime, for outputs that predict no velocity, shape (B, 1)."""
    medians = [int(each[each > 0].median()) if each.any() else DEFAULT_VELOCITY for each in primes]
    return torch.tensor(medians, dtype=torch.uint8)[:, None]


def frame_by_frame(function: Callable) -> Callable:
    """Make a function run without gradients and in one thread: products of single frames are too small to share."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return function(*args, **kwargs)
        finally:
            torch.set_num_threads(n_threads)

    return wrapped
