"""Let the shipped model compose a hundred pieces, and compare them with real pieces and with the Markov baseline.

``python benchmarks/pieces.py DATA [CHECKPOINT]`` prints a summary and writes ``benchmarks/results/pieces.csv``, with a
row for each piece, with its statistics, the longest run of notes that it shares with the training set and, for real
pieces, the likelihood given each composer. Twenty primes (the first eight beats of twenty pieces of the validation
split) are each continued in the style of five composers for a minute, with the default settings and nothing selected.
Of a real piece the same minute after its first eight beats is described, and all that follows them is scored
(``n_scored`` frames).
"""

import argparse
import csv
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.likelihood import Baselines, piece_nlls
from musicgen.evaluation.markov import markov_piece
from musicgen.evaluation.novelty import NoveltyIndex
from musicgen.evaluation.statistics import statistics
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write

RESULTS = Path(__file__).parent / "results"
COMPOSERS = ("Bach", "Beethoven", "Chopin", "Liszt", "Schubert")
N_PRIMES = 20
SECONDS = 60


def surname(composer: str) -> str:
    """Return the last word of a name."""
    return composer.split()[-1]


def opening(roll: PianoRoll) -> PianoRoll:
    """Return the first eight annotated beats of a roll; without annotated beats, its first four seconds."""
    return first_annotated_beats(roll) if roll.beats is not None else roll[: 4 * roll.fps]


def chosen_primes(rolls: RollCache) -> list[tuple[str, PianoRoll]]:
    """Return the openings of twenty pieces at equal distances."""
    step = max(1, len(rolls) // N_PRIMES)
    return [(rolls.pieces[i].name, opening(rolls[i])) for i in range(0, len(rolls), step)][:N_PRIMES]


class Made(NamedTuple):
    """A piece, a description of it, and its prime."""

    about: dict
    roll: PianoRoll
    prime: PianoRoll


def generated(model: AttentionLSTM, primes: list) -> Iterator[Made]:
    """Continue each prime in the style of each composer."""
    labels = [1 + [surname(name) for name in model.config.composers].index(composer) for composer in COMPOSERS]
    for seed, (name, prime) in enumerate(tqdm(primes, "generating")):
        batch = continue_rolls(model, [prime] * 5, SECONDS * prime.fps, GenerationConfig(seed=seed), labels)
        for composer, roll in zip(COMPOSERS, batch):
            yield Made({"source": "generated", "composer": composer, "prime": name}, roll, prime)


def real(rolls: RollCache, split: str) -> Iterator[Made]:
    """Take whole pieces, with their own first eight beats as primes."""
    for piece, roll in zip(rolls.pieces, rolls):
        prime = opening(roll)
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
    """Return the loss of the music after each prime, given each composer in turn, in nats per frame."""
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
    recorded = [piece for split in ("validation", "test") for piece in real(splits[split], split)]
    made = [*generated(checkpoint.model, primes), *by_markov(Baselines.from_tensors(checkpoint.tensors).markov, primes)]
    index = NoveltyIndex(splits["train"])
    rows = [row_of(piece, index, {}) for piece in tqdm(made, "describing")]
    rows = [row_of(*each) for each in zip(recorded, repeat(index), composer_scores(checkpoint.model, recorded))] + rows
    with atomic_write(RESULTS / "pieces.csv") as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*summary(rows), sep="\n")


def row_of(piece: Made, index: NoveltyIndex, scores: dict[str, float]) -> dict:
    """Return the row of a piece."""
    rest = described(piece)
    shared = {"shared_notes": index.longest_shared_run(rest).n_notes}
    numbers = statistics(rest) | shared | {"n_scored": piece.roll.n_frames - piece.prime.n_frames} | scores
    return piece.about | {name: round(float(value), 4) for name, value in numbers.items()}


def summary(rows: list[dict]) -> Iterator[str]:
    """Say how extreme the pieces of each source are, and how many real ones are attributed to their composers."""
    extremes = ("longest_silence_seconds", "longest_note_seconds", "longest_repeat_seconds", "shared_notes")
    for source in sorted({row["source"] for row in rows}):
        own = [row for row in rows if row["source"] == source]
        most = ", ".join(f"{name} {max(row[name] for row in own):g}" for name in extremes)
        yield f"{source} ({len(own)} pieces), at most: {most}"
    known = [row for row in rows if row["composer"] in COMPOSERS and "nll_Bach" in row]
    right = sum(row["composer"] == min(COMPOSERS, key=lambda name: row[f"nll_{name}"]) for row in known)
    yield f"attributed to their composers: {right} of {len(known)} real pieces by {', '.join(COMPOSERS)}"


if __name__ == "__main__":
    main()
