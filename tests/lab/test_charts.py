import numpy as np
import pytest
import torch
from matplotlib.text import Text

from musicgen.generation.steering import SteeringTrace
from musicgen.lab.figures import charts
from musicgen.piano_roll import PianoRoll

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

HISTORY = [
    {"epoch": 1, "train_nll": 6.0, "validation_nll": 5.5, "seconds": 3.0},
    {"epoch": 2, "train_nll": 4.5, "validation_nll": 4.25, "seconds": 6.1},
]


def texts_of(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize(
    ("values", "labels"),
    [({"Bach": 3, "Chopin": 1200}, ["3", "1,200"]), ({"Liszt": 7.254, "Haydn": 0.0625}, ["0.0625", "7.25"])],
)
def test_bars_are_sorted_and_labelled_with_their_values(values, labels):
    ax = charts.plot_bars(values, xlabel="pieces")
    assert [bar.get_width() for bar in ax.patches] == sorted(values.values())
    assert texts_of(ax) == labels
    ax.figure.draw_without_rendering()
    assert max(text.get_window_extent().x1 for text in ax.texts) < ax.get_window_extent().x1 - 5


def test_bars_keep_their_order_on_request():
    ax = charts.plot_bars({"5 Hz": 27.0, "10 Hz": 7.0, "20 Hz": 0.1, "40 Hz": 0.0, "80 Hz": 0.0}, in_order=True)
    from_the_top = [label.get_text() for label in ax.get_yticklabels()][::-1]
    assert from_the_top == ["5 Hz", "10 Hz", "20 Hz", "40 Hz", "80 Hz"]
    assert ax.figure.alt.startswith("Bars: 5 Hz 27, 10 Hz 7, 20 Hz 0.1")


def test_the_alternative_text_of_bars_names_the_longest():
    figure = charts.plot_bars({"Bach": 3, "Chopin": 1200, "Liszt": 7.5}, xlabel="pieces").figure
    assert figure.alt == "pieces: Chopin 1,200, Liszt 7.5, Bach 3."


def test_runs_are_points_and_their_mean_is_a_line_that_ignores_missing_values():
    ax = charts.plot_runs({"a": [[1.0, 5.0], [2.0, np.nan]]}, ["x", "y"], references={"floor": [7.0, 8.0]})
    mean, first, second, floor = (list(np.ma.filled(line.get_ydata(), -1)) for line in ax.lines)
    assert mean == [1.5, 5.0]
    assert (first, second[0], floor) == ([1.0, 5.0], 2.0, [7.0, 8.0])
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["a", "floor"]


def test_names_from_anywhere_are_drawn():
    name = "$x_{ \udcff"
    figures = [
        charts.plot_bars({name: 1}),
        charts.plot_validation({name: HISTORY}, {name: 4.0}),
        charts.plot_totals({"pieces": {name: {"train": 3}}}, name),
    ]
    for ax in figures:
        ax.figure.draw_without_rendering()
        assert any("x_{ \ufffd" in text.get_text() for text in ax.figure.findobj(Text))


def test_totals_stack_their_parts_and_the_first_kind_orders_the_names():
    totals = {
        "pieces": {"Bach": {"train": 3, "test": 1}, "Liszt": {"train": 5, "test": 2}},
        "minutes": {"Bach": {"train": 30, "test": 20}, "Liszt": {"train": 10, "test": 4}},
    }
    pieces, minutes = charts.plot_totals(totals, "A corpus").figure.axes
    assert [label.get_text() for label in pieces.get_yticklabels()] == ["Bach", "Liszt"]  # from below
    assert [(bar.get_x(), bar.get_width()) for bar in minutes.patches] == [(0, 30), (0, 10), (30, 20), (10, 4)]
    assert texts_of(pieces) == ["4", "7"]
    assert pieces.figure.get_suptitle() == "A corpus"


def test_a_run_is_drawn_while_it_goes_on():
    updates = np.array([[1, 8.0, 0.1], [2, 7.0, 0.2], [3, 6.0, 0.3]])
    history = [{"updates": 2, "validation_nll": 5.5}]
    ax = charts.plot_training(updates, history, {"Markov": 4.14}, n_updates=9, title="epoch 2 of 5")
    training, validation = ax.lines[:2]
    assert training.get_xydata().tolist() == [[1, 8], [2, 7], [3, 6]]
    assert validation.get_xydata().tolist() == [[2, 5.5]]
    assert ax.figure.axes[1].lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert (ax.get_title(), ax.get_xlim(), texts_of(ax)) == ("epoch 2 of 5", (0, 9), ["Markov\n4.14"])
    assert charts.plot_training(np.zeros((0, 3)), [], {}, n_updates=9).get_xlim() == (0, 9), "before the first update"


def test_many_updates_are_drawn_as_means():
    updates = np.repeat(np.arange(10.0 * charts.MOST_POINTS)[:, None], 3, axis=1)
    line = charts.plot_training(updates, [], {}, len(updates)).lines[0]
    assert len(line.get_xdata()) == charts.MOST_POINTS
    assert line.get_xydata()[1].tolist() == [14.5, 14.5]


def test_losses_of_runs_stand_side_by_side():
    long, short = np.array([[1, 8.0, 0.1], [2, 7.0, 0.2], [3, 6.0, 0.3]]), np.array([[1, 9.0, 0.1]])
    ax = charts.plot_losses({"run": long, "tweak": short}, {"Markov": 4.14})
    assert [line.get_xydata().tolist() for line in ax.lines[:2]] == [[[1, 8], [2, 7], [3, 6]], [[1, 9]]]
    assert ax.figure.alt == "In nats per frame: run loss 6.00, tweak loss 9.00, Markov baseline 4.14."


def test_runs_have_different_colours_or_markers():
    names = [f"run-{number}" for number in range(7)]
    ax = charts.plot_validation(dict.fromkeys(names, HISTORY), {"Markov": 4.14})
    runs = [line for line in ax.lines if line.get_label() in names]
    assert [line.get_label() for line in runs] == names
    assert len({(line.get_color(), line.get_marker()) for line in runs}) == 7
    assert list(runs[3].get_ydata()) == [5.5, 4.25]


def test_a_legend_covers_no_curve():
    rows = [{"updates": 3, "epoch": 1, "validation_nll": 5.5}]
    updates = np.array([[1, 8.0, 0.1], [2, 5.0, 0.2], [3, 8.0, 0.3]])
    drawn = [
        charts.plot_training(updates, rows, {"Markov": 4.14, "marginal": 8.68}, n_updates=3, title="run"),
        charts.plot_validation({"run": rows}, {"Markov": 4.14}),
        charts.plot_runs({"a": [[1.0, 5.0]]}, [1, 2]),
    ]
    for ax in drawn:
        ax.figure.draw_without_rendering()
        (legend,) = [*ax.figure.legends, *(each.get_legend() for each in ax.figure.axes if each.get_legend())]
        assert not any(legend.get_window_extent().overlaps(each.get_window_extent()) for each in ax.figure.axes)


def test_the_alternative_text_of_a_run_tells_its_losses():
    figure = charts.plot_training(np.array([[1, 8.0, 0.1]]), [], {"Markov": 4.14}, n_updates=9, title="run-1").figure
    assert figure.alt == "run-1. In nats per frame: training loss 8.00, Markov baseline 4.14."


def test_a_ladder_keeps_the_order_of_its_steps_and_tells_every_loss():
    ax = charts.plot_ladder({"marginal": 11.27, "Markov": 2.4, "worse again": 2.604})
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["marginal", "Markov", "worse again"] and ax.yaxis_inverted()
    assert texts_of(ax) == ["11.27 →", "2.40", "2.60"]
    assert max(bar.get_width() for bar in ax.patches) < 3, "the others are not pressed together"
    assert texts_of(charts.plot_ladder({"marginal": 11.27})) == ["11.27"]
    assert "marginal 11.27, Markov 2.40, worse again 2.60" in ax.figure.alt


def played(*pitches):
    """Return the velocities of candidates that each play another pitch: uint8, shape (n_candidates, 3, 88)."""
    velocity = torch.zeros(len(pitches), 3, 88, dtype=torch.uint8)
    for candidate, pitch in enumerate(pitches):
        velocity[candidate, :, pitch - 21] = 64
    return velocity


def candidates():
    """Return three candidates that were weighed three times. First the third is dropped, then the first two."""
    weights = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    ancestors = torch.tensor([[0, 1, 1], [2, 2, 1], [1, 1, 1]])
    velocity = played(60, 62, 64)
    return [SteeringTrace(40 * i + 40, None, weights[i], ancestors[i], velocity, None) for i in range(3)]


def test_candidates_are_as_large_as_their_weights_and_those_of_the_piece_are_marked():
    piece = PianoRoll(np.concatenate([played(62)[0].numpy(), played(67)[0].numpy()]), 20)
    ax = charts.plot_candidates(candidates(), fps=20, piece=piece)
    of_the_piece, others = (points.get_offsets().tolist() for points in ax.collections)
    assert of_the_piece == [[2, 1], [4, 2], [6, 1]]  # seconds, candidate
    assert others == [[2, 0], [2, 2], [4, 0], [4, 1], [6, 0], [6, 2]]
    assert np.argsort(ax.collections[0].get_sizes()).tolist() == [1, 2, 0]
    assert [line.get_ydata()[0] for line in ax.lines] == [0, 1, 1, 2, 2, 1, 1]  # the piece comes last
    assert max(line.get_xdata()[-1] for line in ax.lines) == 6, "nothing is drawn after the last weighing"
    assert "3 candidates, weighed 3 times; the largest weight is 0.70" in ax.figure.alt
    assert "the candidates 2, 3, 2; 2 of them had the largest weight" in ax.figure.alt


def test_candidates_without_a_piece_or_a_probe():
    assert "The piece" not in charts.plot_candidates(candidates(), fps=20).figure.alt
    assert "no probe" in charts.plot_candidates([], fps=20).figure.alt
    other = PianoRoll(played(65)[0].numpy(), 20)
    with pytest.raises(ValueError, match="none of the candidates"):
        charts.plot_candidates(candidates(), fps=20, piece=other)
