"""Sampling from probabilities."""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

DEFAULT_VELOCITY = 64


def top_p_mask(p: Tensor, top_p: float) -> Tensor:
    """Return a mask of the most likely entries of each row that together reach the share `top_p` of its sum."""
    if top_p == 1:
        return torch.ones_like(p, dtype=torch.bool)
    ordered, order = p.sort(-1, descending=True)
    likelier = ordered.cumsum(-1) - ordered
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, likelier < top_p * p.sum(-1, keepdim=True))


def limit_polyphony(on: Tensor, may_start: Tensor, logits: Tensor, most: int) -> Tensor:
    """Remove the least likely onsets, so that at most `most` pitches of each row sound."""
    if most >= on.shape[-1]:
        return on
    rank = torch.where(on & may_start, logits, torch.where(on, math.inf, -math.inf))
    top = torch.zeros_like(on).scatter(-1, rank.topk(most).indices, True)
    return on & (~may_start | top)


def median_velocity(primes: Tensor) -> Tensor:
    """Return the median velocity (B, 1) of each prime, for models that predict no velocity."""
    medians = [int(each[each > 0].median()) if each.any() else DEFAULT_VELOCITY for each in primes]
    return torch.tensor(medians, dtype=torch.uint8)[:, None]


def frame_by_frame(function: Callable) -> Callable:
    """Decorate a function to run without gradients and in one thread, which is fastest for single frames."""

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
