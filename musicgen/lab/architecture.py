"""Figure 3: the program, and the model with its true sizes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from musicgen.lab.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, axes_for
from musicgen.piano_roll import DEFAULT_FPS

MODEL_X, SIDE_X, CORNER = 7.2, 10.65, "angle,angleA=90,angleB=0,rad=5"  # in inches


def plot_architecture(config, ax: Axes | None = None) -> Axes:
    """Draw the program, and the model with the sizes of a `ModelConfig` (the poster's figure 3)."""
    n_steps = 3 + config.n_layers + config.n_attention_layers + (config.output != "independent")
    height = max(6, 1 + 0.66 * n_steps)
    ax = axes_for(ax, 12, height)
    ax.set(xlim=(0, 12), ylim=(0, height))  # one unit is one inch
    ax.axis("off")
    _draw_program(ax, config.n_pitches, np.linspace(height - 0.8, 0.3, 6))
    _draw_model(ax, config, np.linspace(height - 0.8, 0.3, n_steps))
    return ax


def _draw_program(ax: Axes, n_pitches: int, rows: np.ndarray) -> None:
    """Draw the way from a MIDI file to the loss, and round the loop of generation to a new MIDI file."""
    left, middle, right = 1.35, 2.75, 4.15
    data = [("MIDI file", f"sampled at {DEFAULT_FPS} Hz"), (f"piano roll (frames, {n_pitches})", "windows within a piece")]
    steps = [(text, GREY, label) for text, label in [*data, (f"frames (batch, frames, {n_pitches})", "")]]
    _draw_column(ax, middle, rows[:4], [*steps, ("AttentionLSTM", BLUE, "")], "The program")
    _draw_column(ax, left, rows[4:5], [("training: next-frame loss", GREEN, "")])
    _draw_column(ax, right, rows[4:], [("generation: draw a frame", PURPLE, ""), ("new MIDI file, sound", GREY, "")])
    ax.text(middle, rows[3:5].mean(), f"logits (batch, frames, {n_pitches})", ha="center", va="center")
    _arrow(ax, (middle - 1, rows[3] - 0.2), (middle - 1, rows[4] + 0.2))
    _arrow(ax, (middle + 1, rows[3] - 0.2), (middle + 1, rows[4] + 0.2))
    _arrow(ax, (left - 0.8, rows[4] + 0.2), (middle - 1.3, rows[3]), path=CORNER)
    _arrow(ax, (right + 0.8, rows[4] + 0.2), (middle + 1.3, rows[2]), path=CORNER)
    ax.text(middle - 1.4, rows[3] + 0.07, "gradients", ha="right")
    ax.text(middle + 1.4, rows[2] + 0.07, "one more frame")


def _draw_model(ax: Axes, config, rows: np.ndarray) -> None:
    """Draw the layers from top to bottom, the shape of the data between them; what comes in from the side there."""
    n_pitches, size, pitch_size = config.n_pitches, config.hidden_size, config.pitch_size
    keys, hidden = (f"(batch, frames, {n})" for n in (n_pitches, size))
    span = f"last {config.attention_span} frames ({config.attention_span / DEFAULT_FPS:g} s)"
    cell = f"causal attention cell\nqueries, keys, values: {config.attention_size}\n{span}"
    steps = [("frames: which keys, how loud", GREY, f"(batch, frames, 2 × {n_pitches})")]
    inputs = f"{2 * n_pitches}{' + composer' if config.composers else ''}"
    for layer in range(config.n_layers):
        steps.append((f"LSTM {layer + 1}: {size if layer else inputs} → {size}", BLUE, hidden))
        if layer >= config.n_layers - config.n_attention_layers:
            _draw_aside(ax, rows[len(steps) - 1 : len(steps) + 1], cell, ORANGE, "h", "scale, shift")
            steps.append(("h × (1 + scale) + shift", ORANGE, hidden))
    if config.output == "independent":
        steps += [(f"linear: {size} → {n_pitches}", GREEN, keys), ("next frame: logits", GREY, "")]
    else:
        known = f"each key's past, and that of\nthe {config.pitch_reach} keys on either side"
        known += "; the\nlower keys of the next frame" * (config.output == "joint")
        _draw_aside(ax, rows[len(steps) : len(steps) + 2], known, GREEN, "", "added")
        steps.append((f"linear: {size} → {n_pitches} × {pitch_size}", GREEN, f"(batch, frames, {n_pitches}, {pitch_size})"))
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
