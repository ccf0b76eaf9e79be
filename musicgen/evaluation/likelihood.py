"""Evaluate a model with teacher forcing: negative log-likelihoods and F1 scores, compared with baselines."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen.beats import beat_features
from musicgen.model import AttentionLSTM
from musicgen.model.heads import (
    N_VELOCITIES,
    FrameFeatures,
    FrameNlls,
    bin_widths,
    conditional_logits,
    decode_frame,
    frame_nlls,
    velocity_bins,
)
from musicgen.piano_roll import N_PITCHES, PianoRoll, pad
from musicgen.utils.inference import for_inference
from musicgen.utils.progress import progress_bar

CHUNK_FRAMES = 512
SHAPES = {"marginal": (N_PITCHES,), "markov": (2, N_PITCHES), "velocity": (N_VELOCITIES,), "pedal": (2,)}


class Baselines(NamedTuple):
    """Baselines that a model must beat, fitted on the training split.

    Attributes
    ----------
    marginal : Tensor, shape (88,)
        P(on) of each pitch.
    markov : Tensor, shape (2, 88)
        P(on | the pitch was off, on in the previous frame).
    velocity : Tensor, shape (32,)
        Distribution of the velocities of struck pitches, in bins of four.
    pedal : Tensor, shape (2,)
        P(down | the pedal was up, down in the previous frame).
    """

    marginal: Tensor
    markov: Tensor
    velocity: Tensor
    pedal: Tensor

    def as_tensors(self) -> dict[str, Tensor]:
        """Return a dict of the tensors by their names in a checkpoint."""
        return {f"baseline.{name}": table for name, table in self._asdict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Baselines":
        """Read the baselines from a checkpoint's tensors; ValueError if any are missing or not probabilities."""
        tensors = {"baseline.pedal": torch.tensor([0.5, 0.5])} | dict(tensors)  # older checkpoints have none
        found = {name: tensors.get(f"baseline.{name}", torch.empty(0)) for name in cls._fields}
        valid = all(table.shape == SHAPES[name] and ((0 < table) & (table < 1)).all() for name, table in found.items())
        if not valid:
            raise ValueError("the checkpoint holds no baselines to compare with")
        return cls(**found)


