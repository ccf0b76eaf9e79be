"""Figures of what a model computes at each frame of a piece: gates, attention weights, copies, the next pitches."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation

from musicgen.lab.figures.moments import attention_at, copy_at, next_pitches
from musicgen.lab.figures.rolls import pitch_name, plot_roll
from musicgen.lab.figures.style import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    PALETTE,
    Figure,
    axes_for,
    describe,
    fading,
    literal,
    subplots,
)
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import DEFAULT_FPS, PianoRoll

SECONDS_AFTER = 2  # how much of the piece is drawn after the moment
ARC_HEIGHT = 0.72  # where arcs start and end, as a share of the height of the axes


def plot_gates(roll: PianoRoll, curves: Mapping[str, np.ndarray], title: str = "") -> Axes:
    """Draw a piano roll, and below it the gates and states of one LSTM unit; return the upper axes.

    Parameters
    ----------
    roll : PianoRoll
        The window.
    curves : mapping of str to numpy.ndarray, shape (n_frames,)
        The values of one unit by name, for example "input gate". Names that end in "gate" are drawn from 0 to 1,
        the others below them.
    title : str
    """
    figure, axes = subplots(3, size=(10, 7), sharex=True, height_ratios=(3, 2, 2))
    plot_roll(roll, axes[0], title, velocity_bar=False).set(xlabel="", xlim=(0, roll.duration_seconds))
    seconds = np.arange(roll.n_frames) / roll.fps
    for index, (name, values) in enumerate(curves.items()):
        ax = axes[1 if name.endswith("gate") else 2]
        ax.step(seconds, values, where="post", color=[*PALETTE, GREY][index % 6], label=name, linewidth=1.5)
        describe(ax, f"The {name} lies between {values.min():.2f} and {values.max():.2f}")
    axes[1].set(ylim=(-0.03, 1.03), ylabel="gates")
    axes[2].set(ylabel="states", xlabel="time in seconds")
    for ax in axes[1:]:
        ax.grid(axis="y", linewidth=0.5, alpha=0.5)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes[0]


def plot_attention(weights: np.ndarray, ax: Axes | None = None, fps: int = DEFAULT_FPS) -> Axes:
    """Draw a matrix of attention weights: how much each frame attends to each earlier one.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n_frames, n_frames)
        The attention weights of one layer: each row sums to 1.
    ax : Axes, optional
    fps : int
    """
    ax = axes_for(ax, 7.5, 5.5)
    seen = np.ma.masked_equal(weights, 0)
    # The square root makes faint weights visible. The largest are cut off: the first frames have few others to see.
    norm = PowerNorm(0.5, vmin=0, vmax=np.quantile(seen.compressed(), 0.99))
    seconds = len(weights) / fps
    extent = (0, seconds, seconds, 0)  # row 0 on top, as a matrix is written
    image = ax.imshow(seen, cmap=fading(ORANGE), norm=norm, extent=extent, origin="upper")
    ax.set(xlabel="earlier moment in seconds", ylabel="present moment in seconds")
    ax.figure.colorbar(image, ax=ax, label="attention weight", extend="max", fraction=0.045, pad=0.02)
    describe(ax, "Each row shows the attention weights of one frame; nothing lies above the diagonal")
    return ax


def plot_attended(
    roll: PianoRoll, weights: np.ndarray, first_layer: int = 1, axes: Sequence[Axes] | None = None
) -> Axes:
    """Draw the roll once for each attention layer, shaded by the layer's weights; return the upper axes.

    Parameters
    ----------
    roll : PianoRoll
        The piece.
    weights : numpy.ndarray, shape (n_attention_layers, n_frames)
        From `attention_at`: the last frame is the moment.
    first_layer : int
        The number of the first of these layers, for the titles.
    axes : sequence of Axes, optional
        One for each layer. By default a new figure.
    """
    n_layers, n_frames = weights.shape
    if axes is None:
        size = (10, 1 + 2.6 * n_layers)
        axes = subplots(n_layers, size=size, sharex=True, sharey=True, squeeze=False)[1][:, 0]
    for layer, (ax, row) in enumerate(zip(axes, weights), first_layer):
        _draw_moment(ax, roll, n_frames, f"Attention layer {layer}")
        _draw_weights(ax, row, roll.fps)
        ago = (n_frames - 1 - row.argmax()) / roll.fps
        describe(ax, f"Layer {layer} gives the most weight, {row.max():.1%}, to the frame {ago:.2f} seconds ago")
    first = np.flatnonzero(weights.max(axis=0) > 1e-6)[0]
    axes[0].set_xlim(first / roll.fps, min(n_frames / roll.fps + SECONDS_AFTER, roll.duration_seconds))
    return axes[0]


def _draw_weights(ax: Axes, row: np.ndarray, fps: int) -> None:
    """Draw weights over time, as shading behind the notes and as a curve."""
    edges = np.arange(len(row) + 1) / fps
    ax.pcolormesh(edges, [0, 1], row[None], cmap=fading(ORANGE, 0.6), transform=ax.get_xaxis_transform(), zorder=0.5)
    curve = ax.twinx()
    curve.spines["right"].set_visible(True)
    curve.stairs(100 * row, edges, color=ORANGE, linewidth=1.5)
    curve.set(ylim=(0, 250 * row.max()), ylabel="weight in %")
    ax.label_outer()


def _draw_moment(ax: Axes, roll: PianoRoll, n_frames: int, title: str) -> None:
    """Draw a roll up to a few seconds after frame `n_frames`, with a vertical line at that frame."""
    plot_roll(roll[: n_frames + SECONDS_AFTER * roll.fps], ax, title, velocity_bar=False)
    ax.axvline(n_frames / roll.fps, color=COLOURS["now"], linewidth=2)
    if ax.get_subplotspec().is_first_row():
        ax.text(n_frames / roll.fps, 1.01, "now ", transform=ax.get_xaxis_transform(), ha="right")


def plot_copied(
    roll: PianoRoll, weights: np.ndarray, ax: Axes | None = None, n_links: int = 2, context: float = 0.25
) -> Axes:
    """Draw the strongest matches of copy attention as arcs from one moment of a piece to earlier frames.

    Each head has a colour. It marks the `n_links` frames to which the head gives the most weight, and the notes that
    sound around them. The legend gives the weight of "no match".

    Parameters
    ----------
    roll : PianoRoll
        The piece.
    weights : numpy.ndarray, shape (n_heads, n_frames + 1)
        From `copy_at`: the weight of each frame up to the moment, then that of "no match".
    ax : Axes, optional
    n_links : int
        Links per head. Weights below 2 %, and neighbours of a stronger match, are left out.
    context : float
        Seconds before and after a match in which notes are marked.
    """
    ax = axes_for(ax, 10, 4.2)
    n_frames = weights.shape[1] - 1
    _draw_moment(ax, roll, n_frames, "What copy attention found")
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, bottom + (top - bottom) / ARC_HEIGHT)  # room for the arcs
    matches = [best_matches(row[:-1], n_links, round(context * roll.fps)) for row in weights]
    first = min([n_frames - 8 * roll.fps, *(frame - roll.fps for found in matches for frame in found)])
    ax.set_xlim(max(0, first) / roll.fps, min(n_frames / roll.fps + SECONDS_AFTER, roll.duration_seconds))
    for head, (row, found) in enumerate(zip(weights, matches)):
        colour = PALETTE[head % len(PALETTE)]
        ax.plot([], [], color=colour, linewidth=2, label=f"head {head + 1} (no match: {row[-1]:.0%})")
        for frame in found:
            _draw_link(ax, n_frames / roll.fps, (frame + 0.5) / roll.fps, colour, row[frame], context)
            _mark_notes(ax, roll, frame, round(context * roll.fps), colour)
            ago = (n_frames - 1 - frame) / roll.fps
            describe(ax, f"Head {head + 1} found a match {ago:.1f} seconds ago with a weight of {row[frame]:.0%}")
    below = ax.transAxes + ScaledTranslation(0, -0.45, ax.figure.dpi_scale_trans)  # inches
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, ncols=4, fontsize=9)
    return ax


def best_matches(weights: np.ndarray, n: int, apart: int, least: float = 0.02) -> list[int]:
    """Return up to `n` frames with the highest weights, each more than `apart` frames from the others."""
    found: list[int] = []
    for frame in np.argsort(-weights, kind="stable").tolist():
        if len(found) == n or weights[frame] < least:
            break
        if all(abs(frame - other) > apart for other in found):
            found.append(frame)
    return found


def _draw_link(ax: Axes, now: float, then: float, colour: str, weight: float, context: float) -> None:
    """Draw an arc between two moments, wider for a larger weight, and shade the earlier moment."""
    bottom = ax.get_ylim()[0]
    height = np.ptp(ax.get_ylim())
    rise = 2 * (0.97 - ARC_HEIGHT) * ((now - then) / np.ptp(ax.get_xlim())) ** 0.5  # of the middle point of the curve
    points = [(x, bottom + y * height) for x, y in [(now, 0), ((now + then) / 2, rise), (then, 0)]]
    arc = Path([(x, y + ARC_HEIGHT * height) for x, y in points], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 0.8 + 4 * weight, "alpha": 0.85, "zorder": 4}
    ax.add_patch(FancyArrowPatch(path=arc, color=colour, **style))
    ax.axvspan(then - context, then + context, ymax=ARC_HEIGHT, color=colour, alpha=0.18, linewidth=0, zorder=0)


def _mark_notes(ax: Axes, roll: PianoRoll, frame: int, reach: int, colour: str) -> None:
    """Outline each note that sounds within `reach` frames of `frame`."""
    notes = roll.notes
    near = (notes["start_frame"] <= frame + reach) & (notes["end_frame"] > frame - reach)
    for pitch, _, start, end in notes[near].tolist():
        box = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.2, "zorder": 5, "gid": "match"}
        ax.broken_barh([(start / roll.fps, (end - start) / roll.fps)], (pitch - 0.6, 1.2), **box)


def plot_next_pitches(predicted: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draw the probabilities of the most likely pitches in the next frame as bars, the most likely on top.

    Parameters
    ----------
    predicted : numpy.ndarray
        From `next_pitches`: fields ``pitch``, ``probability`` and ``held``.
    ax : Axes, optional
    """
    ax = axes_for(ax, 5, 0.8 + 0.28 * len(predicted))
    names = [pitch_name(pitch) for pitch in predicted["pitch"].tolist()]
    colours = [BLUE if held else ORANGE for held in predicted["held"]]
    bars = ax.barh(range(len(names)), 100 * predicted["probability"], color=colours)
    ax.bar_label(bars, [f"{share:.0%}" for share in predicted["probability"]], padding=3, size=8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    for colour, label in ((BLUE, "sounds now and is held"), (ORANGE, "would be struck")):
        ax.plot([], [], "s", color=colour, label=label)
    ax.set(xlim=(0, 112), xlabel="probability in %", title="Next pitches")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=8)
    likely = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, predicted["probability"]))
    describe(ax, f"The most likely pitches in the next frame: {likely}")
    return ax


