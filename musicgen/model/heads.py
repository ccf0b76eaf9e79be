"""Output heads: the probability of each pitch of a frame given the past, and the likelihood of a frame.

All pitches share the same weights, as in the biaxial LSTM [1]_. The joint head predicts each pitch given the lower
pitches of the same frame, as NADE does [2]_.

References
----------
.. [1] Johnson, "Generating Polyphonic Music Using Tied Parallel Networks", EvoMUSART 2017.
.. [2] Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model.features import N_FEATURES, N_NEAR, lower_velocities

N_VELOCITIES = 32  # bins of four MIDI velocities
N_VELOCITY_FEATURES = 7  # four of `recent_velocities`, three of `lower_velocities`
# Initial logits: a Markov chain with 0.7 % onsets and 23 % releases per frame, close to real music.
UP, HELD = -5.0, 6.2

FEW_FRAMES = 128  # up to so many, `PitchConv` caches its matrix


class FrameFeatures(NamedTuple):
    """Inputs of an output head: features of the past, and the beat position of the frame to be predicted.

    Attributes
    ----------
    hidden : Tensor, shape (..., hidden_size)
        Output of the last layer.
    pitches : Tensor, shape (..., n_pitches, N_FEATURES)
        History of each pitch, from `PitchHistory`; feature 0 tells whether it sounds now.
    recent : Tensor, shape (..., n_pitches, 4)
        From `recent_velocities`.
    pedal : Tensor, shape (..., 3)
        Whether the pedal is down, and how long it has been down or up (log).
    beats : Tensor, shape (..., N_BEAT_FEATURES), or None
        `beats.beat_features` of the frame to be predicted.
    copied : Tensor, shape (..., n_pitches, 3 * copy_heads), or None
        What copy attention retrieved.
    """

    hidden: Tensor
    pitches: Tensor
    recent: Tensor
    pedal: Tensor
    beats: Tensor | None = None
    copied: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "FrameFeatures":
        """Apply a function to every tensor."""
        return FrameFeatures(*(None if each is None else function(each) for each in self))

    @property
    def on(self) -> Tensor:
        """1 where a pitch sounds now, shape (..., n_pitches)."""
        return self.pitches[..., 0]


class PitchOutput(nn.Module):
    """Predicts the pedal, then each pitch, then the velocity of each struck pitch of the next frame.

    Parameters
    ----------
    config : ModelConfig
        Its `hidden_size`, `n_pitches`, `pitch_size`, `pitch_reach`, `copy_heads`, `pedal`, `beats` and
        `velocity_context`. With ``output="joint"`` a pitch also sees the lower pitches of its own frame. Otherwise
        the pitches of a frame are independent given the past.
    """

    def __init__(self, config):
        super().__init__()
        size, reach, joint = config.pitch_size, config.pitch_reach, config.output == "joint"
        self.n_pitches, self.velocity_context = config.n_pitches, config.velocity_context
        self.hidden = nn.Linear(config.hidden_size, config.n_pitches * size)
        self.own = nn.Linear(N_FEATURES, size)
        self.near = PitchConv(N_NEAR, size, reach, above=True)
        self.lower = PitchConv(2, size, reach, above=False) if joint else None
        self.lower_counts = nn.Linear(3, size, bias=False) if joint else None
        self.copied = nn.Linear(3 * config.copy_heads, size, bias=False) if config.copy_heads else None
        self.beats = None
        if config.beats:
            self.beats = nn.Sequential(nn.Linear(N_BEAT_FEATURES, 48), nn.ReLU(), nn.Linear(48, size))
        self.pedal = PedalOutput(config.hidden_size, size) if config.pedal else None
        self.middle = nn.Linear(size, size)
        self.last = nn.Linear(size, 1)
        self.persistence = nn.Linear(N_FEATURES, 1)
        n_inputs = size + N_VELOCITY_FEATURES * self.velocity_context
        self.velocity = nn.Sequential(nn.ReLU(), nn.Linear(n_inputs, 64), nn.ReLU(), nn.Linear(64, N_VELOCITIES))
        self._start_as_markov_chain()

    def _start_as_markov_chain(self) -> None:
        for parameter in (self.last.weight, self.last.bias, self.persistence.weight):
            nn.init.zeros_(parameter)
        nn.init.constant_(self.persistence.bias, UP)
        nn.init.constant_(self.persistence.weight[:, 0], HELD)

    def encode(self, features: FrameFeatures, pedal: Tensor | None = None) -> Tensor:
        """Return embeddings (..., n_pitches, pitch_size), given the past and the next frame's pedal (...,)."""
        x = self.hidden(features.hidden).unflatten(-1, (self.n_pitches, -1))  # (..., K, S)
        x = x + self.own(features.pitches) + self.near(features.pitches[..., :N_NEAR])
        if self.copied is not None:
            x = x + self.copied(features.copied)
        if self.beats is not None:
            x = x + self.beats(features.beats)[..., None, :]
        if self.pedal is not None:
            x = x + self.pedal.embed(features.pedal[..., 0], pedal)[..., None, :]
        return x

    def condition(self, encoded: Tensor, features: FrameFeatures, following: Tensor) -> Tensor:
        """Condition `encoded` on `following`, the next frame's pitches (..., n_pitches); each sees only those below."""
        if self.lower is None:
            return encoded
        on = features.on
        events = torch.stack([following * (1 - on), (1 - following) * on], dim=-1)  # (..., K, 2): onsets, releases
        counted = torch.cat([events, following[..., None]], dim=-1)  # (..., K, 3): and sounding
        return encoded + self.lower(events) + self.lower_counts(counted.cumsum(dim=-2) - counted)

    def logits(self, conditioned: Tensor, features: FrameFeatures) -> Tensor:
        """Return the logit of each pitch, shape (..., n_pitches)."""
        x = F.relu(self.middle(F.relu(conditioned)))  # (..., K, S)
        return (self.last(x) + self.persistence(features.pitches)).squeeze(-1)

    def velocity_logits(self, conditioned: Tensor, features: FrameFeatures, velocity: Tensor, at: Tensor) -> Tensor:
        """Return the logits (n_cells, N_VELOCITIES) of the velocity bins where `at` (..., n_pitches) is true.

        `velocity` (..., n_pitches) holds the velocities of struck pitches, otherwise 0. Each sees those below it.
        """
        x = conditioned[at]
        if self.velocity_context:
            x = torch.cat([x, features.recent[at], lower_velocities(velocity / 127)[at]], dim=-1)
        return self.velocity(x)


