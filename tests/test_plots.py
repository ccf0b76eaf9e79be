import io

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.collections import PolyCollection

from musicgen import plots
from musicgen.model import ModelConfig
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

# Two long notes, one of a single frame, and one struck again: 5 notes over 3 s.
NOTES = [(48, 30, 0, 20), (55, 90, 4, 60), (79, 127, 30, 31), (62, 60, 8, 12), (62, 64, 13, 15)]
ROLL = PianoRoll.from_notes(np.array(NOTES, NOTE_DTYPE))
HISTORY = [
    {"epoch": 1, "train_nll": 6.0, "validation_nll": 5.5, "seconds": 3.0},
    {"epoch": 2, "train_nll": 4.5, "validation_nll": 4.25, "seconds": 6.1},
]


@pytest.fixture(autouse=True)
def pyplot_keeps_nothing():
    yield
    assert plt.get_fignums() == []


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


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), [(1, 1), (2, 0), (3, 2), (4, 4)])
def test_the_architecture_states_the_true_sizes(n_layers, n_attention_layers):
    config = ModelConfig(
        output="independent",
        hidden_size=192,
        n_layers=n_layers,
        n_attention_layers=n_attention_layers,
        attention_size=48,
        attention_span=100,
    )
    texts = texts_of(plots.plot_architecture(config))
    lstms = [text for text in texts if text.startswith("LSTM")]
    assert lstms == ["LSTM 1: 176 → 192", "LSTM 2: 192 → 192", "LSTM 3: 192 → 192", "LSTM 4: 192 → 192"][:n_layers]
    cells = [text for text in texts if "attention cell" in text]
    assert len(cells) == n_attention_layers
    assert all("values: 48\nlast 100 frames (5 s)" in cell for cell in cells)
    assert "linear: 192 → 88" in texts
    assert texts.count("(batch, frames, 192)") == n_layers + n_attention_layers


@pytest.mark.parametrize("output", ["shared", "joint"])
def test_the_architecture_states_what_the_keys_know_of_each_other(output):
    config = ModelConfig(hidden_size=192, output=output, key_size=12, key_reach=20, composers=("Bach", "Liszt"))
    texts = texts_of(plots.plot_architecture(config))
    assert "LSTM 1: 176 + composer → 192" in texts
    assert "linear: 192 → 88 × 12" in texts
    (known,) = (text for text in texts if "the 20 keys on either side" in text)
    assert ("lower keys of the next frame" in known) == (output == "joint")


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("output", ["independent", "joint"])
def test_no_texts_of_the_architecture_overlap(n_layers, output):
    config = ModelConfig(n_layers=n_layers, n_attention_layers=n_layers, output=output, composers=("Bach",))
    ax = plots.plot_architecture(config)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    whole = ax.figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_learning_curve_shows_both_losses_and_the_baselines():
    ax = plots.plot_learning_curve(HISTORY, {"Markov": 4.14, "marginal": 8.68}, run="SGD")
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.lines if "SGD" in line.get_label()}
    assert curves == {"SGD train": [6.0, 4.5], "SGD validation": [5.5, 4.25]}
    assert [line.get_ydata()[0] for line in ax.lines[2:]] == [4.14, 8.68]
    assert texts_of(ax) == ["Markov 4.14", "marginal 8.68"]
    assert ax.get_ylabel() == "loss in nats per frame"


def test_a_second_run_in_the_same_axes_has_a_colour_of_its_own():
    ax = plots.plot_learning_curve(HISTORY, {}, run="SGD")
    plots.plot_learning_curve(HISTORY[:1], {}, ax, run="AdamW")
    colours = [line.get_color() for line in ax.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_each_distribution_sums_to_one_however_many_values_it_has():
    values = {"real": np.array([1, 1, 2, 5]), "generated": np.array([3]), "silent": np.array([])}
    ax = plots.plot_distribution(values, xlabel="pitch", bins=[0, 2, 4, 6])
    assert [list(outline.get_data().values) for outline in ax.patches] == [[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(values)


def test_two_equal_distributions_both_show():
    ax = plots.plot_distribution({"real": np.array([1, 2]), "generated": np.array([1, 2])}, bins=[0, 2, 4])
    behind, before = ax.patches
    assert behind.get_linewidth() > before.get_linewidth() > 1


@pytest.mark.parametrize(
    ("values", "labels"),
    [({"Bach": 3, "Chopin": 1200}, ["3", "1,200"]), ({"Liszt": 7.25, "Haydn": 2.0}, ["2.0", "7.2"])],
)
def test_bars_are_sorted_and_labelled_with_their_values(values, labels):
    ax = plots.plot_bars(values, xlabel="pieces")
    assert [bar.get_width() for bar in ax.patches] == sorted(values.values())
    assert texts_of(ax) == labels
    ax.figure.draw_without_rendering()
    assert max(text.get_window_extent().x1 for text in ax.texts) < ax.get_window_extent().x1 - 5


def test_attention_is_drawn_in_seconds_with_the_unseen_left_blank():
    weights = np.tril(np.ones((40, 40)))
    image = plots.plot_attention(weights / weights.sum(axis=1, keepdims=True), fps=10).images[0]
    assert image.get_extent() == [0, 4, 0, 4]
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array().mask, weights == 0)


def test_a_figure_is_saved_as_a_png(tmp_path):
    plots.save_figure(plots.plot_bars({"Bach": 1, "Liszt": 2}), tmp_path / "new" / "bars.png")
    assert plt.imread(tmp_path / "new" / "bars.png").shape == (240, 1200, 4)
