"""Every figure: each function draws into `ax`, or into a new figure without one, and returns the axes."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, PowerNorm, to_rgb
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from musicgen.files import write_whole
from musicgen.piano_roll import DEFAULT_FPS, PianoRoll

# Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
GREY = "#808080"
MODEL_X, SIDE_X, CORNER = 7.2, 10.65, "angle,angleA=90,angleB=0,rad=5"  # of figure 3, in inches


def save_figure(ax: Axes, path: Path | str) -> None:
    """Write the figure that `ax` belongs to as a PNG, whole or not at all."""
    with write_whole(path) as temporary:
        ax.figure.savefig(temporary, format="png", dpi=150)


def plot_roll(
    roll: PianoRoll, ax: Axes | None = None, title: str = "", prime_frames: int = 0, rest: str = "generated"
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
    """
    ax = _axes(ax, 10, 4)
    notes = roll.notes
    left, right = notes["start_frame"] / roll.fps, notes["end_frame"] / roll.fps
    low, high = notes["pitch"] - 0.4, notes["pitch"] + 0.4
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    bars = PolyCollection(corners, array=notes["velocity"], cmap=_colours(ax), clim=(1, 127), zorder=3)
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


def plot_learning_curve(history: list[dict], baselines: dict, ax: Axes | None = None, run: str = "") -> Axes:
    """Draw the losses of a training run by epoch against the baselines.

    Parameters
    ----------
    history : list of dict
        One an epoch, with ``epoch``, ``train_nll`` and ``validation_nll``.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    run : str
        Its name, where several are drawn into one `ax`.
    """
    ax = _axes(ax, 8, 4.5)
    epochs = [entry["epoch"] for entry in history]
    colour = PALETTE[len(ax.get_legend_handles_labels()[0]) // 2 % len(PALETTE)]
    for split, style in {"train": "o--", "validation": "o-"}.items():
        losses = [entry[f"{split}_nll"] for entry in history]
        ax.plot(epochs, losses, style, color=colour, markersize=3, label=f"{run} {split}".strip())
    for name, nll in baselines.items():
        ax.axhline(nll, color=GREY, linewidth=1.5, linestyle=":")
        ax.text(0.99, nll, f"{name} {nll:.2f}", ha="right", va="bottom", transform=ax.get_yaxis_transform())
    ax.margins(y=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="epoch", ylabel="loss in nats per frame")
    ax.legend(frameon=False)
    return ax


def plot_distribution(
    values_by_label: dict, ax: Axes | None = None, xlabel: str = "", bins: int | list | np.ndarray = 30
) -> Axes:
    """Draw the distribution of a quantity for several sources as outlines over the same bins.

    Parameters
    ----------
    values_by_label : dict of str to numpy.ndarray
        The values of each source; their numbers may differ, for each outline sums to 1.
    """
    ax = _axes(ax, 8, 4)
    edges = np.histogram_bin_edges(np.concatenate(list(values_by_label.values())), bins)
    for index, (label, values) in enumerate(values_by_label.items()):
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        width = len(values_by_label) - index + 0.5  # where two are the same, the first still shows
        ax.stairs(shares, edges, color=PALETTE[index % len(PALETTE)], linewidth=width, label=label)
    ax.set(xlabel=xlabel, ylabel="share")
    ax.legend(frameon=False)
    return ax


def plot_bars(values: dict[str, float], ax: Axes | None = None, xlabel: str = "") -> Axes:
    """Draw one horizontal bar a name, the longest on top, each with its value."""
    ax = _axes(ax, 8, 1 + 0.3 * len(values))
    bars = ax.barh(*zip(*sorted(values.items(), key=lambda item: item[1])), color=BLUE)
    ax.bar_label(bars, fmt="{:,.0f}" if all(value == int(value) for value in values.values()) else "{:,.1f}", padding=3)
    ax.margins(x=0.2, y=0.02)  # room for the values
    ax.set_xlabel(xlabel)
    return ax


def plot_attention(weights: np.ndarray, ax: Axes | None = None, fps: int = DEFAULT_FPS) -> Axes:
    """Draw how much each frame looks at each frame before it.

    Parameters
    ----------
    weights : numpy.ndarray, shape (n_frames, n_frames)
        The attention weights of one layer: each row sums to 1.
    """
    ax = _axes(ax, 6.5, 5.5)
    seen = np.ma.masked_equal(weights, 0)
    # The square root shows faint weights beside strong ones; the strongest, in the first frames, mean little.
    norm = PowerNorm(0.5, vmin=0, vmax=np.quantile(seen.compressed(), 0.99))
    extent = (0, len(weights) / fps, 0, len(weights) / fps)
    image = ax.imshow(seen, cmap=_colours(ax), norm=norm, extent=extent, origin="lower")
    ax.set(xlabel="earlier moment in seconds", ylabel="present moment in seconds")
    ax.figure.colorbar(image, ax=ax, label="attention weight", extend="max", fraction=0.045, pad=0.02)
    return ax


def plot_architecture(config, ax: Axes | None = None) -> Axes:
    """Draw the program, and the model with the sizes of a `ModelConfig` (the poster's figure 3)."""
    n_steps = 3 + config.n_layers + config.n_attention_layers + (config.output != "independent")
    height = max(6, 1 + 0.66 * n_steps)
    ax = _axes(ax, 12, height)
    ax.set(xlim=(0, 12), ylim=(0, height))  # one unit is one inch
    ax.axis("off")
    _draw_program(ax, config.n_keys, np.linspace(height - 0.8, 0.3, 6))
    _draw_model(ax, config, np.linspace(height - 0.8, 0.3, n_steps))
    return ax


def _draw_program(ax: Axes, n_keys: int, rows: np.ndarray) -> None:
    """Draw the way from a MIDI file to the loss, and round the loop of generation to a new MIDI file."""
    left, middle, right = 1.35, 2.75, 4.15
    data = [("MIDI file", f"sampled at {DEFAULT_FPS} Hz"), (f"piano roll (frames, {n_keys})", "windows within a piece")]
    steps = [(text, GREY, label) for text, label in [*data, (f"frames (batch, frames, {n_keys})", "")]]
    _draw_column(ax, middle, rows[:4], [*steps, ("AttentionLSTM", BLUE, "")], "The program")
    _draw_column(ax, left, rows[4:5], [("training: next-frame loss", GREEN, "")])
    _draw_column(ax, right, rows[4:], [("generation: draw a frame", PURPLE, ""), ("new MIDI file, sound", GREY, "")])
    ax.text(middle, rows[3:5].mean(), f"logits (batch, frames, {n_keys})", ha="center", va="center")
    _arrow(ax, (middle - 1, rows[3] - 0.2), (middle - 1, rows[4] + 0.2))
    _arrow(ax, (middle + 1, rows[3] - 0.2), (middle + 1, rows[4] + 0.2))
    _arrow(ax, (left - 0.8, rows[4] + 0.2), (middle - 1.3, rows[3]), path=CORNER)
    _arrow(ax, (right + 0.8, rows[4] + 0.2), (middle + 1.3, rows[2]), path=CORNER)
    ax.text(middle - 1.4, rows[3] + 0.07, "gradients", ha="right")
    ax.text(middle + 1.4, rows[2] + 0.07, "one more frame")


def _draw_model(ax: Axes, config, rows: np.ndarray) -> None:
    """Draw the layers from top to bottom, the shape of the data between them; what comes in from the side there."""
    n_keys, size, key_size = config.n_keys, config.hidden_size, config.key_size
    keys, hidden = (f"(batch, frames, {n})" for n in (n_keys, size))
    span = f"last {config.attention_span} frames ({config.attention_span / DEFAULT_FPS:g} s)"
    cell = f"causal attention cell\nqueries, keys, values: {config.attention_size}\n{span}"
    steps = [("frames: which keys, how loud", GREY, f"(batch, frames, 2 × {n_keys})")]
    inputs = f"{2 * n_keys}{' + composer' if config.composers else ''}"
    for layer in range(config.n_layers):
        steps.append((f"LSTM {layer + 1}: {size if layer else inputs} → {size}", BLUE, hidden))
        if layer >= config.n_layers - config.n_attention_layers:
            _draw_aside(ax, rows[len(steps) - 1 : len(steps) + 1], cell, ORANGE, "h", "scale, shift")
            steps.append(("h × (1 + scale) + shift", ORANGE, hidden))
    if config.output == "independent":
        steps += [(f"linear: {size} → {n_keys}", GREEN, keys), ("next frame: logits", GREY, "")]
    else:
        known = f"each key's past, and that of\nthe {config.key_reach} keys on either side"
        known += "; the\nlower keys of the next frame" * (config.output == "joint")
        _draw_aside(ax, rows[len(steps) : len(steps) + 2], known, GREEN, "", "added")
        steps.append((f"linear: {size} → {n_keys} × {key_size}", GREEN, f"(batch, frames, {n_keys}, {key_size})"))
        steps += [("one small net for all keys", GREEN, keys), ("next frame: logits, velocities", GREY, "")]
    _draw_column(ax, MODEL_X, rows, steps, "The model")


def _draw_aside(ax: Axes, rows: np.ndarray, text: str, colour: str, takes: str, gives: str) -> None:
    """Draw a box beside two rows of the model, which takes something from the upper one and gives to the lower."""
    for row, label, head in zip(rows, (takes, gives), ("-|>", "<|-")):
        if label:
            _arrow(ax, (MODEL_X + 1.3, row), (SIDE_X - 1.3, row), head)
            ax.text((MODEL_X + SIDE_X) / 2, row + 0.07, label, ha="center")
    _box(ax, SIDE_X, rows.mean(), text, colour, rows[0] - rows[1] + 0.4)


def _draw_column(ax: Axes, x: float, rows: np.ndarray, steps: list[tuple[str, str, str]], title: str = "") -> None:
    """Draw steps (text, colour, label of the arrow to the next) one below the other."""
    ax.text(x, rows[0] + 0.45, title, ha="center", weight="bold", size=13)
    for row, (text, colour, _) in zip(rows, steps):
        _box(ax, x, row, text, colour)
    for upper, lower, (_, _, label) in zip(rows, rows[1:], steps):
        _arrow(ax, (x, upper - 0.2), (x, lower + 0.2))
        ax.text(x + 0.1, (upper + lower) / 2, label, va="center")


def _box(ax: Axes, x: float, y: float, text: str, colour: str, height: float = 0.4) -> None:
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": (colour, 0.2), "edgecolor": colour}
    ax.add_patch(FancyBboxPatch((x - 1.3, y - height / 2), 2.6, height, **style))
    ax.text(x, y, text, ha="center", va="center", size=11)


def _arrow(ax: Axes, start: tuple, end: tuple, head: str = "-|>", path: str = "arc3") -> None:
    style = {"arrowstyle": head, "shrinkA": 0, "shrinkB": 0, "color": GREY, "lw": 1.5, "connectionstyle": path}
    ax.annotate("", end, start, arrowprops=style)


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new figure (inches) that pyplot forgets at once, so that nobody shows it twice."""
    if ax is None:
        figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
        plt.close(figure)
    return ax


def _colours(ax: Axes) -> ListedColormap:
    """Return an even colour map whose strong end stands out from the ground of `ax`, be it light or dark."""
    is_dark = np.dot(to_rgb(ax.get_facecolor()), [0.3, 0.6, 0.1]) < 0.5
    return ListedColormap(plt.get_cmap("viridis" if is_dark else "viridis_r")(np.linspace(0.15, 1, 128)))
