"""Figures of numbers: losses, distributions, comparisons. Like all figures, they draw into `ax` and return the axes."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from musicgen.generation.steering import SteeringTrace
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
    legend_below,
    literal,
    subplots,
)
from musicgen.piano_roll import PianoRoll

MOST_POINTS = 150  # in the curve of a running training


def plot_training(updates: np.ndarray, history: list[dict], baselines: dict, n_updates: int, title: str = "") -> Axes:
    """Draw the losses of a run that is still training, and its learning rate.

    Parameters
    ----------
    updates : numpy.ndarray, shape (n, 3)
        The number, the loss in nats per frame and the learning rate of each update. Many updates are averaged.
    history : list of dict
        One row for each validation, with ``updates`` and ``validation_nll``.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    n_updates : int
        The number of updates of the whole run.
    title : str
    """
    _, (ax, below) = subplots(2, size=(8, 4.2), sharex=True, height_ratios=(4, 1))
    number, loss, rate = _thinned(updates)
    ax.plot(number, loss, color=BLUE, label="training")
    ends = [row["updates"] for row in history]
    nlls = [row["validation_nll"] for row in history]
    ax.plot(ends, nlls, "o-", color=ORANGE, label="validation")
    _describe_losses(ax, {"training": loss[-1:], "validation": nlls[-1:]}, baselines)
    _draw_baselines(ax, baselines)
    _in_decades(ax)
    ax.set(title=literal(title), ylabel="loss in nats per frame", xlim=(0, max(n_updates, 1)))
    legend_below(ax)
    below.plot(number, rate, color=GREY)
    below.set(xlabel="update", ylabel="learning\nrate", ylim=(0, 1.1 * rate.max(initial=1e-9)))
    return ax


def plot_losses(runs: Mapping[str, np.ndarray], baselines: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Draw the training losses of several runs side by side, update by update.

    Parameters
    ----------
    runs : mapping of str to numpy.ndarray, shape (n, 3)
        For each run the number, the loss in nats per frame and the learning rate of each update. Many updates are
        averaged.
    baselines : mapping of str to float
        Losses to beat, by name, in nats per frame.
    ax : Axes, optional
    """
    ax = axes_for(ax, 8, 4)
    latest = {}
    for colour, (name, updates) in zip(cycle(PALETTE), runs.items()):
        number, loss, _ = _thinned(updates)
        ax.plot(number, loss, color=colour, label=literal(name))
        latest[name] = loss[-1:]
    _describe_losses(ax, latest, baselines)
    _draw_baselines(ax, baselines)
    _in_decades(ax)
    ax.set(xlabel="update", ylabel="training loss in nats per frame")
    legend_below(ax)
    return ax


def _thinned(updates: np.ndarray) -> np.ndarray:
    """Return at most `MOST_POINTS` means of successive updates, as three rows: number, loss and learning rate."""
    groups = np.array_split(updates, min(len(updates), MOST_POINTS) or 1)
    return np.array([group.mean(axis=0) for group in groups if len(group)]).reshape(-1, 3).T


