"""Lets the shipped model compose a hundred pieces, and describes them beside real ones and the Markov baseline's.

``python benchmarks/pieces.py DATA [CHECKPOINT]`` writes ``benchmarks/results/pieces.csv``: a line for each piece, with
its statistics, the longest run of notes that it shares with the training set, and what each composer's likelihood says
of it. Twenty primes (the first eight beats of twenty validation pieces) are each continued in the style of five
composers, with nothing selected, once as the model has it and once without its unlikeliest notes; the primes count
nowhere. Of a real piece the same minute after its first eight beats is described, and all that follows them is scored
(``n_scored`` frames). Notebook 05 draws from this file.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from musicgen.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.likelihood import Baselines, piece_nlls
from musicgen.evaluation.novelty import NoveltyIndex
from musicgen.evaluation.overlap import markov_piece
from musicgen.evaluation.statistics import statistics
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.midi import read_performance
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.support.files import atomic_write

RESULTS = Path(__file__).parent / "results"
COMPOSERS = ("Bach", "Beethoven", "Chopin", "Liszt", "Schubert")
SETTINGS = {"generated": GenerationConfig(), "generated, top_p 0.97": GenerationConfig(top_p=0.97)}
N_PRIMES = 20
SECONDS = 60


def surname(composer: str) -> str:
    """Return the last word of a name."""
    return composer.split()[-1]


def chosen_primes(rolls: RollCache) -> list[tuple[str, PianoRoll]]:
    """Take the opening of every so many pieces, the same ones in every run."""
    step = max(1, len(rolls) // N_PRIMES)
    pieces = rolls.pieces[::step][:N_PRIMES]
    return [(piece.name, read_performance(piece.path).first_beats(8)) for piece in pieces]


class Made(NamedTuple):
    """A piece, what is known of it, and the prime that it goes on from."""

    about: dict
    roll: PianoRoll
    prime: PianoRoll


def generated(model: AttentionLSTM, primes: list, source: str) -> Iterator[Made]:
    """Continue each prime in the style of each composer."""
    labels = [1 + [surname(name) for name in model.config.composers].index(composer) for composer in COMPOSERS]
    for seed, (name, prime) in enumerate(tqdm(primes, source)):
        config = replace(SETTINGS[source], seed=seed)
        batch = continue_rolls(model, [prime] * len(labels), SECONDS * prime.fps, config, labels)
        for composer, roll in zip(COMPOSERS, batch):
            yield Made({"source": source, "composer": composer, "prime": name}, roll, prime)


def real(rolls: RollCache, split: str) -> Iterator[Made]:
    """Take whole pieces, with their own first eight beats for a prime."""
    for piece, roll in zip(rolls.pieces, rolls):
        prime = read_performance(piece.path).first_beats(8)
        yield Made({"source": split, "composer": surname(piece.composer), "prime": piece.name}, roll, prime)


def described(made: Made) -> PianoRoll:
    """Return the minute that follows the prime."""
    start = made.prime.n_frames
    return made.roll[start : start + SECONDS * made.roll.fps]


def by_markov(markov: torch.Tensor, primes: list) -> Iterator[Made]:
    """Let the Markov baseline continue each prime five times."""
    for seed in range(len(COMPOSERS) * len(primes)):
        name, prime = primes[seed % len(primes)]
        piece = markov_piece(markov, prime, prime.n_frames + SECONDS * prime.fps, seed)
        yield Made({"source": "markov", "composer": "", "prime": name}, piece, prime)


def composer_scores(model: AttentionLSTM, pieces: list[Made]) -> list[dict]:
    """Score all that follows each prime as each composer's, in nats per frame."""
    rolls, primes = [made.roll for made in pieces], [made.prime for made in pieces]
    labels = {surname(name): 1 + place for place, name in enumerate(model.config.composers)}
    scores = {}
    for composer in COMPOSERS:
        told = [labels[composer]] * len(rolls)
        (whole, n_frames), (opening, n_opening) = piece_nlls(model, rolls, told), piece_nlls(model, primes, told)
        scores[f"nll_{composer}"] = (whole - opening) / (n_frames - n_opening)
    return [dict(zip(scores, row)) for row in zip(*scores.values())]


def main() -> None:
    """Make all pieces and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="MAESTRO")
    parser.add_argument("checkpoint", nargs="?", default=SHIPPED_CHECKPOINT, help="(default: the shipped one)")
    args = parser.parse_args()
    checkpoint, rolls = load_checkpoint(args.checkpoint), prepare(load_corpus(args.data))
    splits = {split: rolls.select(split=split) for split in ("train", "validation", "test")}
    primes = chosen_primes(splits["validation"])
    made = [piece for source in SETTINGS for piece in generated(checkpoint.model, primes, source)]
    made += [*by_markov(Baselines.from_tensors(checkpoint.tensors).markov, primes)]
    made += [piece for split in ("validation", "test") for piece in real(splits[split], split)]
    index = NoveltyIndex(splits["train"])
    scores = composer_scores(checkpoint.model, made)
    with atomic_write(RESULTS / "pieces.csv") as temporary, temporary.open("w", newline="") as stream:
        for piece, score in zip(made, scores):
            rest = described(piece)
            shared = {"shared_notes": index.longest_shared_run(rest).n_notes}
            numbers = statistics(rest) | shared | {"n_scored": piece.roll.n_frames - piece.prime.n_frames} | score
            row = piece.about | {name: round(float(value), 4) for name, value in numbers.items()}
            if stream.tell() == 0:
                writer = csv.DictWriter(stream, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
    print(f"{len(made)} pieces", file=sys.stderr)


if __name__ == "__main__":
    main()
