"""Runs the long experiments, one command after the other, and keeps what each of them says as a line of a CSV file.

``python benchmarks/experiments.py NAME DATA`` appends to ``benchmarks/results/NAME.csv``. What is in there already is
not run again, so that it can be stopped at any time. Notebook 05 draws from these files.
"""

import argparse
import csv
import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
OUTPUTS = ("independent", "shared", "joint")


def polyphonic(data: Path) -> Iterator[tuple[dict, list]]:
    """Train on each of the four published data sets from scratch, and score the test split once."""
    n_epochs = {"JSB_Chorales": 60, "Nottingham": 20, "MuseData": 20, "Piano_midi": 40}
    for name, output, transpose in itertools.product(n_epochs, OUTPUTS, (0, 6)):
        options = {"output": output, "max_transpose": transpose, "n_epochs": n_epochs[name], "seed": 0}
        yield {"dataset": name} | options, ["benchmark", data / f"{name}.mat", "--train", *flags(options)]


EXPERIMENTS = {"polyphonic": polyphonic}


def flags(options: dict) -> list:
    """Write options as the command line takes them."""
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


def run(arguments: list, data: Path) -> dict:
    """Run one command of musicgen; return its JSON, and the command with DATA for the folder of the data."""
    words = [str(word) for word in arguments]
    done = subprocess.run([sys.executable, "-m", "musicgen", *words, "--json"], stdout=subprocess.PIPE, check=True)
    command = shlex.join(["python", "-m", "musicgen", *words]).replace(str(data), "DATA")
    return json.loads(done.stdout.splitlines()[-1]) | {"command": command}


def append(path: Path, row: dict) -> None:
    """Add a line to a CSV file whose first line names the columns."""
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Run what is still missing of one experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder of the data")
    args = parser.parse_args()
    path = RESULTS / f"{args.name}.csv"
    kept = list(csv.DictReader(path.open())) if path.exists() else []
    for setting, arguments in EXPERIMENTS[args.name](args.data):
        if any(all(row[name] == str(value) for name, value in setting.items()) for row in kept):
            continue
        print(setting, file=sys.stderr)
        result = {
            name: value for name, value in run(arguments, args.data).items() if isinstance(value, (int, float, str))
        }
        append(path, setting | {name: value for name, value in result.items() if name not in ("checkpoint", "files")})


if __name__ == "__main__":
    main()
