"""The steps of generation that are in NumPy, as modules to be exported for a browser, which has no NumPy.

Nothing is written twice. These modules call the functions that `generate` calls, and PyTorch traces these. For the
tracer both sides of an operation must have the same type, and a number must not come first: ``x * 2``.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from musicgen.generation import sampling
from musicgen.generation.generate import GenerationConfig
from musicgen.generation.repetition import WINDOW, RepetitionPenalty
from musicgen.generation.steering import penalty_of_pitch
from musicgen.generation.steps import PitchPass, VelocityPass
from musicgen.home import SMOOTHING, Excerpt, corrected_home, count, profile, smoothing_like
from musicgen.model import AttentionLSTM
from musicgen.model.heads import N_CHOICES, velocity_in_bin
from musicgen.model.probe import hidden_statistics
from musicgen.piano_roll import N_PITCHES

DEFAULTS = GenerationConfig()


class HomePass(nn.Module):
    """Embeds the profile of an opening, corrected by recent music; see `Continuation.correct_home`."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.home = model.output.home
        self.fps = model.config.fps

    def forward(self, opening: Excerpt, recent: Excerpt) -> Tensor:
        """Return the embedding, shape (1, K, pitch_size). Before there is recent music, it is the opening."""
        opening = Excerpt(*(x.numpy() for x in opening))
        recent = Excerpt(*(x.numpy() for x in recent))
        smoothing = smoothing_like(count(opening.notes), count(recent.notes))
        profiles = profile(opening, self.fps, SMOOTHING), profile(recent, self.fps, smoothing)
        home = corrected_home(*profiles, DEFAULTS.feedback)  # (K, N_HOME_FEATURES)
        return self.home(torch.from_numpy(home).float())[None]


class History(NamedTuple):
    """State of a `RepetitionPenalty`: its last half minute. R rows, T frames of half a minute, P periods.

    `onsets` and `near_onsets`, shape (R, N, K), and `n_onsets`, shape (R, N), are of the last N frames, which are as
    many as it looks at; `running_sum` has the shape (R, P), `sum_before` (R, T, P).
    """

    onsets: Tensor
    near_onsets: Tensor
    n_onsets: Tensor
    running_sum: Tensor
    sum_before: Tensor


class RepetitionPass(nn.Module):
    """Appends a frame to a `RepetitionPenalty`, and returns the penalty of the next one."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.fps = model.config.fps
        self.n_frames = round(WINDOW * self.fps)

    def initial_history(self) -> History:
        """Return the history of one row in which nothing was played."""
        empty, n_seen = self._empty()
        arrays = History(*(torch.from_numpy(getattr(empty, name)) for name in History._fields))
        seen = [x[:, :n_seen] for x in arrays[:3]]
        return History(*seen, arrays.running_sum, arrays.sum_before)

    def forward(self, velocity: Tensor, before: Tensor, history: History) -> tuple[Tensor, History]:
        """Return the penalty (R, K) after a frame, given its velocities (R, K) and those of the frame before."""
        penalty, n_seen = self._empty()
        penalty.n_known = self.n_frames - 1  # there is room for one frame more
        penalty.offset = n_seen - penalty.radius - self.n_frames
        for name, x in history._asdict().items():
            setattr(penalty, name, x.clone().numpy())
        penalty.append(((velocity > 0) & (before == 0)).numpy())
        new = History(*(torch.from_numpy(getattr(penalty, name)) for name in History._fields))
        later = {name: _one_frame_later(x) for name, x in new._asdict().items() if name != "running_sum"}
        return torch.from_numpy(penalty.exact_penalty()), new._replace(**later)

    def _empty(self) -> tuple[RepetitionPenalty, int]:
        """Return a penalty of a piece without notes, and the number of frames that it looks back at."""
        penalty = RepetitionPenalty((1, self.n_frames, N_PITCHES), DEFAULTS.max_repeat, self.fps)
        penalty.smallest_sum = penalty.running_sum  # it only serves a shortcut
        return penalty, penalty.offset + 2 * penalty.radius + 1


def _one_frame_later(x: Tensor) -> Tensor:
    """Return frames (R, T, ...) without the first one, and with an empty one."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


