"""Does the shipped model know who composed a piece?  ``python benchmarks/attribution.py DATA``

A linear probe [1]_: a logistic regression learns to name the composer of a minute from the means and standard
deviations of the model's last hidden states. The model is given neither composer nor beats. The baselines are the same
regression on `musicgen.evaluation.likeness.excerpt_statistics`, and always naming the most frequent composer of the
training pieces. The log-probabilities of a piece's minutes are averaged. ``benchmarks/results/attribution.csv`` has a
row for each held-out piece.

References
----------
.. [1] Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pieces import COMPOSERS, surname
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.likeness import excerpt_statistics
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

RESULTS = Path(__file__).parent / "results" / "attribution.csv"
MINUTE = 1200  # frames
INVERSE_REGULARISATION = 0.01  # the best of 0.0001 to 0.1 in cross-validation on training pieces, grouped by title


class Minute(NamedTuple):
    """A minute of a piece."""

    piece: str
    split: str
    composer: str
    roll: PianoRoll


def minutes_of(rolls: RollCache) -> list[Minute]:
    """Cut the pieces of the five composers into minutes; the first three of each training piece."""
    found = []
    for piece, roll in zip(rolls.pieces, rolls):
        starts = range(0, max(1, roll.n_frames - MINUTE // 2), MINUTE)[: 3 if piece.split == "train" else None]
        if (composer := surname(piece.composer)) in COMPOSERS:
            found += [Minute(piece.name, piece.split, composer, roll[start : start + MINUTE]) for start in starts]
    return found


@torch.inference_mode()
def hidden_states(model: AttentionLSTM, roll: PianoRoll) -> np.ndarray:
    """Return the means and standard deviations over time of the last hidden states, shape (2 * hidden_size,)."""
    velocity = torch.tensor(roll.velocity)[None] / 127
    pedal = torch.tensor(roll.pedal_down)[None].float()
    hidden = model.eval()(velocity, pedal=pedal)[0].hidden[0]  # (T, H)
    return torch.cat([hidden.mean(dim=0), hidden.std(dim=0)]).numpy()


def attribute(minutes: list[Minute], features: np.ndarray) -> dict[str, str]:
    """Fit the regression on the training pieces; return the composer that it names for each other piece."""
    train = np.array([minute.split == "train" for minute in minutes])
    regression = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    probe = make_pipeline(StandardScaler(), regression)
    probe.fit(features[train], [minute.composer for minute in minutes if minute.split == "train"])
    votes: dict[str, list[np.ndarray]] = {}
    for minute, row in zip(minutes, probe.predict_log_proba(features)):
        if minute.split != "train":
            votes.setdefault(minute.piece, []).append(row)
    return {piece: str(probe.classes_[np.mean(rows, axis=0).argmax()]) for piece, rows in votes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="MAESTRO")
    minutes = minutes_of(prepare(load_corpus(parser.parse_args().data)))
    model = load_checkpoint(SHIPPED_CHECKPOINT).model
    states = np.stack([hidden_states(model, minute.roll) for minute in tqdm(minutes, "hidden states")])
    simple = np.array([list(excerpt_statistics(minute.roll).values()) for minute in tqdm(minutes, "statistics")])
    named = {"hidden states": attribute(minutes, states), "simple statistics": attribute(minutes, simple)}
    pieces = {minute.piece: minute for minute in minutes if minute.split != "train"}
    with RESULTS.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["piece", "split", "composer", *named])
        for name, piece in pieces.items():
            writer.writerow([name, piece.split, piece.composer, *(answers[name] for answers in named.values())])
    for kind, answers in named.items():
        right = [answers[name] == piece.composer for name, piece in pieces.items()]
        print(f"{kind}: {sum(right)} of {len(right)} pieces ({np.mean(right):.0%})")
    most = Counter(minute.composer for minute in minutes if minute.split == "train").most_common(1)[0][0]
    print(f"always {most}: {np.mean([piece.composer == most for piece in pieces.values()]):.0%}")


if __name__ == "__main__":
    main()
