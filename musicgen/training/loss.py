"""The loss of the next frame."""

from typing import NamedTuple

import torch
from torch import Tensor

from musicgen.dataset import Batch
from musicgen.model import AttentionLSTM
from musicgen.model.heads import frame_nlls
from musicgen.training.optim import autocast

VELOCITY_WEIGHT = 0.25
PEDAL_WEIGHT = 1.0


class Loss(NamedTuple):
    """Loss of a batch: the `total` to minimise and the pitches' `nll`, both in nats, summed over `n_frames` frames."""

    total: Tensor
    nll: Tensor
    n_frames: int


def next_frame_loss(
    model: AttentionLSTM,
    batch: Batch,
    velocity_weight: float = VELOCITY_WEIGHT,
    pedal_weight: float = PEDAL_WEIGHT,
    precision: str = "float32",
) -> Loss:
    """Return the loss of a batch: each frame but the first is predicted from those before it (teacher forcing).

    The loss is the poster's: binary cross-entropy against the next frame, here summed over the pitches. If it were
    averaged over them, the gradients would be 88 times smaller, and SGD would need an 88 times higher learning rate.

    Parameters
    ----------
    model : AttentionLSTM
    batch : Batch
        Arrays, or tensors on any device.
    velocity_weight, pedal_weight : float
        Weights of the velocities and of the pedal in the `total`.
    precision : {"float32", "bfloat16"}
    """
    device = next(model.parameters()).device
    # (B, T, K), (B, T), (B, T, N_BEAT_FEATURES), (B,), (B,), (B, K, N_HOME_FEATURES)
    velocity, pedal, beats, lengths, composers, home = (torch.as_tensor(part, device=device) for part in batch)
    B, T, K = velocity.shape
    valid = torch.arange(1, T, device=device) < lengths[:, None]  # (B, T - 1): targets that are no padding
    scored = valid.flatten().nonzero()[:, 0]  # (N,): with these indices, the gradients are added faster than by a mask
    with autocast(device.type, precision):
        features, _ = model(velocity[:, :-1] / 127, None, composers, pedal[:, :-1], beats[:, 1:], home)
        features = features.map(lambda x: x.flatten(0, 1).index_select(0, scored))  # (N, ...)
        loss = frame_nlls(model.output, features, velocity[:, 1:][valid], pedal[:, 1:][valid])
    nll = loss.nll.sum()
    total = nll + velocity_weight * loss.velocity_nll.sum() + pedal_weight * loss.pedal_nll.sum()
    return Loss(total, nll, len(loss.nll))
