"""Measures of what a listener hears, on rolls made by hand."""

import numpy as np
import pytest

from musicgen.evaluation.likeness import classifier_auc, excerpt_statistics, excerpts, mean_measures
from musicgen.evaluation.statistics import continuity, memory, pedal_statistics, pulse, steadiness, velocity_step
from musicgen.piano_roll import PianoRoll


def roll_of(onsets, n_frames=400, velocity=70):
    """Notes of one frame at (frame, pitch column)."""
    cells = np.zeros((n_frames, 88), np.uint8)
    for frame, column in onsets:
        cells[frame, column] = velocity
    return PianoRoll(cells)


def random_roll(seed, n_frames=400, share=0.01):
    random = np.random.default_rng(seed)
    hit = random.random((n_frames, 88)) < share
    return PianoRoll((hit * random.integers(1, 128, hit.shape)).astype(np.uint8))


METRONOME = roll_of([(frame, 40) for frame in range(0, 400, 10)])
PATTERN = roll_of([(start + step, 30 + 5 * step % 17) for start in range(0, 400, 40) for step in (0, 3, 9, 16, 30)])


def test_a_metronome_has_a_clear_pulse_and_noise_has_none():
    assert pulse(METRONOME)[1] > 0.9
    assert pulse(METRONOME)[0] > 3 * pulse(random_roll(1))[0]
    assert pulse(roll_of([])) == (0.0, 0.0)


def test_a_repeated_pattern_is_remembered_and_noise_is_not():
    assert memory(PATTERN) == pytest.approx(1.0)
    assert memory(random_roll(2)) < 0.3
    late = PianoRoll(np.roll(PATTERN.velocity, 1, axis=0))
    assert memory(PianoRoll(np.concatenate([PATTERN.velocity[:200], late.velocity[200:]]))) > 0.9  # one frame late


def test_the_same_chord_is_steady_and_follows_its_prime():
    chord = roll_of([(frame, column) for frame in range(0, 400, 8) for column in (39, 43, 46)])
    assert steadiness(chord) == pytest.approx(1.0)
    found = continuity(chord, 80)
    assert found["pitch_class_correlation"] == pytest.approx(1.0)
    assert found["density_shift"] < 0.1 and found["pitch_shift"] < 1e-6 and found["interval_overlap"] > 0.99


def test_velocity_steps_and_the_pedal():
    cells = np.zeros((40, 88), np.uint8)
    cells[[0, 10, 20], [40, 41, 42]] = [30, 50, 45]
    roll = PianoRoll(cells, 20, np.arange(40) % 20 < 5)
    assert velocity_step(roll) == pytest.approx((20 + 5) / 2)
    assert pedal_statistics(roll) == pytest.approx((0.25, 0.25))
    assert pedal_statistics(PianoRoll(cells)) == (0.0, 0.0)


def test_a_classifier_tells_metronomes_from_noise_and_noise_from_noise_hardly():
    noise = [excerpts(random_roll(seed)) for seed in range(20)]
    others = [excerpts(random_roll(100 + seed)) for seed in range(20)]
    clocks = [excerpts(METRONOME)] * 20
    assert classifier_auc(noise, clocks)["auc"] > 0.99
    assert 0.2 < classifier_auc(noise, others)["auc"] < 0.8
    assert next(iter(classifier_auc(noise, clocks)["telling"].values())) in (0.0, 1.0)


def test_statistics_are_finite_also_for_silence():
    for roll in (roll_of([]), METRONOME, random_roll(3)):
        assert np.isfinite(list(excerpt_statistics(roll).values())).all()
    assert len(excerpt_statistics(METRONOME)) > 50
    assert mean_measures([PATTERN], 80)["memory"] > 0.9
