"""The picture of the search for beats."""

import numpy as np

from musicgen.generation.beat_search import FoundBeats
from musicgen.lab.course.beats import plot_beat_search


def test_the_best_guess_is_marked_and_told():
    periods, phases = np.array([0.3, 0.5, 0.7]), np.array([0.1, 0.2, 0.0])
    found = FoundBeats(np.array([[0.2, 0], [0.7, 0]]), [None] * 3, periods, phases, np.array([9.0, 4.0, 12.0]), 10.0)
    ax = plot_beat_search(found)
    assert (ax.lines[0].get_xdata()[0], ax.lines[0].get_ydata()[0]) == (0.5, 0.2)
    assert "a beat every 0.50 s and is 6.0 nats better" in ax.figure.alt


def test_a_model_without_beats_gives_an_empty_picture():
    nothing = np.zeros(0)
    ax = plot_beat_search(FoundBeats(None, [], nothing, nothing, nothing, 10.0))
    ax.figure.draw_without_rendering()
    assert "knows no beats" in ax.figure.alt
