"""The attention LSTM: what it computes, that it cannot see ahead, and that it may be run in any parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen.model import AttentionLSTM, ModelConfig

SHAPES = [(1, 1), (2, 1), (3, 2), (2, 2), (2, 0)]


def frames_of(n_frames, batch=2, n_keys=5, seed=1):
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, n_frames, n_keys, generator=random) < 0.3).double()


@pytest.fixture
def exact(tiny_model):
    """Build models of double precision: what differs then differs by more than rounding."""
    return lambda seed=0, **sizes: tiny_model(seed, **sizes).double()


def by_hand(model, frames):
    """The network spelled out, one frame at a time: its logits, and the weights of each attention layer."""
    config, x, all_weights = model.config, frames, []
    for lstm, attention in zip(model.lstms, model.attentions):
        states = lstm(x)[0]
        x = states
        if hasattr(attention, "distance_bias"):
            x, weights = torch.zeros_like(states), frames.new_zeros(len(frames), states.shape[1], states.shape[1])
            for b in range(len(frames)):
                query, key, value = attention.query_key_value(states[b]).split(3, dim=-1)
                for t in range(states.shape[1]):
                    seen = range(max(0, t - config.attention_span + 1), t + 1)
                    scores = [query[t] @ key[s] / 3**0.5 + attention.distance_bias[t - s] for s in seen]
                    weights[b, t, seen[0] : t + 1] = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
                    context = sum(weights[b, t, s] * value[s] for s in seen)
                    scale, shift = attention.scale_shift(context).split(8, dim=-1)
                    x[b, t] = states[b, t] * (1 + scale) + shift
            all_weights.append(weights)
    return model.output(x), all_weights


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
@torch.no_grad()
def test_logits_and_attention_weights_are_those_of_the_formula(exact, n_layers, n_attention_layers):
    model, frames = exact(n_layers=n_layers, n_attention_layers=n_attention_layers), frames_of(11)
    logits, weights = by_hand(model, frames)
    found, state = model(frames)
    torch.testing.assert_close(found, logits)
    plain = n_layers - n_attention_layers  # attention comes after the last layers
    assert [layer.keys is None for layer in state] == [True] * plain + [False] * n_attention_layers
    found = model.attention_weights(frames)
    assert len(found) == n_attention_layers
    torch.testing.assert_close(found, weights)


@pytest.mark.parametrize("span", [1, 4, 20])
def test_attention_weights_sum_to_1_and_see_neither_later_frames_nor_those_beyond_the_span(tiny_model, span):
    now, then = torch.arange(13)[:, None], torch.arange(13)
    for weights in tiny_model(attention_span=span).attention_weights(frames_of(13).float()):
        assert weights.shape == (2, 13, 13)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 13))
        assert torch.equal(weights > 0, ((then <= now) & (then > now - span)).expand(2, 13, 13))


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), SHAPES)
def test_no_later_frame_leaks_in_and_every_earlier_one_counts(tiny_model, n_layers, n_attention_layers):
    model = tiny_model(n_layers=n_layers, n_attention_layers=n_attention_layers)
    frames = frames_of(9, batch=1).float().requires_grad_()
    logits, _ = model(frames)
    for t in range(9):
        (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), frames, retain_graph=True)
        assert torch.equal(gradient[0].any(dim=-1), torch.arange(9) <= t)


@pytest.mark.parametrize(("n_layers", "reach"), [(1, 4), (2, 7)])
def test_attention_itself_reaches_back_over_its_span(tiny_model, n_layers, reach):
    model = tiny_model(n_layers=n_layers, n_attention_layers=n_layers, attention_span=4)
    with torch.no_grad():
        for lstm in model.lstms:  # an LSTM without memory: what is known of earlier frames came through attention
            lstm.weight_hh_l0.zero_()
            lstm.bias_ih_l0[8:16] = -200.0
    frames = frames_of(12, batch=1).float().requires_grad_()
    (gradient,) = torch.autograd.grad(model(frames)[0][0, 10].square().sum(), frames)
    assert torch.nonzero(gradient[0].any(dim=-1)).ravel().tolist() == list(range(10 - reach + 1, 11))


@torch.no_grad()
@settings(max_examples=60)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.sampled_from(SHAPES), st.sampled_from([1, 2, 5, 40]))
def test_a_piece_in_any_parts_gives_the_logits_of_the_whole(tiny_model, parts, shape, span):
    model = tiny_model(n_layers=shape[0], n_attention_layers=shape[1], attention_span=span).double()
    frames = frames_of(sum(parts), batch=3)
    state, logits = None, []
    for part in frames.split(parts, dim=1):
        part_logits, state = model(part, state)
        logits.append(part_logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(frames)[0])


@torch.no_grad()
def test_frame_by_frame_gives_the_logits_of_the_whole_and_the_state_does_not_grow(exact):
    model, frames = exact(attention_span=6), frames_of(40)
    whole, state, sizes = model(frames)[0], None, []
    for t in range(40):
        logits, state = model(frames[:, t : t + 1], state)
        torch.testing.assert_close(logits[:, 0], whole[:, t])
        sizes.append(max(layer.keys.shape[1] for layer in state))
    assert sizes == [1, 2, 3, 4] + [5] * 36


@torch.no_grad()
def test_one_state_can_be_continued_twice(exact):
    model, frames, others = exact(), frames_of(12), frames_of(12, seed=2)
    _, state = model(frames[:, :7])
    first, _ = model(frames[:, 7:], state)
    model(others[:, 7:], state)
    assert torch.equal(model(frames[:, 7:], state)[0], first)


@torch.no_grad()
def test_the_pieces_of_a_batch_do_not_meet(exact):
    model, frames = exact(), frames_of(10, batch=4)
    for piece in range(4):
        torch.testing.assert_close(model(frames[piece : piece + 1])[0], model(frames)[0][piece : piece + 1])


@torch.no_grad()
def test_a_new_model_begins_as_a_plain_lstm_with_an_open_forget_gate():
    torch.manual_seed(0)
    model = AttentionLSTM(ModelConfig(n_keys=5, hidden_size=8)).double()
    x = frames_of(10)
    logits, _ = model(x)
    for lstm in model.lstms:
        x = lstm(x)[0]
        assert ((lstm.bias_ih_l0 + lstm.bias_hh_l0).view(4, 8) == torch.tensor([[0], [1], [0], [0]])).all()
    torch.testing.assert_close(logits, model.output(x))


def test_every_weight_of_a_new_model_but_the_untouched_attention_is_reached_by_the_loss():
    torch.manual_seed(0)
    model = AttentionLSTM(ModelConfig(n_keys=5, hidden_size=8))
    model(frames_of(10).float())[0].sum().backward()
    still = {name for name, weight in model.named_parameters() if not weight.grad.any()}
    assert all(name.endswith(("distance_bias", "query_key_value.weight", "query_key_value.bias")) for name in still)


def test_dropout_acts_in_training_only(tiny_model):
    model, frames = tiny_model(dropout=0.5), frames_of(10).float()
    assert torch.equal(model(frames)[0], tiny_model(dropout=0.0)(frames)[0])
    model.train()
    assert not torch.equal(model(frames)[0], model(frames)[0])


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("n_keys", 1, 512),
        ("hidden_size", 1, 4096),
        ("n_layers", 1, 16),
        ("n_attention_layers", 0, 3),
        ("attention_size", 1, 4096),
        ("attention_span", 1, 8192),
    ],
)
def test_sizes_out_of_range_are_refused_by_name(field, lowest, highest):
    sizes = {"n_layers": 3, "n_attention_layers": 0}
    for value in (lowest, highest):
        assert getattr(ModelConfig(**sizes | {field: value}), field) == value
    for value in (lowest - 1, highest + 1, 2.0, "2", None, True):
        with pytest.raises(ValueError, match=f"{field} must be a whole .* {lowest} to {highest}, not {value!r}"):
            ModelConfig(**sizes | {field: value})


@pytest.mark.parametrize("dropout", [-0.1, 0.91, float("nan")])
def test_a_dropout_out_of_range_is_refused(dropout):
    with pytest.raises(ValueError, match="dropout must lie in 0..0.9, not"):
        ModelConfig(dropout=dropout)
    assert [ModelConfig(dropout=share).dropout for share in (0, 0.9)] == [0, 0.9]
