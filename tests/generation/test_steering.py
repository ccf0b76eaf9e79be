"""Steering: several candidates play, and those that sound like a pianist go on."""

import numpy as np
import pytest
import torch

from musicgen.generation import GenerationConfig, generate
from musicgen.generation.continuation import Continuation
from musicgen.generation.generate import continue_rolls
from musicgen.generation.steering import (
    Steering,
    effective_number,
    expected_pitch,
    register_penalty,
    systematic_resampling,
)
from musicgen.model.probe import Probe, hidden_statistics
from musicgen.piano_roll import PianoRoll


def prime_of(seed=0, n_frames=30):
    random = np.random.default_rng(seed)
    velocity = np.where(random.random((n_frames, 88)) < 0.1, random.integers(1, 128, (n_frames, 88)), 0)
    return PianoRoll(velocity.astype(np.uint8))


@pytest.fixture
def model(tiny_model):
    """A model with a probe that looks at the mean of two hidden units."""
    model = tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4, probe=True)
    model.probe.weight[:2] = torch.tensor([8.0, -5.0])
    return model


def test_a_candidate_is_copied_as_often_as_its_weight_says_rounded_up_or_down():
    weights = torch.tensor([[0.05, 0.6, 0.0, 0.35], [0.25, 0.25, 0.25, 0.25]])
    for uniform in (0.0, 0.19, 0.5, 0.999):
        ancestors = systematic_resampling(weights, torch.full((2, 1), uniform))
        copies = torch.stack([torch.bincount(row, minlength=4) for row in ancestors])
        assert (copies - 4 * weights).abs().max() < 1
    assert ancestors[1].tolist() == [0, 1, 2, 3]
    assert effective_number(weights).tolist() == pytest.approx([1 / (0.0025 + 0.36 + 0.1225), 4.0])


def test_the_candidate_that_sounds_like_a_pianist_takes_all_rows_of_its_own_piece_only():
    probe = Probe(hidden_size=1)
    probe.weight[0] = 1.0  # the logit of "generated" is the mean of the only unit
    steering = Steering(probe, torch.zeros(2, 2), n_candidates=3, strength=9.0, seed=0)
    means = torch.tensor([4.0, 1.0, -2.0, 7.0, 7.0, 7.0])  # two pieces with three candidates each
    rows = steering.weigh(40, means[:, None, None].expand(6, 5, 1))
    assert rows.tolist() == [2, 2, 2, 3, 4, 5]
    (step,) = steering.steps
    assert step.weights[0].argmax() == 2
    torch.testing.assert_close(step.logits, means.view(2, 3))


def test_weights_add_up_until_the_candidates_are_resampled():
    probe = Probe(hidden_size=1)
    probe.weight[0] = 1.0
    steering = Steering(probe, torch.zeros(1, 2), n_candidates=2, strength=1.0, seed=0)
    hidden = torch.tensor([0.3, -0.3])[:, None, None]
    assert steering.weigh(40, hidden) is None  # the odds are e^0.6 : 1
    steering.weigh(80, 3 * hidden)
    assert steering.steps[-1].weights[0, 1] == pytest.approx(np.exp(2.4) / (1 + np.exp(2.4)))
    steering.weigh(120, hidden)  # the two were alike again after they were resampled
    assert steering.steps[-1].weights[0, 1] == pytest.approx(np.exp(0.6) / (1 + np.exp(0.6)))


def test_a_candidate_that_leaves_the_register_loses_weight():
    steering = Steering(Probe(hidden_size=1), torch.zeros(1, 2), n_candidates=3, strength=1.0, seed=0)
    steering.weigh(40, torch.zeros(3, 1, 1), penalty=torch.tensor([0.0, 1.5, 40.0]))
    weights = torch.tensor([1.0, np.exp(-1.5), 0.0], dtype=torch.float32)
    torch.testing.assert_close(steering.steps[-1].weights[0], weights / weights.sum(), atol=1e-6, rtol=0)


def test_pianists_move_from_the_register_of_the_opening_towards_the_middle():
    low, high = 40.0, 80.0
    for prime in (low, high):
        expected = [expected_pitch(prime, seconds) for seconds in (0, 5, 12, 60, 600)]
        distances = [abs(pitch - 64.5) for pitch in expected]
        assert expected[0] == prime
        assert distances == sorted(distances, reverse=True)
        assert distances[-1] == distances[-2] == abs(prime - 64.5) / 4


