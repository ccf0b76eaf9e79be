import numpy as np
import pytest
from matplotlib.colors import to_rgb

from musicgen.lab.figures import charts

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

LUMA = [0.299, 0.587, 0.114]  # brightness of red, green and blue
HISTORY = [
    {"epoch": 1, "train_nll": 6.0, "validation_nll": 5.5, "seconds": 3.0},
    {"epoch": 2, "train_nll": 4.5, "validation_nll": 4.25, "seconds": 6.1},
]


def texts_of(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_a_learning_curve_shows_both_losses_and_the_baselines():
    ax = charts.plot_learning_curve(HISTORY, {"Markov": 4.14, "marginal": 8.68}, run="SGD")
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.lines if "SGD" in line.get_label()}
    assert curves == {"SGD train": [6.0, 4.5], "SGD validation": [5.5, 4.25]}
    assert [line.get_ydata()[0] for line in ax.lines[2:]] == [4.14, 8.68]
    assert texts_of(ax) == ["Markov\n4.14", "marginal\n8.68"]
    assert ax.get_ylabel() == "loss in nats per frame"


def test_a_second_run_in_the_same_axes_has_a_colour_of_its_own():
    ax = charts.plot_learning_curve(HISTORY, {}, run="SGD")
    charts.plot_learning_curve(HISTORY[:1], {}, ax, run="AdamW")
    colours = [line.get_color() for line in ax.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_each_distribution_sums_to_one_however_many_values_it_has():
    values = {"real": np.array([1, 1, 2, 5]), "generated": np.array([3]), "silent": np.array([])}
    ax = charts.plot_distribution(values, xlabel="pitch", bins=[0, 2, 4, 6])
    assert [list(outline.get_data().values) for outline in ax.patches] == [[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(values)


def test_two_equal_distributions_both_show():
    ax = charts.plot_distribution({"real": np.array([1, 2]), "generated": np.array([1, 2])}, bins=[0, 2, 4])
    behind, before = ax.patches
    assert behind.get_linewidth() > before.get_linewidth() > 1


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


def test_the_alternative_text_of_bars_names_the_longest():
    figure = charts.plot_bars({"Bach": 3, "Chopin": 1200, "Liszt": 7.5}, xlabel="pieces").figure
    assert figure.alt == "pieces: Chopin 1,200, Liszt 7.5, Bach 3."


def test_runs_are_points_and_their_mean_is_a_line_that_ignores_missing_values():
    ax = charts.plot_runs({"a": [[1.0, 5.0], [2.0, np.nan]]}, ["x", "y"], references={"floor": [7.0, 8.0]})
    mean, first, second, floor = (list(np.ma.filled(line.get_ydata(), -1)) for line in ax.lines)
    assert mean == [1.5, 5.0]
    assert (first, second[0], floor) == ([1.0, 5.0], 2.0, [7.0, 8.0])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "floor"]


def test_dots_of_one_name_share_a_row_and_the_first_name_is_on_top():
    ax = charts.plot_dots({"ours": {"JSB": 5.5, "Nottingham": 2.0}, "theirs": {"JSB": 5.6, "Nottingham": 2.3}})
    assert [list(line.get_xdata()) for line in ax.lines] == [[5.5, 2.0], [5.6, 2.3]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["JSB", "Nottingham"]
    assert ax.yaxis_inverted()


def test_a_confusion_table_shows_counts_and_colours_shares_of_a_row():
    ax = charts.plot_confusion(np.array([[3, 1], [0, 0]]), ["Bach", "Liszt"])
    assert [text.get_text() for text in ax.texts] == ["3", "1", "0", "0"]
    assert np.allclose(ax.images[0].get_array(), [[0.75, 0.25], [0, 0]])


def test_the_counts_can_be_read_on_every_shade():
    ax = charts.plot_confusion(np.array([[10, 0], [4, 6]]), ["Bach", "Liszt"])
    shades = ax.images[0].cmap(ax.images[0].get_array()).reshape(-1, 4)
    for text, shade in zip(ax.texts, shades):
        assert abs(np.dot(to_rgb(text.get_color()), LUMA) - np.dot(shade[:3], LUMA)) > 0.4


def test_names_from_anywhere_are_drawn():
    name = "$x_{ \udcff"
    figures = [
        charts.plot_bars({name: 1}),
        charts.plot_distribution({name: np.ones(3)}, xlabel=name),
        charts.plot_validation({name: HISTORY}, {name: 4.0}),
        charts.plot_learning_curve(HISTORY, {}, run=name),
        charts.plot_totals({"pieces": {name: {"train": 3}}}, name),
    ]
    for ax in figures:
        ax.figure.draw_without_rendering()


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


def test_runs_have_different_colours_or_markers():
    names = [f"run-{number}" for number in range(7)]
    ax = charts.plot_validation(dict.fromkeys(names, HISTORY), {"Markov": 4.14})
    runs = [line for line in ax.lines if line.get_label() in names]
    assert [line.get_label() for line in runs] == names
    assert len({(line.get_color(), line.get_marker()) for line in runs}) == 7
    assert list(runs[3].get_ydata()) == [5.5, 4.25]
