"""The steps of generation as modules that reuse a model's trained parts, to run in PyTorch or to export as graphs.

A frame takes one `FrameStep`, a few `PitchPass` and, if notes are struck, a few `VelocityPass`. An engine runs them:
`TorchEngine` below, or `OnnxEngine`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from musicgen.beats import beat_features
from musicgen.generation import sampling
from musicgen.model import AttentionLSTM
from musicgen.model.attention_lstm import ModelState
from musicgen.model.heads import FrameFeatures
from musicgen.piano_roll import PianoRoll


class Frames(NamedTuple):
    """The last frames of R rows of a batch, as inputs of a step. T frames, K pitches.

    Attributes
    ----------
    velocity : Tensor, shape (R, T, K)
        MIDI velocities, 0 where a pitch is silent.
    pedal : Tensor, shape (R, T)
        1 where the pedal is down.
    beats : Tensor, shape (R, T, N_BEAT_FEATURES)
        Of the frames to be predicted, one frame ahead.
    composer : Tensor of int, shape (R,)
        From `ModelConfig.label_of`.
    home : Tensor, shape (R, K, pitch_size), or None
        Profiles of the openings, embedded by `Home`. For `GuidedModel` the profiles (R, K, N_HOME_FEATURES).
    """

    velocity: Tensor
    pedal: Tensor
    beats: Tensor
    composer: Tensor
    home: Tensor | None = None


class Known(NamedTuple):
    """Encoding of the past, before anything in the next frame is decided. R rows of a batch, K pitches.

    Attributes
    ----------
    hidden : Tensor, shape (R, T, n_layers * H), or None
        Outputs of all layers in all frames, if the model has a probe; the rest belongs to the last frame.
    encoded : Tensor, shape (R, K, pitch_size)
        From `PitchOutput.encode_past`.
    skip : Tensor, shape (R, K)
        From `PitchOutput.skip_logits`.
    active : Tensor, shape (R, K)
        As in `FrameFeatures`, also the next two.
    recent : Tensor, shape (R, K, 4)
    pedal_history : Tensor, shape (R, 3)
    pedal_logit : Tensor, shape (R,), or None
        Of "down" in the next frame, if the head predicts the pedal.
    """

    hidden: Tensor | None
    encoded: Tensor
    skip: Tensor
    active: Tensor
    recent: Tensor
    pedal_history: Tensor
    pedal_logit: Tensor | None


class FrameStep(nn.Module):
    """The network for one or more frames, and the encoding of the past that predicts the next one."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.model = model

    def forward(self, frames: Frames, state: ModelState | None) -> tuple[Known, ModelState]:
        """Return the encoding of the past after the last frame, and the new state."""
        velocity, pedal, beats, composer, home = frames
        features, state = self.model(velocity / 127, state, composer, pedal, beats)
        hidden = features.all_hidden  # (R, T, L H)
        features = features.map(lambda x: x[:, -1])._replace(home=home)
        output = self.model.output
        pedal_logit = None if output.pedal is None else output.pedal.logits(features)  # (R,)
        encoded = output.encode_past(features)  # (R, K, S)
        skip = output.skip_logits(features)  # (R, K)
        return Known(hidden, encoded, skip, features.active, features.recent, features.pedal, pedal_logit), state


class PitchPass(nn.Module):
    """One pass of the fixed-point iteration over the pitches of a frame; see `decode_frame`."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.output = model.output

    def forward(
        self,
        encoded: Tensor,
        skip: Tensor,
        active: Tensor,
        pedal_history: Tensor,
        next_pedal: Tensor,
        next_frame: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the logit of each pitch (R, K), given the lower ones, and the embeddings conditioned on these.

        Parameters
        ----------
        encoded, skip, active, pedal_history : Tensor
            See `Known`.
        next_pedal : Tensor, shape (R,)
        next_frame : Tensor, shape (R, K)
            The present guess: 1 where a pitch sounds.
        """
        # Of the features, only the pedal is used here: the others are in `encoded`, or for `VelocityPass`.
        features = FrameFeatures(hidden=None, pitches=None, recent=None, pedal=pedal_history)
        encoded = self.output.condition_on_pedal(encoded, features, next_pedal)  # (R, K, S)
        conditioned = self.output.condition(encoded, active, next_frame)  # (R, K, S)
        # With one axis for rows and pitches, ONNX Runtime adds the biases within its products.
        logits = self.output.logits(conditioned.flatten(0, 1), skip.flatten())  # (R * K,)
        return logits.unflatten(0, skip.shape), conditioned


