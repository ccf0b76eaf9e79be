"""Fit the probe that steers generation: ``python benchmarks/fit_probe.py CHECKPOINT OUT DATA [MORE ...]``.

The model continues windows of the training split with the default settings, but one candidate. In half of them it finds
the beats, as in a file of one's own; in four tenths it is given the annotated ones, and in 30 % of these the composer,
too; the others are without beats. Beside each continuation stand the hidden states of the real one. The probe is a
logistic regression on segments of two seconds; a fifth of the pieces decides on its L2 penalty. OUT is CHECKPOINT with
the probe, which its record describes.

With ``--add`` the default number of candidates plays, steered by the probe that CHECKPOINT has, and the new probe is
added to it. Steered music has other faults than free music, which the first probe hears less well; together they
steer against both. Take another ``--seed`` than for the first one, or the same windows are drawn again.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from musicgen.beats import beat_features
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.model import AttentionLSTM
from musicgen.model.probe import Probe, hidden_statistics, probe_features
from musicgen.piano_roll import PianoRoll
from musicgen.training import load_checkpoint, save_checkpoint
from musicgen.training.run import model_from

SEGMENT, N_SEGMENTS = 40, 10  # frames
PRIME_FRAMES = (80, 80, 160)  # of the first, second, third batch, and so on
PENALTIES = (0.03, 0.05, 0.1, 0.15, 0.2)
# How the model learns the beats of a prime: as in a file of one's own, from the annotations, or not at all.
BEATS = {"found": 0.5, "annotated": 0.4, "none": 0.1}
TOLD_COMPOSERS = 0.3  # of the windows with annotated beats
MIN_NOTES = 4  # in a prime


def draw_windows(
    rolls: RollCache, n_windows: int, n_prime: int, random: np.random.Generator
) -> tuple[list, np.ndarray]:
    """Return random windows with primes of `n_prime` frames, and the number of each one's piece."""
    n_frames = n_prime + SEGMENT * N_SEGMENTS
    windows, pieces = [], []
    chances = np.maximum(rolls.lengths - n_frames, 0)
    while len(windows) < n_windows:
        piece = int(random.choice(len(rolls), p=chances / chances.sum()))
        start = int(random.integers(rolls.lengths[piece] - n_frames))
        window = rolls[piece][start : start + n_frames].transpose(int(random.integers(-3, 4)))
        if window[:n_prime].n_notes >= MIN_NOTES:
            windows.append(window)
            pieces.append(piece)
    return windows, np.array(pieces)


@torch.inference_mode()
def features_of(model: AttentionLSTM, rolls: list[PianoRoll], labels: list[int], n_prime: int) -> Tensor:
    """Return what the probe sees of each segment after the prime, shape (n_rolls, N_SEGMENTS, 4 L H)."""
    velocity = torch.from_numpy(np.stack([roll.velocity for roll in rolls])) / 127
    pedal = np.stack([roll.pedal_down for roll in rolls])
    beats = np.stack([beat_features(roll.beats, roll.n_frames + 1, roll.fps)[1:] for roll in rolls])
    inputs = torch.tensor(labels), torch.from_numpy(pedal).float(), torch.from_numpy(beats)
    hidden = model(velocity, None, *inputs)[0].all_hidden  # (B, T, L H)
    prime = hidden_statistics(hidden[:, :n_prime])
    segments = hidden[:, n_prime:].split(SEGMENT, dim=1)
    return torch.stack([probe_features(hidden_statistics(segment), prime) for segment in segments], dim=1)


