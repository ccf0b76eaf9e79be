"""What does the trained model lose without its attention?  ``python benchmarks/lesions.py DATA [--seeds 3]``

The shipped model continues the first four seconds of each piece of the test split for 64 seconds: as it is, with copy
attention switched off (all its weight on "no match"), with the context of the poster's attention cells set to zero, and
without both. benchmarks/results/lesions.csv has a row for each variant, seed and span of eight seconds: the correlation
of the pitch classes with the prime's, and the memory of `musicgen.evaluation.statistics`. Real pieces are the
reference. A model that was trained without a part could do better than one that lost it: this shows what the trained
one uses.
"""

import argparse
import copy
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.evaluation.statistics import correlation, memory, pitch_classes
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write

RESULTS = Path(__file__).parent / "results" / "lesions.csv"
PRIME_FRAMES, SPAN_FRAMES, N_SPANS = 80, 160, 8
N_FRAMES = PRIME_FRAMES + N_SPANS * SPAN_FRAMES
VARIANTS = {
    "as trained": (),
    "without copy attention": ("copy",),
    "without attention cells": ("cells",),
    "without both": ("copy", "cells"),
}


def lesioned(model: AttentionLSTM, parts: tuple[str, ...]) -> AttentionLSTM:
    """Return a copy of the model in which attention in the named parts has no effect."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        if "copy" in parts:
            model.copy.null_key.bias.fill_(1e4)
        if "cells" in parts:
            for layer in model.layers[-model.config.n_attention_layers :]:
                layer.attention.scale_shift.weight.zero_()
    return model


def measure(rolls: list[PianoRoll]) -> Iterator[dict]:
    """Yield the means over pieces for each span of eight seconds after the prime."""
    for number in range(N_SPANS):
        start = PRIME_FRAMES + number * SPAN_FRAMES
        parts = [(roll[:PRIME_FRAMES], roll[start : start + SPAN_FRAMES], roll) for roll in rolls]
        same = [correlation(pitch_classes(prime), pitch_classes(part)) for prime, part, _ in parts if part.n_notes]
        memories = [memory(roll[: start + SPAN_FRAMES], start) for _, part, roll in parts if part.n_notes]
        yield {
            "seconds": (number + 1) * SPAN_FRAMES // 20,
            "pitch_class_correlation": round(float(np.mean(same)), 4),
            "memory": round(float(np.mean(memories)), 4),
            "notes_per_second": round(sum(part.n_notes for _, part, _ in parts) / len(parts) / (SPAN_FRAMES / 20), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rolls, model = prepare(load_corpus(args.data)).select(split="test"), load_checkpoint(SHIPPED_CHECKPOINT).model
    chosen = [i for i, n_frames in enumerate(rolls.lengths) if n_frames >= N_FRAMES]
    real, composers = [rolls[i][:N_FRAMES] for i in chosen], [rolls.pieces[i].composer for i in chosen]
    labels = [model.config.label_of(name) if name in model.config.composers else 0 for name in composers]
    rows = [{"variant": "real", "seed": ""} | row for row in measure(real)]
    for name, parts in VARIANTS.items():
        for seed in range(args.seeds):
            config, primes = GenerationConfig(seed=seed), [roll[:PRIME_FRAMES] for roll in real]
            made = continue_rolls(lesioned(model, parts), primes, N_FRAMES - PRIME_FRAMES, config, labels)
            rows += [{"variant": name, "seed": seed} | row for row in measure(made)]
            print(name, seed, rows[-N_SPANS], rows[-1], flush=True)
    command = f"python benchmarks/lesions.py DATA --seeds {args.seeds}"
    with atomic_write(RESULTS) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "n_pieces", "command"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"n_pieces": len(real), "command": command} for row in rows)


if __name__ == "__main__":
    main()
