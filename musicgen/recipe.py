"""The training recipe: the loss, the optimiser and its learning rate."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musicgen.model import AttentionLSTM
from musicgen.outputs import frame_loss
from musicgen.support.settings import Settings, setting

WARM_UP = 0.02
OPTIMIZERS = {
    "sgd": lambda weights, c: torch.optim.SGD(weights, c.learning_rate, momentum=c.momentum),
    "adamw": lambda weights, c: torch.optim.AdamW(weights, c.learning_rate, weight_decay=c.weight_decay, fused=True),
}
SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: min(1.0, (done + 1e-4) / WARM_UP) * (1 + math.cos(math.pi * done)) / 2,
}


@dataclass(frozen=True)
class TrainConfig(Settings):
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
    velocity_weight : float
        What a nat of a struck key's velocity counts beside one of the notes (0..100).
    seed : int
        Fixes dropout, and in the ``train`` command also the first weights and the windows.
    """

    optimizer: str = setting("sgd", choices=OPTIMIZERS)
    learning_rate: float = setting(0.01, 1e-12, 1, usual=(1e-4, 0.1))
    schedule: str = setting("constant", choices=SCHEDULES)
    momentum: float = setting(0.9, 0, 0.999)
    weight_decay: float = setting(0.01, 0, 1)
    clip_norm: float = setting(100.0, 1e-6, math.inf, usual=(0.1, 1000))
    n_epochs: int = setting(10, 1, 100_000, usual=(1, 64))
    precision: str = setting("float32", choices=("float32", "bfloat16"))
    velocity_weight: float = setting(0.25, 0, 100, usual=(0, 2))
    seed: int = setting(0, 0, 2**63 - 1)


class Loss(NamedTuple):
    """Summed negative log-likelihoods in nats: of `n_frames` frames' notes, and of `n_struck` keys' velocities."""

    nll: Tensor
    n_frames: int
    velocity_nll: Tensor
    n_struck: int


def next_frame_loss(
    model: AttentionLSTM, frames: np.ndarray, lengths: np.ndarray, composers: np.ndarray, config: TrainConfig
) -> Loss:
    """Score each frame but the first, given those before it.

    Parameters
    ----------
    model : AttentionLSTM
    frames : numpy.ndarray of uint8, shape (batch, n_frames + 1, n_pitches)
        Velocities, 0 where a key is up.
    lengths : numpy.ndarray of int, shape (batch,)
        What lies behind is padding and does not count.
    composers : numpy.ndarray of int, shape (batch,)
        As `AttentionLSTM.forward` takes them.
    config : TrainConfig
        For its precision.
    """
    device = next(model.parameters()).device
    velocity = torch.from_numpy(frames).to(device)  # (B, T + 1, K)
    counted = torch.arange(frames.shape[1] - 1) < torch.from_numpy(lengths - 1)[:, None]  # (B, T)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        features, _ = model(velocity[:, :-1] / 127, composers=torch.from_numpy(composers).to(device))
        places = slice(None) if counted.all() else counted.flatten().to(device)
        features = features.map(lambda x: x.flatten(0, 1)[places])  # (N, ...)
        velocity = velocity[:, 1:].flatten(0, 1)[places]
        loss = frame_loss(model.output, features, velocity, torch.zeros_like(velocity[:, 0]))
    return Loss(loss.nll.sum(), len(loss.nll), loss.velocity_nll.sum(), len(loss.velocity_nll))
