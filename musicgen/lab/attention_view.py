"""What the attention cells look at: for a moment of a piece, how much each of them weighs each earlier moment."""

import numpy as np
import torch

from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll


@torch.inference_mode()
def attention_at(model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None) -> np.ndarray:
    """Return how much each attention layer weighs each earlier frame when it stands at a moment of a piece.

    Parameters
    ----------
    model : AttentionLSTM
    roll : PianoRoll
        A piece from its first frame on, as the model heard or made it.
    seconds : float
        The moment, within the piece.
    composer : str, optional
        Whose music the model takes it for, one of ``model.config.composers``.

    Returns
    -------
    numpy.ndarray, shape (n_attention_layers, n_frames)
        Up to that moment, whose own frame is the last; rows sum to 1, and are 0 before ``attention_span`` frames.

    Raises
    ------
    ValueError
        If the moment lies outside the piece, or the model has no attention, or does not know the composer.
    """
    if not model.config.n_attention_layers:
        raise ValueError("the model has no attention layer to look at")
    if not 0 <= seconds < roll.duration_seconds:
        raise ValueError(
            f"the moment must lie from 0 to {roll.duration_seconds:g} s, within the piece, not {seconds:g}"
        )
    n_frames = int(seconds * roll.fps) + 1
    device = next(model.parameters()).device
    labels = torch.tensor([model.config.label_of(composer)], device=device)
    frames = torch.tensor(roll.velocity[None, :n_frames], device=device) / 127
    return np.stack([weights[0, -1].cpu().numpy() for weights in model.eval().attention_weights(frames, labels)])
