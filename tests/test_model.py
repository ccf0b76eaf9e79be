"""The attention LSTM: what it hears, that it cannot hear ahead, and that it may be run in any parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen.model import AttentionLSTM, ModelConfig

SHAPES = [(1, 1), (2, 1), (3, 2), (2, 2), (2, 0)]
KINDS = ["independent", "shared", "joint"]
BOTH = ("Bach", "Liszt")


def frames_of(n_frames, batch=2, n_pitches=5, seed=1):
    """Loudness of random notes."""
    random = torch.Generator().manual_seed(seed)
    loudness = 0.05 + 0.95 * torch.rand(batch, n_frames, n_pitches, generator=random)
    return ((torch.rand(batch, n_frames, n_pitches, generator=random) < 0.3) * loudness).double()


@pytest.fixture
def exact(tiny_model):
    """Build models of double precision: what differs then differs by more than rounding."""
    return lambda seed=0, **sizes: tiny_model(seed, **{"pitch_size": 4, "pitch_reach": 2} | sizes).double()


def check_same(heard, other):
    for known, expected in zip(heard, other, strict=True):
        torch.testing.assert_close(known, expected)


def layer_by_layer(model, frames, labels):
    """The network spelled out: what it hears of all keys together, and the weights of each attention layer."""
    x, weights = torch.cat([(frames > 0).double(), frames], dim=-1), []
    if model.config.composers:
        x = torch.cat([x, model.composer.weight[labels][:, None].expand(-1, frames.shape[1], 32)], dim=-1)
    for layer, lstm in enumerate(model.lstms):
        x, _ = lstm(x)
        if layer >= model.config.n_layers - model.config.n_attention_layers:  # it comes after the last layers
            weights.append(model.attentions[layer].weights(x))
            x, _ = model.attentions[layer](x, None)
    return x, weights


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
@pytest.mark.parametrize("composers", [(), BOTH])
@torch.no_grad()
def test_layers_of_lstm_and_attention_hear_keys_loudness_and_composer(exact, n_layers, n_attention_layers, composers):
    model, frames = exact(n_layers=n_layers, n_attention_layers=n_attention_layers, composers=composers), frames_of(11)
    heard, state = model(frames, composers=torch.tensor([2, 0]))
    torch.testing.assert_close(heard.hidden, layer_by_layer(model, frames, [2, 0])[0])
    torch.testing.assert_close(heard.keys, model.memory(frames, None)[0])
    plain = n_layers - n_attention_layers
    assert [layer.keys is None for layer in state.layers] == [True] * plain + [False] * n_attention_layers
    weights = model.attention_weights(frames)
    assert len(weights) == n_attention_layers
    torch.testing.assert_close(weights, layer_by_layer(model, frames, [0, 0])[1])


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
@pytest.mark.parametrize("composers", [(), BOTH])
def test_no_later_frame_leaks_in_and_every_earlier_one_counts(exact, n_layers, n_attention_layers, composers):
    model = exact(n_layers=n_layers, n_attention_layers=n_attention_layers, composers=composers)
    frames = frames_of(9, batch=1).requires_grad_()
    heard, _ = model(frames, composers=torch.tensor([1]))
    for t in range(9):
        reached = heard.hidden[0, t].square().sum() + heard.keys[0, t].square().sum()
        (gradient,) = torch.autograd.grad(reached, frames, retain_graph=True)
        assert torch.equal(gradient[0].any(dim=-1), torch.arange(9) <= t)


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("t", [0, 3, 10])
@torch.no_grad()
def test_another_future_changes_nothing_that_was_predicted(exact, output, t):
    model, frames = exact(output=output, composers=BOTH), frames_of(12)
    others = torch.cat([frames[:, : t + 1], frames_of(12, seed=2)[:, t + 1 :]], dim=1)
    found = []
    for piece in (frames, others):
        heard, _ = model(piece, composers=torch.tensor([2, 1]))
        before = model.output.before(heard)
        following = torch.cat([(piece[:, 1:] > 0).double(), piece[:, :1]], dim=1)
        found.append([*heard, before, model.output.logits(model.output.within(before, heard, following), heard)])
    for known, other in zip(*found, strict=True):
        ahead = t if known is found[0][-1] else t + 1  # the logits of a joint output may know the frame they score
        torch.testing.assert_close(known[:, :ahead], other[:, :ahead])
        assert not torch.equal(known[:, t + 1 :], other[:, t + 1 :])


@torch.no_grad()
@settings(max_examples=60)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.sampled_from(SHAPES), st.sampled_from([1, 2, 5, 40]))
def test_a_piece_in_any_parts_is_heard_as_the_whole(tiny_model, parts, shape, span):
    sizes = {"n_layers": shape[0], "n_attention_layers": shape[1], "attention_span": span, "pitch_reach": 2}
    model, composers = tiny_model(composers=BOTH, **sizes).double(), torch.tensor([0, 2, 1])
    frames = frames_of(sum(parts), batch=3)
    state, heard = None, []
    for part in frames.split(parts, dim=1):
        of_part, state = model(part, state, composers)
        heard.append(of_part)
    check_same([torch.cat(known, dim=1) for known in zip(*heard)], model(frames, composers=composers)[0])


@torch.no_grad()
def test_frame_by_frame_is_the_whole_and_the_state_does_not_grow(exact):
    model, frames = exact(attention_span=6), frames_of(40)
    whole, state, sizes = model(frames)[0], None, []
    for t in range(40):
        heard, state = model(frames[:, t : t + 1], state)
        check_same(heard, [known[:, t : t + 1] for known in whole])
        sizes.append(max(layer.keys.shape[1] for layer in state.layers))
    assert sizes == [1, 2, 3, 4] + [5] * 36


@torch.no_grad()
def test_one_state_can_be_continued_twice(exact):
    model, frames, others = exact(), frames_of(12), frames_of(12, seed=2)
    _, state = model(frames[:, :7])
    first, _ = model(frames[:, 7:], state)
    model(others[:, 7:], state)
    again, _ = model(frames[:, 7:], state)
    assert all(torch.equal(*pair) for pair in zip(first, again))


@torch.no_grad()
def test_the_pieces_of_a_batch_do_not_meet(exact):
    model, frames, composers = exact(composers=BOTH), frames_of(10, batch=4), torch.tensor([2, 0, 1, 2])
    heard, _ = model(frames, composers=composers)
    for piece in range(4):
        alone, _ = model(frames[piece : piece + 1], composers=composers[piece : piece + 1])
        check_same(alone, [known[piece : piece + 1] for known in heard])


@torch.no_grad()
def test_a_key_is_heard_however_soft_and_by_how_loud_it_is(exact):
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
    x = torch.cat([(frames > 0).double(), frames], dim=-1)
    for lstm in model.lstms:
        x = lstm(x)[0]
        assert ((lstm.bias_ih_l0 + lstm.bias_hh_l0).view(4, 8) == torch.tensor([[0], [1], [0], [0]])).all()
    torch.testing.assert_close(model(frames)[0].hidden, x)


def test_dropout_acts_in_training_only(tiny_model):
    model, frames = tiny_model(dropout=0.5, pitch_reach=2), frames_of(10).float()
    assert torch.equal(model(frames)[0].hidden, tiny_model(dropout=0.0, pitch_reach=2)(frames)[0].hidden)
    model.train()
    assert not torch.equal(model(frames)[0].hidden, model(frames)[0].hidden)
    assert torch.equal(model(frames)[0].keys, model(frames)[0].keys)


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
        *[("composers", value, "composers must be names") for value in (["Bach", ""], [3], [None, "Bach"])],
        ("composers", 5, "composers must be a sequence of names, not 5"),
        ("composers", "Bach", "composers must be a sequence of names, not 'Bach'"),
        ("composers", ["Bach", "Liszt", "Bach"], "composers names one twice: Bach, Liszt, Bach"),
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
def test_a_reach_beyond_the_keyboard_is_a_reach_over_all_of_it(exact):
    model, frames = exact(n_pitches=3, pitch_reach=7), frames_of(6, n_pitches=3)
    heard, _ = model(frames)
    within = model.output.within(model.output.before(heard), heard, torch.ones(2, 6, 3).double())
    assert model.output.logits(within, heard).shape == (2, 6, 3)
