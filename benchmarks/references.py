"""Measure on real music what the experiments measure on models, as a reference for them; it takes some minutes.

``python benchmarks/references.py DATA`` writes four files into ``benchmarks/results/``. ``floors.csv``: the losses of
the baselines. ``in_key.csv``: how well real pieces and the Markov baseline stay in the key of their first four seconds,
on the pieces that ``experiments.py`` takes. ``train_pieces.csv``: the statistics of the train pieces, cut as in
``pieces.py``. ``shared_notes.csv``: the longest run of notes that real pieces share with those of other composers, and
with another performance of the same piece.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from experiments import PRIME_FRAMES, RESULTS
from pieces import COMPOSERS, described, real, surname
from tqdm import tqdm

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.likelihood import fit_baselines
from musicgen.evaluation.markov import markov_piece
from musicgen.evaluation.novelty import NoveltyIndex
from musicgen.evaluation.statistics import in_key_shares, statistics

N_FRAMES = PRIME_FRAMES + 64 * 20


def floors(rolls: RollCache) -> Iterator[dict]:
    """Score the two baselines in nats per frame, as `likelihood.evaluate` does."""
    marginal, markov, *_ = (table.numpy().astype(float) for table in fit_baselines(rolls.select(split="train")))
    for split in ("validation", "test"):
        pieces = [roll.active for roll in rolls.select(split=split)]
        before, after = (np.concatenate([piece[part] for piece in pieces]) for part in (slice(-1), slice(1, None)))
        given = {"markov_nll": np.where(before, markov[1], markov[0]), "marginal_nll": marginal}
        nlls = {name: -np.log(np.where(after, on, 1 - on)).sum(axis=1).mean() for name, on in given.items()}
        yield {"split": split} | {name: round(float(nll), 4) for name, nll in nlls.items()}


def in_key(rolls: RollCache) -> Iterator[dict]:
    """Measure the notes in key of twenty validation pieces, and of the Markov baseline's continuations."""
    markov = fit_baselines(rolls.select(split="train")).markov
    validation = rolls.select(split="validation")
    for seed, index in enumerate(range(0, len(validation), len(validation) // 20)):
        prime = validation[index][:PRIME_FRAMES]
        both = {"real": validation[index][:N_FRAMES], "Markov": markov_piece(markov, prime, N_FRAMES, seed)}
        for source, roll in both.items():
            shares = np.full(8, np.nan)
            if prime.n_notes:
                found = in_key_shares(roll, PRIME_FRAMES)
                shares[: len(found)] = found
            of_time = {f"in_key_{8 * (at + 1)}s": round(float(share), 4) for at, share in enumerate(shares)}
            yield {"source": source, "piece": validation.pieces[index].name} | of_time


def train_pieces(rolls: RollCache) -> Iterator[dict]:
    """Describe the train pieces of the five composers."""
    for piece in tqdm(real(rolls.select(split="train"), "train"), "train"):
        if piece.about["composer"] in COMPOSERS:
            numbers = statistics(described(piece))
            yield piece.about | {name: round(float(value), 4) for name, value in numbers.items()}


def shared_notes(rolls: RollCache) -> Iterator[dict]:
    """Search for shared runs of real pieces with those of other composers, and with other performances of the same."""
    by_composer, by_title = defaultdict(list), defaultdict(list)
    for piece, roll in zip(rolls.pieces, rolls):
        by_title[piece.composer, piece.title].append(roll)
        if piece.split == "train":
            by_composer[surname(piece.composer)].append(roll)
    indices = {composer: NoveltyIndex(own) for composer, own in tqdm(by_composer.items(), "indices")}
    for piece in tqdm(real(rolls.select(split="validation"), "validation"), "validation"):
        others = (own for name, own in indices.items() if name != piece.about["composer"])
        found = max(index.longest_shared_run(described(piece)).n_notes for index in others)
        yield {"pair": "another composer's piece", "shared_notes": found}
    for first, second, *_ in tqdm([performances for performances in by_title.values() if len(performances) > 1]):
        found = NoveltyIndex([first]).longest_shared_run(second[PRIME_FRAMES:][: 60 * second.fps])
        yield {"pair": "another performance", "shared_notes": found.n_notes}


def write(name: str, rows: Iterable[dict]) -> None:
    """Write a CSV file whose first line names the columns."""
    rows = list(rows)
    with (RESULTS / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="MAESTRO")
    rolls = prepare(load_corpus(parser.parse_args().data))
    for measure in (floors, in_key, shared_notes, train_pieces):
        write(measure.__name__, measure(rolls))


if __name__ == "__main__":
    main()
