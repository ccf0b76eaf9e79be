"""Output heads: the probability of each pitch in the next frame, and the likelihood of frames.

All pitches share the same weights, as in the biaxial LSTM [1]_. The joint head predicts each pitch given the lower
pitches of the same frame, as NADE does [2]_.

References
----------
.. [1] Johnson, "Generating Polyphonic Music Using Tied Parallel Networks", EvoMUSART 2017.
.. [2] Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model.features import ACTIVE, N_FEATURES, N_NEAR
from musicgen.model.home import Home

N_VELOCITIES = 32  # bins of MIDI velocities
BIN_WIDTH = 128 // N_VELOCITIES
N_CHOICES = BIN_WIDTH * (BIN_WIDTH - 1)
N_VELOCITY_FEATURES = 7  # four of `recent_velocities`, three of `velocities_below`
# Initial logits of pitches that do not sound now and of those that do: a Markov chain with 0.7 % onsets and 23 %
# releases per frame, close to real music.
INACTIVE_LOGIT = -5.0
ACTIVE_LOGIT = 1.2
FEW_FRAMES = 32  # up to so many, a convolution is faster than building a banded matrix


class FrameFeatures(NamedTuple):
    """Inputs of an output head: features of the past, and the beat position of the frame to be predicted.

    Attributes
    ----------
    hidden : Tensor, shape (..., hidden_size)
        Output of the last layer.
    pitches : Tensor, shape (..., n_pitches, N_FEATURES)
        History of each pitch, from `PitchHistory`; feature `ACTIVE` tells whether it sounds now.
    recent : Tensor, shape (..., n_pitches, 4)
        From `recent_velocities`.
    pedal : Tensor, shape (..., 3)
        Whether the pedal is down, and how long it has been down or up (log).
    beats : Tensor, shape (..., N_BEAT_FEATURES), or None
        `beats.beat_features` of the frame to be predicted.
    copied_notes : Tensor, shape (..., n_pitches, 3 * copy_heads), or None
        What copy attention retrieved.
    home : Tensor, shape (..., n_pitches, pitch_size), or None
        The opening of the piece, embedded by `Home`.
    all_hidden : Tensor, shape (..., n_layers * hidden_size), or None
        Outputs of all layers, for the `Probe` of a model that has one.
    """

    hidden: Tensor
    pitches: Tensor
    recent: Tensor
    pedal: Tensor
    beats: Tensor | None = None
    copied_notes: Tensor | None = None
    home: Tensor | None = None
    all_hidden: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "FrameFeatures":
        """Apply a function to every tensor; None stays None."""
        return FrameFeatures(*(None if each is None else function(each) for each in self))

    @property
    def active(self) -> Tensor:
        """1 where a pitch sounds now, shape (..., n_pitches)."""
        return self.pitches[..., ACTIVE]


class PitchOutput(nn.Module):
    """Predicts the next frame: the pedal, then each pitch, then the velocity of each struck pitch.

    Parameters
    ----------
    config : ModelConfig
        Its `hidden_size`, `n_pitches`, `pitch_size`, `pitch_reach`, `copy_heads`, `pedal`, `beats`, `home` and
        `velocity_context`.
    joint : bool
        A pitch also sees the lower pitches of its own frame. Otherwise the pitches of a frame are independent given
        the past.
    """

    def __init__(self, config, joint: bool):
        super().__init__()
        size = config.pitch_size
        radius = config.pitch_reach
        self.n_pitches = config.n_pitches
        self.velocity_context = config.velocity_context
        self.hidden = nn.Linear(config.hidden_size, config.n_pitches * size)
        self.own = nn.Linear(N_FEATURES, size)
        self.near = PitchConv(N_NEAR, size, radius, above=True)
        self.lower = PitchConv(2, size, radius, above=False) if joint else None
        self.lower_counts = nn.Linear(3, size, bias=False) if joint else None
        self.copied = nn.Linear(3 * config.copy_heads, size, bias=False) if config.copy_heads else None
        self.beats = None
        if config.beats:
            self.beats = nn.Sequential(nn.Linear(N_BEAT_FEATURES, 48), nn.ReLU(), nn.Linear(48, size))
        self.home = Home(size) if config.home else None  # used by `AttentionLSTM.forward`
        self.pedal = PedalOutput(config.hidden_size, size) if config.pedal else None
        self.middle = nn.Linear(size, size)
        self.last = nn.Linear(size, 1)
        self.skip = nn.Linear(N_FEATURES, 1)  # from a pitch's own past past the network: a Markov chain
        n_inputs = size + N_VELOCITY_FEATURES * self.velocity_context
        self.velocity = nn.Sequential(nn.ReLU(), nn.Linear(n_inputs, 64), nn.ReLU(), nn.Linear(64, N_VELOCITIES))
        self._start_as_markov_chain()

    def _start_as_markov_chain(self) -> None:
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.zeros_(self.skip.weight)
        nn.init.constant_(self.skip.bias, INACTIVE_LOGIT)
        nn.init.constant_(self.skip.weight[:, ACTIVE], ACTIVE_LOGIT - INACTIVE_LOGIT)

    def encode(self, features: FrameFeatures, pedal: Tensor | None = None) -> Tensor:
        """Return an embedding of each pitch (..., n_pitches, pitch_size), given the past and the next pedal (...,)."""
        return self.condition_on_pedal(self.encode_past(features), features, pedal)

    def encode_past(self, features: FrameFeatures) -> Tensor:
        """Return an embedding of each pitch (..., n_pitches, pitch_size), given the past."""
        x = self.hidden(features.hidden).unflatten(-1, (self.n_pitches, -1))  # (..., K, S)
        x = x + self.own(features.pitches) + self.near(features.pitches[..., :N_NEAR])
        if self.copied is not None:
            x = x + self.copied(features.copied_notes)
        if self.beats is not None:
            x = x + self.beats(features.beats)[..., None, :]
        if features.home is not None:
            x = x + features.home
        if self.lower is not None:
            n_lower = features.active.cumsum(dim=-1) - features.active  # (..., K)
            x = x + n_lower[..., None] * self.lower_counts.weight[:, 2]
        return x

    def condition_on_pedal(self, encoded: Tensor, features: FrameFeatures, pedal: Tensor | None) -> Tensor:
        """Condition embeddings from `encode_past` on the next frame's pedal (...,); None means up."""
        if self.pedal is None:
            return encoded
        if pedal is None:
            pedal = torch.zeros_like(features.pedal[..., 0])
        return encoded + self.pedal.embed(features.pedal[..., 0], pedal)[..., None, :]

    def condition(self, encoded: Tensor, active: Tensor, next_frame: Tensor) -> Tensor:
        """Condition each pitch's embedding on the pitches below it in the next frame.

        Parameters
        ----------
        encoded : Tensor, shape (..., n_pitches, pitch_size)
        active, next_frame : Tensor, shape (..., n_pitches)
            1 where a pitch sounds now, and in the next frame.
        """
        if self.lower is None:
            return encoded
        onsets = next_frame * (1 - active)
        releases = (1 - next_frame) * active
        events = torch.stack([onsets, releases], dim=-1)  # (..., K, 2)
        kernel = self._event_kernel()
        return encoded + convolve_pitches(events, kernel, kernel.shape[-1], self.lower.convolution.bias)

    def _event_kernel(self) -> Tensor:
        """Return what an onset and a release below a pitch add to its embedding, shape (S, 2, n_pitches).

        Near ones have an effect that depends on the distance. Everywhere below, onsets, releases and active pitches
        are counted: an onset is one more active pitch, a release one less. (`encode_past` counts those of now.)
        """
        near = F.pad(self.lower.kernel, (self.n_pitches - self.lower.radius, 0))  # (S, 2, K)
        of_onset, of_release, of_active = self.lower_counts.weight.unbind(-1)  # (S,) each
        everywhere = torch.stack([of_onset + of_active, of_release - of_active], dim=-1)  # (S, 2)
        return near + everywhere[..., None]

    def logits(self, conditioned: Tensor, skip: Tensor) -> Tensor:
        """Return the logit of each pitch, shape (..., n_pitches); `skip` is from `skip_logits`."""
        x = F.relu(self.middle(F.relu(conditioned)))  # (..., K, S)
        return self.last(x).squeeze(-1) + skip

    def skip_logits(self, features: FrameFeatures) -> Tensor:
        """Return what each pitch's own past adds to its logit, past the network, shape (..., n_pitches)."""
        return self.skip(features.pitches).squeeze(-1)

    def velocity_logits(self, conditioned: Tensor, features: FrameFeatures, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of each struck pitch, given the velocities below it.

        Parameters
        ----------
        conditioned : Tensor
            From `condition`.
        features : FrameFeatures
        velocity : Tensor, shape (..., n_pitches)
            MIDI velocities of struck pitches, otherwise 0.
        struck : Tensor of bool, shape (..., n_pitches)

        Returns
        -------
        Tensor, shape (n_struck, N_VELOCITIES)
        """
        x = conditioned[struck]
        if self.velocity_context:
            x = torch.cat([x, features.recent[struck], velocities_below(velocity / 127, struck)], dim=-1)
        return self.velocity(x)


class PitchConv(nn.Module):
    """Convolution along the pitch axis.

    It covers `radius` pitches below and, with `above`, the pitch itself and those above.
    """

    def __init__(self, n_features: int, pitch_size: int, radius: int, above: bool):
        super().__init__()
        self.radius = radius
        self.convolution = nn.Conv2d(n_features, pitch_size, (1, 2 * radius + 1 if above else radius))

    @property
    def kernel(self) -> Tensor:
        """The weights, shape (pitch_size, n_features, n_taps)."""
        return self.convolution.weight[:, :, 0]

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features (..., K, n_features) along the pitches, zero-padded, to (..., K, pitch_size)."""
        return convolve_pitches(features, self.kernel, self.radius, self.convolution.bias)


def convolve_pitches(features: Tensor, kernel: Tensor, radius: int, bias: Tensor) -> Tensor:
    """Convolve features (..., K, F) along the pitches, zero-padded, to (..., K, S).

    For many frames it is computed as one product with a banded (Toeplitz) matrix, which is faster than a convolution
    with few channels. So it is in exported graphs, where the matrix is a constant, and may have 8 bits.

    Parameters
    ----------
    features : Tensor, shape (..., K, F)
    kernel : Tensor, shape (S, F, W)
        Its first tap is for the pitch that lies `radius` below.
    radius : int
    bias : Tensor, shape (S,)
    """
    K = features.shape[-2]
    n_taps = kernel.shape[-1]
    flat = features.flatten(-2)  # (..., K * F)
    if torch.compiler.is_exporting() or torch.is_grad_enabled() or flat.shape[:-1].numel() > FEW_FRAMES:
        matrix = banded_matrix(kernel, radius, K)  # (K * F, K * S)
        return (flat @ matrix + bias.repeat(K)).unflatten(-1, (K, -1))
    padded = F.pad(features.mT[..., None, :], (radius, n_taps - 1 - radius))  # (..., F, 1, W + K - 1)
    found = F.conv2d(padded.reshape(-1, *padded.shape[-3:]), kernel[:, :, None], bias)  # (N, S, 1, K)
    return found.squeeze(-2).mT.reshape(*features.shape[:-1], -1)


def banded_matrix(kernel: Tensor, radius: int, n_pitches: int) -> Tensor:
    """Return the kernel of `convolve_pitches` as one banded matrix (n_pitches * F, n_pitches * S)."""
    weight = kernel.permute(2, 1, 0)  # (W, F, S)
    pitch = torch.arange(n_pitches, device=weight.device)
    tap = pitch[:, None] - pitch + radius  # (K, K): from each input pitch to each output pitch
    inside = (tap >= 0) & (tap < len(weight))
    matrix = weight[tap.clamp(0, len(weight) - 1)] * inside[..., None, None]  # (K, K, F, S)
    return matrix.transpose(1, 2).flatten(2).flatten(0, 1)


class PedalOutput(nn.Module):
    """Predicts whether the sustain pedal is down in the next frame, and embeds it as an input of the pitch outputs."""

    def __init__(self, hidden_size: int, pitch_size: int):
        super().__init__()
        self.hidden = nn.Linear(hidden_size, 1)
        self.skip = nn.Linear(3, 1)
        self.effect = nn.Linear(3, pitch_size, bias=False)
        nn.init.zeros_(self.hidden.weight)
        nn.init.zeros_(self.skip.weight)
        nn.init.constant_(self.skip.weight[:, 0], 6.0)
        nn.init.constant_(self.skip.bias, -3.0)

    def logits(self, features: FrameFeatures) -> Tensor:
        """Return the logit of "down", shape (...,)."""
        return (self.hidden(features.hidden) + self.skip(features.pedal)).squeeze(-1)

    def embed(self, now: Tensor, pedal: Tensor) -> Tensor:
        """Return an embedding (..., pitch_size) of the next frame's pedal: whether it is down, pressed or released."""
        return self.effect(torch.stack([pedal, pedal * (1 - now), (1 - pedal) * now], dim=-1))


class IndependentOutput(nn.Linear):
    """The poster's output, with the interface of `PitchOutput`: a linear layer to one logit per pitch."""

    velocity = None
    pedal = None

    def __init__(self, config):
        super().__init__(config.hidden_size, config.n_pitches)

    def encode(self, features: FrameFeatures, pedal: Tensor | None = None) -> Tensor:
        """Return the logits, shape (..., n_pitches)."""
        return self.encode_past(features)

    def encode_past(self, features: FrameFeatures) -> Tensor:
        """Return the logits, shape (..., n_pitches)."""
        return self(features.hidden)

    def condition_on_pedal(self, encoded: Tensor, features: FrameFeatures, pedal: Tensor | None) -> Tensor:
        """Return `encoded`: the pitches do not depend on the pedal."""
        return encoded

    def condition(self, encoded: Tensor, active: Tensor, next_frame: Tensor) -> Tensor:
        """Return `encoded`: the pitches are independent."""
        return encoded

    def logits(self, conditioned: Tensor, skip: Tensor) -> Tensor:
        """Return the logits."""
        return conditioned + skip

    def skip_logits(self, features: FrameFeatures) -> Tensor:
        """Return 0: nothing goes past the network."""
        return torch.zeros_like(features.active)


HEADS = {
    "independent": IndependentOutput,
    "shared": partial(PitchOutput, joint=False),
    "joint": partial(PitchOutput, joint=True),
}


def teacher_forced_logits(
    output, features: FrameFeatures, target: Tensor, pedal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the logits of the next frames, and the embeddings conditioned on their true pitches (teacher forcing)."""
    return conditional_logits(output, output.encode(features, pedal), features, target)


def conditional_logits(output, encoded: Tensor, features: FrameFeatures, next_frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (..., n_pitches) and the embeddings of pitches, each given the lower ones in `next_frame`.

    The embeddings are conditioned on the lower pitches, too (`PitchOutput.condition`).
    """
    conditioned = output.condition(encoded, features.active, next_frame)
    return output.logits(conditioned, output.skip_logits(features)), conditioned


def decode_frame(
    logits_of: Callable[[Tensor], tuple[Tensor, Any]],
    now: Tensor,
    decide: Callable[[Tensor], Tensor],
    first: tuple[Tensor, Any] | None = None,
) -> tuple[Tensor, Tensor, Any]:
    """Decide which pitches of a frame sound, each given the lower ones, by fixed-point iteration.

    The first guess is that nothing changes. Deciding on all pitches at once gives the next guess. The lowest pitch
    never depends on the guess, so at least one more pitch is final after each pass. The fixed point is what deciding
    pitch by pitch would give, usually after two or three passes instead of 88.

    Parameters
    ----------
    logits_of : callable
        Takes a guess, returns the logits of all pitches given the lower ones, and embeddings conditioned on these: for
        example `conditional_logits` of a head.
    now : Tensor or numpy.ndarray, shape (..., n_pitches)
        Whether each pitch sounds in the frame before: bool, or 1.0 and 0.0.
    decide : callable
        Takes logits, returns whether each pitch sounds, in the type of `now`. Each decision uses its own logit only.
    first : optional
        What ``logits_of(now)`` returns, if it is known.

    Returns
    -------
    next_frame, logits
        Of the type and the shape of `now`.
    conditioned
        The embeddings.
    """
    next_frame = now
    logits, conditioned = first or logits_of(now)
    for _ in range(next_frame.shape[-1]):  # a limit, in case rounding lets a decision oscillate
        decided = decide(logits)
        if (decided == next_frame).all():
            break
        next_frame = decided
        logits, conditioned = logits_of(next_frame)
    return next_frame, logits, conditioned


def velocities_below(velocity: Tensor, struck: Tensor) -> Tensor:
    """Return features (n_struck, 3) of the velocities below each struck pitch: nearest, mean, whether any exist.

    Parameters
    ----------
    velocity : Tensor, shape (..., K)
        Of struck pitches, otherwise 0.
    struck : Tensor of bool, shape (..., K)
    """
    K = velocity.shape[-1]
    row, pitch = struck.reshape(-1, K).nonzero().unbind(-1)  # (N,) each
    place = torch.arange(K, device=velocity.device)
    lower = velocity.reshape(-1, K)[row] * (place < pitch[:, None])  # (N, K)
    is_known = (lower > 0).to(velocity.dtype)
    n_lower = is_known.sum(-1, keepdim=True)  # (N, 1)
    mean = lower.sum(-1, keepdim=True) / n_lower.clamp(min=1)
    highest = (is_known * (place + 1)).argmax(-1, keepdim=True)  # 0 if there is none, and then its velocity is 0
    nearest = lower.gather(-1, highest)
    return torch.cat([nearest, mean, (n_lower > 0).to(velocity.dtype)], dim=-1)


def velocity_bins(velocity: Tensor) -> Tensor:
    """Return the bin of each MIDI velocity (1 to 127), a number from 0 to ``N_VELOCITIES - 1``."""
    return velocity.long() * N_VELOCITIES // 128


def bin_widths(bins: Tensor) -> Tensor:
    """Return the number of velocities in each bin: 4, but 3 in bin 0, since velocity 0 is no note."""
    return BIN_WIDTH - (bins == 0) * 1


def velocity_in_bin(bins: Tensor, number: Tensor) -> Tensor:
    """Choose a velocity in each bin by a whole number; both may be tensors or arrays.

    If the numbers are uniform from 0 to ``N_CHOICES - 1``, all velocities of a bin are equally likely: `N_CHOICES` is
    a multiple of all widths.
    """
    return bins * BIN_WIDTH + (bins == 0) * 1 + number % bin_widths(bins)


class FrameNlls(NamedTuple):
    """Negative log-likelihoods of the cells, the pedal and the struck velocities of frames, in nats.

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


def frame_nlls(output, features: FrameFeatures, velocity: Tensor, pedal: Tensor) -> FrameNlls:
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
    target = (velocity > 0).float()
    logits, conditioned = teacher_forced_logits(output, features, target, pedal)
    cell_nll = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    pedal_nll = cell_nll.new_zeros(0)
    if output.pedal is not None:
        pedal_logits = output.pedal.logits(features).float()
        pedal_nll = F.binary_cross_entropy_with_logits(pedal_logits, pedal.float(), reduction="none")
    velocity_nll = cell_nll.new_zeros(0)
    if output.velocity is not None:
        struck = (velocity > 0) & (features.active == 0)
        logits = output.velocity_logits(conditioned, features, velocity * struck, struck)
        bins = velocity_bins(velocity[struck])
        velocity_nll = F.cross_entropy(logits.float(), bins, reduction="none") + bin_widths(bins).log()
    return FrameNlls(cell_nll, pedal_nll, velocity_nll)
