import numpy as np
import pytest
import torch

from musicgen.lab.figures.moment_plots import moment_figure
from musicgen.lab.figures.moments import (
    attention_at,
    chord_at,
    copied_at,
    copy_at,
    lstm_gates,
    lstm_inputs,
    next_pitches,
)
from musicgen.piano_roll import PianoRoll

FRAMES = np.where(np.random.default_rng(0).random((60, 88)) < 0.05, 70, 0).astype(np.uint8)
PEDAL = np.arange(60) % 20 < 9
BEATS = np.array([[0.1, 1], [0.6, 0], [1.2, 0], [1.7, 1], [2.3, 0], [2.9, 0], [3.4, 1]])
ROLL = PianoRoll(FRAMES, pedal=PEDAL, beats=BEATS)  # 3 s
SIZES = {"n_pitches": 88, "n_layers": 3, "n_attention_layers": 2, "attention_span": 20, "composers": ("Bach", "Liszt")}
PLAIN = {"copy_heads": 0, "pedal": False, "beats": False}


@pytest.fixture
def model(tiny_model):
    return tiny_model(**SIZES, copy_heads=3, copy_span=25)


def test_each_layer_spreads_a_weight_of_one_over_its_span(model):
    weights = attention_at(model, ROLL, seconds=2)
    assert weights.shape == (2, 41)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights[:, -20:] > 0).all() and (weights[:, :-20] == 0).all()
    assert not np.allclose(weights[0], weights[1])


def test_each_copy_head_spreads_a_weight_of_one_over_earlier_frames_and_no_match(model):
    weights = copy_at(model, ROLL, seconds=2)
    assert weights.shape == (3, 42)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights[:, -1] > 0).all()
    assert not np.allclose(weights[0], weights[1])


def test_a_copy_head_retrieves_the_notes_that_followed_its_matches(model):
    weights, copied = copy_at(model, ROLL, seconds=2)[:, :-1], copied_at(model, ROLL, seconds=2)
    first, second, sounding = ROLL.onsets[1:41], ROLL.onsets[2:41], ROLL.active[1:41]
    np.testing.assert_allclose(copied[:, 0], weights[:, :40] @ first, atol=1e-6)
    np.testing.assert_allclose(copied[:, 1], weights[:, :39] @ second, atol=1e-6)
    np.testing.assert_allclose(copied[:, 2], weights[:, :40] @ sounding, atol=1e-6)


@pytest.mark.parametrize("sizes", [{}, PLAIN, PLAIN | {"output": "independent"}])
def test_a_chord_depends_on_its_lower_notes_unless_the_pitches_are_independent(tiny_model, sizes):
    model = tiny_model(**SIZES | sizes)
    given, alone = chord_at(model, ROLL, seconds=2).values()
    first = next(t for t in range(41, 60) if ROLL.onsets[t].any())
    assert len(given) == ROLL.onsets[first].sum() > 1 and list(given) == list(alone)
    lowest, *others = given
    assert given[lowest] == pytest.approx(alone[lowest])
    differ = [given[name] != pytest.approx(alone[name], rel=1e-3) for name in others]
    assert all(differ) if model.config.output == "joint" else not any(differ)


def test_a_chord_is_judged_by_what_came_before_it(model):
    louder = FRAMES.copy()
    first = next(t for t in range(41, 60) if ROLL.onsets[t].any())
    louder[first + 1 :] = 90
    assert chord_at(model, PianoRoll(louder, pedal=PEDAL, beats=BEATS), 2) == chord_at(model, ROLL, 2)


def test_a_chord_needs_an_onset(model):
    with pytest.raises(ValueError, match="no note is struck after 2 s"):
        chord_at(model, PianoRoll(np.vstack([FRAMES[:41], np.zeros((19, 88), np.uint8)])), 2)


def test_the_inputs_of_the_first_layer_are_notes_loudness_and_pedal(model):
    inputs = lstm_inputs(model, ROLL)[0].numpy()
    assert inputs.shape == (60, model.layers[0].cell.input_size)
    np.testing.assert_array_equal(inputs[:, :88], FRAMES > 0)
    np.testing.assert_allclose(inputs[:, 88:176], FRAMES / 127, rtol=1e-6)
    np.testing.assert_array_equal(inputs[:, 176], PEDAL)


def test_an_empty_roll_has_no_inputs(model):
    with pytest.raises(ValueError, match="choose at least one"):
        lstm_inputs(model, ROLL[:0])