class VelocityPass(nn.Module):
    """One pass of the fixed-point iteration over the velocities of the struck pitches of a frame."""

    def __init__(self, model: AttentionLSTM):
        super().__init__()
        self.output = model.output

    def forward(self, conditioned: Tensor, recent: Tensor, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of each struck pitch, shape (n_struck, N_VELOCITIES).

        Parameters
        ----------
        conditioned : Tensor
            From `PitchPass`.
        recent : Tensor
            See `Known`.
        velocity : Tensor, shape (R, K)
            The present guess of the velocities of struck pitches, otherwise 0. Each pitch sees those below it.
        struck : Tensor of bool, shape (R, K)
        """
        # Of the features, velocities depend on the recent ones only; the others are in `conditioned`.
        features = FrameFeatures(hidden=None, pitches=None, recent=recent, pedal=None)
        return self.output.velocity_logits(conditioned, features, velocity, struck)


class Engine(Protocol):
    """The interface of an engine: an object that runs the steps of a model.

    `TorchEngine` and `OnnxEngine` are engines, as is any object with these members, such as one that measures another.
    What `step` and `pitch_logits` return is only handed on to the same engine, but for the fields ``hidden`` and
    ``pedal_logit`` of the first.
    """

    model: AttentionLSTM

    def step(self, frames: Frames, state: Any) -> tuple[Any, Any]:
        """Run a `FrameStep`; return the encoding of the past and the new state."""

    def pitch_logits(self, known: Any, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, Any]:
        """Run a `PitchPass`; return its logits (R, K), and what `velocity_logits` needs of it."""

    def velocity_logits(self, known: Any, conditioned: Any, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES)."""


class TorchEngine:
    """Runs the steps of a model in PyTorch.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode.
    """

    name = "torch"

    def __init__(self, model: AttentionLSTM):
        self.model = model
        self.step = FrameStep(model)
        self._pitch_pass = PitchPass(model)
        self._velocity_pass = VelocityPass(model)

    def pitch_logits(self, known: Known, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Run a `PitchPass`, and return its logits and embeddings."""
        return self._pitch_pass(known.encoded, known.skip, known.active, known.pedal_history, next_pedal, next_frame)

    def velocity_logits(self, known: Known, conditioned: Tensor, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES)."""
        return self._velocity_pass(conditioned, known.recent, velocity, struck)


class GuidedModel:
    """A model with classifier-free guidance, for B pieces: NumPy arrays in, NumPy arrays out.

    With a scale other than 1 it runs each piece twice, with and without its composer, as a batch of 2 B rows, and
    guides all logits. What is known, embeddings and states have 2 B rows then; arguments and logits always have B.
    This is all that generation needs of a model.

    Parameters
    ----------
    engine : Engine
    scale : float
        The guidance scale.
    """

    def __init__(self, engine: Engine, scale: float):
        self.engine = engine
        self.scale = scale
        self.n_streams = 1 if scale == 1 else 2
        self.predicts_velocity = engine.model.output.velocity is not None
        self.device = next(engine.model.parameters()).device
        self._home: np.ndarray | None = None
        self._embedded_home: Tensor | None = None

    def encode(self, frames: Frames, state: Any) -> tuple[Any, Any]:
        """Return the encoding of the past after some frames, and the new state, as `FrameStep` does.

        Parameters
        ----------
        frames : Frames
            Of arrays.
        state : ModelState, OnnxState or None
        """
        home = self._embed(frames.home)
        tensors = Frames(*map(self._rows, frames[:-1]), home)  # all but the home are copied for each stream
        if self.n_streams == 2:
            tensors.composer[len(frames.composer) :] = 0
        return self.engine.step(tensors, state)

    def pedal_logits(self, known: Known) -> np.ndarray:
        """Return the logits of the next pedal, shape (B,)."""
        return self._guide(known.pedal_logit)

    def pitch_logits(self, known: Known, pedal: np.ndarray, on: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the logit of each pitch (B, K), given the pedal (B,) and the lower pitches in `on` (B, K).

        The second result is for `velocity_logits`.
        """
        logits, conditioned = self.engine.pitch_logits(known, self._rows(pedal), self._rows(on.astype(np.float32)))
        return self._guide(logits), conditioned

    def velocity_logits(self, known: Known, conditioned: Any, velocity: np.ndarray, struck: np.ndarray) -> np.ndarray:
        """Return the logits of the velocity bins (n_struck, N_VELOCITIES), given the `velocity` of lower pitches."""
        return self._guide(self.engine.velocity_logits(known, conditioned, self._rows(velocity), self._rows(struck)))

    def _embed(self, home: np.ndarray | None) -> Tensor | None:
        """Return the embedding of a home, cached by identity: `Continuation` replaces the array, never changes it."""
        if home is not self._home:
            self._home = home
            self._embedded_home = None if home is None else self.engine.model.output.home(self._rows(home))
        return self._embedded_home

    def _rows(self, x: np.ndarray) -> Tensor:
        """Return an array as a tensor with its rows once for each stream."""
        if self.n_streams > 1:
            x = np.concatenate([x] * self.n_streams)
        return torch.from_numpy(x).to(self.device)

    def _guide(self, logits: Tensor) -> np.ndarray:
        logits = logits.cpu().numpy()
        return logits if self.n_streams == 1 else sampling.guide(logits, self.scale)


@torch.inference_mode()
def logits_frame_by_frame(engine: Engine, roll: PianoRoll) -> Tensor:
    """Return the logits of the pitches of each frame but the first, (T - 1, K), frame by frame as in generation.

    Parameters
    ----------
    engine : Engine
    roll : PianoRoll
        Each frame is predicted from the true frames before it, without composer and home.
    """
    velocity = torch.from_numpy(roll.velocity.copy())[None]  # (1, T, K)
    pedal = torch.tensor(roll.pedal_down)[None].float()  # (1, T)
    beats = torch.from_numpy(beat_features(roll.beats, roll.n_frames, roll.fps))[None]  # (1, T, N_BEAT_FEATURES)
    nobody = torch.zeros(1, dtype=torch.long)
    state = None
    logits = []
    for t in range(roll.n_frames - 1):
        now = slice(t, t + 1)
        known, state = engine.step(Frames(velocity[:, now], pedal[:, now], beats[:, t + 1 : t + 2], nobody), state)
        target = (velocity[:, t + 1] > 0).float()
        logits.append(engine.pitch_logits(known, pedal[:, t + 1], target)[0])
    return torch.cat(logits)


def named_tensors(state: Any, prefix: str = "state") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a state with its path as name, as in ``state.layers.0.cell.hidden``."""
    if isinstance(state, Tensor):
        yield prefix, state
    elif state is not None:
        names = getattr(state, "_fields", range(len(state)))
        for name, part in zip(names, state):
            yield from named_tensors(part, f"{prefix}.{name}" if prefix else name)
