"""Run the long experiments, one command after the other, and append the result of each to a CSV file.

``python benchmarks/experiments.py NAME DATA`` appends to ``benchmarks/results/NAME.csv``. Rows that exist are not run
again, so that the command can be stopped at any time.
"""

import argparse
import csv
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tables import append_row

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.evaluation.statistics import in_key_shares
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.training import load_checkpoint

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PRIME_FRAMES = 80
OUTPUTS = ("independent", "shared", "joint")
SEEDS = (0, 1, 2)
# One pass over the train split with a small model: enough to rank, and the same for all.
SMALL = {
    "hidden_size": 128,
    "max_transpose": 6,
    "window_frames": 256,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "schedule": "cosine",
    "clip_norm": 10.0,
    "n_epochs": 1,
    "precision": "bfloat16",
}

# The four small sets of Boulanger-Lewandowski et al. 2012, with the sizes and epochs chosen for each.
PUBLISHED_SETS = {
    "JSB_Chorales": {
        "hidden_size": 128,
        "batch_size": 8,
        "plain": {"dropout": 0.6, "n_epochs": 15},
        "transposed": {"dropout": 0.4, "n_epochs": 120},
    },
    "Piano_midi": {
        "hidden_size": 192,
        "plain": {"dropout": 0.5, "n_epochs": 9},
        "transposed": {"dropout": 0.5, "n_epochs": 20},
    },
    "Nottingham": {
        "hidden_size": 192,
        "plain": {"dropout": 0.2, "n_epochs": 14},
        "transposed": {"dropout": 0.2, "n_epochs": 14},
    },
    "MuseData": {
        "hidden_size": 192,
        "plain": {"dropout": 0.2, "n_epochs": 10},
        "transposed": {"dropout": 0.3, "n_epochs": 10},
    },
}


def polyphonic(data: Path) -> Iterator[tuple[dict, list]]:
    """Train on each of the four published data sets from scratch, and score the test split once.

    Sizes, dropout and epochs were chosen on the validation splits. Transposed data take longer to overfit.
    """
    for output, (name, options), transpose in itertools.product(("joint", "shared"), PUBLISHED_SETS.items(), (0, 5)):
        setting = {"output": output, "max_transpose": transpose, "seed": 0}
        setting |= options["transposed" if transpose else "plain"]
        options = {name: value for name, value in options.items() if name not in ("transposed", "plain")}
        line = flags(options | {"pitch_size": 24} | setting)
        yield {"dataset": name} | setting, ["benchmarks/polyphonic.py", data / f"{name}.mat", "--train", *line]


def attention(data: Path) -> Iterator[tuple[dict, list]]:
    """Give none, one, two or all of three LSTM layers an attention cell.

    The output is joint, since it begins as a Markov chain. With the poster's output, three layers without attention
    would not get beyond the marginal baseline in this budget.
    """
    for seed, n_attention_layers in itertools.product(SEEDS, range(4)):
        setting = {"n_attention_layers": n_attention_layers, "seed": seed}
        yield setting, ["train", data, *flags(SMALL | {"n_layers": 3} | setting)]


def output(data: Path) -> Iterator[tuple[dict, list]]:
    """Compare the independent, the shared and the joint output, and the joint output with composers."""
    for seed, kind, names in itertools.product(SEEDS, OUTPUTS, ("", "Bach,Beethoven,Chopin,Haydn,Liszt,Schubert")):
        setting = {"output": kind, "composers": names, "seed": seed}
        if kind == "joint" or not names:
            yield setting, ["train", data, *flags(SMALL | setting)]


def learning_rate(data: Path) -> Iterator[tuple[dict, list]]:
    """Try the poster's recipe at learning rates below, within and above its range, and AdamW instead."""
    rates = {"sgd": (0.0005, 0.001, 0.003, 0.01, 0.03, 0.1), "adamw": (0.001, 0.003, 0.01)}
    recipes = [(optimizer, rate) for optimizer, tried in rates.items() for rate in tried]
    for seed, (optimizer, rate) in itertools.product(SEEDS, recipes):
        setting = {"optimizer": optimizer, "learning_rate": rate, "seed": seed}
        options = {"hidden_size": 128, "output": "independent", "n_epochs": 1, "precision": "bfloat16"}
        yield setting, ["train", data, *flags(options | setting)]


EXPERIMENTS = {each.__name__: each for each in (polyphonic, attention, output, learning_rate)}


def flags(options: dict) -> list:
    """Return options as arguments of a command."""
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


def run(arguments: list, data: Path) -> dict:
    """Run one command; return its JSON, and the command with "DATA" in place of the data folder."""
    words = [str(word) for word in arguments]
    words = words if words[0].endswith(".py") else ["-m", "musicgen", *words]
    command = shlex.join(["python", *words]).replace(str(data), "DATA")
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", f"{folder}/run"]
        line = [sys.executable, *words, *out, "--json"]
        result = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout.splitlines()[-1])
        stays = in_key(Path(result["checkpoint"]), data) if "train" in words else {}
    return (
        {name: value for name, value in result.items() if isinstance(value, (int, float))}
        | stays
        | {"command": command}
    )


def in_key(checkpoint: Path, data: Path) -> dict[str, float]:
    """Let a model continue the first four seconds of some validation pieces, and measure how many notes fit their key.

    Returns the mean share in each stretch of 8 s after the prime, from `statistics.in_key_shares`.
    """
    model = load_checkpoint(checkpoint).model
    rolls = prepare(load_corpus(data), progress=False).select(split="validation")
    chosen = range(0, len(rolls), max(1, len(rolls) // 20))
    primes = [rolls[index][:PRIME_FRAMES] for index in chosen]
    primes = [prime for prime in primes if prime.n_frames == PRIME_FRAMES and prime.n_notes]
    made = continue_rolls(model, primes, 64 * 20, GenerationConfig(), [0] * len(primes))
    shares = [in_key_shares(roll, PRIME_FRAMES) for roll in made]
    return {f"in_key_{8 * (at + 1)}s": round(float(share), 4) for at, share in enumerate(np.nanmean(shares, axis=0))}


def main() -> None:
    """Run the commands of one experiment that have no row yet."""
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
        append_row(path, setting | run(arguments, args.data))


if __name__ == "__main__":
    main()