class PitchDraw(nn.Module):
    """Draws the pedal and all pitches of the next frame: one pass of the fixed-point iteration of `sample_pitches`.

    It has no top-p, no limit of the polyphony and no guidance, which the defaults switch off.
    """

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.logits = PitchPass(model)

    def forward(
        self,
        encoded: Tensor,
        skip: Tensor,
        active: Tensor,
        pedal_history: Tensor,
        pedal_logit: Tensor,
        before: Tensor,
        penalty: Tensor,
        temperature: Tensor,
        uniform_pedal: Tensor,
        uniform: Tensor,
        gain: Tensor,
        guess: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what is drawn if the guess is right (R, K), the pedal (R,), the gain (R, K), and the embeddings.

        Parameters
        ----------
        encoded, skip, active, pedal_history, pedal_logit : Tensor
            See `Known`.
        before : Tensor, shape (R, K)
            The velocities of the present frame.
        penalty : Tensor, shape (R, K)
            From `RepetitionPenalty`.
        temperature : Tensor, shape ()
        uniform_pedal, uniform : Tensor, shapes (R,) and (R, K)
            Random numbers from 0 to 1; the same ones in all passes.
        gain : Tensor, shape (R, K)
            What the first pass returned; 0 in the first pass.
        guess : Tensor, shape (R, K)
            1 where a pitch sounds; in the first pass, those that sound now.
        """
        p_down = sampling.sigmoid(pedal_logit.numpy() / DEFAULTS.pedal_temperature)
        pedal = torch.from_numpy(uniform_pedal.numpy() < p_down).float()
        logits, conditioned = self.logits(encoded, skip, active, pedal_history, pedal, guess)

        inactive = (before == 0).numpy()
        temperature = temperature.numpy()
        logits = logits.numpy()
        penalty = penalty.numpy()
        p_onset = sampling.sigmoid(logits - penalty) * inactive
        n_onsets, _ = sampling.constant_rate(p_onset.sum(axis=-1, keepdims=True), DEFAULTS.onset_temperature, None)
        weights = sampling.sharpen(p_onset, temperature)
        first_gain = sampling.gain_for_rate(weights, np.ones_like(weights), n_onsets)
        gain = np.where((gain > 0).numpy(), gain.numpy(), first_gain)
        temperatures = temperature, DEFAULTS.release_temperature
        drawn = logits > sampling.pitch_threshold(uniform.numpy(), inactive, gain, penalty, *temperatures)
        return torch.from_numpy(drawn).float(), pedal, torch.from_numpy(gain).float(), conditioned


class VelocityDraw(nn.Module):
    """Draws the velocities of the struck pitches: one pass of the fixed-point iteration of `sample_velocities`."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.logits = VelocityPass(model)

    def forward(
        self,
        conditioned: Tensor,
        recent: Tensor,
        before: Tensor,
        on: Tensor,
        uniform: Tensor,
        uniform_in_bin: Tensor,
        guess: Tensor,
    ) -> Tensor:
        """Return the velocities of the next frame (R, K) if the guess of them is right; held notes keep theirs.

        Parameters
        ----------
        conditioned : Tensor
            From `PitchDraw`.
        recent : Tensor
            See `Known`.
        before, on : Tensor, shape (R, K)
            The velocities of the present frame, and 1 where a pitch sounds in the next one.
        uniform, uniform_in_bin : Tensor, shape (R, K)
            Random numbers from 0 to 1, 1 excluded; the same ones in all passes.
        guess : Tensor, shape (R, K)
        """
        struck = (on > 0) & (before == 0)
        logits = self.logits(conditioned, recent, guess * struck, struck)  # (n_struck, N_VELOCITIES)
        bins = sampling.draw_categories(logits.numpy(), uniform[struck][:, None].numpy())  # (n_struck,)
        number = (uniform_in_bin[struck] * N_CHOICES).long()
        drawn = velocity_in_bin(torch.from_numpy(bins), number).float()
        return before * on + torch.zeros_like(on).masked_scatter(struck, drawn)


class ProbePass(nn.Module):
    """Tells how likely a candidate is a model's own music, and whether it keeps the register; see `steer`."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.probe = model.probe

    def forward(
        self, hidden: Tensor, prime: Tensor, recent_pitch: Tensor, prime_pitch: Tensor, seconds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the weight, shape (1,), and the `hidden_statistics`, shape (1, 2 H).

        Parameters
        ----------
        hidden : Tensor, shape (T, H)
            The hidden states of some frames.
        prime : Tensor, shape (1, 2 H)
            The statistics of the prime.
        recent_pitch, prime_pitch, seconds : Tensor, shape (1,)
            See `penalty_of_pitch`.
        """
        statistics = hidden_statistics(hidden[None])
        logit = self.probe(statistics, prime)
        penalty = penalty_of_pitch(recent_pitch.numpy(), prime_pitch.numpy(), seconds.numpy(), DEFAULTS.register)
        return logit * -DEFAULTS.strength - torch.from_numpy(penalty), statistics
