"""The measured results that notebook 05 shows: tables and figures of ``benchmarks/results``."""

import csv
from pathlib import Path

import numpy as np
from IPython.display import HTML

from musicgen.lab.charts import plot_runs
from musicgen.lab.figures import Axes
from musicgen.lab.html import table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def read_results(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of results.

    Raises
    ------
    FileNotFoundError
        If there is none; a clone of the repository has them.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing: results come with a clone of the repository")
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def show_results(name: str, columns: tuple[str, ...]) -> HTML:
    """Show some columns of a file of results as a table."""
    rows = [[row[column] for column in columns] for row in read_results(name)]
    return HTML(table(rows, [column.replace("_", " ") for column in columns]))


def plot_in_key() -> Axes:
    """Plot the share of notes in the key of the opening, over time, by number of attention layers."""
    seconds = list(range(8, 65, 8))
    shares = lambda row: [float(row[f"in_key_{second}s"] or "nan") for second in seconds]  # noqa: E731
    runs, references = {}, {}
    for row in read_results("attention"):
        runs.setdefault(f"{row['n_attention_layers']} attention layers", []).append(shares(row))
    for row in read_results("in_key"):
        references.setdefault(row["source"], []).append(shares(row))
    means = {name: np.nanmean(rows, axis=0) for name, rows in references.items()}
    labels = {"xlabel": "seconds after the opening", "ylabel": "share of notes in its key"}
    return plot_runs({name: np.array(rows) for name, rows in runs.items()}, seconds, None, means, **labels)
