"""Features of the past of each pitch and of the pedal, without weights."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.model.sequences import frames_since, moving_averages

SOUNDING_DECAYS = (0.8, 0.95, 0.99)  # moving averages over about 5, 20 and 100 frames
VELOCITY_DECAYS = (0.8, 0.98)
DECAYS = SOUNDING_DECAYS + 2 * VELOCITY_DECAYS
AVERAGE_SCALES = (1.0, 2.0, 4.0)  # slow averages of sparse signals are small
MAX_AGE = 400.0  # frames; ages do not grow beyond this
N_NEAR = 3 + len(SOUNDING_DECAYS)  # the features that a pitch sees of its neighbours
N_FEATURES = N_NEAR + 2
VELOCITY_REACH = 6.0  # standard deviation in semitones of "nearby" for recent velocities


class PitchState(NamedTuple):
    """State of a `PitchHistory` between two calls: whether and how long each pitch sounds, and moving averages.

    `on` and `age` have the shape (batch, n_pitches), `averages` has (batch, n_decays, n_pitches).
    """

    on: Tensor
    age: Tensor
    averages: Tensor


class PitchHistory(nn.Module):
    """Computes features of each pitch's past. It has no weights.

    The features are: sounding, onset, loudness, moving averages and ages.
    """

    def forward(self, loudness: Tensor, state: PitchState | None) -> tuple[Tensor, Tensor, PitchState]:
        """Return the features (B, T, K, N_FEATURES), the recent velocities (B, T, K, 4) and the new state."""
        on = (loudness > 0).to(loudness.dtype)  # (B, T, K)
        state = state or _initial_state(on)
        changed = (on != torch.cat([state.on[:, None], on[:, :-1]], dim=1)).to(on.dtype)
        age, onset = frames_since(changed, state.age, MAX_AGE), changed * on  # (B, T, K)
        signals = torch.stack([on] * 3 + [onset * loudness] * 2 + [onset] * 2, dim=1)  # (B, D, T, K)
        averages = moving_averages(signals, DECAYS, state.averages)  # (B, D, T, K)
        time = torch.log1p(age) / 3
        slow = [average * scale for average, scale in zip(averages[:, :3].unbind(1), AVERAGE_SCALES)]
        features = torch.stack([on, onset, loudness, *slow, time * on, time * (1 - on)], dim=-1)
        return features, recent_velocities(averages[:, 3:]), PitchState(on[:, -1], age[:, -1], averages[:, :, -1])


def _initial_state(on: Tensor) -> PitchState:
    silence = torch.zeros_like(on[:, 0])
    return PitchState(silence, silence + MAX_AGE, silence[:, None].repeat(1, len(DECAYS), 1))


def recent_velocities(averages: Tensor) -> Tensor:
    """Return features (B, T, K, 4) of the recent notes near each pitch: mean velocities and log counts."""
    pitch = torch.arange(averages.shape[-1], device=averages.device, dtype=averages.dtype)
    near = torch.exp(-(((pitch[:, None] - pitch) / VELOCITY_REACH) ** 2) / 2)  # Gaussian kernel along the pitches
    sums, counts = (averages @ near).chunk(2, dim=1)  # (B, 2, T, K)
    features = torch.cat([sums / (counts + 1e-4), torch.log1p(counts * 100) / 3], dim=1)
    return features.permute(0, 2, 3, 1)


def pedal_history(pedal: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return features of the pedal (B, T, 3), whether and for how long it is down or up, and the new state."""
    now = pedal[..., None]  # (B, T, 1)
    down, age = state or (torch.zeros_like(now[:, 0]), torch.zeros_like(now[:, 0]) + MAX_AGE)
    changed = (now != torch.cat([down[:, None], now[:, :-1]], dim=1)).to(now.dtype)
    age = frames_since(changed, age, MAX_AGE)
    time = torch.log1p(age) / 3
    return torch.cat([now, time * now, time * (1 - now)], dim=-1), (now[:, -1], age[:, -1])


def lower_velocities(velocity: Tensor) -> Tensor:
    """Return features (..., K, 3) of the velocities below each pitch: nearest, mean, and whether there is one."""
    struck = (velocity > 0).to(velocity.dtype)
    count = struck.cumsum(-1) - struck
    mean = (velocity.cumsum(-1) - velocity) / count.clamp(min=1)
    pitch = torch.arange(velocity.shape[-1], device=velocity.device).expand(velocity.shape)
    last = torch.where(velocity > 0, pitch, -1).cummax(-1).values  # index of the nearest struck pitch, itself included
    nearest = F.pad(velocity.gather(-1, last.clamp(min=0)) * (last >= 0), (1, -1))
    return torch.stack([nearest, mean, (count > 0).to(velocity.dtype)], dim=-1)
