import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from musicgen.lab.figures import rolls as plots
from musicgen.lab.figures.style import COLOURS
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

# Two long notes, one of a single frame, and one struck again: 5 notes over 3 s.
NOTES = [(48, 30, 0, 20), (55, 90, 4, 60), (79, 127, 30, 31), (62, 60, 8, 12), (62, 64, 13, 15)]
ROLL = PianoRoll.from_notes(np.array(NOTES, NOTE_DTYPE))


def bars_of(ax):
    return drawn(ax, "notes")


def drawn(ax, name):
    (found,) = (artist for artist in ax.collections if artist.get_gid() == name)
    return found


def extents_of(artist):
    return [(path.get_extents().x0, path.get_extents().x1) for path in artist.get_paths()]


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


def test_notes_have_the_colours_of_the_player():
    colours = [to_hex(bars_of(plots.plot_roll(ROLL)).to_rgba(velocity)) for velocity in (1, 64, 127)]
    assert colours == [COLOURS["velocity"][index] for index in (0, 63, 126)]


def test_the_pedal_is_a_strip_below_the_notes():
    pedal = np.zeros(60, bool)
    pedal[[0, 1, 40, 41, 42, 59]] = True
    roll = PianoRoll(ROLL.velocity, pedal=pedal)
    ax = plots.plot_roll(roll)
    assert roll.pedal_spans() == [(0, 2), (40, 43), (59, 60)]
    np.testing.assert_allclose(extents_of(drawn(ax, "pedal")), [(0, 0.1), (2, 2.15), (2.95, 3)])
    bottom, top = ax.get_ylim()
    assert bottom + plots.PEDAL_TOP * (top - bottom) < 48 - 0.4
    assert "10% of the time" in ax.figure.alt
    assert "pedal" not in [artist.get_gid() for artist in plots.plot_roll(ROLL).collections]
    assert ROLL.pedal_spans() == []


def test_beats_within_the_roll_are_lines_and_downbeats_stronger_ones():
    beats = np.array([[-0.5, 1], [0.25, 0], [1, 0], [1.75, 1], [2.5, 0], [3.25, 1]])
    ax = plots.plot_roll(PianoRoll(ROLL.velocity, beats=beats))
    lines = {name: drawn(ax, name) for name in ("beats", "downbeats")}
    times = {name: [segment[0, 0] for segment in each.get_segments()] for name, each in lines.items()}
    assert times == {"beats": [0.25, 1, 2.5], "downbeats": [1.75]}
    assert lines["beats"].get_linewidth() < lines["downbeats"].get_linewidth()
    estimated = plots.plot_roll(PianoRoll(ROLL.velocity, beats=beats, beats_estimated=True))
    assert drawn(estimated, "beats").get_linestyle() != lines["beats"].get_linestyle()  # dotted


def test_a_long_roll_shows_its_bars_only():
    beats = np.stack([np.arange(200) / 2, np.arange(200) % 4 == 0], axis=1)
    ax = plots.plot_roll(PianoRoll(np.zeros((2000, 88), np.uint8), beats=beats))
    assert [artist.get_gid() for artist in ax.collections] == ["notes", "downbeats"]


def test_the_alternative_text_describes_the_roll():
    alt = plots.plot_roll(ROLL, title="A title", prime_frames=25).figure.alt
    assert alt == "A title. Piano roll: 5 notes from C3 to G5 in 3 seconds, the first 1.2 seconds are the prime."


def test_only_the_lowest_of_stacked_axes_has_labels():
    upper = plots.plot_comparison(ROLL, ROLL[:40], 20)
    assert [ax.get_xlabel() for ax in upper.figure.axes[:2]] == ["", "time in seconds"]


def test_stacked_rolls_share_their_axes_and_keep_strange_titles():
    upper = plots.plot_rolls({"real": ROLL, "$x { \udcff": ROLL[:20]}, prime_frames=10)
    assert [ax.get_title() for ax in upper.figure.axes[:2]] == ["real", r"\$x { �"]
    assert upper.get_xlim() == upper.figure.axes[1].get_xlim() == pytest.approx((0, 3))
    pixels_of(upper)
