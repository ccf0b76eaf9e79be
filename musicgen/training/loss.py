"""The loss of the next frame."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from musicgen.dataset import Batch
from musicgen.model import AttentionLSTM
from musicgen.model.heads import frame_loss
from musicgen.training.optim import autocast

if TYPE_CHECKING:
    from musicgen.training.trainer import TrainConfig


class Loss(NamedTuple):
    """Loss of a batch: the `total` to minimise and the pitches' `nll`, both in nats, summed over `n_frames` frames."""

    total: Tensor
    nll: Tensor
    n_frames: int


def next_frame_loss(model: AttentionLSTM, batch: Batch, config: "TrainConfig") -> Loss:
    """Return the loss of all frames of a batch but the first, each predicted from those before it.

    The loss is the poster's: binary cross-entropy against the next frame, here summed over the pitches. If it were
    averaged over them, the gradients would be 88 times smaller, and SGD would need an 88 times higher learning rate.
    """
    device = next(model.parameters()).device
    velocity, pedal, beats, lengths, composers = (torch.from_numpy(part).to(device) for part in batch)
    counted = torch.arange(1, velocity.shape[1], device=device) < lengths[:, None]  # (B, T)
    with autocast(device.type, config.precision):
        features, _ = model(velocity[:, :-1] / 127, None, composers, pedal[:, :-1], beats[:, 1:])
        places = slice(None) if counted.all() else counted.flatten()  # most batches have no padding
        features = features.map(lambda x: x.flatten(0, 1)[places])  # (N, ...)
        velocity, pedal = (x[:, 1:].flatten(0, 1)[places] for x in (velocity, pedal))
        loss = frame_loss(model.output, features, velocity, pedal)
    nll = loss.nll.sum()
    total = nll + config.velocity_weight * loss.velocity_nll.sum() + config.pedal_weight * loss.pedal_nll.sum()
    return Loss(total, nll, len(loss.nll))
