"""The attention cell: what it computes, that it sees neither the future nor beyond its span, and that it keeps on."""

import pytest
import torch

from musicgen.model.attention import CausalAttention, CopyAttention


def cell_of(span=4, hidden_size=6, attention_size=3):
    """A cell whose weights are all random, the output's too, in double precision."""
    cell, random = CausalAttention(hidden_size, attention_size, span).double(), torch.Generator().manual_seed(span)
    for weight in cell.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=random)
    return cell


def states_of(n_frames, batch=2, hidden_size=6):
    random = torch.Generator().manual_seed(n_frames)
    return torch.randn(batch, n_frames, hidden_size, generator=random, dtype=torch.float64)


@torch.no_grad()
def by_hand(cell, states):
    """The cell spelled out, one frame of one piece at a time: what it hands on, and its weights."""
    joined, weights = torch.zeros_like(states), states.new_zeros(len(states), states.shape[1], states.shape[1])
    for b in range(len(states)):
        query, key, value = cell.query_key_value(states[b]).split(3, dim=-1)
        for t in range(states.shape[1]):
            seen = range(max(0, t - cell.span + 1), t + 1)
            scores = torch.stack([query[t] @ key[s] / 3**0.5 + cell.distance_bias[t - s] for s in seen])
            weights[b, t, seen[0] : t + 1] = scores.exp() / scores.exp().sum()
            scale, shift = cell.scale_shift(weights[b, t] @ value).split(6)
            joined[b, t] = states[b, t] * (1 + scale) + shift
    return joined, weights


@pytest.mark.parametrize("span", [1, 4, 20])
@torch.no_grad()
def test_output_and_weights_are_those_of_the_formula(span):
    cell, states = cell_of(span), states_of(11)
    joined, weights = by_hand(cell, states)
    torch.testing.assert_close(cell(states, None)[0], joined)
    torch.testing.assert_close(cell.weights(states), weights)


@pytest.mark.parametrize("span", [1, 4, 20])
@torch.no_grad()
def test_weights_sum_to_1_and_see_neither_later_frames_nor_those_beyond_the_span(span):
    weights, now, then = cell_of(span).weights(states_of(13)), torch.arange(13)[:, None], torch.arange(13)
    assert weights.shape == (2, 13, 13)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 13, dtype=torch.float64))
    assert torch.equal(weights > 0, ((then <= now) & (then > now - span)).expand(2, 13, 13))


@pytest.mark.parametrize(("n_cells", "reach"), [(1, 4), (2, 7)])
def test_the_gradient_reaches_back_over_the_span_of_each_cell_and_no_further(n_cells, reach):
    states = states_of(12, batch=1).requires_grad_()
    x = states
    for _ in range(n_cells):
        x, _ = cell_of(span=4)(x, None)
    for t in range(12):
        (gradient,) = torch.autograd.grad(x[0, t].square().sum(), states, retain_graph=True)
        assert torch.nonzero(gradient[0].any(dim=-1)).ravel().tolist() == list(range(max(0, t - reach + 1), t + 1))


@pytest.mark.parametrize("span", [1, 2, 5, 40])
@torch.no_grad()
def test_in_any_parts_it_gives_the_same_and_its_cache_is_bounded(span):
    cell, states = cell_of(span), states_of(25)
    cache, parts = None, []
    for part in states.split([1, 9, 2, 1, 12], dim=1):
        joined, cache = cell(part, cache)
        parts.append(joined)
        assert cache.keys.shape[1] <= 2 * span + 12
    torch.testing.assert_close(torch.cat(parts, dim=1), cell(states, None)[0])


@torch.no_grad()
def test_a_new_cell_hands_on_what_it_gets():
    torch.manual_seed(0)
    cell, states = CausalAttention(6, 3, span=4).double(), states_of(9)
    assert torch.equal(cell(states, None)[0], states)
    assert not torch.equal(cell.weights(states)[:, -1, -4:], torch.full((2, 4), 0.25))  # but it looks already


