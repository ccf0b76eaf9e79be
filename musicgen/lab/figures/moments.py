"""Values that a model computes at one moment of a piece: gates, attention weights, copies and the next pitches."""

from collections.abc import Callable
from functools import partial, wraps

import numpy as np
import torch
from torch import Tensor, nn

from musicgen.beats import beat_features
from musicgen.model import AttentionLSTM
from musicgen.model.heads import FrameFeatures, conditional_logits, decode_frame, teacher_forced_logits
from musicgen.piano_roll import LOWEST_PITCH, PianoRoll, pitch_name
from musicgen.utils.inference import for_inference

NEXT_DTYPE = np.dtype([("pitch", int), ("probability", float), ("held", bool)])
N_SAMPLES = 200  # of the next frame, to estimate the probability of each pitch


def _looking(look: Callable) -> Callable:
    """Decorator: call a function with a model in evaluation mode, without gradients, and leave it unchanged."""

    @wraps(look)
    @torch.no_grad()
    def looked(model: AttentionLSTM, *args, **options):
        return look(for_inference(model), *args, **options)

    return looked


@_looking
def lstm_inputs(model: AttentionLSTM, roll: PianoRoll) -> Tensor:
    """Return the inputs of the first LSTM layer at each frame of a roll, shape (1, n_frames, n_inputs)."""
    if not roll.n_frames:
        raise ValueError("the roll has no frames: choose at least one")
    frames, given = _inputs(model, roll, (roll.n_frames - 1) / roll.fps, None)
    return model.inputs(frames, **given)


@torch.inference_mode()
def lstm_gates(lstm: nn.LSTM, inputs: Tensor) -> dict[str, np.ndarray]:
    """Compute one LSTM layer with the standard formulas, and return all gates and states.

    The layer starts from a zero state.

    Parameters
    ----------
    lstm : nn.LSTM
        With ``batch_first``.
    inputs : Tensor, shape (n_frames, n_inputs)

    Returns
    -------
    dict of str to numpy.ndarray, shape (n_frames, hidden_size)
        "input gate", "forget gate", "output gate", "candidate", "cell state" and "hidden state".
    """
    names = ("input gate", "forget gate", "candidate", "output gate", "cell state", "hidden state")
    hidden = cell = inputs.new_zeros(lstm.hidden_size)
    rows = []
    for x in inputs:
        sums = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
        i, f, g, o = sums.chunk(4)
        i = i.sigmoid()
        f = f.sigmoid()
        g = g.tanh()
        o = o.sigmoid()
        cell = f * cell + i * g
        hidden = o * cell.tanh()
        rows.append(torch.stack([i, f, g, o, cell, hidden]))
    return dict(zip(names, torch.stack(rows, dim=1).cpu().numpy()))


@torch.no_grad()
def attention_weights(model: AttentionLSTM, inputs: Tensor) -> list[Tensor]:
    """Return the weights of each attention cell as a list of tensors (batch, n_frames, n_frames).

    Parameters
    ----------
    model : AttentionLSTM
    inputs : Tensor, shape (batch, n_frames, n_inputs)
        From `AttentionLSTM.inputs`.
    """
    found = []
    n_plain = model.config.n_layers - model.config.n_attending_layers
    for number, layer in enumerate(model.layers):
        states, _ = layer.cell(inputs)
        if number >= n_plain:
            found.append(layer.attention.weights(states))
        inputs, _ = layer.attention(states)
    return found


@_looking
def attention_at(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None) -> np.ndarray:
    """Return the weights of each attention layer at one moment of a piece, over the frames up to that moment.

    Parameters
    ----------
    model : AttentionLSTM
    roll : PianoRoll
        A piece from its first frame on.
    seconds : float
        The moment, within the piece.
    composer : str, optional
        One of ``model.config.composers``.

    Returns
    -------
    numpy.ndarray, shape (n_attention_layers, n_frames)
        The last frame is the one at the moment. Rows sum to 1, and are 0 before the last ``attention_span`` frames.

    Raises
    ------
    ValueError
        If the moment lies outside the piece, the model has no attention layer, or it does not know the composer.
    """
    if not model.config.n_attending_layers:
        raise ValueError("the model has no attention layer")
    frames, given = _inputs(model, roll, seconds, composer)
    weights = attention_weights(model, model.inputs(frames, **given))
    return np.stack([each[0, -1].cpu().numpy() for each in weights])


@_looking
def copy_at(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None) -> np.ndarray:
    """Return the weights of each copy-attention head at one moment of a piece, over the frames up to that moment.

    Parameters
    ----------
    model, roll, seconds, composer
        As in `attention_at`.

    Returns
    -------
    numpy.ndarray, shape (n_heads, n_frames + 1)
        The last column is the weight of the null key: "no match". Rows sum to 1.

    Raises
    ------
    ValueError
        If the moment lies outside the piece, the model has no copy attention, or it does not know the composer.
    """
    features = _copy_features(model, roll, seconds, composer)
    return model.copy.weights(features.hidden, features.pitches)[0, :, -1].cpu().numpy()


