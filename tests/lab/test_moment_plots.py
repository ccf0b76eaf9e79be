import numpy as np
import pytest
from matplotlib.colors import to_rgba

from musicgen.lab.figures import moment_plots as plots
from musicgen.lab.figures.moments import NEXT_DTYPE
from musicgen.lab.figures.style import BLUE, ORANGE
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

NOTES = [(48, 30, 0, 20), (55, 90, 4, 60), (79, 127, 30, 31), (62, 60, 8, 12), (62, 64, 13, 15)]
ROLL = PianoRoll.from_notes(np.array(NOTES, NOTE_DTYPE))  # 3 s


def test_attention_is_drawn_in_seconds_with_unseen_frames_left_blank():
    weights = np.tril(np.ones((40, 40)))
    image = plots.plot_attention(weights / weights.sum(axis=1, keepdims=True), fps=10).images[0]
    assert image.get_extent() == [0, 4, 4, 0]
    assert image.origin == "upper"  # row 0 on top, as in the matrix
    np.testing.assert_array_equal(image.get_array().mask, weights == 0)


def test_attention_is_drawn_over_the_roll_up_to_the_moment():
    weights = np.zeros((2, 40))
    weights[:, 20:] = 0.04
    weights[1, 29] = 0.24
    upper = plots.plot_attended(ROLL, weights, first_layer=2)
    first, second, *curves = upper.figure.axes
    assert [ax.get_title() for ax in (first, second)] == ["Attention layer 2", "Attention layer 3"]
    assert upper.get_xlim() == (1, 3)  # from the first frame with a weight to the end of the roll
    assert list(upper.lines[0].get_xdata()) == [2, 2]
    np.testing.assert_allclose(curves[0].patches[0].get_data().values, 100 * weights[0])
    assert "Layer 3 gives the most weight, 24.0%, to the frame 0.50 seconds ago" in upper.figure.alt


def test_gates_are_drawn_apart_from_states_below_the_notes():
    curves = {"input gate": np.linspace(0, 1, 60), "cell state": np.linspace(-3, 2, 60)}
    roll, gates, states = plots.plot_gates(ROLL, curves, "Unit 7").figure.axes
    assert roll.get_title() == "Unit 7"
    assert [ax.lines[0].get_label() for ax in (gates, states)] == ["input gate", "cell state"]
    np.testing.assert_allclose(states.lines[0].get_xydata()[[0, 59]], [(0, -3), (2.95, 2)])
    assert "The cell state lies between -3.00 and 2.00" in roll.figure.alt


def test_copies_are_linked_to_the_best_matches_and_their_notes_are_framed():
    weights = np.full((2, 41), 0.001)
    weights[0, [9, 10, 30]] = 0.2, 0.5, 0.1
    weights[1, 40] = 0.96  # "no match"
    ax = plots.plot_copied(ROLL, weights, context=0.1)
    framed = [artist.get_paths()[0].get_extents() for artist in ax.collections if artist.get_gid() == "match"]
    assert sorted(round(box.y0 + 0.6) for box in framed) == [48, 55, 55, 62, 79]  # around frames 10 and 30
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "head 1 (no match: 0%)",
        "head 2 (no match: 96%)",
    ]
    assert "Head 1 found a match 1.4 seconds ago with a weight of 50%" in ax.figure.alt
    assert "Head 2 found" not in ax.figure.alt
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(("n", "apart", "found"), [(3, 0, [4, 3, 7]), (3, 1, [4, 7, 1]), (1, 1, [4]), (9, 9, [4])])
def test_matches_are_the_highest_weights_that_lie_apart(n, apart, found):
    weights = np.array([0.01, 0.1, 0.015, 0.3, 0.4, 0, 0, 0.2])
    assert plots.best_matches(weights, n, apart) == found


def test_next_pitches_are_bars_by_name_and_held_ones_differ():
    predicted = np.array([(60, 0.9, True), (66, 0.25, False)], NEXT_DTYPE)
    ax = plots.plot_next_pitches(predicted)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C4", "F♯4"]
    assert [bar.get_width() for bar in ax.patches] == [90, 25]
    assert [bar.get_facecolor() for bar in ax.patches] == [to_rgba(BLUE), to_rgba(ORANGE)]
    assert "C4 90%, F♯4 25%" in ax.figure.alt