def copier_of(span=9, n_heads=2, n_pitches=5, hidden_size=6):
    """Copy attention with random weights, in double precision."""
    cell = CopyAttention(hidden_size, n_pitches, n_heads, span).double()
    random = torch.Generator().manual_seed(span)
    for weight in cell.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=random)
    return cell


def pitches_of(n_frames, batch=2, n_pitches=5, seed=3):
    """Features of a `PitchHistory`, of which the cell reads sounding, onset and two averages."""
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, n_frames, n_pitches, 8, generator=random) > 0.6).double()


@torch.no_grad()
def test_copied_notes_are_those_that_followed_the_moments_found():
    cell, hidden, pitches = copier_of(), states_of(14), pitches_of(14)
    weights, (copied, _) = cell.weights(hidden, pitches), cell(hidden, pitches, None)
    assert weights.shape == (2, 2, 14, 15)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 14).double())
    on, onset = pitches[..., 0], pitches[..., 1]
    for head in range(2):
        for t in (1, 2, 7, 13):
            wanted = torch.zeros(3, 2, 5).double()
            for s in range(14):
                assert (weights[:, head, t, s] > 0).all() == (t - 9 < s <= t - 2)
                if t - 9 < s <= t - 2:
                    values = torch.stack([onset[:, s + 1], onset[:, s + 2], on[:, s + 1]])
                    wanted += weights[:, head, t, s, None] * values
            torch.testing.assert_close(copied[:, t, :, 3 * head : 3 * head + 3].permute(2, 0, 1), wanted)


def test_copying_is_causal_and_reaches_back_over_its_span():
    cell, hidden, pitches = copier_of(span=5), states_of(12, batch=1).requires_grad_(), pitches_of(12, batch=1)
    pitches.requires_grad_()
    copied, _ = cell(hidden, pitches, None)
    for t in range(2, 12):
        gradients = torch.autograd.grad(copied[0, t].square().sum(), (hidden, pitches), retain_graph=True)
        for gradient in gradients:
            reached = gradient[0].flatten(1).any(dim=-1).nonzero().ravel().tolist()
            assert max(reached) <= t and min(reached) == max(0, t - 4)


@pytest.mark.parametrize("parts", [[1] * 25, [1, 9, 2, 1, 12], [20, 5]])
@torch.no_grad()
def test_copying_in_any_parts_gives_the_same(parts):
    cell, hidden, pitches, cache, found = copier_of(span=7), states_of(25), pitches_of(25), None, []
    for h, p in zip(hidden.split(parts, dim=1), pitches.split(parts, dim=1)):
        copied, cache = cell(h, p, cache)
        found.append(copied)
    torch.testing.assert_close(torch.cat(found, dim=1), cell(hidden, pitches, None)[0])


@torch.no_grad()
def test_caches_of_fixed_shape_hold_the_same_as_those_that_grow():
    cell, copier, states, pitches = cell_of(4), copier_of(span=7), states_of(25), pitches_of(25)
    for n_before in (0, 3, 12):
        cache, copies = cell.initial_state(states), copier.initial_state(states)
        if n_before:
            _, cache = cell(states[:, :n_before])
            _, copies = copier(states[:, :n_before], pitches[:, :n_before])
        ring, copy_ring = cache.as_ring(), copies.as_ring()
        shapes = [tensor.shape for tensor in (*ring, *copy_ring)]
        for t in range(n_before, 25):
            joined, ring = cell(states[:, t : t + 1], ring)
            found, copy_ring = copier(states[:, t : t + 1], pitches[:, t : t + 1], copy_ring)
            torch.testing.assert_close(joined, cell(states)[0][:, t : t + 1])
            torch.testing.assert_close(found, copier(states, pitches)[0][:, t : t + 1])
        assert [tensor.shape for tensor in (*ring, *copy_ring)] == shapes
