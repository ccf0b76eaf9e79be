"""The steps from logits to samples, each by itself."""

import pytest
import torch

from musicgen.generation import sampling


def test_guidance_extrapolates_from_the_unconditional_logits():
    logits = torch.tensor([[1.0, -2.0], [0.5, 0.0]])  # with a composer, without
    assert sampling.guide(logits, 0.0).tolist() == [[0.5, 0.0]]
    assert sampling.guide(logits, 1.0).tolist() == [[1.0, -2.0]]
    assert sampling.guide(logits, 3.0).tolist() == [[2.0, -6.0]]


def test_a_low_temperature_sharpens_and_1_changes_nothing():
    p = torch.tensor([0.1, 0.4])
    assert torch.equal(sampling.sharpen(p, 1.0), p)
    low, high = sampling.sharpen(p, 0.5)
    assert high / low == pytest.approx((0.4 / 0.1) ** 2)
    logits = torch.tensor([-2.0, 0.0, 1.0])
    assert torch.equal(sampling.hold_probability(logits, 1.0), logits.sigmoid())
    assert sampling.hold_probability(logits, 0.01).round().tolist() == [0, 0, 1]


def test_top_p_keeps_the_fewest_likely_entries_that_reach_the_share():
    weights = torch.tensor([[0.1, 0.6, 0.3], [2.0, 1.0, 5.0]])
    assert sampling.top_p_mask(weights, 0.5).tolist() == [[False, True, False], [False, False, True]]
    assert sampling.top_p_mask(weights, 0.7).tolist() == [[False, True, True], [True, False, True]]
    assert sampling.top_p_mask(weights, 1e-6).sum(-1).tolist() == [1, 1]
    assert sampling.top_p_mask(weights, 1.0).all()


def test_in_the_long_run_a_temperature_keeps_the_number_of_onsets():
    expected = torch.rand(4000, 2, 1, generator=torch.Generator().manual_seed(3)) * torch.tensor([[[1.0], [5.0]]])
    means, rates = None, []
    for each in expected:
        rate, means = sampling.constant_rate(each, 0.5, means)
        rates.append(rate)
    rates = torch.stack(rates)
    assert rates.mean(0).flatten().tolist() == pytest.approx(expected.mean(0).flatten().tolist(), rel=0.05)
    assert (rates.std(0) > 1.3 * expected.std(0)).all()  # but full frames become fuller, and empty ones emptier


def test_the_gain_gives_the_kept_weights_the_wanted_sum():
    weights = torch.tensor([[0.2, 0.1, 0.4], [0.0, 0.0, 0.0]])
    kept = torch.tensor([[True, True, False], [True, True, True]])
    gained = weights * sampling.gain_for_rate(weights, kept, torch.tensor([[0.6], [0.5]]))
    assert gained[0].tolist() == pytest.approx([0.4, 0.2, 0.0])
    assert gained[1].tolist() == [0, 0, 0]


def test_polyphony_is_limited_by_leaving_out_the_least_likely_onsets():
    on = torch.tensor([[True, True, True, False, True]])
    may_start = torch.tensor([[False, True, True, True, True]])  # the first is held
    logits = torch.tensor([[-9.0, 0.5, -1.0, 3.0, 2.0]])
    assert sampling.limit_polyphony(on, may_start, logits, 2).tolist() == [[True, False, False, False, True]]
    assert sampling.limit_polyphony(on, may_start, logits, 3).tolist() == [[True, True, False, False, True]]
    held = torch.zeros_like(may_start)
    assert torch.equal(sampling.limit_polyphony(on, held, logits, 1), on)  # held pitches stay


def test_categories_are_drawn_with_their_probability_in_order():
    logits = torch.tensor([[0.5, 0.2, 0.3]]).log().expand(4, -1)
    uniform = torch.tensor([[0.49], [0.51], [0.71], [1.0]])
    assert sampling.draw_categories(logits, uniform).tolist() == [0, 1, 2, 2]


def test_the_median_velocity_is_of_sounding_cells_only():
    primes = torch.tensor([[[0, 20], [0, 30], [90, 0]], [[0, 0], [0, 0], [0, 0]]], dtype=torch.uint8)
    assert sampling.median_velocity(primes).tolist() == [[30], [64]]
