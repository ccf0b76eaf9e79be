"""The penalty that ends a repetition; `figure` is an onset matrix that repeats every 16 frames."""

import numpy as np
import pytest

from musicgen.generation.repetition import RepetitionPenalty

FPS, PERIOD = 20, 16


def figure(n_frames, n_pieces=1):
    velocity = np.zeros((n_pieces, n_frames, 88), np.uint8)
    for offset, pitch in ((0, 40), (4, 47), (8, 52), (12, 47)):
        velocity[:, offset::PERIOD, pitch] = 70
    return velocity


def penalties(velocity, seconds=4.0):
    """Return the penalty at every frame, as a matrix (n_frames, 88) for the first piece."""
    return np.stack([np.broadcast_to(penalty.penalty(), (len(velocity), 88))[0] for penalty in grow(velocity, seconds)])


def grow(velocity, seconds=4.0):
    """Yield a penalty before each frame of a batch, and then tell it the frame's onsets."""
    penalty = RepetitionPenalty(velocity.shape, seconds, FPS)
    before = np.zeros_like(velocity[:, 0])
    for frame in velocity.swapaxes(0, 1):
        yield penalty
        penalty.append((frame > 0) & (before == 0))
        before = frame


def test_the_penalty_begins_after_the_allowed_time_and_grows_by_two_logits_per_second():
    found = penalties(figure(12 * FPS))[:, 40]
    begins = np.flatnonzero(found)[0] / FPS
    assert 4.0 <= begins <= 5.5
    peaks = [found[second * FPS : (second + 1) * FPS].max() for second in (6, 8, 10)]
    assert np.diff(peaks) == pytest.approx([4, 4], abs=1)


def test_only_the_expected_pitches_are_penalised():
    found = penalties(figure(10 * FPS))
    assert set(np.flatnonzero(found.any(axis=0))) == {40, 47, 52}
    at = 11 * PERIOD  # the figure begins again
    assert found[at, 40] > 0 and found[at, 52] == 0


def test_new_notes_end_the_repetition():
    velocity = figure(16 * FPS)
    velocity[:, 8 * FPS : 10 * FPS] = 0
    velocity[0, np.arange(8 * FPS, 10 * FPS, 2), np.arange(60, 80)] = 70  # a chromatic scale
    found = penalties(velocity)
    assert found[: 8 * FPS].any() and not found[11 * FPS : 13 * FPS].any()


def test_music_that_does_not_repeat_has_no_penalty():
    velocity = (np.random.default_rng(3).random((1, 20 * FPS, 88)) < 0.01).astype(np.uint8) * 70
    assert not penalties(velocity, 2.0).any()


def test_pieces_of_a_batch_do_not_mix_and_keep_their_past_when_they_are_reordered():
    velocity = figure(10 * FPS, n_pieces=2)
    velocity[0] = 0
    *_, penalty = grow(velocity[:, : 9 * FPS])
    first, second = penalty.penalty()
    assert not first.any() and second.any()
    penalty.select(np.array([1, 0, 1]))
    assert np.array_equal(penalty.penalty(), [second, first, second])
    penalty.append(np.eye(88, dtype=bool)[:3])  # it goes on with three pieces
    assert penalty.penalty().shape == (3, 88)


def test_a_trill_may_last_less_long_than_a_bar():
    velocity = np.zeros((1, 10 * FPS, 88), np.uint8)
    velocity[:, ::4, 60] = velocity[:, 2::4, 61] = 70
    trill, bar = (np.flatnonzero(penalties(each).any(axis=1))[0] / FPS for each in (velocity, figure(10 * FPS)))
    assert 0.5 < trill < 0.6 * bar
