"""Figures of piano rolls, and what all figures share: each draws into `ax`, or a new figure, and returns the axes."""

import io
import threading
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from PIL import Image

from musicgen.piano_roll import DEFAULT_FPS, PianoRoll
from musicgen.support.files import atomic_write

# Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
GREY = "#808080"


def save_figure(ax: Axes, path: Path | str) -> None:
    """Write the figure that `ax` belongs to as a PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        ax.figure.savefig(temporary, format="png", dpi=150)


def png_bytes(ax: Axes, dpi: int = 90) -> bytes:
    """Return the figure that `ax` belongs to as a PNG of 256 colours, a third of the size it has with all."""
    drawn, small = io.BytesIO(), io.BytesIO()
    ax.figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(small, "png", optimize=True)
    return small.getvalue()


def plot_roll(
    roll: PianoRoll,
    ax: Axes | None = None,
    title: str = "",
    prime_frames: int = 0,
    rest: str = "generated",
    velocity_bar: bool = True,
) -> Axes:
    """Draw a roll: pitch upwards, time along, velocity as colour (the poster's figures 2 and 4).

    Parameters
    ----------
    roll : PianoRoll
        Of any length: even a note of one frame is drawn at least half a point wide.
    prime_frames : int
        Length of the given opening, which is shaded and marked off from the rest; 0 for none.
    rest : str
        What to call the rest.
    velocity_bar : bool
        Draw the scale of the colours.
    """
    ax = axes_for(ax, 10, 4)
    notes = roll.notes
    left, right = notes["start_frame"] / roll.fps, notes["end_frame"] / roll.fps
    low, high = notes["pitch"] - 0.4, notes["pitch"] + 0.4
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    bars = PolyCollection(corners, array=notes["velocity"], cmap=colours_on(ax), clim=(1, 127), zorder=3)
    bars.set(edgecolor="face", linewidth=0.5)
    ax.add_collection(bars, autolim=False)
    # Through the limits of the data, so that axes shared by two rolls grow to hold both.
    ax.update_datalim([(0, low.min(initial=48)), (max(roll.duration_seconds, 1), high.max(initial=72))])
    ax.margins(0, 0.04)
    ax.autoscale_view()
    ax.yaxis.set_major_locator(MultipleLocator(12))
    ax.yaxis.set_major_formatter(lambda pitch, _: f"C{round(pitch) // 12 - 1}")
    ax.set(xlabel="time in seconds", ylabel="pitch")
    ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    if velocity_bar:
        ax.figure.colorbar(bars, ax=ax, label="velocity", ticks=[1, 32, 64, 96, 127], pad=0.01, fraction=0.03)
    if prime_frames:
        seconds, above = prime_frames / roll.fps, {"transform": ax.get_xaxis_transform(), "color": ORANGE}
        ax.axvspan(0, seconds, color=SKY, alpha=0.2, linewidth=0, zorder=0)
        ax.axvline(seconds, color=ORANGE, linewidth=1.5)
        ax.text(seconds, 1.01, "prime ", ha="right", **above)
        ax.text(seconds, 1.01, f"| {rest}", **above)
    ax.set_title(title, pad=22 if prime_frames else None, parse_math=False)  # a file's name may hold dollars
    return ax


def plot_comparison(real: PianoRoll, generated: PianoRoll, prime_frames: int, title: str = "") -> Axes:
    """Draw a real roll above a generated one with the same prime, on the same axes; return the upper axes."""
    figure, (upper, lower) = plt.subplots(2, figsize=(10, 7), layout="constrained", sharex=True, sharey=True)
    plt.close(figure)
    plot_roll(real[: generated.n_frames], upper, title, prime_frames, "as it was played")
    plot_roll(generated, lower, "", prime_frames).label_outer()
    return upper


def plot_rolls(rolls: Mapping[str, PianoRoll], prime_frames: int = 0) -> Axes:
    """Draw rolls by their titles, one below the other on the same axes; return the uppermost."""
    size = (10, 3.2 * len(rolls))
    figure, axes = plt.subplots(len(rolls), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False)
    plt.close(figure)
    for ax, (title, roll) in zip(axes.flat, rolls.items()):
        plot_roll(roll, ax, title, prime_frames, rest="").label_outer()
    return axes[0, 0]


def plot_attention(weights: np.ndarray, ax: Axes | None = None, fps: int = DEFAULT_FPS) -> Axes:
    """Draw how much each frame looks at each frame before it.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n_frames, n_frames)
        The attention weights of one layer: each row sums to 1.
    """
    ax = axes_for(ax, 6.5, 5.5)
    seen = np.ma.masked_equal(weights, 0)
    # The square root shows faint weights beside strong ones; the strongest, in the first frames, mean little.
    norm = PowerNorm(0.5, vmin=0, vmax=np.quantile(seen.compressed(), 0.99))
    extent = (0, len(weights) / fps, 0, len(weights) / fps)
    image = ax.imshow(seen, cmap=colours_on(ax), norm=norm, extent=extent, origin="lower")
    ax.set(xlabel="earlier moment in seconds", ylabel="present moment in seconds")
    ax.figure.colorbar(image, ax=ax, label="attention weight", extend="max", fraction=0.045, pad=0.02)
    return ax


def plot_attended(roll: PianoRoll, weights: np.ndarray, first_layer: int = 1) -> Axes:
    """Draw over a roll which earlier moments each attention layer looks at, one row a layer; return the upper axes.

    Parameters
    ----------
    roll : PianoRoll
        The piece; two seconds of what follows the moment are drawn, too.
    weights : numpy.ndarray, shape (n_attention_layers, n_frames)
        From `attention_at`: the last frame is the moment.
    first_layer : int
        The number of the first of these layers, for their names.
    """
    n_layers, n_frames = weights.shape
    size = (10, 1 + 2.6 * n_layers)
    figure, axes = plt.subplots(n_layers, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False)
    plt.close(figure)
    moment, edges = n_frames / roll.fps, np.arange(n_frames + 1) / roll.fps
    seen = np.flatnonzero(weights.max(axis=0) > 1e-6)
    for layer, (ax, row) in enumerate(zip(axes[:, 0], weights), first_layer):
        plot_roll(roll[: n_frames + 2 * roll.fps], ax, f"What attention layer {layer} looks at", velocity_bar=False)
        strength = LinearSegmentedColormap.from_list("weight", [(*to_rgb(ORANGE), 0), (*to_rgb(ORANGE), 0.75)])
        ax.pcolormesh(edges, [0, 1], row[None], cmap=strength, transform=ax.get_xaxis_transform(), zorder=1)
        curve = ax.twinx()
        curve.stairs(100 * row, edges, color=ORANGE, linewidth=1.5)
        curve.set(ylim=(0, 250 * row.max()), ylabel="weight in %")
        ax.axvline(moment, color=BLUE, linewidth=2)
        ax.label_outer()
    ax.set_xlim(seen[0] / roll.fps, min(moment + 2, roll.duration_seconds))
    axes[0, 0].text(moment, 1.01, "now ", color=BLUE, ha="right", transform=axes[0, 0].get_xaxis_transform())
    return axes[0, 0]


def axes_for(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new figure (inches) that pyplot does not know, so that nobody shows it twice.

    Such a figure can also be drawn in a thread.
    """
    if threading.current_thread() is threading.main_thread():
        plt.draw_if_interactive()  # loads what a notebook shows figures with: else its first is but a line of text
    return Figure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def colours_on(ax: Axes) -> ListedColormap:
    """Return an even colour map whose strong end stands out from the ground of `ax`, be it light or dark."""
    name = "viridis" if is_dark(ax.get_facecolor()) else "viridis_r"
    return ListedColormap(plt.get_cmap(name)(np.linspace(0.15, 1, 128)))


def is_dark(colour: tuple[float, ...] | str) -> bool:
    """Tell whether white is seen better on a colour than black."""
    return np.dot(to_rgb(colour), [0.3, 0.6, 0.1]) < 0.5
