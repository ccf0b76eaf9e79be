"""The training recipe: the loss, the optimiser and its learning rate."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen.model import AttentionLSTM

WARM_UP = 0.02
OPTIMIZERS = {
    "sgd": lambda weights, c: torch.optim.SGD(weights, c.learning_rate, momentum=c.momentum),
    "adamw": lambda weights, c: torch.optim.AdamW(weights, c.learning_rate, weight_decay=c.weight_decay),
}
SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: min(1.0, (done + 1e-4) / WARM_UP) * (1 + math.cos(math.pi * done)) / 2,
}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Parameters
    ----------
    optimizer : str
        ``sgd`` with momentum, as on the poster, or ``adamw``.
    learning_rate : float
        The highest of the run (above 0, at most 1). The poster takes 0.001 to 0.01 with SGD.
    schedule : str
        ``constant``, or ``cosine``: a short warm-up, then down to zero along a half cosine.
    momentum : float
        Of SGD (0..0.999).
    weight_decay : float
        Of AdamW (0..1).
    clip_norm : float
        Gradients longer than this are shortened to it (above 0). A tight limit freezes SGD.
    n_epochs : int
        Passes over the data (1..100000).
    precision : str
        ``float32``, or ``bfloat16`` for the multiplications, which is faster on hardware that has it.
    seed : int
        Fixes dropout, and in the ``train`` command also the first weights and the windows.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    schedule: str = "constant"
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip_norm: float = 100.0
    n_epochs: int = 10
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        ranges = {
            "learning_rate": (1e-12, 1),
            "momentum": (0, 0.999),
            "weight_decay": (0, 1),
            "clip_norm": (1e-6, math.inf),
            "n_epochs": (1, 100_000),
            "seed": (0, 2**63 - 1),
        }
        for name, (lowest, highest) in ranges.items():
            value = getattr(self, name)
            whole = name not in ("n_epochs", "seed") or (isinstance(value, int) and not isinstance(value, bool))
            if not whole or not lowest <= value <= highest:
                raise ValueError(f"{name} must lie in {lowest:g}..{highest:g}, not {value!r}")


def next_frame_loss(
    model: AttentionLSTM, frames: np.ndarray, lengths: np.ndarray, precision: str = "float32"
) -> tuple[Tensor, int]:
    """Return the negative log-likelihood of each frame but the first, given those before it, summed.

    Parameters
    ----------
    model : AttentionLSTM
    frames : numpy.ndarray, shape (batch, n_frames + 1, n_keys)
        Zeros and ones.
    lengths : numpy.ndarray of int, shape (batch,)
        What lies behind is padding and does not count.
    precision : str
        As in `TrainConfig`.

    Returns
    -------
    loss : Tensor
        In nats, summed over keys and frames.
    n_frames : int
        How many frames it is the sum of.
    """
    device = next(model.parameters()).device
    frames = torch.from_numpy(frames).to(device).float()  # (B, T + 1, K)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits, _ = model(frames[:, :-1])  # (B, T, K)
    loss = F.binary_cross_entropy_with_logits(logits.float(), frames[:, 1:], reduction="none").sum(-1)  # (B, T)
    counted = torch.arange(loss.shape[1]) < torch.from_numpy(lengths - 1)[:, None]
    return loss[counted.to(device)].sum(), int(counted.sum())
