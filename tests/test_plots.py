import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from musicgen.lab import plots
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

# Two long notes, one of a single frame, and one struck again: 5 notes over 3 s.
NOTES = [(48, 30, 0, 20), (55, 90, 4, 60), (79, 127, 30, 31), (62, 60, 8, 12), (62, 64, 13, 15)]
ROLL = PianoRoll.from_notes(np.array(NOTES, NOTE_DTYPE))


def bars_of(ax):
    (bars,) = (artist for artist in ax.collections if isinstance(artist, PolyCollection))
    return bars


def texts_of(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def pixels_of(ax):
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png")
    stream.seek(0)
    return plt.imread(stream)


def test_a_roll_is_drawn_note_by_note_in_seconds_and_pitches():
    ax = plots.plot_roll(ROLL, title="A title")
    extents = [path.get_extents() for path in bars_of(ax).get_paths()]
    assert len(extents) == ROLL.n_notes == 5
    np.testing.assert_allclose([box.x0 * 20 for box in extents], ROLL.notes["start_frame"])
    np.testing.assert_allclose([box.x1 * 20 for box in extents], ROLL.notes["end_frame"])
    np.testing.assert_allclose([(box.y0 + box.y1) / 2 for box in extents], ROLL.notes["pitch"])
    np.testing.assert_array_equal(bars_of(ax).get_array(), ROLL.notes["velocity"])
    assert ax.get_title() == "A title"
    assert ax.get_xlabel() == "time in seconds"


def test_the_pitch_axis_names_the_octaves_and_holds_every_note():
    ax = plots.plot_roll(ROLL)
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    names = {tick.get_text() for tick in ax.get_yticklabels() if low <= tick.get_position()[1] <= high}
    assert names == {"C3", "C4", "C5"}
    assert low < 48 and 79 < high


def test_a_note_of_one_frame_is_seen_in_a_roll_of_seven_minutes():
    velocity = np.zeros((8400, 88), np.uint8)
    silent = pixels_of(plots.plot_roll(PianoRoll(velocity.copy())))
    velocity[4000, 60 - 21] = 100
    assert np.abs(pixels_of(plots.plot_roll(PianoRoll(velocity))) - silent).max() > 0.3


def test_the_prime_is_marked_off_where_it_ends():
    ax = plots.plot_roll(ROLL, prime_frames=25)
    (line,) = ax.lines
    assert list(line.get_xdata()) == [1.25, 1.25]
    assert ax.patches[0].get_extents().transformed(ax.transData.inverted()).x1 == pytest.approx(1.25)
    assert texts_of(ax) == ["prime ", "| generated"]
    assert texts_of(plots.plot_roll(ROLL)) == []


def test_two_rolls_on_shared_axes_both_fit():
    figure, (upper, lower) = plt.subplots(2, sharex=True, sharey=True)
    plt.close(figure)
    plots.plot_roll(PianoRoll.from_notes(np.array([(100, 50, 0, 400)], NOTE_DTYPE)), upper)
    assert plots.plot_roll(PianoRoll.from_notes(np.array([(24, 50, 0, 7)], NOTE_DTYPE)), lower) is lower
    low, high = upper.get_ylim()
    assert low < 24 and 100 < high
    assert upper.get_xlim() == (0, 20)


@pytest.mark.parametrize("n_frames", [0, 40])
def test_a_silent_roll_has_empty_axes(n_frames):
    ax = plots.plot_roll(PianoRoll(np.zeros((n_frames, 88), np.uint8)))
    assert len(bars_of(ax).get_paths()) == 0
    pixels_of(ax)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_louder_notes_stand_out_more_from_a_light_and_a_dark_ground(style):
    with plt.style.context(style):
        ax = plots.plot_roll(ROLL)
        ground = np.array(ax.get_facecolor())
    bars = bars_of(ax)
    contrast = [np.abs(np.array(bars.to_rgba(velocity)) - ground).sum() for velocity in (1, 40, 80, 127)]
    assert contrast == sorted(contrast)
    assert contrast[0] > 0.5


def test_attention_is_drawn_in_seconds_with_the_unseen_left_blank():
    weights = np.tril(np.ones((40, 40)))
    image = plots.plot_attention(weights / weights.sum(axis=1, keepdims=True), fps=10).images[0]
    assert image.get_extent() == [0, 4, 0, 4]
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array().mask, weights == 0)


def test_a_figure_is_saved_as_a_png(tmp_path):
    plots.save_figure(plots.plot_roll(ROLL), tmp_path / "new" / "roll.png")
    assert plt.imread(tmp_path / "new" / "roll.png").shape == (600, 1500, 4)


def test_attention_is_drawn_over_the_roll_up_to_the_moment_it_looks_from():
    weights = np.zeros((2, 40))
    weights[:, 20:] = 0.05
    upper = plots.plot_attended(ROLL, weights, first_layer=2)
    first, second, *curves = upper.figure.axes
    assert [ax.get_title() for ax in (first, second)] == [f"What attention layer {n} looks at" for n in (2, 3)]
    assert upper.get_xlim() == (1, 3)  # from the first frame that is looked at; ROLL ends before the two seconds after
    assert list(upper.lines[0].get_xdata()) == [2, 2]
    np.testing.assert_allclose(curves[0].patches[0].get_data().values, 100 * weights[0])


def test_stacked_rolls_share_their_axes_and_keep_strange_titles():
    upper = plots.plot_rolls({"real": ROLL, "$x {": ROLL[:20]}, prime_frames=10)
    assert [ax.get_title() for ax in upper.figure.axes[:2]] == ["real", "$x {"]
    assert upper.get_xlim() == upper.figure.axes[1].get_xlim() == pytest.approx((0, 3))
    pixels_of(upper)
