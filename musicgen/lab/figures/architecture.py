"""Diagrams of the generation loop, of the program and of the model with its sizes (the poster's figure 3)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from musicgen.beats import N_BEAT_FEATURES
from musicgen.lab.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, axes_for, describe
from musicgen.model import ModelConfig
from musicgen.piano_roll import DEFAULT_FPS

MODEL_X = 7.2  # inches
SIDE_X = 10.65
CORNER = "angle,angleA=90,angleB=0,rad=5"

Step = tuple[str, str, str]  # text, colour, label of the arrow to the next step
Aside = tuple[int, int, str, str, str, str]  # indices of two steps, text, colour, what it takes and gives


def plot_loop(ax: Axes | None = None) -> Axes:
    """Draw how music is made: the model reads what there is, and adds a frame, again and again."""
    ax = axes_for(ax, 9, 1.8)
    ax.set(xlim=(0, 9), ylim=(0, 1.8))  # one unit is one inch
    ax.axis("off")
    prime_x, model_x, frame_x = 1.35, 4.5, 7.65
    row = 1.25
    _box(ax, prime_x, row, "prime: the opening", GREY)
    _box(ax, model_x, row, "model", BLUE)
    _box(ax, frame_x, row, "next frame, 1/20 s", PURPLE)
    _arrow(ax, (prime_x + 1.3, row), (model_x - 1.3, row))
    _arrow(ax, (model_x + 1.3, row), (frame_x - 1.3, row))
    _arrow(ax, (frame_x, row - 0.2), (model_x, row - 0.2), path="bar,fraction=-0.2")
    ax.text((model_x + frame_x) / 2, 0.2, "add it to the music, and ask again", ha="center", size=11)
    describe(
        ax, "Diagram: the prime goes into the model, which gives the next frame; it is added, and the model reads on"
    )
    return ax


def plot_architecture(config: ModelConfig, ax: Axes | None = None) -> Axes:
    """Draw the program flow, and a model with the sizes of a `ModelConfig` (the poster's figure 3)."""
    steps, asides = _steps(config)
    height = max(6, 1 + 0.66 * len(steps))
    ax = axes_for(ax, 12, height)
    ax.set(xlim=(0, 12), ylim=(0, height))  # one unit is one inch
    ax.axis("off")
    _draw_program(ax, config.n_pitches, np.linspace(height - 0.8, 0.3, 6))
    rows = np.linspace(height - 0.8, 0.3, len(steps))
    for aside in asides:
        _draw_aside(ax, rows, aside)
    _draw_column(ax, MODEL_X, rows, steps, "The model")
    parts = "; ".join(text for text, *_ in steps).replace("\n", " ")
    describe(ax, f"Diagram of the program and of the model, from top to bottom: {parts}")
    return ax


def _draw_program(ax: Axes, n_pitches: int, rows: np.ndarray) -> None:
    """Draw the path from a MIDI file to the loss, and the loop of generation to a new MIDI file."""
    left, middle, right = 1.35, 2.75, 4.15
    steps = [
        ("MIDI file", GREY, f"sampled at {DEFAULT_FPS} Hz"),
        (f"piano roll (frames, {n_pitches})", GREY, "windows within a piece"),
        (f"frames (batch, frames, {n_pitches})", GREY, ""),
        ("AttentionLSTM", BLUE, ""),
    ]
    _draw_column(ax, middle, rows[:4], steps, "The program")
    _draw_column(ax, left, rows[4:5], [("training: next-frame loss", GREEN, "")])
    _draw_column(ax, right, rows[4:], [("generation: draw a frame", PURPLE, ""), ("new MIDI file, sound", GREY, "")])
    ax.text(middle, rows[3:5].mean(), f"logits (batch, frames, {n_pitches})", ha="center", va="center", size=10)
    _arrow(ax, (middle - 1, rows[3] - 0.2), (middle - 1, rows[4] + 0.2))
    _arrow(ax, (middle + 1, rows[3] - 0.2), (middle + 1, rows[4] + 0.2))
    _arrow(ax, (left - 0.8, rows[4] + 0.2), (middle - 1.3, rows[3]), path=CORNER)
    _arrow(ax, (right + 0.8, rows[4] + 0.2), (middle + 1.3, rows[2]), path=CORNER)
    ax.text(middle - 1.4, rows[3] + 0.07, "gradients", ha="right", size=10)
    ax.text(middle + 1.4, rows[2] + 0.07, "one more frame", size=10)


def _steps(config: ModelConfig) -> tuple[list[Step], list[Aside]]:
    """Return the boxes of the model from top to bottom, and the boxes beside them."""
    steps, asides = _layers(config)
    size = config.hidden_size
    n_pitches = config.n_pitches
    logits = f"(batch, frames, {n_pitches})"
    if config.output == "independent":
        return [*steps, (f"linear: {size} → {n_pitches}", GREEN, logits), ("next frame: logits", GREY, "")], asides
    embedded = f"(batch, frames, {n_pitches}, {config.pitch_size})"
    steps.append((f"linear: {size} → {n_pitches} pitches × {config.pitch_size}", GREEN, embedded))
    for step, colour, aside in _added(config):
        asides.append((len(steps), len(steps), aside, colour, "", ""))
        steps.append((f"+ {step}", colour, embedded))
    return [
        *steps,
        ("one network for all pitches", GREEN, logits),
        ("next frame: logits, velocities", GREY, ""),
    ], asides


def _layers(config: ModelConfig) -> tuple[list[Step], list[Aside]]:
    """Return the diagram's boxes for the recurrent layers and for their attention cells."""
    size = config.hidden_size
    asides = []
    cell = f"causal attention cell\nqueries, keys, values: {config.attention_size}\nlast {_span(config.attention_span)}"
    known = _known(config)
    n_inputs = 2 * config.n_pitches + ("pedal" in known) + N_BEAT_FEATURES * ("beats" in known)
    steps = [(", ".join(["pitches, velocities", *known]), GREY, f"(batch, frames, {n_inputs})")]
    inputs = f"{n_inputs}{' + composer' if config.composers else ''}"
    hidden = f"(batch, frames, {size})"
    for layer in range(config.n_layers):
        steps.append((f"{config.cell.upper()} {layer + 1}: {size if layer else inputs} → {size}", BLUE, hidden))
        if layer >= config.n_layers - config.n_attending_layers:
            asides.append((len(steps) - 1, len(steps), cell, ORANGE, "h", "scale, shift"))
            steps.append(("h × (1 + scale) + shift", ORANGE, hidden))
    return steps, asides


def _added(config: ModelConfig) -> list[Step]:
    """Return the label, colour and explanation of each term that is added to a pitch's embedding."""
    past = f"each pitch's past, and that of\nthe {config.pitch_reach} pitches on either side"
    past += "; the\nlower pitches of the next frame" * (config.output == "joint")
    added = [("past of the pitches", GREEN, past)]
    if heads := config.copy_heads:
        found = f"copy attention: {heads} heads search the\nlast {_span(config.copy_span)} for similar\nmoments"
        added.append(("the notes that followed", ORANGE, f"{found}, by h and recent notes"))
    texts = {"pedal": "the pedal, predicted first", "beats": "the phase in beat and bar, if given"}
    if known := _known(config):
        of_next = "of the next frame:\n" + ";\n".join(texts[name] for name in known)
        added.append((f"the next {' and '.join(known)}", PURPLE, of_next))
    if config.home:
        opening = "home: pitch classes, register and\ntexture of the opening, if given"
        added.append(("the opening", PURPLE, opening))
    return added


def _known(config: ModelConfig) -> list[str]:
    return ["pedal"] * config.hears_pedal + ["beats"] * config.beats


def _span(n_frames: int) -> str:
    return f"{n_frames} frames ({n_frames / DEFAULT_FPS:g} s)"


def _draw_aside(ax: Axes, rows: np.ndarray, aside: Aside) -> None:
    """Draw a box beside the column, with arrows from and to the rows that belong to it."""
    first, last, text, colour, takes, gives = aside
    if takes:
        _arrow(ax, (MODEL_X + 1.3, rows[first]), (SIDE_X - 1.3, rows[first]))
    _arrow(ax, (SIDE_X - 1.3, rows[last]), (MODEL_X + 1.3, rows[last]))
    for row, label in ((first, takes), (last, gives)):
        ax.text((MODEL_X + SIDE_X) / 2, rows[row] + 0.07, label, ha="center", size=10)
    lines = text.count("\n") + 1
    _box(
        ax, SIDE_X, (rows[first] + rows[last]) / 2, text, colour, max(rows[first] - rows[last] + 0.4, 0.19 * lines), 9.5
    )


def _draw_column(ax: Axes, x: float, rows: np.ndarray, steps: list[Step], title: str = "") -> None:
    """Draw the boxes of several steps one below the other, joined by arrows."""
    ax.text(x, rows[0] + 0.45, title, ha="center", weight="bold", size=13)
    for row, (text, colour, _) in zip(rows, steps):
        _box(ax, x, row, text, colour)
    for upper, lower, (_, _, label) in zip(rows, rows[1:], steps):
        _arrow(ax, (x, upper - 0.2), (x, lower + 0.2))
        ax.text(x + 0.1, (upper + lower) / 2, label, va="center", size=10)


def _box(ax: Axes, x: float, y: float, text: str, colour: str, height: float = 0.4, size: float = 11) -> None:
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": (colour, 0.13), "edgecolor": colour}
    ax.add_patch(FancyBboxPatch((x - 1.3, y - height / 2), 2.6, height, **style))
    ax.text(x, y, text, ha="center", va="center", size=size)


def _arrow(ax: Axes, start: tuple, end: tuple, head: str = "-|>", path: str = "arc3") -> None:
    style = {"arrowstyle": head, "shrinkA": 0, "shrinkB": 0, "color": GREY, "lw": 1.5, "connectionstyle": path}
    ax.annotate("", end, start, arrowprops=style)
