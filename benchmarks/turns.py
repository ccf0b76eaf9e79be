"""Time functions that take turns, and keep the results as a table, a CSV file and a figure."""

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from musicgen.lab.figures.style import BLUE
from musicgen.utils.files import atomic_write

TABLE = Path(__file__).parent / "results" / "speed.csv"
ROUNDS = 9
Timed = dict[str, list[float]]


def take_turns(contenders: dict[str, Callable], rounds: int = ROUNDS) -> Timed:
    """Run each contender once per round, and return its seconds in every round but the first."""
    seconds = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if round_:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rows(section: str, unit: str, amount: float | dict[str, float], seconds: Timed, against: str) -> Iterator[dict]:
    """Yield the rate of each contender in amounts per second, and its ratio to the rate of `against`."""
    amounts = amount if isinstance(amount, dict) else dict.fromkeys(seconds, amount)
    rates = {name: amounts[name] / np.array(taken) for name, taken in seconds.items()}
    for name, rate in rates.items():
        low, median, high = np.percentile(rate, [25, 50, 75])
        numbers = {"median": median, "low": low, "high": high, "ratio": np.median(rate / rates[against])}
        told = {key: f"{number:.4g}" for key, number in numbers.items()}
        yield {"section": section, "name": name, "unit": unit} | told | {"to": against}


def show(found: Iterable[dict]) -> None:
    """Print sections as tables in Markdown."""
    section = None
    for row in found:
        if row["section"] != section:
            section = row["section"]
            print(f"\n| {row['section']} | {row['unit']} | quartiles | times {row['to']} |\n|---|---|---|---|")
        print(f"| {row['name']} | {row['median']} | {row['low']} to {row['high']} | {row['ratio']} |", flush=True)


def write(found: list[dict]) -> None:
    """Replace sections of the table, and draw it again."""
    kept = list(csv.DictReader(TABLE.open())) if TABLE.exists() else []
    kept = [row for row in kept if row["section"] not in {new["section"] for new in found}] + found
    with atomic_write(TABLE) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, kept[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    draw(kept, TABLE.with_suffix(".png"))


def draw(kept: list[dict], path: Path) -> None:
    """Draw the ratios of each section as bars."""
    sections = list(dict.fromkeys(row["section"] for row in kept))
    fig, axes = plt.subplots(-(-len(sections) // 2), 2, figsize=(15, 2.2 * -(-len(sections) // 2)), squeeze=False)
    plt.close(fig)
    for ax, section in zip(axes.flat, sections):
        rows_here = [row for row in kept if row["section"] == section][::-1]  # the first on top
        ratios = [float(row["ratio"]) for row in rows_here]
        bars = ax.barh([row["name"] for row in rows_here], ratios, color=BLUE)
        ax.bar_label(bars, [f"{ratio:,.0f}" if ratio > 100 else f"{ratio:.3g}" for ratio in ratios], padding=3)
        held_against = f"{rows_here[0]['unit']}, as a multiple of: {rows_here[0]['to']}"
        ax.set(title=section, xlabel=held_against, xscale="log" if max(ratios) > 20 else "linear")
        ax.margins(x=0.2)  # room for the values
    for ax in axes.flat[len(sections) :]:
        ax.set_axis_off()
    fig.tight_layout()
    fig.savefig(path, dpi=80)