class PitchConv(nn.Module):
    """Convolution along the pitch axis, as one banded matrix product.

    It covers `reach` pitches below and, with `above`, the pitch itself and those above.
    It is computed as one product with a banded (Toeplitz) matrix, which is faster than a convolution with few channels.
    """

    def __init__(self, n_features: int, pitch_size: int, reach: int, above: bool):
        super().__init__()
        self.reach, self.kept = reach, None
        self.convolution = nn.Conv2d(n_features, pitch_size, (1, 2 * reach + 1 if above else reach))

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_pitches, n_features) to (..., n_pitches, pitch_size), with zero padding at both ends."""
        n_pitches, flat = features.shape[-2], features.flatten(-2)  # (..., K * F)
        if torch.is_grad_enabled() or flat.shape[:-1].numel() > FEW_FRAMES:
            product = flat @ self.matrix(n_pitches)
        else:  # a few frames of generation: cache the matrix, and read only the rows of features that are not 0
            self.kept = self.matrix(n_pitches) if self.kept is None else self.kept
            rows = flat.flatten(0, -2).any(0).nonzero()[:, 0]
            product = flat[..., rows] @ self.kept[rows]
        return product.unflatten(-1, (n_pitches, -1)) + self.convolution.bias

    def train(self, mode: bool = True) -> "PitchConv":
        """Set training or evaluation mode, and clear the cached matrix.

        After changing weights by hand, call `eval` to rebuild the matrix.
        """
        self.kept = None
        return super().train(mode)

    def matrix(self, n_pitches: int) -> Tensor:
        """Return the weights as one banded matrix (n_pitches * n_features, n_pitches * pitch_size)."""
        weight = self.convolution.weight[:, :, 0].permute(2, 1, 0)  # (W, F, S)
        pitch = torch.arange(n_pitches, device=weight.device)
        tap = pitch[:, None] - pitch + self.reach  # (K, K): from each input pitch to each output pitch
        inside = (tap >= 0) & (tap < len(weight))
        matrix = weight[tap.clamp(0, len(weight) - 1)] * inside[..., None, None]  # (K, K, F, S)
        return matrix.transpose(1, 2).reshape(n_pitches * weight.shape[1], -1)


class PedalOutput(nn.Module):
    """Predicts whether the sustain pedal is down in the next frame, and embeds it as an input of the pitch outputs."""

    def __init__(self, hidden_size: int, pitch_size: int):
        super().__init__()
        self.hidden, self.persistence = nn.Linear(hidden_size, 1), nn.Linear(3, 1)
        self.effect = nn.Linear(3, pitch_size, bias=False)
        nn.init.zeros_(self.hidden.weight)
        nn.init.zeros_(self.persistence.weight)
        nn.init.constant_(self.persistence.weight[:, 0], 6.0)
        nn.init.constant_(self.persistence.bias, -3.0)

    def logits(self, features: FrameFeatures) -> Tensor:
        """Return the logit of "down", shape (...,)."""
        return (self.hidden(features.hidden) + self.persistence(features.pedal)).squeeze(-1)

    def embed(self, now: Tensor, following: Tensor) -> Tensor:
        """Return an embedding (..., pitch_size) of the next frame's pedal: whether it is down, pressed or released."""
        return self.effect(torch.stack([following, following * (1 - now), (1 - following) * now], dim=-1))


