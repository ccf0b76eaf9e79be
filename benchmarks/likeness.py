"""Compare what the model plays with real performances: ``python benchmarks/likeness.py DATA [options]``.

The model continues the first four seconds of each piece of a split; with ``--source markov`` the Markov baseline of its
checkpoint does, and with ``--source real`` the real pieces are measured. The table and a line of
``benchmarks/results/likeness.csv`` give the measures of `musicgen.evaluation.likeness`. With ``--seconds 184
--half-minutes`` it compares three minutes with the prime, half minute by half minute, and writes ``home.csv``.
"""

import argparse
import shlex
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from tables import append_row

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.evaluation.likelihood import Baselines
from musicgen.evaluation.likeness import by_half_minutes, classifier_auc, excerpts, mean_measures
from musicgen.evaluation.markov import markov_piece
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.generation.engines import ENGINES
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

RESULTS = Path(__file__).parent / "results" / "likeness.csv"
HALF_MINUTES = RESULTS.with_name("home.csv")
PRIME_FRAMES = 80


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder of MIDI files with splits")
    parser.add_argument("--checkpoint", default=SHIPPED_CHECKPOINT)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--source", default="model", choices=("model", "markov", "real"))
    parser.add_argument("--n-per-piece", type=int, default=1)
    parser.add_argument("--free", action="store_true", help="hide the annotated beats, as in a file of one's own")
    parser.add_argument("--half-minutes", action="store_true", help="compare each half minute with the prime instead")
    parser.add_argument("--most", type=int, default=1000, help="use only the first so many pieces")
    parser.add_argument("--keep", type=Path, help="an npz file that receives the velocities of what is played")
    parser.add_argument("--composers", action="store_true", help="tell the model each piece's composer")
    parser.add_argument("--engine", choices=ENGINES, help="by default onnx, where there are graphs of the checkpoint")
    parser.add_argument("--no-csv", action="store_true")
    for field in fields(GenerationConfig):
        kind = (lambda text: text == "True") if isinstance(field.default, bool) else type(field.default)
        default = 34.0 if field.name == "seconds" else field.default
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    return parser


def measure(real: list[PianoRoll], generated: list[list[PianoRoll]]) -> dict[str, float]:
    """Return the measures and the AUC of the generated pieces; there are several for each real piece."""
    flat = [roll for versions in generated for roll in versions]
    told = classifier_auc(
        [excerpts(roll, PRIME_FRAMES) for roll in real],
        [[part for roll in versions for part in excerpts(roll, PRIME_FRAMES)] for versions in generated],
    )
    print("most telling:", ", ".join(f"{name} {value:.2f}" for name, value in list(told.pop("telling").items())[:12]))
    return told | mean_measures(flat, PRIME_FRAMES)


def generate_all(checkpoint, real: list[PianoRoll], labels: list[int], config: GenerationConfig, args) -> list[list]:
    """Continue each piece's first four seconds, `n_per_piece` times."""
    primes = [PianoRoll(r.velocity, r.fps, r.pedal, None if args.free else r.beats)[:PRIME_FRAMES] for r in real]
    repeated, n_frames = primes * args.n_per_piece, round(config.seconds * 20)
    if args.source == "markov":
        markov = Baselines.from_tensors(checkpoint.tensors).markov
        made = [markov_piece(markov, prime, n_frames, config.seed + i) for i, prime in enumerate(repeated)]
    else:
        labels = labels * args.n_per_piece
        n_new = n_frames - PRIME_FRAMES
        made = continue_rolls(checkpoint.model, repeated, n_new, config, labels, engine=args.engine)
    return [made[i :: len(primes)] for i in range(len(primes))]


def main() -> None:
    args = make_parser().parse_args()
    torch.set_num_threads(1)
    config = GenerationConfig(**{field.name: getattr(args, field.name) for field in fields(GenerationConfig)})
    rolls = prepare(load_corpus(args.data)).select(split=args.split)
    n_frames = round(config.seconds * 20)
    checkpoint, started = load_checkpoint(args.checkpoint), time.perf_counter()
    known = ("", *checkpoint.model.config.composers) if args.composers else ()
    long = [(roll, piece.composer) for roll, piece in zip(rolls, rolls.pieces) if roll.n_frames >= n_frames]
    long = long[: args.most]
    real, labels = [roll[:n_frames] for roll, _ in long], [known.index(c) if c in known else 0 for _, c in long]
    reference = mean_measures(real, PRIME_FRAMES)
    row = {"source": args.source, "split": args.split, "n_pieces": len(real)}
    if args.source == "real":
        row |= {"generation_seconds": "", "auc": "", "auc_spread": ""} | _rounded(reference)
    else:
        generated = generate_all(checkpoint, real, labels, config, args)
        row["generation_seconds"] = round(time.perf_counter() - started, 1)
        if args.keep:
            np.savez_compressed(args.keep, *[[roll.velocity for roll in versions] for versions in generated])
        if args.half_minutes:
            compare_half_minutes(real, [roll for versions in generated for roll in versions], row, args)
            return
        row |= _rounded(measure(real, generated))
    for name, value in row.items():
        print(f"{name:24} {value!s:>12} {f'real {reference[name]:.4f}' if name in reference else ''}")
    if not args.no_csv:
        append_row(RESULTS, row | {"command": shlex.join(["python", *sys.argv])})


def compare_half_minutes(real: list[PianoRoll], generated: list[PianoRoll], row: dict, args) -> None:
    """Show each half minute of real and of generated music beside each other, and add them to ``home.csv``."""
    for source, rolls in (("real", real), (args.source, generated)):
        for half in by_half_minutes(rolls, PRIME_FRAMES):
            print(source, half)
            if not args.no_csv:
                append_row(
                    HALF_MINUTES, row | {"source": source} | half | {"command": shlex.join(["python", *sys.argv])}
                )


def _rounded(measures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measures.items()}


if __name__ == "__main__":
    main()
