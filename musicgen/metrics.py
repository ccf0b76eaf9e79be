"""How good is it? Likelihoods beside two baselines, and the statistics of a piece of music."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen.model import AttentionLSTM
from musicgen.piano_roll import N_KEYS, PianoRoll, pad

CHUNK_FRAMES = 512


class Baselines(NamedTuple):
    """Two predictors that any model must beat, fitted on the train split.

    `marginal` is P(on) of each key, shape (88,). `markov` is P(on | its state one frame before), shape (2, 88):
    row 0 where the key was up, row 1 where it was down.
    """

    marginal: Tensor
    markov: Tensor

    def as_tensors(self) -> dict[str, Tensor]:
        """Name the tensors as a checkpoint carries them."""
        return {"baseline.marginal": self.marginal, "baseline.markov": self.markov}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Baselines":
        """Take them out of a checkpoint's tensors; ValueError if they are missing or no probabilities."""
        found = cls(*(tensors.get(f"baseline.{name}", torch.empty(0)) for name in cls._fields))
        shapes_fit = found.marginal.shape == (N_KEYS,) and found.markov.shape == (2, N_KEYS)
        if not shapes_fit or not all(((0 < table) & (table < 1)).all() for table in found):
            raise ValueError("the checkpoint holds no baselines to compare with")
        return found


def fit_baselines(rolls: Sequence[PianoRoll]) -> Baselines:
    """Count how often each key sounds, and how often it does after sounding or not, with one count added to each."""
    frames = np.zeros(2)[:, None]
    on = 0
    for roll in rolls:
        before, after = roll.active[:-1], roll.active[1:]
        frames = frames + np.stack([(~before).sum(0), before.sum(0)])
        on = on + np.stack([(~before & after).sum(0), (before & after).sum(0)])
    marginal = (on.sum(0) + 1) / (frames.sum(0) + 2)
    return Baselines(torch.from_numpy(marginal).float(), torch.from_numpy((on + 1) / (frames + 2)).float())


@torch.inference_mode()
def evaluate(model: AttentionLSTM, rolls: Sequence[PianoRoll], baselines: Baselines) -> dict[str, float]:
    """Score a model on whole pieces, teacher-forced, as generation runs it: its state carried from the first frame.

    Parameters
    ----------
    model : AttentionLSTM
    rolls : sequence of PianoRoll
    baselines : Baselines
        Scored on the same frames.

    Returns
    -------
    dict of str to float
        ``n_pieces``; ``n_frames``, every frame but the first of each piece; ``nll``, ``markov_nll`` and
        ``marginal_nll`` in nats per frame, summed over the keys and averaged over those frames; ``changed_nll``
        and ``changed_markov_nll``, the part of them that falls on cells that change from one frame to the next;
        ``frame_f1`` of the cells held to be on at a probability of one half, and ``onset_f1`` of those among
        them that were off one frame before.
    """
    model.eval()
    sums: dict[str, float] = {}
    for chunk in _teacher_forced(model, rolls):
        for name, value in _chunk_sums(*chunk, baselines).items():
            sums[name] = sums.get(name, 0.0) + value
    if not (n_frames := sums.pop("n_frames", 0)):
        raise ValueError("no piece has two frames or more: there is nothing to predict")
    hits, claims = ({kind: sums.pop(f"{kind}_{what}") for kind in ("frame", "onset")} for what in ("hits", "claims"))
    f1 = {f"{kind}_f1": 2 * hits[kind] / max(1.0, claims[kind]) for kind in hits}
    return {"n_pieces": len(rolls), "n_frames": int(n_frames)} | {k: v / n_frames for k, v in sums.items()} | f1


def _teacher_forced(model: AttentionLSTM, rolls: Sequence[PianoRoll], batch_size: int = 16) -> Iterator[tuple]:
    """Yield the logits, the frames they were given, the frames they should give, and which of them count."""
    device = next(model.parameters()).device
    by_length = sorted(range(len(rolls)), key=lambda index: rolls[index].n_frames)
    for first in range(0, len(rolls), batch_size):
        padded, lengths = pad([rolls[index].active for index in by_length[first : first + batch_size]])
        frames, state = torch.from_numpy(padded).to(device), None
        for start in range(0, frames.shape[1] - 1, CHUNK_FRAMES):
            chunk = frames[:, start : start + CHUNK_FRAMES + 1]  # (B, T + 1, K)
            logits, state = model(chunk[:, :-1].float(), state)
            time = torch.arange(start + 1, start + chunk.shape[1])
            counted = (time < torch.from_numpy(lengths)[:, None]).to(device)  # (B, T)
            yield logits, chunk[:, :-1], chunk[:, 1:], counted


def _chunk_sums(logits: Tensor, before: Tensor, after: Tensor, counted: Tensor, baselines: Baselines) -> dict:
    """Sum what `evaluate` averages over the counted frames of one chunk; cells have shape (frames, K)."""
    logits, before, after = logits[counted], before[counted], after[counted]
    marginal, markov = (probability.to(logits.device) for probability in baselines)
    target, changed = after.float(), before != after
    nll = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    markov_nll = F.binary_cross_entropy(torch.where(before, markov[1], markov[0]), target, reduction="none")
    marginal_nll = F.binary_cross_entropy(marginal.expand_as(target), target, reduction="none")
    on = logits > 0
    sums = {
        "n_frames": counted.sum(),
        "nll": nll.sum(),
        "markov_nll": markov_nll.sum(),
        "marginal_nll": marginal_nll.sum(),
        "changed_nll": nll[changed].sum(),
        "changed_markov_nll": markov_nll[changed].sum(),
        "frame_hits": (on & after).sum(),
        "frame_claims": on.sum() + after.sum(),
        "onset_hits": (on & after & ~before).sum(),
        "onset_claims": (on & ~before).sum() + (after & ~before).sum(),
    }
    return {name: value.item() for name, value in sums.items()}


def statistics(roll: PianoRoll) -> dict[str, float]:
    """Describe a piece in the terms in which real and generated music are compared.

    Returns
    -------
    dict of str to float
        ``notes_per_second``; ``polyphony``, keys that sound in a frame that is not silent; ``note_seconds``, the
        median length of a note; ``mean_pitch`` (MIDI number); ``pitch_classes``, the entropy of the twelve in
        bits; ``longest_silence_seconds``; ``longest_note_seconds``.
    """
    notes, sounding = roll.notes, roll.active.any(axis=1)
    frames_held = notes["end_frame"] - notes["start_frame"]
    classes = np.bincount(notes["pitch"] % 12, minlength=12) / max(1, len(notes))
    return {
        "notes_per_second": len(notes) / max(roll.duration_seconds, 1 / roll.fps),
        "polyphony": float(roll.active.sum() / max(1, sounding.sum())),
        "note_seconds": float(np.median(frames_held) / roll.fps) if len(notes) else 0.0,
        "mean_pitch": float(notes["pitch"].mean()) if len(notes) else 0.0,
        "pitch_classes": float(-(classes[classes > 0] * np.log2(classes[classes > 0])).sum()),
        "longest_silence_seconds": _longest_run(~sounding) / roll.fps,
        "longest_note_seconds": float(frames_held.max(initial=0) / roll.fps),
    }


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
