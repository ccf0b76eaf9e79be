"""The steps of generation as modules that reuse a model's trained parts, to run in PyTorch or to export as graphs.

A frame takes one `FrameStep`, a few `PitchPass` and, if notes are struck, a few `VelocityPass`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from musicgen.model import AttentionLSTM
from musicgen.model.attention_lstm import ModelState
from musicgen.model.heads import FrameFeatures


class Known(NamedTuple):
    """Encoding of the past, before anything in the next frame is decided. R rows of a batch, K pitches.

    Attributes
    ----------
    hidden : Tensor, shape (R, T, H)
        Hidden states of all frames that were heard; the rest belongs to the last one.
    encoded : Tensor, shape (R, K, pitch_size)
        From `PitchOutput.encode_past`.
    pitches : Tensor, shape (R, K, N_FEATURES)
        As in `FrameFeatures`, also the next two.
    recent : Tensor, shape (R, K, 4)
    pedal : Tensor, shape (R, 3)
    pedal_logit : Tensor, shape (R,), or None
        Of "down" in the next frame, if the head predicts the pedal.
    """

    hidden: Tensor
    encoded: Tensor
    pitches: Tensor
    recent: Tensor
    pedal: Tensor
    pedal_logit: Tensor | None


class FrameStep(nn.Module):
    """Hears frames, and encodes the past, from which the next frame is predicted."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.model = model

    def forward(
        self,
        velocity: Tensor,
        pedal: Tensor,
        beats: Tensor,
        composer: Tensor,
        home: Tensor | None,
        state: ModelState | None,
    ) -> tuple[Known, ModelState]:
        """Return the encoding of the past after the last frame, and the new state.

        Parameters
        ----------
        velocity : Tensor, shape (R, T, K)
            MIDI velocities of the last frames, 0 where a pitch is silent.
        pedal : Tensor, shape (R, T)
            1 where the pedal is down.
        beats : Tensor, shape (R, T, N_BEAT_FEATURES)
            Of the frames to be predicted, one frame ahead.
        composer : Tensor of int, shape (R,)
            From `ModelConfig.label_of`.
        home : Tensor, shape (R, K, N_HOME_FEATURES), or None
            Profiles of the openings.
        state : ModelState or None
        """
        features, state = self.model(velocity / 127, state, composer, pedal, beats, home)
        hidden = features.hidden
        features = features.map(lambda x: x[:, -1])
        output = self.model.output
        pedal_logit = None if output.pedal is None else output.pedal.logits(features)
        encoded = output.encode_past(features)
        return Known(hidden, encoded, features.pitches, features.recent, features.pedal, pedal_logit), state


class PitchPass(nn.Module):
    """One pass of the fixed-point iteration over the pitches of a frame; see `decode_frame`."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.output = model.output

    def forward(
        self, encoded: Tensor, pitches: Tensor, pedal: Tensor, next_pedal: Tensor, next_frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logit of each pitch (R, K), given the lower ones, and the embeddings conditioned on these.

        Parameters
        ----------
        encoded, pitches, pedal : Tensor
            See `Known`.
        next_pedal : Tensor, shape (R,)
        next_frame : Tensor, shape (R, K)
            The present guess: 1 where a pitch sounds.
        """
        features = FrameFeatures(encoded, pitches, pitches, pedal)
        encoded = self.output.hear_pedal(encoded, features, next_pedal)
        conditioned = self.output.condition(encoded, features, next_frame)
        return self.output.logits(conditioned, features), conditioned


class VelocityPass(nn.Module):
    """One pass of the fixed-point iteration over the velocities of the struck pitches of a frame."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.output = model.output

    def forward(self, conditioned: Tensor, recent: Tensor, velocity: Tensor, struck=...) -> Tensor:
        """Return the logits of the velocity bins, shape (n_struck, N_VELOCITIES) or (R, K, N_VELOCITIES).

        Parameters
        ----------
        conditioned : Tensor
            From `PitchPass`.
        recent : Tensor
            See `Known`.
        velocity : Tensor, shape (R, K)
            The present guess of the velocities of struck pitches, otherwise 0. Each pitch sees those below it.
        struck : Tensor of bool, shape (R, K), or ...
            By default all pitches, as if each were struck.
        """
        features = FrameFeatures(conditioned, recent, recent, recent)
        return self.output.velocity_logits(conditioned, features, velocity, struck)


def named_tensors(state: Any, prefix: str = "state") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a state with its path as name, as in ``state.layers.0.cell.hidden``."""
    if isinstance(state, Tensor):
        yield prefix, state
    elif state is not None:
        names = getattr(state, "_fields", range(len(state)))
        for name, part in zip(names, state):
            yield from named_tensors(part, f"{prefix}.{name}")
