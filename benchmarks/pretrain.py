"""Train on a GPU within a number of minutes or updates: ``python benchmarks/pretrain.py DATA [MORE ...] --out DIR``.

All rolls are on the GPU, each in several versions with different tempos, and windows are cut and transposed there. The
optimiser is AdamW with a cosine schedule, windows are longer in the last fifth of the training, and the result is an
exponential average of the weights. The shipped checkpoint was made in this way, except that its stretched versions were
sampled from the MIDI files with changed times; here the rolls are stretched.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from musicgen.beats import beat_features
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.likelihood import evaluate, fit_baselines
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.heads import frame_loss
from musicgen.piano_roll import N_PITCHES, PianoRoll
from musicgen.training import save_checkpoint
from musicgen.training.optim import autocast

COMPOSERS = ("Johann Sebastian Bach", "Ludwig van Beethoven", "Frédéric Chopin", "Joseph Haydn", "Franz Liszt")
COMPOSERS += ("Franz Schubert", "Robert Schumann", "Maurice Ravel", "Wolfgang Amadeus Mozart")
COMPOSER_DROPOUT, MAX_TRANSPOSE, MAX_STRETCH, LONG_SHARE, VELOCITY_WEIGHT = 0.3, 6, 0.16, 0.2, 0.25


class Corpus:
    """Rolls on a device, with random windows of them."""

    def __init__(self, rolls: RollCache, variants: int, device: str, seed: int):
        random = np.random.default_rng(seed)
        factors = [1.0] + list(np.exp(random.uniform(-MAX_STRETCH, MAX_STRETCH, variants - 1)))
        versions = [roll if factor == 1 else roll.stretch(factor) for factor in factors for roll in rolls]
        self.velocity = torch.from_numpy(np.concatenate([roll.velocity for roll in versions])).to(device)
        self.pedal = torch.from_numpy(np.concatenate([_pedal(roll) for roll in versions])).to(device)
        features = [beat_features(roll.beats, roll.n_frames).astype(np.float16) for roll in versions]
        self.beats = torch.from_numpy(np.concatenate(features)).to(device)
        lengths = np.array([roll.n_frames for roll in versions])
        self.lengths, self.starts = (torch.from_numpy(x).to(device) for x in (lengths, np.cumsum(lengths) - lengths))
        labels = [1 + COMPOSERS.index(p.composer) if p.composer in COMPOSERS else 0 for p in rolls.pieces]
        self.labels = torch.tensor(labels * variants, device=device)
        low, high = zip(*(_range(roll) for roll in versions))
        self.low, self.high = torch.tensor(low, device=device), torch.tensor(high, device=device)
        self.random, self.device = torch.Generator(device).manual_seed(seed), device

    def windows(self, n_windows: int, n_frames: int, beat_dropout: float) -> tuple[torch.Tensor, ...]:
        """Return velocity, pedal, beats, composers and a mask without padding, for `n_frames` + 1 frames."""
        draw = lambda: torch.rand(n_windows, device=self.device, generator=self.random)  # noqa: E731
        piece = torch.multinomial(self.lengths.float(), n_windows, replacement=True, generator=self.random)
        first = (draw() * (self.lengths[piece] - n_frames // 2).clamp(min=1)).long()
        frame = first[:, None] + torch.arange(n_frames + 1, device=self.device)
        music = frame < self.lengths[piece][:, None]
        at = self.starts[piece][:, None] + torch.minimum(frame, self.lengths[piece][:, None] - 1)
        shift = (draw() * (2 * MAX_TRANSPOSE + 1)).long() - MAX_TRANSPOSE
        shift = torch.minimum(torch.maximum(shift, -self.low[piece]), self.high[piece])
        source = (torch.arange(N_PITCHES, device=self.device) - shift[:, None]).remainder(N_PITCHES)
        velocity = self.velocity[at].gather(2, source[:, None].expand(-1, n_frames + 1, -1)) * music[..., None]
        beats = self.beats[at].float() * (music & (draw() >= beat_dropout)[:, None])[..., None]
        composers = self.labels[piece] * (draw() >= COMPOSER_DROPOUT)
        return velocity, self.pedal[at] * music, beats, composers, music


def _pedal(roll: PianoRoll) -> np.ndarray:
    return np.zeros(roll.n_frames, np.float32) if roll.pedal is None else roll.pedal.astype(np.float32)


def _range(roll: PianoRoll) -> tuple[int, int]:
    """Return by how many semitones a roll can be moved down and up."""
    sounding = np.flatnonzero(roll.velocity.any(axis=0))
    return int(sounding[0]), int(N_PITCHES - 1 - sounding[-1])


def loss_of(model: AttentionLSTM, windows: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, float]:
    """Return the loss per frame and the nll per frame; the model sees the last of six windows, if there are six."""
    velocity, pedal, beats, composers, music = windows[:5]
    with autocast(velocity.device.type, "bfloat16"):
        seen = (windows[5] if len(windows) > 5 else velocity)[:, :-1] / 127
        features, _ = model(seen, None, composers, pedal[:, :-1], beats[:, 1:])
        places = music[:, 1:].flatten().nonzero()[:, 0]
        features = features.map(lambda x: x.flatten(0, 1)[places])
        scored = frame_loss(model.output, features, *(x[:, 1:].flatten(0, 1)[places] for x in (velocity, pedal)))
    n_frames = len(places)
    loss = (scored.nll.sum() + scored.pedal_nll.sum() + VELOCITY_WEIGHT * scored.velocity_nll.sum()) / n_frames
    return loss, float(scored.nll.detach().mean())


def train(model: AttentionLSTM, corpus: Corpus, args: argparse.Namespace, new: nn.Module | None = None) -> list[dict]:
    """Train for the given minutes or updates, and load the average of the weights into the model.

    The weights of `new`, a part of a model that is trained already, learn ten times as fast as the others.
    """
    weights, fast = list(model.parameters()), set(new.parameters() if new else ())
    groups = [{"params": [w for w in weights if w not in fast]}, {"params": list(fast), "factor": 10}]
    optimizer = torch.optim.AdamW(groups, args.learning_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    average, log, started, update = [w.detach().clone() for w in weights], [], time.time(), 0
    while (done := _done(args, update, time.time() - started)) < 1:
        rate = min(1, (update + 1) / args.warm_up) * (0.98 * (1 + math.cos(math.pi * done)) / 2 + 0.02)
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate * group.get("factor", 1)
        long = 1 + (done >= 1 - LONG_SHARE)
        loss, nll = loss_of(model, corpus.windows(args.batch_size // long, args.window * long, args.beat_dropout))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        update += 1
        torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - min(0.999, (1 + update) / (10 + update)))
        if update % 100 == 0 or update == 1:
            log.append({"update": update, "seconds": round(time.time() - started), "nll": round(nll, 4)})
            print(log[-1], flush=True)
    with torch.no_grad():
        for weight, mean in zip(weights, average):
            weight.copy_(mean)
    return log


def _done(args: argparse.Namespace, update: int, seconds: float) -> float:
    return update / args.updates if args.updates else seconds / (60 * args.minutes)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="folders of MIDI files with splits and beats.npz")
    parser.add_argument("--out", default="runs/pretrained", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--updates", type=int, default=0, help="instead of minutes")
    for name, default in {"variants": 10, "batch-size": 128, "window": 512, "warm-up": 200, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"hidden-size": 512, "pitch-size": 24, "copy-heads": 4, "attention-span": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--beat-dropout", type=float, default=0.35)
    parser.add_argument("--no-beats", action="store_true")
    return parser


def main(arguments: list[str] | None = None) -> dict[str, float]:
    args = make_parser().parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rolls = prepare(load_corpus(*args.data))
    training = rolls.select(split="train")
    sizes = {name: getattr(args, name) for name in ("hidden_size", "pitch_size", "copy_heads", "attention_span")}
    torch.manual_seed(args.seed)
    model = AttentionLSTM(ModelConfig(**sizes, dropout=0.1, beats=not args.no_beats, composers=COMPOSERS)).to(device)
    log = train(model, Corpus(training, args.variants, device, args.seed), args)
    baselines = fit_baselines(training)
    scores = evaluate(model.cpu(), rolls.select(split="validation"), baselines)
    record = {"data": training.summary(), "pretraining": {**vars(args), "out": str(args.out)}, "log": log}
    save_checkpoint(args.out / "best.safetensors", model, baselines.as_tensors(), record, half=True)
    print(json.dumps(scores))
    return scores


if __name__ == "__main__":
    main()