def plot_validation(histories: dict[str, list[dict]], baselines: dict, ax: Axes | None = None) -> Axes:
    """Draw the validation losses of several runs by epoch, and the baselines.

    Five colours are used in turn, and each further five runs get another marker.
    """
    ax = axes_for(ax, 8, 4)
    for index, (name, history) in enumerate(histories.items()):
        colour = PALETTE[index % len(PALETTE)]
        marker = "osD^v"[index // len(PALETTE) % 5]
        epochs = [row["epoch"] for row in history]
        nlls = [row["validation_nll"] for row in history]
        ax.plot(epochs, nlls, f"{marker}-", color=colour, markersize=4, label=literal(name))
        describe(ax, f"{name}: lowest validation loss {min(nlls):.2f} nats per frame")
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


def _describe_losses(ax: Axes, latest: dict[str, np.ndarray], baselines: dict[str, float]) -> None:
    """Add the latest losses and the baselines to the alternative text."""
    losses = [f"{name} loss {values[0]:.2f}" for name, values in latest.items() if len(values)]
    losses += [f"{name} baseline {nll:.2f}" for name, nll in baselines.items()]
    if losses:
        describe(ax, f"In nats per frame: {', '.join(losses)}")


def _draw_baselines(ax: Axes, baselines: dict[str, float]) -> None:
    for name, nll in baselines.items():
        ax.axhline(nll, color=GREY, linewidth=1.5, linestyle=":")
        ax.text(1.01, nll, f"{literal(name)}\n{nll:.2f}", va="center", transform=ax.get_yaxis_transform())


def plot_bars(values: dict[str, float], ax: Axes | None = None, xlabel: str = "", in_order: bool = False) -> Axes:
    """Draw a horizontal bar for each name, labelled with its value.

    Parameters
    ----------
    values : dict of str to float
    ax : Axes, optional
    xlabel : str
    in_order : bool
        Keep the order of `values`, the first on top, as for rates or steps. By default the longest is on top.
    """
    ax = axes_for(ax, 8, 1 + 0.3 * len(values))
    upwards = list(values.items())[::-1] if in_order else sorted(values.items(), key=lambda item: item[1])
    names, lengths = zip(*upwards)
    bars = ax.barh(range(len(names)), lengths, color=BLUE)
    ax.set_yticks(range(len(names)), [literal(name) for name in names])
    labels = [f"{length:,.0f}" if length >= 1000 else f"{length:.3g}" for length in lengths]
    ax.bar_label(bars, labels, padding=3)
    ax.margins(x=0.2, y=0.02)  # room for the values
    ax.set_xlabel(xlabel)
    topmost = ", ".join(f"{name} {length:,.4g}" for name, length in upwards[:-6:-1])
    describe(ax, f"{xlabel or 'Bars'}: {topmost}{', ...' if len(names) > 5 else ''}")
    return ax


def plot_ladder(losses: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Draw the loss of each step in a series of models as a bar, the first step on top.

    The bar of a loss that is more than twice all the others is cut off, and has an arrow.

    Parameters
    ----------
    losses : mapping of str to float
        In nats per frame, in the order of the steps.
    ax : Axes, optional
    """
    ax = axes_for(ax, 8, 1 + 0.35 * len(losses))
    names = list(losses)
    nlls = np.array(list(losses.values()))
    *_, second, highest = [*nlls, *nlls] if len(nlls) == 1 else sorted(nlls)
    edge = 1.1 * second if highest > 2 * second else highest
    bars = ax.barh(names, np.minimum(nlls, edge), color=BLUE)
    ax.bar_label(bars, [f"{nll:.2f} →" if nll > edge else f"{nll:.2f}" for nll in nlls], padding=3)
    ax.set(xlabel="loss in nats per frame, on held-out pieces", ylim=(len(names) - 0.5, -0.5))
    ax.margins(x=0.2)  # room for the values
    describe(ax, "Loss in nats per frame: " + ", ".join(f"{name} {nll:.2f}" for name, nll in losses.items()))
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
            bars = ax.barh(range(len(names)), widths, left=ends, color=colour, label=part)
            ends += widths
        ax.bar_label(bars, [f"{end:,.0f}" for end in ends], padding=3)
        ax.margins(x=0.2, y=0.02)  # room for the totals
        ax.set_yticks(range(len(names)), [literal(name) for name in names])
        ax.set_xlabel(kind)
        describe(ax, f"{kind}: {', '.join(f'{name} {sum(amounts[name].values()):,.0f}' for name in names[:-6:-1])}")
    figure.suptitle(literal(title))
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
        means = np.ma.masked_invalid(runs).mean(axis=0).filled(np.nan)
        describe(ax, f"{label}: {_told(x, means)}")
        ax.plot(x, means, color=colour, label=label)
        for run in runs:
            ax.plot(x, run, "o", color=colour, markersize=4, alpha=0.5)
    for style, (label, values) in zip(("-", ":", "--"), (references or {}).items()):
        ax.plot(x, values, style, color=GREY, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend_below(ax)
    return ax


def _told(x: list, means: np.ndarray) -> str:
    """Return a curve in words: all its values, or of more than twelve the highest."""
    if len(means) <= 12:
        return ", ".join(f"{mean:.2f}" for mean in means)
    best = int(np.nanargmax(means))
    return f"{len(means)} values, the highest {means[best]:.2f} at {x[best]:g}"


def plot_candidates(
    trace: Sequence[SteeringTrace], fps: int, piece: PianoRoll | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the candidates of a continuation as points sized by weight, joined by lines to their successors.

    Parameters
    ----------
    trace : sequence of SteeringTrace
        From `generate`. If nothing was weighed, the axes stay empty.
    fps : int
        Frames per second.
    piece : PianoRoll, optional
        What `generate` returned; the candidates that it went on from are marked.
    ax : Axes, optional
    """
    ax = axes_for(ax, 8, 3.5)
    ax.set(xlabel="seconds after the prime", ylabel="candidate")
    if not trace:
        describe(ax, "No candidates were weighed: the model has no probe, or only one candidate played")
        return ax
    weights = np.stack([step.weights for step in trace])
    S, C = weights.shape
    seconds = np.array([step.frame for step in trace]) / fps
    for number, step in enumerate(trace[:-1]):
        for after, before in enumerate(step.ancestors):
            ax.plot(seconds[number : number + 2], [before, after], color=GREY, linewidth=0.8, zorder=1)
    is_ancestor = np.zeros((S, C), bool)
    if piece is not None:
        ancestors = ancestors_of(piece, trace)
        is_ancestor[np.arange(S), ancestors] = True
        ax.plot(seconds, ancestors, color=BLUE, linewidth=2.5, zorder=2)
    for colour, label, chosen in ((BLUE, "the piece", is_ancestor), (GREY, "other candidates", ~is_ancestor)):
        steps, candidates = np.nonzero(chosen)
        ax.scatter(seconds[steps], candidates, 15 + 700 * weights[chosen], colour, label=label, zorder=3)
    ax.set(yticks=range(C), yticklabels=range(1, C + 1), ylim=(C - 0.4, -0.6), xticks=seconds)
    legend_below(ax)
    describe(ax, f"{C} candidates, weighed {S} times; the largest weight is {weights.max():.2f}")
    if piece is not None:
        numbers = ", ".join(str(ancestor + 1) for ancestor in ancestors)
        n_heaviest = int((weights[np.arange(S), ancestors] == weights.max(axis=1)).sum())
        describe(ax, f"The piece goes through the candidates {numbers}; {n_heaviest} of them had the largest weight")
    return ax


def ancestors_of(piece: PianoRoll, trace: Sequence[SteeringTrace]) -> list[int]:
    """Return the candidate that a piece went on from at each weighing, in order of time.

    Raises
    ------
    ValueError
        If no candidate of the last weighing is the beginning of the piece.
    """
    last = trace[-1].velocity.numpy()  # (C, T, K)
    is_begin = (last == piece.velocity[: last.shape[1]]).all(axis=(1, 2))
    if not is_begin.any():
        raise ValueError("the piece is none of the candidates")
    found = [int(is_begin.argmax())]
    for step in trace[-2::-1]:
        found.insert(0, int(step.ancestors[found[0]]))
    return found
