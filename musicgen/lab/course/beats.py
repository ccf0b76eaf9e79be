"""Figure of the likelihood of a prime's beats over tempo and phase."""

import numpy as np

from musicgen.generation.beat_search import FoundBeats
from musicgen.lab.figures.style import ORANGE, Axes, describe, subplots


def plot_beat_search(found: FoundBeats) -> Axes:
    """Draw the guesses of a beat search by period and phase, coloured by their gain in nats over no beats.

    Parameters
    ----------
    found : FoundBeats
        From `find_beats`. Without guesses the axes stay empty.
    """
    figure, ax = subplots(size=(8, 4))
    gains = found.free_nll - found.scores
    points = ax.scatter(found.periods, found.phases, c=gains, cmap="viridis", s=60)
    figure.colorbar(points, ax=ax, label="nats better than no beats")
    ax.set(xlabel="seconds from beat to beat", ylabel="seconds to the first beat")
    if not len(gains):
        describe(ax, "No guesses of beats: the model knows no beats, or the prime is too short")
        return ax
    best = int(np.argmax(gains))
    ax.plot(found.periods[best], found.phases[best], "o", markersize=14, markerfacecolor="none", markeredgecolor=ORANGE)
    describe(
        ax,
        f"{len(gains)} guesses of beats by period and phase; the best has a beat every {found.periods[best]:.2f} s "
        f"and is {gains[best]:.1f} nats better than no beats",
    )
    return ax
