"""Let a convolutional network judge: ``python benchmarks/judge.py DATA UNSTEERED.npz JUDGED.npz [...] [options]``.

A second opinion, which shares nothing with the statistics of ``likeness.py`` nor with the probe that steers. A small
convolutional network learns to tell excerpts of ten seconds of real music from unsteered music, on pieces of the
training split. It is tested on those of another split, against each JUDGED file. The files are what
``likeness.py --free --keep`` wrote; UNSTEERED with ``--split train --candidates 1 --beat False --home False``.
``benchmarks/results/judge.csv`` receives a line for each judged file.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare

RESULTS = Path(__file__).parent / "results" / "judge.csv"
PRIME_FRAMES, EXCERPT = 80, 200
EPOCHS, BATCH, RATE = 20, 32, 3e-3
# Of each convolution: output channels, and its size and stride in time and in pitch. An output sees 3 s.
CONVOLUTIONS = (16, (5, 5), (2, 2)), (32, (5, 5), (2, 2)), (48, (5, 3), (2, 2)), (64, (5, 3), (2, 1))


def cut(versions: np.ndarray) -> np.ndarray:
    """Cut rolls (n_versions, n_frames, 88) into excerpts of ten seconds after the prime, (n_excerpts, 200, 88)."""
    after = versions[:, PRIME_FRAMES:]
    n = after.shape[1] // EXCERPT
    return after[:, : n * EXCERPT].reshape(-1, EXCERPT, after.shape[2])


def channels(velocity: Tensor) -> Tensor:
    """Return whether a pitch sounds, whether it starts, and its velocity, shape (B, 3, T, K)."""
    active = (velocity > 0).float()
    onset = active.clone()
    onset[:, 1:] *= 1 - active[:, :-1]
    return torch.stack([active, onset, velocity / 127], dim=1)


def make_judge() -> nn.Module:
    """Return four convolutions, the mean and the maximum over time and pitch, and a logit of "generated"."""
    layers = [nn.BatchNorm2d(3)]
    n_channels = 3
    for n_outputs, size, stride in CONVOLUTIONS:
        convolution = nn.Conv2d(n_channels, n_outputs, size, stride, bias=False)
        layers += [convolution, nn.BatchNorm2d(n_outputs), nn.ReLU()]
        n_channels = n_outputs
    return nn.Sequential(*layers, Pool(), nn.Dropout(0.3), nn.Linear(2 * n_channels, 1))


class Pool(nn.Module):
    """Mean and maximum over the two last dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 2 C)."""
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def train(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    """Train a judge on excerpts (N, 200, 88), moved by up to five semitones at random; both classes weigh the same."""
    torch.manual_seed(seed)
    judge = make_judge()
    optimizer = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, EPOCHS * -(-len(x) // BATCH))
    weight = (1 - y.mean()) / y.mean()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(BATCH):
            moved = torch.stack([F.pad(x[i], (5, 5))[:, shift : shift + 88] for i, shift in _shifts(chosen)])
            loss = F.binary_cross_entropy_with_logits(judge(channels(moved))[:, 0], y[chosen], pos_weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


def _shifts(chosen: Tensor) -> list[tuple[int, int]]:
    return list(zip(chosen.tolist(), torch.randint(11, (len(chosen),)).tolist()))


def examples(rolls: RollCache, generated: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return the excerpts of real pieces and of their continuations (N, 200, 88), and 1 for the latter."""
    n_frames = generated[0].shape[1]
    long = [roll for roll in rolls if roll.n_frames >= n_frames][: len(generated)]
    real = np.concatenate([cut(roll.velocity[None, :n_frames]) for roll in long])
    made = np.concatenate([cut(versions) for versions in generated])
    label = np.repeat([0.0, 1.0], [len(real), len(made)])
    return torch.from_numpy(np.concatenate([real, made])), torch.from_numpy(label).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("unsteered")
    parser.add_argument("judged", nargs="+")
    parser.add_argument("--split", default="validation", help="of the judged files")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rolls = prepare(load_corpus(args.data))
    training = examples(rolls.select(split="train"), load(args.unsteered))
    judges = [train(*training, seed) for seed in range(args.seeds)]
    scores = {path: [] for path in args.judged}
    for path in args.judged:
        x, y = examples(rolls.select(split=args.split), load(path))
        with torch.inference_mode():
            scores[path] = [float(roc_auc_score(y, judge(channels(x))[:, 0])) for judge in judges]
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(["unsteered", "judged", "split", "auc", "auc_spread"])
        for path, values in scores.items():
            row = [args.unsteered, path, args.split, round(np.mean(values), 4), round(np.std(values), 4)]
            writer.writerow(row)
            print(*row)


def load(path: str) -> list[np.ndarray]:
    """Return the velocities of each piece, uint8 (n_versions, n_frames, 88)."""
    with np.load(path) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


if __name__ == "__main__":
    main()
