"""Features that summarise the past of each pitch and of the pedal. They have no weights."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOUNDING_DECAYS = (0.8, 0.95, 0.99)  # moving averages over about 5, 20 and 100 frames
VELOCITY_DECAYS = (0.8, 0.98)
DECAYS = SOUNDING_DECAYS + 2 * VELOCITY_DECAYS
AVERAGE_SCALES = (1.0, 2.0, 4.0)  # slow averages of sparse signals are small
MAX_AGE = 400.0  # frames; ages do not grow beyond this
NEGLIGIBLE = 1e-20  # smaller values become 0: denormal numbers (below 1e-38) would slow a step down by a third
VELOCITY_RADIUS = 6.0  # standard deviation in semitones of "nearby" for recent velocities
# Places of the features of a pitch: whether it sounds, starts, how loud (0 to 1), three moving averages, two ages.
ACTIVE = 0
ONSET = 1
RECENT_AVERAGES = slice(3, 5)  # moving averages of "sounds" over about 5 and 20 frames
N_NEAR = 3 + len(SOUNDING_DECAYS)  # the features that a pitch sees of its neighbours
N_FEATURES = N_NEAR + 2


class PitchState(NamedTuple):
    """State of a `PitchHistory`: which pitches sound, how long each has sounded or been silent, and averages.

    `active` and `age` have the shape (batch, n_pitches), `averages` has (batch, n_decays, n_pitches).
    """

    active: Tensor
    age: Tensor
    averages: Tensor


class PitchHistory(nn.Module):
    """Computes features of each pitch's past. It has no weights.

    The features are: sounding, onset, velocity, moving averages and ages.
    """

    def initial_state(self, velocity: Tensor) -> PitchState:
        """Return the state before the first frame: a long silence."""
        silence = velocity.new_zeros(len(velocity), velocity.shape[-1])
        return PitchState(silence, silence + MAX_AGE, silence[:, None].repeat(1, len(DECAYS), 1))

    def forward(self, velocity: Tensor, state: PitchState | None = None) -> tuple[Tensor, Tensor, PitchState]:
        """Return the features (B, T, K, N_FEATURES), the recent velocities (B, T, K, 4) and the new state.

        `velocity` (B, T, K) lies between 0, silent, and 1.
        """
        state = state or self.initial_state(velocity)
        active = (velocity > 0).to(velocity.dtype)  # (B, T, K)
        before = torch.cat([state.active[:, None], active[:, :-1]], dim=1)
        changed = (active != before).to(active.dtype)
        onset = changed * active
        age = frames_since(changed, state.age, MAX_AGE)  # (B, T, K)
        signals = torch.stack([active] * 3 + [onset * velocity] * 2 + [onset] * 2, dim=1)  # (B, D, T, K)
        averages = moving_averages(signals, DECAYS, state.averages)  # (B, D, T, K)
        sounding = [average * scale for average, scale in zip(averages[:, :3].unbind(1), AVERAGE_SCALES)]
        time = torch.log1p(age) / 3
        features = torch.stack([active, onset, velocity, *sounding, time * active, time * (1 - active)], dim=-1)
        averages_now = F.threshold(averages[:, :, -1], NEGLIGIBLE, 0.0)
        state = PitchState(active[:, -1], age[:, -1], averages_now)
        return features, recent_velocities(averages[:, 3:]), state


def recent_velocities(averages: Tensor) -> Tensor:
    """Return features (B, T, K, 4) of the recent notes near each pitch: mean velocities and log counts."""
    pitch = torch.arange(averages.shape[-1], device=averages.device, dtype=averages.dtype)
    near = torch.exp(-(((pitch[:, None] - pitch) / VELOCITY_RADIUS) ** 2) / 2)  # Gaussian kernel along the pitches
    near = F.threshold(near, NEGLIGIBLE, 0.0)
    sums, counts = (averages @ near).chunk(2, dim=1)  # (B, 2, T, K)
    features = torch.cat([sums / (counts + 1e-4), torch.log1p(counts * 100) / 3], dim=1)
    return features.permute(0, 2, 3, 1)


class PedalState(NamedTuple):
    """State of `pedal_history` between two calls: the pedal and the age of its position, shape (batch, 1) each."""

    down: Tensor
    age: Tensor


def initial_pedal_state(pedal: Tensor) -> PedalState:
    """Return the state before the first frame: the pedal has been up for a long time."""
    up = pedal.new_zeros(len(pedal), 1)
    return PedalState(up, up + MAX_AGE)


def pedal_history(pedal: Tensor, state: PedalState | None = None) -> tuple[Tensor, PedalState]:
    """Return pedal features (B, T, 3) and the new state.

    The features tell whether the pedal is down, and for how long it has been down or up.
    """
    state = state or initial_pedal_state(pedal)
    down = pedal[..., None]  # (B, T, 1)
    before = torch.cat([state.down[:, None], down[:, :-1]], dim=1)
    changed = (down != before).to(down.dtype)
    age = frames_since(changed, state.age, MAX_AGE)
    time = torch.log1p(age) / 3
    features = torch.cat([down, time * down, time * (1 - down)], dim=-1)
    return features, PedalState(down[:, -1], age[:, -1])


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