def test_a_mean_pitch_is_of_the_notes_that_begin():
    velocity = np.zeros((5, 88), np.uint8)
    velocity[0:3, 60 - 21] = 90
    velocity[2:5, 67 - 21] = 40
    velocity[4, 61 - 21] = 30  # struck while another note is held
    pieces = Continuation.of_primes([PianoRoll(velocity)], 0, [None], [0], 8.0, has_pedal=False)
    found = [pieces.mean_pitch(start, end)[0] for start, end in ((0, 4), (1, 5), (3, 4), (3, 5))]
    assert found == pytest.approx([63.5, 64, np.nan, 61], nan_ok=True)


def test_the_penalty_grows_with_the_square_of_the_distance_from_where_pianists_would_play():
    velocity = np.zeros((20, 88), np.uint8)
    velocity[[0, 5, 9], 64 - 21] = 90  # the usual pitch is between 64 and 65
    velocity[[2, 7, 12], 65 - 21] = 70
    prime = PianoRoll(velocity)
    pieces = Continuation.of_primes([prime] * 4, 100, [None] * 4, [0] * 4, 8.0, has_pedal=False)
    for t in range(100):
        frame = np.zeros((4, 88), np.uint8)
        if t % 3 == 0:
            frame[0, [64 - 21, 65 - 21]] = 100  # as in the prime
            frame[1, [70 - 21, 71 - 21]] = 100  # half an octave higher
            frame[2, [40 - 21, 41 - 21]] = 100  # two octaves lower
        pieces.append(frame, np.zeros(4))  # the last piece is silent
    assert register_penalty(pieces, register=2.0) == pytest.approx([0, 0.5, 8, 0])


def test_the_register_counts_unless_it_or_home_is_switched_off(model):
    def first_weights(**settings):
        trace = []
        config = GenerationConfig(seconds=4, candidates=4, strength=0.0, **settings)
        generate(model, prime_of(), config, trace=trace)
        return trace[0].weights

    equal = torch.full((4,), 0.25)
    assert (first_weights(register=10.0) - equal).abs().max() > 0.01
    torch.testing.assert_close(first_weights(register=0.0), equal)
    torch.testing.assert_close(first_weights(register=10.0, home=False), equal)


def test_one_candidate_is_plain_sampling_and_so_are_many_without_a_probe(model, tiny_model):
    plain = tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4)
    config = GenerationConfig(seconds=5, seed=3)
    one = GenerationConfig(seconds=5, seed=3, candidates=1)
    assert generate(model, prime_of(), one) == generate(plain, prime_of(), one) == generate(plain, prime_of(), config)


def test_the_piece_that_is_kept_descends_from_the_traced_candidates(model):
    trace = []
    config = GenerationConfig(seconds=9.5, candidates=3, strength=4.0)
    roll = generate(model, prime_of(), config, trace=trace)
    assert [step.frame for step in trace] == [40, 80, 120, 160]
    assert any((step.ancestors != torch.arange(3)).any() for step in trace)
    for step, after in zip(trace, trace[1:]):  # what was played before lives on as the ancestors say
        n_known = step.velocity.shape[1]
        torch.testing.assert_close(after.velocity[:, :n_known], step.velocity[step.ancestors])
        torch.testing.assert_close(after.pedal[:, :n_known], step.pedal[step.ancestors])
    last = trace[-1]
    end = torch.tensor(roll.velocity)[: last.velocity.shape[1]]
    assert any(torch.equal(end, last.velocity[ancestor]) for ancestor in last.ancestors)
    np.testing.assert_array_equal(roll.velocity[:30], prime_of().velocity)


def test_steered_music_pleases_the_probe_more(model):
    primes = [prime_of(seed) for seed in range(4)]

    def mean_logit(strength):
        config = GenerationConfig(candidates=6, strength=strength)
        rolls = continue_rolls(model, primes, 120, config, [0] * 4)
        frames = torch.from_numpy(np.stack([roll.velocity for roll in rolls])) / 127
        with torch.inference_mode():
            hidden = model(frames)[0].all_hidden
            return model.probe(hidden_statistics(hidden[:, 30:]), hidden_statistics(hidden[:, :29])).mean()

    assert mean_logit(8.0) < mean_logit(0.0) - 0.1


def test_a_prime_of_one_frame_or_none_is_continued(model):
    config = GenerationConfig(seconds=3, candidates=2)
    assert generate(model, None, config).n_frames == 60
    assert generate(model, prime_of(n_frames=1), config).n_frames == 60
