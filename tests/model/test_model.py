"""The attention LSTM: its layers, causality, and the same result in any parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen.beats import N_BEAT_FEATURES
from musicgen.lab.figures.moments import attention_weights
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.attention_lstm import CELLS
from musicgen.model.heads import frame_nlls, teacher_forced_logits

SHAPES = [(1, 1), (2, 1), (3, 2), (2, 2), (2, 0)]
KINDS = ["independent", "shared", "joint"]
BOTH = ("Bach", "Liszt")


def frames_of(n_frames, batch=2, n_pitches=5, seed=1):
    """Velocities of random notes, from 0 to 1."""
    random = torch.Generator().manual_seed(seed)
    velocity = 0.05 + 0.95 * torch.rand(batch, n_frames, n_pitches, generator=random)
    return ((torch.rand(batch, n_frames, n_pitches, generator=random) < 0.3) * velocity).double()


@pytest.fixture
def exact(tiny_model):
    """Build models of double precision: what differs then differs by more than rounding."""
    return lambda seed=0, **sizes: tiny_model(seed, **{"pitch_size": 4, "pitch_reach": 2} | sizes).double()


def inputs_of(n_frames, batch=2, seed=5):
    """Random pedal and beat features."""
    random = torch.Generator().manual_seed(seed)
    pedal = (torch.rand(batch, n_frames, generator=random) > 0.5).double()
    return {"pedal": pedal, "beats": torch.randn(batch, n_frames, N_BEAT_FEATURES, generator=random).double()}


def check_same(features, other):
    for known, expected in zip(features, other, strict=True):
        if known is not None:
            torch.testing.assert_close(known, expected)


def joined(parts):
    """Join the features of successive frames; parts of them may be None."""
    return [None if known[0] is None else torch.cat(known, dim=1) for known in zip(*parts)]


def layer_by_layer(model, frames, labels, pedal, beats):
    """The layers spelled out: the last hidden states, and the weights of each attention cell."""
    x, weights = torch.cat([(frames > 0).double(), frames, pedal[..., None], beats], dim=-1), []
    if model.config.composers:
        x = torch.cat([x, model.composer.weight[labels][:, None].expand(-1, frames.shape[1], 32)], dim=-1)
    for number, layer in enumerate(model.layers):
        x, _ = torch.nn.LSTM.forward(layer.cell, x)
        if number >= model.config.n_layers - model.config.n_attention_layers:  # after the last layers
            weights.append(layer.attention.weights(x))
            x, _ = layer.attention(x)
    return x, weights


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
@pytest.mark.parametrize("composers", [(), BOTH])
@torch.no_grad()
def test_layers_of_lstm_and_attention_see_all_inputs(exact, n_layers, n_attention_layers, composers):
    model, frames = exact(n_layers=n_layers, n_attention_layers=n_attention_layers, composers=composers), frames_of(11)
    features, _ = model(frames, composers=torch.tensor([2, 0]), **inputs_of(11))
    hidden, _ = layer_by_layer(model, frames, [2, 0], **inputs_of(11))
    torch.testing.assert_close(features.hidden, hidden)
    torch.testing.assert_close(features.pitches, model.history(frames)[0])
    torch.testing.assert_close(features.copied_notes, model.copy(hidden, features.pitches)[0])
    weights = attention_weights(model, model.inputs(frames, torch.tensor([2, 0]), **inputs_of(11)))
    assert len(weights) == n_attention_layers
    torch.testing.assert_close(weights, layer_by_layer(model, frames, [2, 0], **inputs_of(11))[1])


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
def test_no_later_frame_leaks_in_and_every_earlier_one_counts(exact, n_layers, n_attention_layers):
    model = exact(n_layers=n_layers, n_attention_layers=n_attention_layers, composers=BOTH)
    frames, inputs = frames_of(9, batch=1).requires_grad_(), inputs_of(9, batch=1)
    inputs["pedal"].requires_grad_()
    features, _ = model(frames, composers=torch.tensor([1]), **inputs)
    for t in range(9):
        reached = sum(each[0, t].square().sum() for each in features if each is not None and each.requires_grad)
        gradients = torch.autograd.grad(reached, (frames, inputs["pedal"]), retain_graph=True)
        assert torch.equal(gradients[0][0].any(dim=-1), torch.arange(9) <= t)
        assert torch.equal(gradients[1][0] != 0, torch.arange(9) <= t)


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("t", [0, 3, 10])
@torch.no_grad()
def test_another_future_changes_nothing_that_was_predicted(exact, output, t):
    model, frames = exact(output=output, composers=BOTH), frames_of(12)
    others = torch.cat([frames[:, : t + 1], frames_of(12, seed=2)[:, t + 1 :]], dim=1)
    found = []
    for piece in (frames, others):
        features, _ = model(piece, composers=torch.tensor([2, 1]))
        next_frame = torch.cat([(piece[:, 1:] > 0).double(), piece[:, :1]], dim=1)
        logits, _ = teacher_forced_logits(model.output, features, next_frame, torch.zeros(2, 12).double())
        found.append([features.hidden, features.pitches, features.recent, logits])
    for known, other in zip(*found, strict=True):
        ahead = t if known is found[0][-1] else t + 1  # logits of a joint output may know the frame they score
        torch.testing.assert_close(known[:, :ahead], other[:, :ahead])
        assert not torch.equal(known[:, t + 1 :], other[:, t + 1 :])


@torch.no_grad()
@settings(max_examples=60)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.sampled_from(SHAPES), st.sampled_from([1, 2, 5, 40]))
def test_a_piece_in_any_parts_gives_the_same(tiny_model, parts, shape, span):
    sizes = {"n_layers": shape[0], "n_attention_layers": shape[1], "attention_span": span, "pitch_reach": 2}
    model, composers = tiny_model(composers=BOTH, copy_span=4 + span, **sizes).double(), torch.tensor([0, 2, 1])
    frames, inputs = frames_of(sum(parts), batch=3), inputs_of(sum(parts), batch=3)
    state, found = None, []
    for part, pedal, beats in zip(*(x.split(parts, dim=1) for x in (frames, *inputs.values()))):
        features, state = model(part, state, composers, pedal, beats)
        found.append(features)
    check_same(joined(found), model(frames, None, composers, **inputs)[0])


@torch.no_grad()
def test_step_by_step_logits_are_those_of_one_pass_and_the_state_is_bounded(exact):
    model, frames, inputs = exact(attention_span=6, copy_span=9), frames_of(60), inputs_of(60)
    whole, state = model(frames, **inputs)[0], None
    next_frame, pedal = (frames_of(60, seed=8) > 0).double(), inputs_of(60, seed=9)["pedal"]
    wanted, _ = teacher_forced_logits(model.output, whole, next_frame, pedal)
    for t in range(60):
        step = {name: each[:, t : t + 1] for name, each in inputs.items()}
        features, state = model(frames[:, t : t + 1], state, **step)
        logits, _ = teacher_forced_logits(model.output, features, next_frame[:, t : t + 1], pedal[:, t : t + 1])
        torch.testing.assert_close(logits, wanted[:, t : t + 1])
        caches = [state.copy, *(layer.attention for layer in state.layers)]
        assert max(cache.values.shape[1] for cache in caches) <= 2 * 9 + 1


@pytest.mark.parametrize(("n_before", "n_after", "rows"), [(1, 5, [2, 2]), (7, 1, [0]), (20, 15, [1, 0, 1, 2])])
@torch.no_grad()
def test_a_selected_state_goes_on_as_if_its_rows_had_always_been_there(tiny_model, n_before, n_after, rows):
    model, composers = tiny_model(composers=BOTH, copy_span=9).double(), torch.tensor([0, 2, 1])
    rows = torch.tensor(rows)
    frames, inputs = frames_of(n_before + n_after, batch=3), inputs_of(n_before + n_after, batch=3)
    others = frames_of(n_after, batch=len(rows), seed=3)  # rows that descend from one row differ from here on
    _, state = model(frames[:, :n_before], None, composers, **{k: x[:, :n_before] for k, x in inputs.items()})
    chosen = state.select(rows)
    found, original = [], []
    for t in range(n_after):
        now = {k: x[:, n_before + t : n_before + t + 1] for k, x in inputs.items()}
        of_rows = {k: x[rows] for k, x in now.items()}
        features, chosen = model(others[:, t : t + 1], chosen, composers[rows], **of_rows)
        found.append(features)
        features, state = model(frames[:, n_before + t : n_before + t + 1], state, composers, **now)
        original.append(features)
    whole = torch.cat([frames[rows, :n_before], others], dim=1)
    wanted, _ = model(whole, None, composers[rows], **{k: x[rows] for k, x in inputs.items()})
    check_same(joined(found), wanted.map(lambda x: x[:, n_before:]))
    wanted, _ = model(frames, None, composers, **inputs)  # the state that was copied goes on undisturbed
    check_same(joined(original), wanted.map(lambda x: x[:, n_before:]))


class GRU(torch.nn.GRU):
    """A recurrent cell that only this test knows."""

    def __init__(self, n_inputs, hidden_size):
        super().__init__(n_inputs, hidden_size, batch_first=True)
        self.input_weight = self.weight_ih_l0

    def initial_state(self, x):
        """The state is one tensor (batch, hidden_size)."""
        return x.new_zeros(len(x), self.hidden_size)

    def forward(self, x, state):
        """Run the layer."""
        x, hidden = super().forward(x, state[None])
        return x, hidden[0]


def test_another_recurrent_cell_is_one_class_and_one_name(monkeypatch):
    monkeypatch.setitem(CELLS, "gru", GRU)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "attention_size": 4, "attention_span": 6, "copy_heads": 1, "pitch_reach": 2}
    model, frames = AttentionLSTM(ModelConfig(n_pitches=5, cell="gru", dropout=0.1, **sizes)), frames_of(20).float()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.02), []
    for _ in range(20):
        features = model(frames[:, :-1])[0].map(lambda x: x.flatten(0, 1))
        losses.append(frame_nlls(model.output, features, 127 * frames[:, 1:].flatten(0, 1), torch.zeros(38)).nll.mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5
    with torch.no_grad():
        whole, _ = model.eval()(frames)
        _, state = model(frames[:, :7])
        check_same(model(frames[1:, 7:8], state.select(torch.tensor([1])))[0], whole.map(lambda x: x[1:, 7:8]))


@torch.no_grad()
def test_the_pieces_of_a_batch_do_not_meet(exact):
    model, frames, composers = exact(composers=BOTH), frames_of(10, batch=4), torch.tensor([2, 0, 1, 2])
    features, _ = model(frames, composers=composers)
    for piece in range(4):
        alone, _ = model(frames[piece : piece + 1], composers=composers[piece : piece + 1])
        check_same(alone, features.map(lambda x, piece=piece: x[piece : piece + 1]))


@torch.no_grad()
def test_a_note_is_heard_however_soft_and_by_its_velocity(exact):
    model = exact()
    silent, soft, loud = torch.tensor([0.0, 1e-12, 0.5]).double()[:, None, None, None] * torch.ones(1, 4, 5)
    heard = [model(frames)[0].hidden for frames in (silent, soft, loud)]
    assert (heard[1] - heard[0]).abs().max() > 0.01
    assert (heard[2] - heard[1]).abs().max() > 0.01


@torch.no_grad()
def test_composers_are_told_apart_and_none_is_the_default(exact):
    model, frames = exact(composers=BOTH), frames_of(8)
    anyone, bach, liszt = (model(frames, composers=torch.full((2,), label))[0].hidden for label in range(3))
    assert torch.equal(model(frames)[0].hidden, anyone)
    for first, second in [(anyone, bach), (anyone, liszt), (bach, liszt)]:
        assert (first - second).abs().amax(dim=(1, 2)).min() > 0.01


@torch.no_grad()
def test_a_new_model_begins_as_a_plain_lstm_with_an_open_forget_gate():
    torch.manual_seed(0)
    model = AttentionLSTM(ModelConfig(n_pitches=5, hidden_size=8, pitch_reach=2)).double()
    frames = frames_of(10)
    x = torch.cat([(frames > 0).double(), frames, torch.zeros(2, 10, 1 + N_BEAT_FEATURES).double()], dim=-1)
    for layer in model.layers:
        lstm = layer.cell
        x = lstm(x)[0]
        assert ((lstm.bias_ih_l0 + lstm.bias_hh_l0).view(4, 8) == torch.tensor([[0], [1], [0], [0]])).all()
    torch.testing.assert_close(model(frames)[0].hidden, x)


def test_dropout_acts_in_training_only(tiny_model):
    model, frames = tiny_model(dropout=0.5, pitch_reach=2), frames_of(10).float()
    assert torch.equal(model(frames)[0].hidden, tiny_model(dropout=0.0, pitch_reach=2)(frames)[0].hidden)
    model.train()
    assert not torch.equal(model(frames)[0].hidden, model(frames)[0].hidden)
    assert torch.equal(model(frames)[0].pitches, model(frames)[0].pitches)


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("n_pitches", 1, 512),
        ("hidden_size", 1, 4096),
        ("n_layers", 1, 16),
        ("n_attention_layers", 0, 3),
        ("attention_size", 1, 4096),
        ("attention_span", 1, 8192),
        ("pitch_size", 1, 512),
        ("pitch_reach", 1, 128),
    ],
)
def test_sizes_out_of_range_are_refused_by_name(field, lowest, highest):
    sizes = {"n_layers": 3, "n_attention_layers": 0}
    for value in (lowest, highest):
        assert getattr(ModelConfig(**sizes | {field: value}), field) == value
    for value in (lowest - 1, highest + 1, 2.0, "2", None, True):
        with pytest.raises(ValueError, match=rf"{field} must be a whole .* {lowest} to \d+, not {value!r}"):
            ModelConfig(**sizes | {field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *[("dropout", value, "dropout must lie in 0..0.9, not") for value in (-0.1, 0.91, float("nan"))],
        *[("output", value, "output must be one of independent, shared, joint, not") for value in ("Joint", "", None)],
        *[("composers", value, "composers must be non-empty strings") for value in (["Bach", ""], [3], [None, "Bach"])],
        ("composers", 5, "composers must be a sequence of names, not 5"),
        ("composers", "Bach", "composers must be a sequence of names, not 'Bach'"),
        ("composers", ["Bach", "Liszt", "Bach"], "composers must be different, not Bach, Liszt, Bach"),
    ],
)
def test_other_settings_are_refused_by_name(field, value, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{field: value})


def test_other_settings_are_kept_and_composers_may_come_as_a_list():
    assert [ModelConfig(dropout=share).dropout for share in (0, 0.9)] == [0, 0.9]
    assert [ModelConfig(output=kind).output for kind in KINDS] == KINDS
    assert ModelConfig(composers=["Liszt", "Bach"]) == ModelConfig(composers=("Liszt", "Bach"))


@torch.no_grad()
def test_a_radius_beyond_the_keyboard_covers_all_of_it(exact):
    model, frames = exact(n_pitches=3, pitch_reach=7), frames_of(6, n_pitches=3)
    features, _ = model(frames)
    logits, _ = teacher_forced_logits(model.output, features, torch.ones(2, 6, 3).double(), torch.ones(2, 6).double())
    assert logits.shape == (2, 6, 3)


@pytest.mark.parametrize("absent", [{"copy_heads": 0}, {"pedal": False}, {"beats": False}, {"velocity_context": False}])
@torch.no_grad()
def test_each_part_can_be_left_out(tiny_model, absent):
    model, frames = tiny_model(pitch_reach=2, **absent).double(), frames_of(6)
    features, _ = model(frames, **inputs_of(6))
    logits, _ = teacher_forced_logits(model.output, features, (frames > 0).double(), torch.ones(2, 6).double())
    assert logits.isfinite().all()
    n_weights = sum(weight.numel() for weight in model.parameters())
    assert n_weights < sum(weight.numel() for weight in tiny_model(pitch_reach=2).parameters())


@torch.no_grad()
def test_a_head_that_predicts_no_pedal_does_not_hear_it(exact):
    model, frames, inputs = exact(output="independent"), frames_of(6), inputs_of(6)
    heard = [model(frames, **inputs | {"pedal": pedal})[0].hidden for pedal in (inputs["pedal"], None)]
    assert torch.equal(*heard)
