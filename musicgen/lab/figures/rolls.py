"""Figures of piano rolls. Like all figures, they draw into `ax` or a new figure, and return the axes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MultipleLocator
from numpy.typing import ArrayLike

from musicgen.lab.figures.style import COLOURS, SKY, VELOCITY, axes_for, describe, literal, subplots
from musicgen.piano_roll import HIGHEST_PITCH, PianoRoll, as_roll, pitch_name

MOST_LINES = 150  # beats, or bars, in one figure
PEDAL_TOP = 0.03  # height of the pedal strip, as a share of that of the axes
ROOM = 0.09  # the space below the lowest note


def plot_roll(
    roll: PianoRoll | ArrayLike,
    ax: Axes | None = None,
    title: str = "",
    prime_frames: int = 0,
    rest: str = "generated",
    velocity_bar: bool = True,
) -> Axes:
    """Draw a piano roll (the poster's figures 2 and 4).

    Time goes to the right, pitch upwards, and colour is velocity.
    The sustain pedal, if the roll has it, is a strip below the notes. Beats, if it has them, are thin vertical lines,
    and downbeats are stronger. Beats that a model estimated are dotted.

    Parameters
    ----------
    roll : PianoRoll or array_like
        Of any length: even a note of one frame is drawn at least half a point wide. A matrix goes through `as_roll`.
    ax : Axes, optional
        By default a new figure.
    title : str
    prime_frames : int
        Length of the given opening, which is shaded; 0 for none.
    rest : str
        The name of what follows the opening.
    velocity_bar : bool
        Draw the scale of the colours.
    """
    roll = as_roll(roll)
    ax = axes_for(ax, 10, 4)
    bars = _draw_notes(ax, roll)
    _draw_beats(ax, roll)
    _draw_pedal(ax, roll)
    ax.set(xlabel="time in seconds", ylabel="pitch")
    if velocity_bar:
        ax.figure.colorbar(bars, ax=ax, label="velocity", ticks=[1, 32, 64, 96, 127], pad=0.01, fraction=0.03)
    if prime_frames:
        _draw_prime(ax, prime_frames / roll.fps, rest)
    ax.set_title(literal(title) or ax.get_title(), pad=22 if prime_frames else None)  # the reader may have set one
    describe(ax, _sentence(roll, prime_frames))
    return ax


def _draw_notes(ax: Axes, roll: PianoRoll) -> PolyCollection:
    notes = roll.notes
    left = notes["start_frame"] / roll.fps
    right = notes["end_frame"] / roll.fps
    low = notes["pitch"] - 0.4
    high = notes["pitch"] + 0.4
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    bars = PolyCollection(corners, array=notes["velocity"], cmap=VELOCITY, clim=(1, 127), zorder=3, gid="notes")
    bars.set(edgecolor="face", linewidth=0.5)
    ax.add_collection(bars, autolim=False)
    # Set the limits of the data, not of the axes, so that axes shared by two rolls grow to hold both.
    bottom = low.min(initial=48)
    top = high.max(initial=72)
    room = ROOM * (top - bottom) if roll.pedal is not None else 0
    ax.update_datalim([(0, bottom - room), (max(roll.duration_seconds, 1), top)])
    ax.margins(0, 0.04)
    ax.autoscale_view()
    ax.yaxis.set_major_locator(MultipleLocator(12))
    ax.yaxis.set_major_formatter(lambda pitch, _: _octave(ax, pitch))
    ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    return bars


def _octave(ax: Axes, pitch: float) -> str:
    """Return the axis label of a pitch C.

    It is empty above the piano, and at the lower edge, where the label of the pedal is.
    """
    bottom, top = ax.get_ylim()
    return pitch_name(round(pitch)) if bottom + 0.045 * (top - bottom) < pitch <= HIGHEST_PITCH else ""


def _draw_beats(ax: Axes, roll: PianoRoll) -> None:
    """Draw the beats of a roll, or only the downbeats if it is long. Estimated beats are dotted lines."""
    beats = beats_within(roll)
    down = beats[:, 1] == 1
    line = "dotted" if roll.beats_estimated else "solid"
    place = {"transform": ax.get_xaxis_transform(), "color": COLOURS["beat"], "zorder": 1, "linestyle": line}
    if len(beats) <= MOST_LINES:
        ax.vlines(beats[~down, 0], 0, 1, linewidth=0.5, alpha=0.4, gid="beats", **place)
    if down.sum() <= MOST_LINES:
        ax.vlines(beats[down, 0], 0, 1, linewidth=1, alpha=0.6, gid="downbeats", **place)


def beats_within(roll: PianoRoll) -> np.ndarray:
    """Return the beats inside a roll as an array (n_beats, 2), which is empty if the beats are unknown."""
    beats = np.zeros((0, 2)) if roll.beats is None else roll.beats
    return beats[(beats[:, 0] >= 0) & (beats[:, 0] <= roll.duration_seconds)]


def _draw_pedal(ax: Axes, roll: PianoRoll) -> None:
    if roll.pedal is None:
        return
    spans = [(start / roll.fps, (end - start) / roll.fps) for start, end in roll.pedal_spans()]
    place = {"transform": ax.get_xaxis_transform(), "color": COLOURS["pedal"]}
    ax.broken_barh(spans, (0, PEDAL_TOP), linewidth=0, zorder=2, gid="pedal", **place)
    at = {"xy": (0, PEDAL_TOP / 2), "xycoords": "axes fraction", "textcoords": "offset points", "xytext": (-4, 0)}
    ax.annotate("pedal", ha="right", va="center", size=9, **at)


def _draw_prime(ax: Axes, seconds: float, rest: str) -> None:
    above = {"transform": ax.get_xaxis_transform()}
    ax.axvspan(0, seconds, color=SKY, alpha=0.2, linewidth=0, zorder=0)
    ax.axvline(seconds, color=COLOURS["prime"], linewidth=1.5)
    ax.text(seconds, 1.01, "prime ", ha="right", **above)
    ax.text(seconds, 1.01, f"| {literal(rest)}", **above)


def _sentence(roll: PianoRoll, prime_frames: int) -> str:
    """Describe a roll in a sentence for its alternative text."""
    pitches = roll.notes["pitch"].tolist()
    span = f" from {pitch_name(min(pitches))} to {pitch_name(max(pitches))}" if pitches else ""
    parts = [f"Piano roll: {len(pitches):,} notes{span} in {roll.duration_seconds:.0f} seconds"]
    if prime_frames:
        parts.append(f"the first {prime_frames / roll.fps:.1f} seconds are the prime")
    if roll.pedal is not None and roll.n_frames:
        parts.append(f"the sustain pedal is down for {roll.pedal.mean():.0%} of the time")
    return ", ".join(parts)


def plot_comparison(real: PianoRoll, generated: PianoRoll, prime_frames: int, title: str = "") -> Axes:
    """Draw a real roll above a generated one with the same prime; return the upper axes."""
    figure, (upper, lower) = subplots(2, size=(10, 7), sharex=True, sharey=True)
    plot_roll(real[: generated.n_frames], upper, title, prime_frames, "as it was played").label_outer()
    plot_roll(generated, lower, "", prime_frames).label_outer()
    return upper


def plot_rolls(rolls: Mapping[str, PianoRoll], prime_frames: int = 0) -> Axes:
    """Draw several rolls, one below the other, with shared axes; return the upper axes."""
    size = (10, 3.2 * len(rolls))
    figure, axes = subplots(len(rolls), size=size, sharex=True, sharey=True, squeeze=False)
    for ax, (title, roll) in zip(axes.flat, rolls.items()):
        plot_roll(roll, ax, title, prime_frames, rest="").label_outer()
    return axes[0, 0]
