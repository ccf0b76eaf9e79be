"""Figures of numbers: losses, distributions, comparisons. Like all figures, they draw into `ax` and return the axes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from musicgen.lab.figures.html import readable
from musicgen.lab.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    axes_for,
    describe,
    is_dark,
    sequential,
    subplots,
)

MOST_POINTS = 150  # in the curve of a running training


def plot_learning_curve(history: list[dict], baselines: dict, ax: Axes | None = None, run: str = "") -> Axes:
    """Draw the losses of a training run by epoch, and the baselines.

    Parameters
    ----------
    history : list of dict
        One for each epoch, with ``epoch``, ``train_nll`` and ``validation_nll``.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    ax : Axes, optional
    run : str
        The name of the run, if several are drawn into one `ax`.
    """
    ax = axes_for(ax, 8, 4.5)
    epochs = [entry["epoch"] for entry in history]
    colour = PALETTE[len(ax.get_legend_handles_labels()[0]) // 2 % len(PALETTE)]
    for split, style in {"train": "o--", "validation": "o-"}.items():
        losses = [entry[f"{split}_nll"] for entry in history]
        ax.plot(epochs, losses, style, color=colour, markersize=3, label=f"{run} {split}".strip())
    _draw_baselines(ax, baselines)
    ax.margins(y=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="epoch", ylabel="loss in nats per frame")
    ax.legend()
    return ax


def plot_training(updates: np.ndarray, history: list[dict], baselines: dict, n_updates: int, title: str = "") -> Axes:
    """Draw the losses of a run that is still training, and its learning rate.

    Parameters
    ----------
    updates : numpy.ndarray, shape (n, 3)
        The number, the loss in nats per frame and the learning rate of each update. Many updates are averaged.
    history : list of dict
        One for each epoch, with ``updates`` and ``validation_nll``.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    n_updates : int
        The number of updates of the whole run.
    title : str
    """
    _, (ax, below) = subplots(2, size=(8, 4.2), sharex=True, height_ratios=(4, 1))
    groups = np.array_split(updates, min(len(updates), MOST_POINTS) or 1)
    number, loss, rate = np.array([group.mean(axis=0) for group in groups if len(group)]).reshape(-1, 3).T
    ax.plot(number, loss, color=BLUE, label="training")
    ends, nlls = [row["updates"] for row in history], [row["validation_nll"] for row in history]
    ax.plot(ends, nlls, "o-", color=ORANGE, label="validation, after each epoch")
    _draw_baselines(ax, baselines)
    _in_decades(ax)
    ax.set(title=title, ylabel="loss in nats per frame", xlim=(0, max(n_updates, 1)))
    ax.legend(loc="upper right")
    below.plot(number, rate, color=GREY)
    below.set(xlabel="update", ylabel="learning\nrate", ylim=(0, 1.1 * rate.max(initial=1e-9)))
    return ax


def plot_validation(histories: dict[str, list[dict]], baselines: dict, ax: Axes | None = None) -> Axes:
    """Draw the validation losses of several runs by epoch, and the baselines.

    Five colours are used in turn, and each further five runs get another marker.
    """
    ax = axes_for(ax, 8, 4)
    for index, (name, history) in enumerate(histories.items()):
        colour, marker = PALETTE[index % len(PALETTE)], "osD^v"[index // len(PALETTE) % 5]
        epochs, nlls = [row["epoch"] for row in history], [row["validation_nll"] for row in history]
        ax.plot(epochs, nlls, f"{marker}-", color=colour, markersize=4, label=name)
    _draw_baselines(ax, baselines)
    _in_decades(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(title="All runs", xlabel="epoch", ylabel="validation loss in nats per frame")
    ax.legend(loc="upper left", bbox_to_anchor=(1.16, 1))
    return ax


def _in_decades(ax: Axes) -> None:
    """Make the axis of the losses logarithmic, with plain numbers as labels."""
    ax.set_yscale("log")
    ax.margins(y=0.1)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def _draw_baselines(ax: Axes, baselines: dict[str, float]) -> None:
    for name, nll in baselines.items():
        ax.axhline(nll, color=GREY, linewidth=1.5, linestyle=":")
        ax.text(1.01, nll, f"{name}\n{nll:.2f}", va="center", transform=ax.get_yaxis_transform())


def plot_distribution(
    values_by_label: dict, ax: Axes | None = None, xlabel: str = "", bins: int | list | np.ndarray = 30
) -> Axes:
    """Draw histograms of one quantity for several sources, as outlines over the same bins.

    Parameters
    ----------
    values_by_label : dict of str to numpy.ndarray
        The values of each source. Each outline sums to 1, so the numbers of values may differ.
    ax : Axes, optional
    xlabel : str
    bins : int, list or numpy.ndarray
        As in `numpy.histogram_bin_edges`.
    """
    ax = axes_for(ax, 8, 4)
    edges = np.histogram_bin_edges(np.concatenate(list(values_by_label.values())), bins)
    for index, (label, values) in enumerate(values_by_label.items()):
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        width = len(values_by_label) - index + 0.5  # so that the first of two equal outlines still shows
        ax.stairs(shares, edges, color=PALETTE[index % len(PALETTE)], linewidth=width, label=label)
    ax.set(xlabel=xlabel, ylabel="share")
    ax.legend()
    return ax


def plot_bars(values: dict[str, float], ax: Axes | None = None, xlabel: str = "") -> Axes:
    """Draw a horizontal bar with its value for each name, the longest on top."""
    ax = axes_for(ax, 8, 1 + 0.3 * len(values))
    names, lengths = zip(*sorted(values.items(), key=lambda item: item[1]))
    bars = ax.barh([readable(name) for name in names], lengths, color=BLUE)
    ax.bar_label(
        bars, labels=[f"{length:,.0f}" if length >= 1000 else f"{length:.3g}" for length in lengths], padding=3
    )
    ax.margins(x=0.2, y=0.02)  # room for the values
    ax.set_xlabel(xlabel)
    longest = ", ".join(f"{name} {length:,.4g}" for name, length in list(zip(names, lengths))[:-6:-1])
    describe(ax, f"{xlabel or 'Bars'}: {longest}{', ...' if len(names) > 5 else ''}")
    return ax


def plot_totals(totals: Mapping[str, Mapping[str, Mapping[str, float]]], title: str = "") -> Axes:
    """Draw stacked bars in several charts side by side; return the first axes.

    Parameters
    ----------
    totals : mapping of str to mapping of str to mapping of str to float
        For each quantity, for example pieces and minutes: for each name, the amount of each part. The first quantity
        determines the order of the names.
    title : str
    """
    first = {name: sum(parts.values()) for name, parts in next(iter(totals.values())).items()}
    names = sorted(first, key=first.get)
    size = (12, 1.4 + 0.32 * len(names))
    figure, axes = subplots(1, len(totals), size=size, sharey=True, squeeze=False)
    for ax, (kind, amounts) in zip(axes[0], totals.items()):
        ends = np.zeros(len(names))
        for colour, part in zip([BLUE, SKY, ORANGE, GREEN, PURPLE], amounts[names[0]]):
            widths = np.array([amounts[name][part] for name in names])
            bars = ax.barh([readable(name) for name in names], widths, left=ends, color=colour, label=part)
            ends += widths
        ax.bar_label(bars, [f"{end:,.0f}" for end in ends], padding=3)
        ax.margins(x=0.2, y=0.02)  # room for the totals
        ax.set_xlabel(kind)
    figure.suptitle(title)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return axes[0, 0]


def plot_runs(
    runs_by_label: dict,
    x: list,
    ax: Axes | None = None,
    references: dict | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Axes:
    """Draw the mean of repeated runs as a line, and each run as a point.

    Parameters
    ----------
    runs_by_label : dict of str to array, shape (n_runs, len(x))
        The result of each run; nan where there is none.
    x : list of float or str
    ax : Axes, optional
    references : dict of str to array, shape (len(x),), optional
        Values to compare the runs with, drawn in grey.
    xlabel, ylabel : str
    """
    ax = axes_for(ax, 8, 4.5)
    for colour, (label, runs) in zip(PALETTE, runs_by_label.items()):
        ax.plot(x, np.ma.masked_invalid(runs).mean(axis=0), color=colour, label=label)
        for run in runs:
            ax.plot(x, run, "o", color=colour, markersize=4, alpha=0.5)
    for style, (label, values) in zip(("-", ":", "--"), (references or {}).items()):
        ax.plot(x, values, style, color=GREY, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def plot_dots(values_by_label: dict, ax: Axes | None = None, xlabel: str = "") -> Axes:
    """Draw a dot plot: one row per quantity, one coloured dot per source.

    Parameters
    ----------
    values_by_label : dict of str to dict of str to float
        The values of each source by name.
    ax : Axes, optional
    xlabel : str
    """
    names = list(next(iter(values_by_label.values())))
    ax = axes_for(ax, 8, 1.2 + 0.3 * len(names))
    for colour, marker, (label, values) in zip([*PALETTE, GREY], "oosdD^", values_by_label.items()):
        ax.plot(list(values.values()), list(values), marker, color=colour, label=label, alpha=0.8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel=xlabel)
    ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_confusion(counts: np.ndarray, names: list[str], ax: Axes | None = None, xlabel: str = "") -> Axes:
    """Draw a confusion matrix: how often each true name (row) was predicted as each name (column).

    The colour is the share of the row.
    """
    ax = axes_for(ax, 4.5, 4.5)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    colours = sequential()
    ax.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if is_dark(colours(shares[row, column])) else "black"
        ax.text(column, row, count, ha="center", va="center", color=ink)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel)
    return ax
