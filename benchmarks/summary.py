"""Prints the figures of the model card from ``benchmarks/results/pieces.csv``: ``python benchmarks/summary.py``."""

import csv
from pathlib import Path

import numpy as np

from musicgen.evaluation.overlap import compare

PIECES = Path(__file__).parent / "results" / "pieces.csv"
SOURCES = ("validation", "generated", "generated, top_p 0.97", "markov")
LIMITS = {"longest_silence_seconds": 8, "longest_note_seconds": 15, "longest_repeat_seconds": 20}
ABOUT = ("source", "composer", "prime")


def numbers(rows: list[dict]) -> list[dict[str, float]]:
    """Return the statistics of each piece, without what was searched for or scored."""
    left_out = ("shared_notes", "n_scored", *ABOUT)
    kept = [name for name in rows[0] if name not in left_out and not name.startswith("nll_")]
    return [{name: float(row[name]) for name in kept} for row in rows]


def attributed(rows: list[dict]) -> tuple[int, int]:
    """Return how many pieces are likeliest under their own composer, and how many have one of those told apart."""
    composers = [name.removeprefix("nll_") for name in rows[0] if name.startswith("nll_")]
    rows = [row for row in rows if row["composer"] in composers]
    likeliest = [min(composers, key=lambda composer: float(row[f"nll_{composer}"])) for row in rows]
    return sum(row["composer"] == composer for row, composer in zip(rows, likeliest)), len(rows)


def main() -> None:
    """Print means, limits, attribution and overlapping areas."""
    rows = list(csv.DictReader(PIECES.open()))
    of = {source: [row for row in rows if row["source"] == source] for source in (*SOURCES, "test")}
    print("| mean of |", " | ".join(SOURCES), "|\n|" + "---|" * (1 + len(SOURCES)))
    for name in [*numbers(rows)[0], "shared_notes"]:
        means = (f"{np.mean([float(row[name]) for row in of[source]]):.2f}" for source in SOURCES)
        print(f"| {name} |", " | ".join(means), "|")
    for name, limit in LIMITS.items():
        over = (str(sum(float(row[name]) > limit for row in of[source])) for source in SOURCES)
        print(f"| pieces: {name} over {limit} |", " | ".join(over), "|")
    print("attributed, held-out real: {} of {}".format(*attributed(of["validation"] + of["test"])))
    for source in SOURCES[1:3]:
        print("attributed, {}: {} of {}".format(source, *attributed(of[source])))
    for source in ("test", *SOURCES[1:]):
        areas = [overlap.area for overlap in compare(numbers(of["validation"]), numbers(of[source])).values()]
        print(f"mean overlapping area, validation against {source}: {np.mean(areas):.3f}")


if __name__ == "__main__":
    main()