def fit_baselines(rolls: Sequence[PianoRoll]) -> Baselines:
    """Fit the baselines by counting states, transitions and velocities, with add-one smoothing."""
    frames = np.zeros((2, N_PITCHES + 1))  # row 0: the pitch was off in the frame before, row 1: it was on
    on = np.zeros((2, N_PITCHES + 1))
    struck = np.ones(N_VELOCITIES)
    for roll in rolls:
        state = np.column_stack([roll.active, roll.pedal_down])  # the pedal as one more pitch
        before = state[:-1]
        after = state[1:]
        frames += np.stack([(~before).sum(0), before.sum(0)])
        on += np.stack([(~before & after).sum(0), (before & after).sum(0)])
        struck += np.bincount(roll.velocity[roll.onsets] * np.int64(N_VELOCITIES) // 128, minlength=N_VELOCITIES)
    marginal = (on.sum(0) + 1) / (frames.sum(0) + 2)
    markov = (on + 1) / (frames + 2)
    tables = marginal[:-1], markov[:, :-1], struck / struck.sum(), markov[:, -1]
    return Baselines(*(torch.from_numpy(table).float().contiguous() for table in tables))


def baseline_nlls(baselines: Baselines, rolls: Sequence[PianoRoll]) -> dict[str, float]:
    """Return the losses of the baselines "marginal" and "Markov" in nats per frame, as in `evaluate`."""
    sums = {"marginal": 0.0, "Markov": 0.0}
    n_frames = 0
    for roll in rolls:
        before = torch.tensor(roll.active[:-1])
        after = torch.tensor(roll.active[1:])
        markov = torch.where(before, baselines.markov[1], baselines.markov[0])
        for name, p in (("marginal", baselines.marginal), ("Markov", markov)):
            sums[name] -= float(torch.where(after, p, 1 - p).log().sum())
        n_frames += len(after)
    return {name: total / n_frames for name, total in sums.items()}


class FramesToScore(NamedTuple):
    """N frames of several pieces, with what the model computed from the frames before them."""

    pieces: np.ndarray  # (N,) the index of each frame's piece
    features: FrameFeatures  # (N, ...)
    velocity: Tensor  # (N, 88)
    pedal: Tensor  # (N,)

    def loss(self, model: AttentionLSTM) -> FrameNlls:
        """Return the negative log-likelihoods that a model gives to the frames."""
        return frame_nlls(model.output, self.features, self.velocity, self.pedal)


@torch.inference_mode()
def evaluate(
    model: AttentionLSTM, rolls: Sequence[PianoRoll], baselines: Baselines, progress: bool = False
) -> dict[str, float]:
    """Score a model on whole pieces with teacher forcing.

    Parameters
    ----------
    model : AttentionLSTM
        It is given neither composers nor beats, except for ``nll_given_beats``.
    rolls : sequence of PianoRoll
    baselines : Baselines
        Scored on the same frames.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of str to float
        ``n_pieces``; ``n_frames``, all but the first of each piece; ``nll``, ``markov_nll`` and ``marginal_nll`` in
        nats per frame, summed over the pitches; ``changed_nll`` and ``changed_markov_nll``, the part on cells that
        change; ``pedal_nll`` and ``pedal_markov_nll`` in nats per frame; ``velocity_nll`` and
        ``velocity_marginal_nll`` in nats per struck pitch, of which there are ``n_struck``; ``nll_given_beats`` if
        the model and a roll know beats. A model that predicts the pedal knows the pedal of the frame whose pitches it
        predicts. ``frame_f1``, ``onset_f1`` and ``accuracy`` [1]_ judge the most likely frames.

    References
    ----------
    .. [1] Bay, Ehmann and Downie, "Evaluation of multiple-F0 estimation and tracking systems", ISMIR 2009.
    """
    model = for_inference(model)
    sums: dict[str, float] = {}
    for scored in _teacher_forced(model, rolls, progress=progress):
        parts = _losses(model, scored) | _baseline_losses(scored, baselines) | _hits(model, scored)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    n_frames = int(sums.pop("n_frames"))
    n_struck = int(sums.pop("n_struck"))
    hits, claims = ({kind: sums.pop(f"{kind}_{what}") for kind in ("frame", "onset")} for what in ("hits", "claims"))
    means = {name: value / max(1, n_struck if "velocity" in name else n_frames) for name, value in sums.items()}
    f1 = {f"{kind}_f1": 2 * hits[kind] / max(1.0, claims[kind]) for kind in hits}
    if model.config.beats and any(roll.beats is not None for roll in rolls):
        nll, counts = piece_nlls(model, rolls, with_beats=True, progress=progress)
        means["nll_given_beats"] = float(nll.sum() / counts.sum())
    accuracy = hits["frame"] / max(1.0, claims["frame"] - hits["frame"])
    return {"n_pieces": len(rolls), "n_frames": n_frames, "n_struck": n_struck, **means, **f1, "accuracy": accuracy}


@torch.inference_mode()
def piece_nlls(
    model: AttentionLSTM,
    rolls: Sequence[PianoRoll],
    composers: Sequence[int] | None = None,
    with_beats: bool = False,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the negative log-likelihood of each piece.

    Parameters
    ----------
    model : AttentionLSTM
    rolls : sequence of PianoRoll
    composers : sequence of int, optional
        One per piece, from `ModelConfig.label_of`.
    with_beats : bool
        Give the model the beats of the rolls. Annotated beats reveal something of the future.
    progress : bool
        Show a progress bar.

    Returns
    -------
    nll : numpy.ndarray, shape (n_pieces,)
        In nats, summed over pitches and frames.
    n_frames : numpy.ndarray of int, shape (n_pieces,)
        All frames but the first of each piece.
    """
    model = for_inference(model)
    nll = np.zeros(len(rolls))
    n_frames = np.zeros(len(rolls), int)
    for scored in _teacher_forced(model, rolls, composers, with_beats, progress=progress):
        np.add.at(nll, scored.pieces, scored.loss(model).nll.double().cpu().numpy())
        np.add.at(n_frames, scored.pieces, 1)
    return nll, n_frames


def mean_nll(model: AttentionLSTM, rolls: Sequence[PianoRoll]) -> float:
    """Return the mean negative log-likelihood in nats per frame: only the ``nll`` of `evaluate`."""
    nll, n_frames = piece_nlls(model, rolls)
    return float(nll.sum() / n_frames.sum())


def _teacher_forced(
    model: AttentionLSTM,
    rolls: Sequence[PianoRoll],
    composers: Sequence[int] | None = None,
    with_beats: bool = False,
    batch_size: int = 16,
    progress: bool = False,
) -> Iterator[FramesToScore]:
    """Run a model over whole pieces, in batches of similar length, and yield the frames to score."""
    rolls = list(rolls)
    device = next(model.parameters()).device
    labels = torch.tensor(np.zeros(len(rolls), int) if composers is None else composers, device=device)
    if all(roll.n_frames < 2 for roll in rolls):
        raise ValueError("no piece has two frames or more: there is nothing to predict")
    by_length = np.argsort([roll.n_frames for roll in rolls], kind="stable")
    n_frames = sum(max(0, roll.n_frames - 1) for roll in rolls)
    bar = progress_bar("scoring", n_frames, "frame", progress, scale=True)
    for first in range(0, len(rolls), batch_size):
        chosen = by_length[first : first + batch_size]
        velocity, pedal, beats, lengths = _padded([rolls[index] for index in chosen], with_beats)
        velocity = velocity.to(device)
        pedal = pedal.to(device)
        state = None
        for start in range(0, velocity.shape[1] - 1, CHUNK_FRAMES):
            chunk = slice(start, min(start + CHUNK_FRAMES, velocity.shape[1] - 1))
            after = slice(start + 1, chunk.stop + 1)
            given = None if beats is None else beats[:, after].to(device)
            features, state = model(velocity[:, chunk] / 127, state, labels[chosen], pedal[:, chunk], given)
            valid = torch.from_numpy(np.arange(after.start, after.stop) < lengths[:, None]).to(device)  # (B, T)
            pieces = np.repeat(chosen, np.clip(lengths - after.start, 0, after.stop - after.start))
            features = features.map(lambda x, valid=valid: x[valid])  # (N, ...)
            yield FramesToScore(pieces, features, velocity[:, after][valid], pedal[:, after][valid])
            bar.update(len(pieces))
    bar.close()


def _padded(rolls: list[PianoRoll], with_beats: bool) -> tuple[Tensor, Tensor, Tensor | None, np.ndarray]:
    velocity, lengths = pad([roll.velocity for roll in rolls])
    pedal = np.zeros(velocity.shape[:2], np.float32)
    beats = None
    if with_beats:
        beats = np.stack([beat_features(roll.beats, velocity.shape[1], roll.fps) for roll in rolls])
    for row, roll in zip(pedal, rolls):
        row[: roll.n_frames] = roll.pedal_down
    return (
        torch.from_numpy(velocity),
        torch.from_numpy(pedal),
        None if beats is None else torch.from_numpy(beats),
        lengths,
    )


def _losses(model: AttentionLSTM, scored: FramesToScore) -> dict[str, Tensor | int]:
    """Sum the model's negative log-likelihoods over the frames: all cells, changing cells, velocities, the pedal."""
    loss = scored.loss(model)
    changed = (scored.features.active > 0) != (scored.velocity > 0)
    sums = {"n_frames": len(loss.nll), "nll": loss.nll.sum(dtype=torch.float64)}
    sums["changed_nll"] = loss.cell_nll[changed].sum(dtype=torch.float64)
    if model.output.velocity is not None:
        sums["velocity_nll"] = loss.velocity_nll.sum(dtype=torch.float64)
    if model.output.pedal is not None:
        sums["pedal_nll"] = loss.pedal_nll.sum(dtype=torch.float64)
    return sums


def _baseline_losses(scored: FramesToScore, baselines: Baselines) -> dict[str, Tensor | int]:
    """Sum the negative log-likelihoods of the baselines over the frames, and count the struck pitches."""
    marginal, markov, velocities, pedals = (table.to(scored.velocity.device) for table in baselines)
    before = scored.features.active > 0
    after = scored.velocity > 0
    markov_nll = F.binary_cross_entropy(torch.where(before, markov[1], markov[0]), after.float(), reduction="none")
    marginal_nll = F.binary_cross_entropy(marginal.expand(after.shape), after.float(), reduction="sum")
    bins = velocity_bins(scored.velocity[after & ~before])
    pedal = F.binary_cross_entropy(pedals[scored.features.pedal[..., 0].long()], scored.pedal, reduction="sum")
    return {
        "n_struck": len(bins),
        "markov_nll": markov_nll.sum(dtype=torch.float64),
        "marginal_nll": marginal_nll,
        "changed_markov_nll": markov_nll[before != after].sum(dtype=torch.float64),
        "velocity_marginal_nll": (bin_widths(bins).log() - velocities[bins].log()).sum(),
        "pedal_markov_nll": pedal,
    }


def _hits(model: AttentionLSTM, scored: FramesToScore) -> dict[str, int]:
    """Count the hits and claims for the F1 scores, over all active cells and over onsets.

    A hit is on in both the prediction and the music; claims are the sum of both counts.
    """
    encoded = model.output.encode(scored.features, scored.pedal)
    logits_of = partial(conditional_logits, model.output, encoded, scored.features)
    predicted, _, _ = decode_frame(logits_of, scored.features.active, lambda logits: (logits > 0).to(logits.dtype))
    on = predicted > 0
    after = scored.velocity > 0
    up = scored.features.active == 0
    return {
        "frame_hits": int((on & after).sum()),
        "frame_claims": int(on.sum() + after.sum()),
        "onset_hits": int((on & after & up).sum()),
        "onset_claims": int((on & up).sum() + (after & up).sum()),
    }
