"""Every key of the piano by the same rules: what it did, whether it sounds next, and how loud it is struck.

What a layer of this file learns at one key it knows at all others, as the biaxial LSTM does along the notes (Johnson,
"Generating Polyphonic Music Using Tied Parallel Networks", EvoMUSART 2017). A joint output takes each key in the
light of the lower keys of the same frame, as NADE does (Larochelle and Murray, AISTATS 2011).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.linear import Linear

# Averages of each key's sounding that reach back about 5, 20 and 100 frames.
DECAYS = (0.8, 0.95, 0.99)
AVERAGE_SCALES = (1.0, 2.0, 4.0)  # slow averages of what is seldom on are small
OLDEST = 400.0  # frames after which a key's age grows no more
N_NEAR = 3 + len(DECAYS)  # the features that a key looks at in its neighbours: all but their ages
N_FEATURES = N_NEAR + 2
N_VELOCITIES = 32  # bins of four MIDI velocities
# At first a key stays as it is: logits of a Markov chain with 0.7 % onsets and 23 % releases, much as in real music.
UP, HELD = -5.0, 6.2


class PitchState(NamedTuple):
    """What a `PitchHistory` keeps between two calls, of each key.

    `on` and `age` have shape (batch, n_pitches): whether it sounds, and for how many frames it has done so or not;
    `averages` (batch, n_decays, n_pitches): how much it sounded lately.
    """

    on: Tensor
    age: Tensor
    averages: Tensor


class FrameFeatures(NamedTuple):
    """What is known before a frame.

    `hidden` (..., hidden_size) is of all keys together, `keys` (..., n_pitches, N_FEATURES) of each of them.
    """

    hidden: Tensor
    keys: Tensor


class PitchHistory(nn.Module):
    """What each key did up to each frame. Nothing in it is learned."""

    def forward(self, loudness: Tensor, state: PitchState | None) -> tuple[Tensor, PitchState]:
        """Return the features of each key, shape (batch, n_frames, n_pitches, N_FEATURES), and the state after them.

        The features: does it sound; was it struck in this frame; how loud is it; its averages, fast to slow; and how
        long it has sounded, or has not (on a logarithmic scale).
        """
        on = (loudness > 0).to(loudness.dtype)  # (B, T, K)
        state = state or _nothing_yet(on, len(DECAYS))
        changed = (on != torch.cat([state.on[:, None], on[:, :-1]], dim=1)).to(on.dtype)
        age = _frames_since(changed, state.age)  # (B, T, K)
        averages = _decaying_averages(on, state.averages)  # (B, D, T, K)
        time = torch.log1p(age) / 3
        averages_by_key = (average * scale for average, scale in zip(averages.unbind(1), AVERAGE_SCALES))
        features = [on, changed * on, loudness, *averages_by_key, time * on, time * (1 - on)]
        return torch.stack(features, dim=-1), PitchState(on[:, -1], age[:, -1], averages[:, :, -1])


def _nothing_yet(on: Tensor, n_decays: int) -> PitchState:
    silence = torch.zeros_like(on[:, 0])
    return PitchState(silence, silence + OLDEST, silence[:, None].repeat(1, n_decays, 1))


def _frames_since(changed: Tensor, age: Tensor) -> Tensor:
    """Count the frames since each key last changed, from the `age` it had before the first."""
    frame = torch.arange(changed.shape[1], device=changed.device, dtype=changed.dtype)[:, None]
    last = torch.where(changed > 0, frame, -1 - age[:, None]).cummax(dim=1).values
    return (frame - last).clamp(max=OLDEST)


def _decaying_averages(on: Tensor, before: Tensor) -> Tensor:
    """Average all frames up to each with weights that decay into the past, by one matrix product for each decay."""
    frame = torch.arange(on.shape[1], device=on.device, dtype=on.dtype)
    decay = torch.tensor(DECAYS, device=on.device, dtype=on.dtype)[:, None, None]
    distance = frame[:, None] - frame  # (T, T)
    weights = torch.where(distance < 0, 0.0, (1 - decay) * decay ** distance.clamp(min=0))  # (D, T, T)
    return weights @ on[:, None] + decay ** (frame[:, None] + 1) * before[:, :, None]  # (B, D, T, K)


class PitchConv(nn.Module):
    """A convolution along the keys, over the keys up to `reach` below and, if wanted, as many above and the key itself.

    Beyond the ends of the keyboard nothing sounds.
    """

    def __init__(self, n_features: int, pitch_size: int, reach: int, above: bool):
        super().__init__()
        self.padding = (reach, reach) if above else (reach, -1)
        self.convolution = nn.Conv2d(n_features, pitch_size, (1, 2 * reach + 1 if above else reach))

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_pitches, n_features) to (..., n_pitches, pitch_size)."""
        flat = features.reshape(-1, 1, *features.shape[-2:]).permute(0, 3, 1, 2)  # (N, F, 1, K), channels last
        mapped = self.convolution(F.pad(flat, self.padding))  # (N, S, 1, K)
        return mapped.permute(0, 2, 3, 1).reshape(*features.shape[:-1], mapped.shape[1])