@pytest.mark.parametrize("look", [attention_at, copy_at, copied_at, next_pitches])
def test_later_frames_change_nothing_and_earlier_ones_do(model, look):
    later, earlier = FRAMES.copy(), FRAMES.copy()
    later[41:], earlier[35:38] = 90, 90
    expected = look(model, ROLL, seconds=2)
    np.testing.assert_array_equal(look(model, PianoRoll(later, pedal=PEDAL, beats=BEATS), seconds=2), expected)
    changed = look(model, PianoRoll(earlier, pedal=PEDAL, beats=BEATS), seconds=2)
    assert changed.shape != expected.shape or changed.tolist() != expected.tolist()


def test_the_weights_depend_on_the_composer(model):
    bach, liszt = (attention_at(model, ROLL, 1.5, name) for name in ("Bach", "Liszt"))
    assert not np.allclose(bach, liszt)


@pytest.mark.parametrize("look", [attention_at, copy_at, copied_at, next_pitches, chord_at])
def test_a_look_leaves_the_model_in_its_mode(model, look):
    model.train()
    model.dropout.eval()  # someone has frozen a part
    modes = [part.training for part in model.modules()]
    look(model, ROLL, 2)
    assert [part.training for part in model.modules()] == modes
    with pytest.raises(ValueError):
        look(model, ROLL, 99)
    assert [part.training for part in model.modules()] == modes


@pytest.mark.parametrize("seconds", [-0.1, 3.0])
def test_a_moment_outside_the_piece_is_refused(model, seconds):
    for look in (attention_at, copy_at, copied_at, next_pitches, moment_figure):
        with pytest.raises(ValueError, match="from 0 to below 3 s"):
            look(model, ROLL, seconds)


@pytest.mark.parametrize("sizes", [{"n_attention_layers": 0}, {"attention": "none"}])
def test_a_model_without_attention_has_nothing_to_show(tiny_model, sizes):
    model = tiny_model(n_pitches=88, **sizes, **PLAIN)
    with pytest.raises(ValueError, match="no attention layer"):
        attention_at(model, ROLL, 1)
    with pytest.raises(ValueError, match="no copy attention"):
        copy_at(model, ROLL, 1)


@pytest.mark.parametrize("output", ["independent", "joint"])
def test_next_pitches_have_the_probabilities_of_the_model(tiny_model, output):
    model = tiny_model(n_pitches=88, output=output, **PLAIN)
    predicted = next_pitches(model, ROLL, seconds=2, k=5)
    assert len(predicted) == 5
    assert (np.diff(predicted["probability"]) <= 0).all()
    np.testing.assert_array_equal(predicted["held"], FRAMES[40, predicted["pitch"] - 21] > 0)
    if output == "independent":
        features, _ = model(torch.tensor(FRAMES[None, :41]) / 127)
        exact = model.output(features.hidden).sigmoid()[0, -1, predicted["pitch"] - 21].detach()
        np.testing.assert_allclose(predicted["probability"], exact, atol=0.1)


def test_the_gates_are_those_of_torch():
    torch.manual_seed(1)
    lstm, inputs = torch.nn.LSTM(5, 7, batch_first=True), torch.randn(9, 5)
    gates = lstm_gates(lstm, inputs)
    hidden, (_, cell) = lstm(inputs[None])
    np.testing.assert_allclose(gates["hidden state"], hidden[0].detach(), atol=1e-6)
    np.testing.assert_allclose(gates["cell state"][-1], cell[0, 0].detach(), atol=1e-6)
    expected = gates["forget gate"][1:] * gates["cell state"][:-1] + gates["input gate"][1:] * gates["candidate"][1:]
    np.testing.assert_allclose(gates["cell state"][1:], expected, atol=1e-6)
    np.testing.assert_allclose(gates["hidden state"], gates["output gate"] * np.tanh(gates["cell state"]), atol=1e-6)


@pytest.mark.parametrize(
    ("n_attention_layers", "copy_heads", "titles"),
    [
        (2, 3, ["Attention layer 2", "Attention layer 3", "What copy attention found", "Next pitches"]),
        (0, 3, ["What copy attention found", "Next pitches"]),
        (1, 0, ["Attention layer 3", "Next pitches"]),
        (0, 0, ["Next pitches"]),
    ],
)
def test_a_moment_shows_the_parts_that_the_model_has(tiny_model, n_attention_layers, copy_heads, titles):
    sizes = SIZES | {"n_attention_layers": n_attention_layers, "copy_heads": copy_heads, "copy_span": 25}
    figure = moment_figure(tiny_model(**sizes), ROLL, 2, "Liszt", title="At $2$ s")
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == titles
    assert figure.alt.startswith("At $2$ s. ")
    figure.draw_without_rendering()
