"""Apply published metrics: ``python benchmarks/published_metrics.py DATA PLAYED.npz [...] [--split test]``.

The package smg-metrics measures the 30 s after the prime of real pieces, and of their continuations in each PLAYED
file, which ``likeness.py --keep`` wrote. It needs older libraries than ours, so it gets an environment of its own. The
table and ``benchmarks/results/published_metrics.csv`` show the means over the pieces; those of the last rows compare
each continuation with the real one.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from judge import load

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.midi import write_midi
from musicgen.piano_roll import PianoRoll

PACKAGE = "smg-metrics==5.4.3"
ENVIRONMENT = Path("runs/published_metrics")
RESULTS = Path(__file__).parent / "results" / "published_metrics.csv"
PRIME_FRAMES = 80
LEFT_OUT = {"pisr", "mean_ioi"}  # the key is unknown; the rhythm is measured elsewhere


def command() -> Path:
    """Return the path of the package's command; the environment is made if it is not there."""
    folder = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
    if not (folder / "smg-eval").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([folder / "python", "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return folder / "smg-eval"


def write_all(rolls: list[np.ndarray], folder: Path) -> None:
    """Write what follows the primes as MIDI files."""
    folder.mkdir()
    for number, velocity in enumerate(rolls):
        write_midi(PianoRoll(velocity[PRIME_FRAMES:]), folder / f"{number:03}.mid")


def measured(*arguments: Path | str) -> dict:
    """Return what the package prints as JSON."""
    printed = subprocess.run([command(), *arguments, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(printed[printed.index("{") :])


def means(folder: Path) -> dict[str, float]:
    """Return the mean of each measure over the files of a folder."""
    pieces = measured("-m", folder, "--all-single").values()
    names = [name for name in next(iter(pieces)) if name not in LEFT_OUT]
    values = {name: [piece[name] for piece in pieces if piece.get(name) is not None] for name in names}
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("played", nargs="+")
    parser.add_argument("--split", default="validation")
    args = parser.parse_args()
    rolls = prepare(load_corpus(args.data)).select(split=args.split)
    played = {path: [versions[0] for versions in load(path)] for path in args.played}
    n_frames = len(next(iter(played.values()))[0])
    real = [roll.velocity[:n_frames] for roll in rolls if roll.n_frames >= n_frames]
    columns = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_all(real, folder / "real")
        columns["real"] = means(folder / "real")
        for number, (path, made) in enumerate(played.items()):
            write_all(made, folder / str(number))
            pairs = measured("--pred_dir", folder / str(number), "--ref_dir", folder / "real")
            pairs = {f"pair: {name}": value for name, value in pairs.items() if not name.startswith("[pred]")}
            columns[path] = means(folder / str(number)) | pairs
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = [["measure", *columns]]
    for name in names:
        values = [column.get(name) for column in columns.values()]
        rows.append([name, *("" if value is None else round(value, 4) for value in values)])
    with RESULTS.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    for row in rows:
        print(*(f"{value!s:>20}" for value in row), file=sys.stdout)


if __name__ == "__main__":
    main()