class PitchOutput(nn.Module):
    """From what is known before a frame to the probability of each key in it.

    Parameters
    ----------
    hidden_size : int
        Values that the layers below give for a frame.
    n_pitches : int
    pitch_size : int
        Values that are worked out for each key.
    pitch_reach : int
        Keys to either side that a key looks at.
    joint : bool
        Whether a key also looks at the lower keys of its own frame. If not, the keys of a frame are independent
        given the past.
    """

    def __init__(self, hidden_size: int, n_pitches: int, pitch_size: int, pitch_reach: int, joint: bool):
        super().__init__()
        self.n_pitches = n_pitches
        self.hidden = Linear(hidden_size, n_pitches * pitch_size)
        self.own = nn.Linear(N_FEATURES, pitch_size)
        self.near = PitchConv(N_NEAR, pitch_size, pitch_reach, above=True)
        self.lower = PitchConv(2, pitch_size, pitch_reach, above=False) if joint else None
        self.lower_counts = nn.Linear(3, pitch_size, bias=False) if joint else None
        self.middle = nn.Linear(pitch_size, pitch_size)
        self.last = nn.Linear(pitch_size, 1)
        self.persistence = nn.Linear(N_FEATURES, 1)
        self.velocity = nn.Sequential(nn.ReLU(), nn.Linear(pitch_size, 64), nn.ReLU(), nn.Linear(64, N_VELOCITIES))
        self._begin_as_markov_chain()

    def _begin_as_markov_chain(self) -> None:
        for parameter in (self.last.weight, self.last.bias, self.persistence.weight):
            nn.init.zeros_(parameter)
        nn.init.constant_(self.persistence.bias, UP)
        nn.init.constant_(self.persistence.weight[:, 0], HELD)

    def before(self, heard: FrameFeatures) -> Tensor:
        """Return what the past says of each key, shape (..., n_pitches, pitch_size)."""
        hidden = self.hidden(heard.hidden).unflatten(-1, (self.n_pitches, -1))  # (..., K, S)
        return hidden + self.own(heard.keys) + self.near(heard.keys[..., :N_NEAR])

    def within(self, before: Tensor, heard: FrameFeatures, following: Tensor) -> Tensor:
        """Add what the lower keys of the following frame itself say of each; same shape as `before`."""
        if self.lower is None:
            return before
        on = heard.keys[..., 0]
        events = torch.stack([following * (1 - on), (1 - following) * on], dim=-1)  # (..., K, 2): struck, released
        counted = torch.cat([events, following[..., None]], dim=-1)  # (..., K, 3): and sounding
        return before + self.lower(events) + self.lower_counts(counted.cumsum(dim=-2) - counted)

    def logits(self, within: Tensor, heard: FrameFeatures) -> Tensor:
        """Return the logit of each key, shape (..., n_pitches)."""
        x = F.relu(self.middle(F.relu(within)))  # (..., K, S)
        return (self.last(x) + self.persistence(heard.keys)).squeeze(-1)


class IndependentOutput(Linear):
    """The poster's output, with the methods of a `PitchOutput`: a linear layer to one logit for each key."""

    velocity = None

    def before(self, heard: FrameFeatures) -> Tensor:
        """Return the logits, shape (..., n_pitches)."""
        return self(heard.hidden)

    def within(self, before: Tensor, heard: FrameFeatures, following: Tensor) -> Tensor:
        """Return `before`: no key looks at another."""
        return before

    def logits(self, within: Tensor, heard: FrameFeatures) -> Tensor:
        """Return the logits as they are."""
        return within


def velocity_bins(velocity: Tensor) -> Tensor:
    """Return the bin of each MIDI velocity, 0 to ``N_VELOCITIES - 1``."""
    return velocity.long() * N_VELOCITIES // 128


def teacher_forced_logits(output: PitchOutput | IndependentOutput, heard: FrameFeatures, following: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of the frames that follow, each key given those below it, and what `within` says of them."""
    within = output.within(output.before(heard), heard, following)
    return output.logits(within, heard), within


def decode_frame(
    output: PitchOutput | IndependentOutput, heard: FrameFeatures, decide: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Decide on each key of a frame given the lower ones, all keys at once.

    A first guess, that nothing changes, gives logits; decisions on these give the next guess. The lowest key never
    depends on the guess, and once the keys below another are right it is so too: the guess that no longer changes
    is what deciding key after key would give, mostly after two or three passes instead of 88.

    Parameters
    ----------
    output : PitchOutput or IndependentOutput
        Or the output of a `stepping.Stepper`: then arrays take the place of tensors.
    heard : FrameFeatures
        What is known before each frame.
    decide : callable
        Takes logits, returns 1 where a key shall sound and 0 elsewhere, each by its own logit alone.

    Returns
    -------
    following : Tensor, shape (..., n_pitches)
        The frames.
    within : Tensor
        As `PitchOutput.within` gives it for them.
    """
    before, following = output.before(heard), heard.keys[..., 0]
    while True:
        within = output.within(before, heard, following)
        decided = decide(output.logits(within, heard))
        if (decided == following).all():
            return following, within
        following = decided
