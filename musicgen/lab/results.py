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
    """Return the rows of a CSV file in ``benchmarks/results``.

    Raises
    ------
    FileNotFoundError
        If there is no such file: results come only with a clone of the repository.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing: results come with a clone of the repository")
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def show_results(name: str, columns: tuple[str, ...]) -> HTML:
    """Show some columns of a CSV file in ``benchmarks/results`` as a table."""
    rows = [[row[column] for column in columns] for row in read_results(name)]
    return HTML(table(rows, [column.replace("_", " ") for column in columns]))


def plot_lesions() -> Axes:
    """Plot how well the model stays in the prime's pitch classes when parts of it are switched off."""
    curves: dict[str, dict[str, list[float]]] = {}
    for row in read_results("lesions"):
        curves.setdefault(row["variant"], {}).setdefault(row["seed"], []).append(float(row["pitch_class_correlation"]))
    seconds = sorted({int(row["seconds"]) for row in read_results("lesions")})
    runs = {variant: np.array(list(seeds.values())) for variant, seeds in curves.items()}
    real = {"real": runs.pop("real")[0]}
    return plot_runs(runs, seconds, None, real, "seconds after the prime", "correlation with the prime's pitch classes")
