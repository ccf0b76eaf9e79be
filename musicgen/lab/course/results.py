"""The measured results that notebook 06 shows: tables and figures of ``benchmarks/results``."""

import csv
from pathlib import Path

import numpy as np
from IPython.display import HTML

from musicgen.lab.figures.charts import plot_runs
from musicgen.lab.figures.html import table
from musicgen.lab.figures.style import BLUE, ORANGE, Axes, describe, subplots

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def read_results(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file in ``benchmarks/results``.

    Raises
    ------
    FileNotFoundError
        If there is no such file: results come only with a clone of the repository.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the results come only with a clone of the repository")
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def show_results(name: str, columns: tuple[str, ...]) -> HTML:
    """Return some columns of a CSV file in ``benchmarks/results`` as an HTML table."""
    rows = [[row[column] for column in columns] for row in read_results(name)]
    return HTML(table(rows, [column.replace("_", " ") for column in columns]))


def plot_lesions() -> Axes:
    """Plot the correlation with the prime's pitch classes over time, with parts of the model switched off."""
    curves: dict[str, dict[str, list[float]]] = {}
    for row in read_results("lesions"):
        curves.setdefault(row["variant"], {}).setdefault(row["seed"], []).append(float(row["pitch_class_correlation"]))
    seconds = sorted({int(row["seconds"]) for row in read_results("lesions")})
    runs = {variant: np.array(list(seeds.values())) for variant, seeds in curves.items()}
    real = {"real": runs.pop("real")[0]}
    return plot_runs(runs, seconds, None, real, "seconds after the prime", "correlation with the prime's pitch classes")


def plot_ablation(
    name: str = "ablation", measures: tuple[str, ...] = ("nll", "memory", "pitch_class_correlation")
) -> Axes:
    """Plot the results of an ablation, with a point per seed and a bar at the mean; return the first axes.

    Parameters
    ----------
    name : str
        The CSV file in ``benchmarks/results``: "ablation", or "ablation_shipped".
    measures : tuple of str
        Columns of the file.
    """
    rows = read_results(name)
    names = list(dict.fromkeys(row["variant"] for row in rows))
    _, axes = subplots(1, len(measures), (10, 1 + 0.3 * len(names)), sharey=True, squeeze=False)
    for ax, measure in zip(axes[0], measures):
        values = [[float(row[measure]) for row in rows if row["variant"] == name] for name in names]
        for number, seeds in enumerate(values):
            ax.plot(seeds, [number] * len(seeds), "o", color=BLUE, alpha=0.6)
        means = [float(np.mean(seeds)) for seeds in values]
        ax.plot(means, range(len(names)), "|", color=ORANGE, markersize=14, markeredgewidth=2.5)
        ax.set_xlabel(measure.replace("_", " "))
        each = ", ".join(f"{name} {mean:.3f}" for name, mean in zip(names, means))
        describe(ax, f"Mean {measure.replace('_', ' ')}: {each}")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return axes[0, 0]