def moment_figure(
    model: AttentionLSTM, roll: PianoRoll, seconds: float, composer: str | None = None, title: str = ""
) -> Figure:
    """Draw one moment of a piece: attention weights, the matches of copy attention, and the likely next pitches.

    Parameters
    ----------
    model, roll, seconds, composer
        As in `attention_at`. A part that the model does not have is left out.
    title : str
    """
    n_attention = model.config.n_attending_layers
    n_copy = int(model.config.copies)
    n_rows = max(1, n_attention + n_copy)
    figure = Figure(12, 1.2 + 2.4 * n_rows)
    grid = figure.add_gridspec(n_rows, 2, width_ratios=(4, 1))
    axes: list = []
    for row in range(n_attention + n_copy):
        share = axes[0] if axes else None
        axes.append(figure.add_subplot(grid[row, 0], sharex=share, sharey=share if row < n_attention else None))
    if n_attention:
        first_layer = model.config.n_layers - n_attention + 1
        plot_attended(roll, attention_at(model, roll, seconds, composer), first_layer, axes[:n_attention])
    if n_copy:
        plot_copied(roll, copy_at(model, roll, seconds, composer), axes[-1])
    plot_next_pitches(next_pitches(model, roll, seconds, 16, composer), figure.add_subplot(grid[:, 1]))
    figure.suptitle(literal(title))
    return figure
