"""The steps from logits to samples, each by itself."""

import numpy as np
import pytest

from musicgen.generation import sampling


def test_guidance_extrapolates_from_the_unconditional_logits():
    logits = np.array([[1.0, -2.0], [0.5, 0.0]])  # with a composer, without
    assert sampling.guide(logits, 0.0).tolist() == [[0.5, 0.0]]
    assert sampling.guide(logits, 1.0).tolist() == [[1.0, -2.0]]
    assert sampling.guide(logits, 3.0).tolist() == [[2.0, -6.0]]


def test_a_low_temperature_sharpens_and_1_changes_nothing():
    p = np.array([0.1, 0.4])
    assert np.array_equal(sampling.sharpen(p, 1.0), p)
    low, high = sampling.sharpen(p, 0.5)
    assert high / low == pytest.approx((0.4 / 0.1) ** 2)


def test_a_threshold_of_the_logit_decides_as_the_random_number_does():
    random = np.random.default_rng(1)
    logits = random.normal(0, 4, (50, 88)).astype(np.float32)
    uniform = random.random((50, 88), np.float32)
    gain = random.choice([0.0, 0.3, 2.0], (50, 88)).astype(np.float32)
    starts = uniform < sampling.sharpen(sampling.sigmoid(logits), 0.7) * gain
    assert np.array_equal(logits > sampling.start_threshold(uniform, gain, 0.7), starts) and 500 < starts.sum() < 3000
    goes_on = uniform < sampling.sigmoid(logits / 2.0)
    assert np.array_equal(logits > sampling.hold_threshold(uniform, 2.0), goes_on)
    certain = np.float32([0, 1, 0.5])
    with np.errstate(all="raise"):
        assert sampling.hold_threshold(certain, 0.01).tolist() == pytest.approx([-0.8, 0.159, 0.0], abs=0.01)
        assert sampling.start_threshold(certain, np.float32([0, 1, 1]), 0.1).tolist()[:2] == [np.inf, np.inf]


def test_with_a_high_temperature_the_least_likely_pitches_may_start():
    uniform = np.float32([0.01, 0.2])  # sigmoid(-30) is 9e-14, and its tenth root 0.05
    assert (-30 > sampling.start_threshold(uniform, 1.0, 10.0)).tolist() == [True, False]


def test_probabilities_of_any_logits_are_finite():
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        assert sampling.sigmoid(np.float32([-90, 0, 20, 800])).tolist() == pytest.approx([1.8e-35, 0.5, 1, 1], rel=1e-2)


def test_top_p_keeps_the_fewest_likely_entries_that_reach_the_share():
    weights = np.array([[0.1, 0.6, 0.3], [2.0, 1.0, 5.0]])
    assert sampling.top_p_mask(weights, 0.5).tolist() == [[False, True, False], [False, False, True]]
    assert sampling.top_p_mask(weights, 0.7).tolist() == [[False, True, True], [True, False, True]]
    assert sampling.top_p_mask(weights, 1e-6).sum(-1).tolist() == [1, 1]
    assert sampling.top_p_mask(weights, 1.0).all()


def test_in_the_long_run_a_temperature_keeps_the_number_of_onsets():
    expected = np.random.default_rng(3).random((4000, 2, 1)) * [[[1.0], [5.0]]]
    sums, rates = None, []
    for each in expected:
        rate, sums = sampling.constant_rate(each, 0.5, sums)
        rates.append(rate)
    rates = np.stack(rates)
    assert rates[:40].mean(0).flatten().tolist() == pytest.approx(expected[:40].mean(0).flatten().tolist(), rel=0.3)
    assert rates.mean(0).flatten().tolist() == pytest.approx(expected.mean(0).flatten().tolist(), rel=0.05)
    assert (rates.std(0) > 1.3 * expected.std(0)).all()  # but full frames become fuller, and empty ones emptier


def test_the_gain_gives_the_kept_weights_the_wanted_sum():
    weights = np.array([[0.2, 0.1, 0.4], [0.0, 0.0, 0.0]])
    kept = np.array([[True, True, False], [True, True, True]])
    gained = weights * sampling.gain_for_rate(weights, kept, np.array([[0.6], [0.5]]))
    assert gained[0].tolist() == pytest.approx([0.4, 0.2, 0.0])
    assert gained[1].tolist() == [0, 0, 0]


def test_polyphony_is_limited_by_leaving_out_the_least_likely_onsets():
    on = np.array([[True, True, True, False, True]])
    may_start = np.array([[False, True, True, True, True]])  # the first is held
    logits = np.array([[-9.0, 0.5, -1.0, 3.0, 2.0]])
    assert sampling.limit_polyphony(on, may_start, logits, 2).tolist() == [[True, False, False, False, True]]
    assert sampling.limit_polyphony(on, may_start, logits, 3).tolist() == [[True, True, False, False, True]]
    held = np.zeros_like(may_start)
    assert np.array_equal(sampling.limit_polyphony(on, held, logits, 1), on)  # held pitches stay


def test_categories_are_drawn_with_their_probability_in_order():
    logits = np.log([[0.5, 0.2, 0.3]]).repeat(4, axis=0)
    uniform = np.array([[0.49], [0.51], [0.71], [1.0]])
    assert sampling.draw_categories(logits, uniform).tolist() == [0, 1, 2, 2]


def test_the_median_velocity_is_of_sounding_cells_only():
    primes = np.array([[[0, 20], [0, 30], [90, 0], [0, 40]], [[0, 0], [0, 0], [0, 0], [0, 0]]], np.uint8)
    assert sampling.median_velocity(primes).tolist() == [[30], [64]]