@_looking
def copied_at(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None) -> np.ndarray:
    """Return the notes that each copy-attention head retrieves at one moment of a piece.

    Parameters
    ----------
    model, roll, seconds, composer
        As in `attention_at`.

    Returns
    -------
    numpy.ndarray, shape (n_heads, 3, n_pitches)
        Weighted averages of the onsets one and two frames after the matches, and of the pitches that sound one frame
        after them.
    """
    features = _copy_features(model, roll, seconds, composer)
    copied = features.copied_notes[0, -1]  # (K, 3 * n_heads)
    return copied.unflatten(-1, (-1, 3)).permute(1, 2, 0).cpu().numpy()


@_looking
def next_pitches(
    model: AttentionLSTM, roll: PianoRoll, seconds: float, k: int = 10, composer: str | None = None
) -> np.ndarray:
    """Return the most likely pitches of the frame that follows one moment of a piece.

    The pitches of a frame depend on each other, so the probabilities are the shares of 200 sampled frames.

    Parameters
    ----------
    model, roll, seconds, composer
        As in `attention_at`.
    k : int
        The largest number of pitches.

    Returns
    -------
    numpy.ndarray
        Structured, by descending probability: ``pitch``, ``probability``, and ``held``, which is true for a pitch that
        sounds at the moment. Pitches that no sample contains are left out.
    """
    frames, given = _inputs(model, roll, seconds, composer)
    features, _ = model(frames, **given)
    features = features.map(lambda each: each[0, -1].expand(N_SAMPLES, *each.shape[2:]))
    uniform = torch.rand(N_SAMPLES, frames.shape[2] + 1, generator=torch.Generator().manual_seed(0)).to(frames.device)
    pedal = None
    if model.output.pedal is not None:
        pedal = (uniform[:, -1] < model.output.pedal.logits(features).sigmoid()).float()
    encoded = model.output.encode(features, pedal)
    logits_of = partial(conditional_logits, model.output, encoded, features)
    sampled, _, _ = decode_frame(logits_of, features.active, lambda x: (uniform[:, :-1] < x.sigmoid()).to(x.dtype))
    share = sampled.mean(dim=0).cpu().numpy()
    likely = np.argsort(-share, kind="stable")[:k]
    predicted = np.zeros(len(likely), NEXT_DTYPE)
    held = features.active[0].cpu().numpy() > 0
    predicted["pitch"] = likely + LOWEST_PITCH
    predicted["probability"] = share[likely]
    predicted["held"] = held[likely]
    return predicted[predicted["probability"] > 0]


@_looking
def chord_at(
    model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None
) -> dict[str, dict[str, float]]:
    """Return the probabilities of the notes that are struck next after a moment of a piece.

    Parameters
    ----------
    model, roll, seconds, composer
        As in `attention_at`.

    Returns
    -------
    dict of str to dict of str to float
        "given the notes below" and "if none below is struck": a probability for the name of each struck note, from the
        lowest. The model has heard the frames before.

    Raises
    ------
    ValueError
        As in `attention_at`; also if no note is struck after the moment.
    """
    later = np.flatnonzero(roll.onsets.any(axis=1))
    later = later[later > seconds * roll.fps]
    if not len(later):
        raise ValueError(f"no note is struck after {seconds:g} s")
    frames, given = _inputs(model, roll, (later[0] - 0.5) / roll.fps, composer)
    features = model(frames, **given)[0].map(lambda each: each[0, -1:])
    following = roll[later[0] : later[0] + 1]
    struck = np.flatnonzero(roll.onsets[later[0]])
    played = torch.tensor(following.active, dtype=features.active.dtype, device=frames.device)
    pedal = torch.tensor(following.pedal_down, dtype=played.dtype, device=frames.device)
    chances = {}
    for name, lower in {"given the notes below": played, "if none below is struck": played * features.active}.items():
        chance = teacher_forced_logits(model.output, features, lower, pedal)[0][0].sigmoid()
        chances[name] = {pitch_name(i + LOWEST_PITCH): float(chance[i]) for i in struck.tolist()}
    return chances


def _copy_features(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None) -> FrameFeatures:
    """Return the features up to one moment of a piece; ValueError if the model has no copy attention."""
    if not model.config.copies:
        raise ValueError("the model has no copy attention")
    frames, given = _inputs(model, roll, seconds, composer)
    features, _ = model(frames, **given)
    return features


def _inputs(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None) -> tuple[Tensor, dict]:
    """Return the model's inputs up to one moment of a piece: the frames, and a dict of the other inputs."""
    if not 0 <= seconds < roll.duration_seconds:
        raise ValueError(f"the moment must be from 0 to below {roll.duration_seconds:g} s, not {seconds:g} s")
    n_frames = int(seconds * roll.fps) + 1
    device = next(model.parameters()).device
    given = {
        "composers": np.array([model.config.label_of(composer)]),
        "pedal": roll.pedal_down[None, :n_frames].astype(np.float32),
        "beats": beat_features(roll.beats, n_frames + 1, roll.fps)[None, 1:],  # one frame ahead
    }
    frames = torch.tensor(roll.velocity[None, :n_frames], device=device) / 127
    return frames, {name: torch.tensor(array, device=device) for name, array in given.items()}
