"""How good is it? Likelihoods and predicted frames, beside the baselines that any model must beat."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen.keys import N_VELOCITIES, FrameFeatures, decode_frame, teacher_forced_logits, velocity_bins
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import N_PITCHES, PianoRoll, pad
from musicgen.recipe import velocity_loss

CHUNK_FRAMES = 512


class Baselines(NamedTuple):
    """Predictors that any model must beat, fitted on the train split.

    `marginal` is P(on) of each key, shape (88,). `markov` is P(on | its state one frame before), shape (2, 88):
    row 0 where the key was up, row 1 where it was down. `velocity` is the distribution of the velocities of struck
    keys over bins of four, shape (32,).
    """

    marginal: Tensor
    markov: Tensor
    velocity: Tensor

    def as_tensors(self) -> dict[str, Tensor]:
        """Name the tensors as a checkpoint carries them."""
        return {f"baseline.{name}": table for name, table in self._asdict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Baselines":
        """Take them out of a checkpoint's tensors; ValueError if they are missing or no probabilities."""
        found = cls(*(tensors.get(f"baseline.{name}", torch.empty(0)) for name in cls._fields))
        shapes_fit = [table.shape for table in found] == [(N_PITCHES,), (2, N_PITCHES), (N_VELOCITIES,)]
        if not shapes_fit or not all(((0 < table) & (table < 1)).all() for table in found):
            raise ValueError("the checkpoint holds no baselines to compare with")
        return found


