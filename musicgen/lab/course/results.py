"""The measured results that notebook 06 shows, as tables and figures."""

import csv
import re
from importlib.resources import files
from pathlib import Path

import numpy as np

from musicgen.generation import GenerationConfig
from musicgen.lab.figures.charts import plot_runs
from musicgen.lab.figures.style import BLUE, ORANGE, Axes, describe, subplots

# Copies of files in benchmarks/results, so that an installed package has them. `make notebooks` renews them.
MEASURED = files("musicgen.lab.course") / "measured"
AUC_OPTIONS = {"split", "seed", "n-per-piece", "composers", "free", "keep", "candidates", "beat", "home"}  # shown
FORMER = " --temperature 0.85"  # of rows from before there were several candidates, which are shown, too
CLOSENESS_LABELS = "seconds after the prime", "correlation with the prime's pitch classes"
HALF_MINUTE_SETTINGS = re.compile(r"--(candidates|feedback|home) (\S+)")


def read_results(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of measured results: "likeness", "home", "lesions", "ablation", "ablation_shipped".

    Raises
    ------
    ValueError
        If there is no such table; the message names those that there are.
    """
    tables = {Path(file.name).stem: file for file in MEASURED.iterdir()}
    if name not in tables:
        raise ValueError(f"there are no results {name!r}, only {', '.join(sorted(tables))}")
    return list(csv.DictReader(tables[name].read_text(encoding="utf-8").splitlines()))


def auc_by_source() -> dict[str, list[float]]:
    """Return the classifier's AUC on the test split for each source of music, one for each seed."""
    found: dict[str, list[float]] = {}
    for row in read_results("likeness"):
        name = _auc_name(row)
        if name and row["auc"] and row["split"] == "test":
            found.setdefault(name, []).append(float(row["auc"]))
    return found


def plot_auc() -> Axes:
    """Plot the results of `auc_by_source`, with a point per seed and a bar at the mean."""
    points = auc_by_source()
    _, ax = subplots(size=(8, 1.2 + 0.35 * len(points)))
    for number, values in enumerate(points.values()):
        ax.plot(values, [number] * len(values), "o", color=BLUE, alpha=0.6)
        ax.plot(np.mean(values), number, "|", color=ORANGE, markersize=14, markeredgewidth=2.5)
    ax.set_yticks(range(len(points)), list(points))
    ax.set_ylim(len(points) - 0.5, -0.5)
    ax.set(xlim=(0.48, 1.02), xlabel="AUC: 0.5 cannot tell, 1 always can")
    each = ", ".join(f"{name} {np.mean(values):.2f}" for name, values in points.items())
    describe(ax, f"Mean AUC on the test split: {each}")
    return ax


def _auc_name(row: dict[str, str]) -> str | None:
    """Name the source of a row of "likeness"; None for a row of other settings or of an older commit."""
    command = row["command"].removesuffix(FORMER)
    if "# at commit" in command:
        return None
    if row["source"] == "markov":
        return "Markov baseline"
    if "--checkpoint 7d56557" in command:
        return "an earlier model"
    options = set(re.findall(r"--([a-z-]+)", command.replace("--checkpoint 7a047b1", "")))  # the model without home
    if row["source"] != "model" or options - AUC_OPTIONS:
        return None
    n_candidates = re.search(r"--candidates (\d+)", command)
    is_older = not n_candidates and row["command"].endswith(FORMER)  # from before there were home and candidates
    number = int(n_candidates[1]) if n_candidates else 1 if is_older else GenerationConfig().candidates
    name = "a plain file" if "free" in options else "beats and composer given"
    home = ", no home" if is_older or "--home False" in command else ""
    return f"{name}, {number} candidate{'s' * (number > 1)}{home}"


def half_minutes() -> dict[str, list[list[float]]]:
    """Return how well the pitch classes of each half minute agree with the opening's, over three minutes.

    Returns
    -------
    dict of str to list of list of float
        For "the pianists" and "the model", on the test split: the correlations in each run. Settings that a command
        names stand behind the model, such as "the model, feedback 1".
    """
    runs: dict[str, dict[str, list[float]]] = {}
    for row in read_results("home"):
        if row["split"] == "test":
            settings = [f", {name} {value}" for name, value in HALF_MINUTE_SETTINGS.findall(row["command"])]
            name = "the pianists" if row["source"] == "real" else f"the model{''.join(settings)}"
            correlations = runs.setdefault(name, {}).setdefault(row["command"], [])
            correlations.append(float(row["pitch_class_correlation"]))
    return {name: list(by_command.values()) for name, by_command in runs.items()}


def plot_half_minutes() -> Axes:
    """Plot the results of `half_minutes` over three minutes, with a point per run."""
    runs = half_minutes()
    pianists = {"the pianists": runs.pop("the pianists")[0]}
    spans = [f"{start} to {start + 30}" for start in range(0, 30 * len(pianists["the pianists"]), 30)]
    return plot_runs(runs, spans, None, pianists, *CLOSENESS_LABELS)


def plot_lesions() -> Axes:
    """Plot the correlation with the prime's pitch classes over time, with parts of the model switched off."""
    curves: dict[str, dict[str, list[float]]] = {}
    for row in read_results("lesions"):
        curves.setdefault(row["variant"], {}).setdefault(row["seed"], []).append(float(row["pitch_class_correlation"]))
    seconds = sorted({int(row["seconds"]) for row in read_results("lesions")})
    runs = {variant: np.array(list(seeds.values())) for variant, seeds in curves.items()}
    real = {"real": runs.pop("real")[0]}
    return plot_runs(runs, seconds, None, real, *CLOSENESS_LABELS)


def plot_ablation(
    name: str = "ablation", measures: tuple[str, ...] = ("nll", "memory", "pitch_class_correlation")
) -> Axes:
    """Plot the results of an ablation, with a point per seed and a bar at the mean; return the first axes.

    Parameters
    ----------
    name : str
        The table of `read_results`: "ablation", or "ablation_shipped".
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