class IndependentOutput(nn.Linear):
    """The poster's output, with the interface of `PitchOutput`: a linear layer to one logit per pitch."""

    velocity = pedal = None

    def encode(self, features: FrameFeatures, pedal: Tensor | None = None) -> Tensor:
        """Return the logits, shape (..., n_pitches)."""
        return self(features.hidden)

    def condition(self, encoded: Tensor, features: FrameFeatures, following: Tensor) -> Tensor:
        """Return `encoded`: the pitches are independent."""
        return encoded

    def logits(self, conditioned: Tensor, features: FrameFeatures) -> Tensor:
        """Return the logits unchanged."""
        return conditioned


def velocity_bins(velocity: Tensor) -> Tensor:
    """Return the bin of each MIDI velocity, 0 to ``N_VELOCITIES - 1``."""
    return velocity.long() * N_VELOCITIES // 128


def teacher_forced_logits(output, features: FrameFeatures, following: Tensor, pedal: Tensor | None = None):
    """Return the logits of the next frames with teacher forcing, and embeddings that know their true pitches."""
    conditioned = output.condition(output.encode(features, pedal), features, following)
    return output.logits(conditioned, features), conditioned


def decode_frame(output, encoded: Tensor, features: FrameFeatures, decide: Callable) -> tuple[Tensor, Tensor]:
    """Decide on all pitches of a frame, each given the lower ones, by fixed-point iteration.

    The first guess is that nothing changes. Deciding on all pitches at once gives the next guess. The lowest pitch
    never depends on the guess, so at least one more pitch is final after each pass. The fixed point is what deciding
    pitch by pitch would give, usually after two or three passes instead of 88.

    Parameters
    ----------
    output : PitchOutput or IndependentOutput
    encoded : Tensor
        From `PitchOutput.encode`.
    features : FrameFeatures
    decide : callable
        Takes logits, returns 1.0 where a pitch sounds, otherwise 0.0. Each decision uses its own logit only.

    Returns
    -------
    following : Tensor, shape (..., n_pitches)
    conditioned : Tensor
        From `PitchOutput.condition`.
    """
    following = features.on
    while True:
        conditioned = output.condition(encoded, features, following)
        decided = decide(output.logits(conditioned, features))
        if torch.equal(decided, following):
            return following, conditioned
        following = decided


class FrameLoss(NamedTuple):
    """Negative log-likelihoods in nats.

    `cell_nll` (n_frames, n_pitches) is of each cell, `pedal_nll` (n_frames,) of the pedal, and `velocity_nll`
    (n_struck,) of each struck pitch; the last two are empty if the output does not predict them.
    """

    cell_nll: Tensor
    pedal_nll: Tensor
    velocity_nll: Tensor

    @property
    def nll(self) -> Tensor:
        """Negative log-likelihood of each frame: the sum over its pitches, shape (n_frames,)."""
        return self.cell_nll.sum(-1)


def frame_loss(output, features: FrameFeatures, velocity: Tensor, pedal: Tensor) -> FrameLoss:
    """Return the negative log-likelihoods of frames given the frames before them (teacher forcing).

    Parameters
    ----------
    output : PitchOutput or IndependentOutput
    features : FrameFeatures of shape (n_frames, ...)
    velocity : Tensor, shape (n_frames, n_pitches)
        MIDI velocities of the frames to score, 0 where a pitch is silent.
    pedal : Tensor, shape (n_frames,)
        1.0 where the pedal is down.
    """
    target, none = (velocity > 0).float(), velocity.new_zeros(0, dtype=torch.float32)
    logits, conditioned = teacher_forced_logits(output, features, target, pedal)
    cell_nll = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    pedal_nll = velocity_nll = none
    if output.pedal is not None:
        pedal_logits = output.pedal.logits(features).float()
        pedal_nll = F.binary_cross_entropy_with_logits(pedal_logits, pedal.float(), reduction="none")
    if output.velocity is not None:
        struck = (velocity > 0) & (features.on == 0)
        bins, heights = velocity_bins(velocity[struck]), velocity * struck
        logits = output.velocity_logits(conditioned, features, heights, struck)
        width = math.log(128 / N_VELOCITIES)  # all velocities in a bin are equally likely
        velocity_nll = F.cross_entropy(logits.float(), bins, reduction="none") + width
    return FrameLoss(cell_nll, pedal_nll, velocity_nll)