def collect(
    model: AttentionLSTM, rolls: RollCache, settings: GenerationConfig, args: argparse.Namespace
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return the features of all segments, whether they were generated, and the number of each one's piece."""
    random = np.random.default_rng(args.seed)
    features, generated, pieces = [], [], []
    for number in tqdm(range(-(-args.windows // args.batch_size)), "generating"):
        n_prime = PRIME_FRAMES[number % len(PRIME_FRAMES)]
        windows, chosen = draw_windows(rolls, args.batch_size, n_prime, random)
        beats = random.choice(list(BEATS), size=len(windows), p=list(BEATS.values()))
        told = (beats == "annotated") & (random.random(len(windows)) < TOLD_COMPOSERS)
        known = ("", *model.config.composers)
        composers = [rolls.pieces[piece].composer if tell else "" for piece, tell in zip(chosen, told)]
        labels = [known.index(composer) if composer in known else 0 for composer in composers]
        batch_settings = replace(settings, seed=args.seed + 1000 * number)
        made = continue_windows(model, windows, n_prime, beats, labels, batch_settings)
        # The pianist is heard with the annotated beats, also where others were found: those would not fit the music.
        heard = [
            window if roll.beats is not None else replace(window, beats=None) for window, roll in zip(windows, made)
        ]
        for is_generated, music in ((0.0, heard), (1.0, made)):
            found = features_of(model, music, labels, n_prime).flatten(0, 1)
            features.append(found)
            generated.append(torch.full((len(found),), is_generated))
            pieces.append(np.repeat(chosen, N_SEGMENTS))
    return torch.cat(features), torch.cat(generated), np.concatenate(pieces)


def continue_windows(
    model: AttentionLSTM,
    windows: list[PianoRoll],
    n_prime: int,
    beats: np.ndarray,
    labels: list[int],
    settings: GenerationConfig,
) -> list[PianoRoll]:
    """Continue the prime of each window; `beats` has a key of `BEATS` for each."""
    primes = [window[:n_prime] for window in windows]
    primes = [replace(prime, beats=None) if kind == "found" else prime for prime, kind in zip(primes, beats)]
    made = {}
    for has_beat in (True, False):
        rows = [row for row, kind in enumerate(beats) if (kind != "none") == has_beat]
        if rows:
            config = replace(settings, beat=has_beat, seed=settings.seed + has_beat)
            composers = [labels[row] for row in rows]
            rolls = continue_rolls(model, [primes[row] for row in rows], SEGMENT * N_SEGMENTS, config, composers)
            made |= zip(rows, rolls)
    return [made[row] for row in range(len(windows))]


def fit(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression with an L2 penalty by L-BFGS; return weights (D,) and bias (1,)."""
    weight = torch.zeros(x.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=40, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weight + bias, y) + penalty * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def fit_probe(
    features: Tensor, generated: Tensor, pieces: np.ndarray, seed: int, present: Probe | None
) -> tuple[Tensor, Tensor, dict]:
    """Return weights and bias for features as they are, and how well they tell pieces that they were not fitted on.

    Beside them stand the AUC of the present probe, if there is one, and that of both together.
    """
    mean, spread = features.mean(dim=0), features.std(dim=0) + 1e-3
    x = (features - mean) / spread
    fold = np.random.default_rng(seed).integers(5, size=pieces.max() + 1)[pieces]
    held_out = torch.from_numpy(fold == 0)

    def auc_of(logits: Tensor) -> float:
        return round(float(roc_auc_score(generated[held_out], logits)), 4)

    tried = []
    for penalty in PENALTIES:
        weight, bias = fit(x[~held_out], generated[~held_out], penalty)
        logits = x[held_out] @ weight + bias
        nll = float(F.binary_cross_entropy_with_logits(logits, generated[held_out]))
        tried.append((nll, penalty, logits))
        print(f"penalty {penalty:g}: nll {nll:.4f}, AUC {auc_of(logits):.3f} on held-out pieces")
    nll, penalty, logits = min(tried, key=lambda each: each[0])
    weight, bias = fit(x, generated, penalty)
    about = {"auc": auc_of(logits), "nll": round(nll, 4), "penalty": penalty, "n_segments": len(x)}
    if present is not None:
        before = features[held_out] @ present.weight + present.bias
        about |= {"auc_before": auc_of(before), "auc_together": auc_of(before + logits)}
    return weight / spread, bias - (weight * mean / spread).sum(), about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+", help="folders of MIDI files with splits and beats.npz")
    parser.add_argument("--windows", type=int, default=960)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="add to the probe of CHECKPOINT, which steers the music")
    parser.add_argument("--half", action="store_true", help="store the weights with 16 bits")
    args = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(args.checkpoint)
    if args.add and not checkpoint.model.config.probe:
        raise SystemExit(f"{args.checkpoint} has no probe to add to")
    model = model_from(checkpoint, replace(checkpoint.model.config, probe=True), args.checkpoint).eval()
    rolls = prepare(load_corpus(*args.data)).select(split="train")
    settings = GenerationConfig() if args.add else GenerationConfig(candidates=1)
    found = collect(model, rolls, settings, args)
    weight, bias, about = fit_probe(*found, args.seed, model.probe if args.add else None)
    about |= {"seed": args.seed, "data": rolls.summary(), "settings": asdict(settings)}
    about["windows"] = about["n_segments"] // (2 * N_SEGMENTS)
    if args.add:  # the odds of two probes are multiplied: their logits, and so their weights, are added
        weight = weight + model.probe.weight
        bias = bias + model.probe.bias
        about["added_to"] = checkpoint.record.get("probe")
    model.probe.weight.copy_(weight)
    model.probe.bias.copy_(bias)
    save_checkpoint(args.out, model, checkpoint.tensors, checkpoint.record | {"probe": about}, half=args.half)
    print(f"{args.out}: AUC {about.get('auc_together', about['auc']):.3f} for segments of two seconds")


if __name__ == "__main__":
    main()
