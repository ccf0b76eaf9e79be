"""Optimisers, learning-rate schedules and lower precision."""

import math
from functools import cache

import torch
from torch import nn

WARM_UP = 0.02  # share of the run
OPTIMIZERS = {
    "sgd": lambda weights, c: torch.optim.SGD(weights, c.learning_rate, momentum=c.momentum),
    "adamw": lambda weights, c: torch.optim.AdamW(weights, c.learning_rate, weight_decay=c.weight_decay, fused=True),
}
# The factor of the learning rate, given the finished share of the run.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: min(1.0, (done + 1e-4) / WARM_UP) * (1 + math.cos(math.pi * done)) / 2,
}


def autocast(device: str, precision: str) -> torch.autocast:
    """Compute in a precision during the block; on a processor without bfloat16, in float32.

    Parameters
    ----------
    device : str
        Type of a device, such as ``cpu``.
    precision : {"float32", "bfloat16"}
    """
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16" and has_bfloat16(device))


@cache
def has_bfloat16(device: str) -> bool:
    """Return whether an LSTM can run in bfloat16. On processors without AVX-512, oneDNN raises RuntimeError."""
    if device != "cpu":
        return True
    lstm = nn.LSTM(1, 1, device="meta").to_empty(device=device)  # draws no random numbers
    try:
        with torch.autocast(device, torch.bfloat16):
            lstm(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True