def fit_baselines(rolls: Sequence[PianoRoll]) -> Baselines:
    """Count how often each key sounds, after sounding or not, and is struck how hard, with one count added to each."""
    frames, on = np.zeros((2, N_PITCHES)), np.zeros((2, N_PITCHES))
    struck = np.ones(N_VELOCITIES)
    for roll in rolls:
        before, after = roll.active[:-1], roll.active[1:]
        frames += np.stack([(~before).sum(0), before.sum(0)])
        on += np.stack([(~before & after).sum(0), (before & after).sum(0)])
        struck += np.bincount(roll.velocity[roll.onsets] * np.int64(N_VELOCITIES) // 128, minlength=N_VELOCITIES)
    marginal, markov = (on.sum(0) + 1) / (frames.sum(0) + 2), (on + 1) / (frames + 2)
    return Baselines(*(torch.from_numpy(table).float() for table in (marginal, markov, struck / struck.sum())))


@torch.inference_mode()
def evaluate(model: AttentionLSTM, rolls: Sequence[PianoRoll], baselines: Baselines) -> dict[str, float]:
    """Score a model on whole pieces, teacher-forced, as generation runs it: its state carried from the first frame.

    Parameters
    ----------
    model : AttentionLSTM
        It is not told the composers.
    rolls : sequence of PianoRoll
    baselines : Baselines
        Scored on the same frames.

    Returns
    -------
    dict of str to float
        ``n_pieces``; ``n_frames``, every frame but the first of each piece; ``nll``, ``markov_nll`` and
        ``marginal_nll`` in nats per frame, summed over the keys and averaged over those frames; ``changed_nll``
        and ``changed_markov_nll``, the part of them that falls on cells that change from one frame to the next;
        ``velocity_nll`` (of a model that knows dynamics) and ``velocity_marginal_nll`` in nats per struck key, of
        which there are ``n_struck``. And of the frames that are predicted by holding each key that is
        likelier on than off to be on: ``frame_f1``, ``onset_f1`` of the keys that were off one frame before, and
        ``accuracy``, hits among all cells that are on in the music or the prediction (Bay, Ehmann and Downie,
        ISMIR 2009).
    """
    sums: dict[str, float] = {}
    for _, heard, velocity in _teacher_forced(model, rolls):
        for name, value in (_scores(model, heard, velocity, baselines) | _hits(model, heard, velocity)).items():
            sums[name] = sums.get(name, 0.0) + value
    n_frames, n_struck = int(sums.pop("n_frames")), int(sums["n_struck"])
    hits, claims = ({kind: sums.pop(f"{kind}_{what}") for kind in ("frame", "onset")} for what in ("hits", "claims"))
    counts = {"n_pieces": len(rolls), "n_frames": n_frames, "n_struck": n_struck}
    per = {name: n_struck if name.startswith("velocity") else n_frames for name in sums}
    means = {name: value / max(1, per[name]) for name, value in sums.items() if name not in counts}
    f1 = {f"{kind}_f1": 2 * hits[kind] / max(1.0, claims[kind]) for kind in hits}
    return counts | means | f1 | {"accuracy": hits["frame"] / max(1.0, claims["frame"] - hits["frame"])}


@torch.inference_mode()
def piece_nlls(
    model: AttentionLSTM, rolls: Sequence[PianoRoll], composers: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score the notes of each piece by itself.

    Parameters
    ----------
    model : AttentionLSTM
    rolls : sequence of PianoRoll
    composers : sequence of int, optional
        For each piece the composer that the model is told, as in `AttentionLSTM.forward`.

    Returns
    -------
    nll : numpy.ndarray, shape (n_pieces,)
        In nats, summed over keys and frames.
    n_frames : numpy.ndarray of int, shape (n_pieces,)
        How many frames that is: all but the first of each piece.
    """
    nll, n_frames = np.zeros(len(rolls)), np.zeros(len(rolls), int)
    for pieces, heard, velocity in _teacher_forced(model, rolls, composers):
        following = (velocity > 0).float()
        logits, _ = teacher_forced_logits(model.output, heard, following)
        loss = F.binary_cross_entropy_with_logits(logits.float(), following, reduction="none").sum(-1)
        np.add.at(nll, pieces, loss.double().cpu().numpy())
        np.add.at(n_frames, pieces, 1)
    return nll, n_frames


def mean_nll(model: AttentionLSTM, rolls: Sequence[PianoRoll]) -> float:
    """Return the `nll` of `evaluate`, without working out the rest."""
    nll, n_frames = piece_nlls(model, rolls)
    return float(nll.sum() / n_frames.sum())


def _teacher_forced(
    model: AttentionLSTM, rolls: Sequence[PianoRoll], composers: Sequence[int] | None = None, batch_size: int = 16
) -> Iterator[tuple[np.ndarray, FrameFeatures, Tensor]]:
    """Yield the pieces (N,) that some frames belong to, what is known before each frame, and its velocities."""
    device = next(model.eval().parameters()).device
    labels = torch.tensor(np.zeros(len(rolls), int) if composers is None else composers, device=device)
    if all(roll.n_frames < 2 for roll in rolls):
        raise ValueError("no piece has two frames or more: there is nothing to predict")
    by_length = np.argsort([roll.n_frames for roll in rolls], kind="stable")
    for first in range(0, len(rolls), batch_size):
        chosen = by_length[first : first + batch_size]
        padded, lengths = pad([rolls[index].velocity for index in chosen])
        velocity, state = torch.from_numpy(padded).to(device), None
        for start in range(0, velocity.shape[1] - 1, CHUNK_FRAMES):
            chunk = velocity[:, start : start + CHUNK_FRAMES + 1]  # (B, T + 1, K)
            heard, state = model(chunk[:, :-1] / 127, state, labels[chosen])
            time = np.arange(start + 1, start + chunk.shape[1])
            counted = torch.from_numpy(time < lengths[:, None]).to(device)  # (B, T)
            pieces = np.repeat(chosen, np.clip(lengths - 1 - start, 0, len(time)))
            yield pieces, FrameFeatures(*(known[counted] for known in heard)), chunk[:, 1:][counted]


def _scores(model: AttentionLSTM, heard: FrameFeatures, velocity: Tensor, baselines: Baselines) -> dict[str, float]:
    """Sum the negative log-likelihoods that `evaluate` averages."""
    marginal, markov, velocities = (table.to(velocity.device) for table in baselines)
    before, after = heard.keys[..., 0] > 0, velocity > 0
    target, changed = after.float(), before != after
    logits, within = teacher_forced_logits(model.output, heard, target)
    nll = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    markov_nll = F.binary_cross_entropy(torch.where(before, markov[1], markov[0]), target, reduction="none")
    bins = velocity_bins(velocity[after & ~before])
    sums = {
        "n_frames": len(target),
        "nll": nll.sum(dtype=torch.float64),
        "markov_nll": markov_nll.sum(dtype=torch.float64),
        "marginal_nll": F.binary_cross_entropy(marginal.expand_as(target), target, reduction="sum"),
        "changed_nll": nll[changed].sum(dtype=torch.float64),
        "changed_markov_nll": markov_nll[changed].sum(dtype=torch.float64),
        "n_struck": len(bins),
        "velocity_marginal_nll": (math.log(128 / N_VELOCITIES) - velocities.log())[bins].sum(),
    }
    if model.output.velocity is not None:
        sums["velocity_nll"] = velocity_loss(model, heard, velocity, within)[0]
    return {name: float(value) for name, value in sums.items()}


def _hits(model: AttentionLSTM, heard: FrameFeatures, velocity: Tensor) -> dict[str, int]:
    """Count the cells that are on in the most likely frames, given the past, and in the music."""
    predicted, _ = decode_frame(model.output, heard, lambda logits: (logits > 0).to(logits.dtype))
    on, after, up = predicted > 0, velocity > 0, heard.keys[..., 0] == 0
    return {
        "frame_hits": int((on & after).sum()),
        "frame_claims": int(on.sum() + after.sum()),
        "onset_hits": int((on & after & up).sum()),
        "onset_claims": int((on & up).sum() + (after & up).sum()),
    }
