"""The likelihood of one roll given each of several candidates for its beats."""

import numpy as np
import torch
from torch.nn import functional as F

from musicgen.beats import beat_features
from musicgen.model.attention_lstm import AttentionLSTM
from musicgen.model.heads import teacher_forced_logits
from musicgen.piano_roll import PianoRoll

CHUNK_FRAMES = 64  # at once: more frames no longer fit into a processor's cache


def nll_given_beats(model: AttentionLSTM, roll: PianoRoll, candidates: list[np.ndarray | None]) -> np.ndarray:
    """Return the negative log-likelihood of a roll's pitches for each candidate's beats, computed as one batch.

    Returns
    -------
    numpy.ndarray, shape (n_candidates,)
        In nats, summed over the pitches and over all frames but the first.
    """
    return frame_nlls_given_beats(model, roll, candidates).sum(axis=1)


@torch.inference_mode()
def frame_nlls_given_beats(model: AttentionLSTM, roll: PianoRoll, candidates: list[np.ndarray | None]) -> np.ndarray:
    """Return the negative log-likelihood of each frame's pitches for each candidate's beats.

    Parameters
    ----------
    model : AttentionLSTM
    roll : PianoRoll
        Its own beats are not used.
    candidates : list of numpy.ndarray, shape (n_beats, 2), or None
        As in `PianoRoll`; None for no beats.

    Returns
    -------
    numpy.ndarray, shape (n_candidates, n_frames)
        In nats, summed over the pitches; 0 for the first frame.
    """
    B, T = len(candidates), roll.n_frames
    device = next(model.parameters()).device
    velocity = torch.tensor(roll.velocity, device=device).expand(B, -1, -1)  # (B, T, K)
    pedal = torch.tensor(roll.pedal_down, dtype=torch.float32, device=device).expand(B, -1)  # (B, T)
    beats = torch.from_numpy(np.stack([beat_features(each, T, roll.fps) for each in candidates])).to(device)
    nll = np.zeros((B, T))
    state = None
    for start in range(0, T - 1, CHUNK_FRAMES):
        now = slice(start, min(start + CHUNK_FRAMES, T - 1))
        after = slice(now.start + 1, now.stop + 1)
        target = (velocity[:, after] > 0).float()
        past, state = model(velocity[:, now] / 127, state, pedal=pedal[:, now], beats=beats[:, after])
        logits, _ = teacher_forced_logits(model.output, past, target, pedal[:, after])
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        nll[:, after] = losses.sum(dim=2).double().cpu().numpy()
    return nll
