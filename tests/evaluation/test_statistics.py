"""What a piece is like: numbers made by hand, a slow count beside the fast one, and what must not change them."""

import math

import numpy as np
import pytest

from musicgen.evaluation.statistics import SCALES, in_key_shares, longest_repeat_seconds, self_similarity, statistics
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll


def roll_of(keys, fps=20):
    """A roll from the frames of a few keys, as digits: {key: "0330"} sounds with velocity 30."""
    velocity = np.zeros((max(map(len, keys.values())), 88), np.uint8)
    for key, frames in keys.items():
        velocity[: len(frames), key] = [10 * int(frame) for frame in frames]
    return PianoRoll(velocity, fps)


def notes_of(*notes, n_frames=None, fps=20):
    """A roll from (pitch, start_frame, n_frames)."""
    rows = [(pitch, 64, start, start + length) for pitch, start, length in notes]
    return PianoRoll.from_notes(np.array(rows, NOTE_DTYPE), fps, n_frames)


def random_roll(n_frames, seed, fps=20, density=0.02):
    random = np.random.default_rng(seed)
    struck = random.random((n_frames, 88)) < density
    return PianoRoll((struck * random.integers(1, 128, struck.shape)).astype(np.uint8), fps)


def transposed(roll, semitones):
    return PianoRoll(np.roll(roll.velocity, semitones, axis=1), roll.fps)


def test_the_statistics_of_a_piece_made_by_hand():
    # Keys 39, 51 and 40 are C4, C5 and C sharp 4: pitches 60, 72, 61.
    roll = roll_of({39: "0044444000000550", 51: "0009000000000000", 40: "0000000000000222"}, fps=4)
    assert statistics(roll) == pytest.approx(
        {
            "notes_per_second": 4 / 4,
            "polyphony": 11 / 8,
            "note_seconds": 2.5 / 4,
            "mean_note_seconds": 11 / 4 / 4,
            "inter_onset_seconds": (1 + 10) / 2 / 4,
            "mean_pitch": (60 + 60 + 72 + 61) / 4,
            "pitch_range": 12,
            "velocity": 50,
            "velocity_spread": math.sqrt((10**2 + 0 + 40**2 + 30**2) / 4),
            "pitch_classes": 0.75 * math.log2(4 / 3) + 0.25 * 2,
            "scale_consistency": 1,  # D flat major
            "self_similarity": 6 * 2 / (6 * math.hypot(2, 3)),  # 6 frames of C, then 2 of C and 3 of C sharp
            "longest_silence_seconds": 6 / 4,
            "longest_note_seconds": 5 / 4,
            "longest_repeat_seconds": 0,
        }
    )


@pytest.mark.parametrize("frames", ["", "000"])
def test_the_statistics_of_nothing_are_zeros_and_its_silence(frames):
    expected = dict.fromkeys(statistics(random_roll(9, 0)), 0.0) | {"longest_silence_seconds": len(frames) / 20}
    assert statistics(roll_of({0: frames})) == expected


def test_silence_at_the_ends_counts():
    assert statistics(roll_of({9: "0001100"}))["longest_silence_seconds"] == 3 / 20
    assert statistics(roll_of({9: "0110000"}))["longest_silence_seconds"] == 4 / 20
    assert statistics(roll_of({9: "1"}))["longest_silence_seconds"] == 0


def test_transposing_a_piece_changes_its_mean_pitch_and_nothing_else():
    velocity = np.zeros((400, 88), np.uint8)
    velocity[:, 20:60] = random_roll(400, 1).velocity[:, 20:60]
    low, high = statistics(PianoRoll(velocity)), statistics(transposed(PianoRoll(velocity), 7))
    assert high.pop("mean_pitch") == pytest.approx(low.pop("mean_pitch") + 7)
    assert high == pytest.approx(low)


def test_the_same_music_at_another_rate_has_the_same_statistics():
    slow = random_roll(300, 2, fps=10)
    fast = PianoRoll(np.repeat(slow.velocity, 4, axis=0), 40)
    assert statistics(fast) == pytest.approx(statistics(slow))


def test_twelve_scales_stand_for_all_major_and_minor_keys():
    minor = {frozenset((root + step) % 12 for step in (0, 2, 3, 5, 7, 8, 10)) for root in range(12)}
    assert minor == {frozenset(np.flatnonzero(scale)) for scale in SCALES} and len(minor) == 12


def test_scale_consistency_is_the_share_of_the_best_scale():
    chromatic = notes_of(*((60 + step, 2 * step, 1) for step in range(12)))
    assert statistics(chromatic)["scale_consistency"] == pytest.approx(7 / 12)
    # D major with F natural twice and B flat: no other scale holds more than seven of them.
    steps = [62, 64, 66, 67, 69, 71, 73, 78, 65, 65, 70]
    strange = notes_of(*((pitch, 2 * number, 1) for number, pitch in enumerate(steps)))
    assert statistics(strange)["scale_consistency"] == pytest.approx(8 / 11)


def test_self_similarity_compares_every_stretch_with_every_other():
    c, d, silence = (notes_of((pitch, 0, 40), n_frames=40).velocity for pitch in (60, 62, 60))
    silence = 0 * silence
    for stretches, expected in [
        ([c], 0),
        ([c, c, c], 1),
        ([c, d, c, d], 2 / 6),
        ([c, c, d, c, d], 4 / 10),
        ([silence, c, silence, c], 1 / 6),
        ([c, c, d[:39]], 1),  # the rest is too short to count
    ]:
        assert self_similarity(PianoRoll(np.concatenate(stretches))) == pytest.approx(expected)
    octaves = notes_of((60, 0, 40), (72, 40, 9), (48, 60, 20))
    assert self_similarity(octaves) == pytest.approx(1)


def test_the_share_of_notes_in_the_scale_of_the_opening():
    opening = [(pitch, 3 * number, 2) for number, pitch in enumerate([60, 62, 64, 65, 67, 69, 71, 61])]  # C major
    first = [(60, 25, 5), (74, 33, 200), (53, 183, 1)]  # C, D and F in frames 24 to 183
    second = [(61, 184, 3), (64, 200, 3), (66, 211, 2), (80, 343, 3)]  # one in four in C major
    fourth = [(60, 504, 3), (61, 504, 3)]
    roll = notes_of(*opening, *first, *second, *fourth, n_frames=24 + 4 * 160)
    np.testing.assert_allclose(in_key_shares(roll, 24), [1, 1 / 4, np.nan, 1 / 2])
    np.testing.assert_allclose(in_key_shares(transposed(roll, 5), 24), [1, 1 / 4, np.nan, 1 / 2])
    np.testing.assert_allclose(in_key_shares(roll[:-1], 24), [1, 1 / 4, np.nan])
    np.testing.assert_allclose(in_key_shares(roll, 24, 16.0), [4 / 7, 1 / 2])
    assert in_key_shares(roll[:24], 24).shape == (0,)


def test_an_opening_that_fits_several_scales_stands_for_all_of_them():
    # Seven major scales hold C: those on C, D flat, E flat, F, G, A flat, B flat. Two of them hold F sharp, six F.
    roll = notes_of((60, 0, 3), (66, 10, 3), (65, 170, 3), (60, 330, 3), n_frames=490)
    np.testing.assert_allclose(in_key_shares(roll, 10), [2 / 7, 6 / 7, 1])


def test_silence_has_no_key():
    with pytest.raises(ValueError, match="first 5 frames"):
        in_key_shares(notes_of((60, 5, 2)), 5)


def bar_of(n_frames, seed, n_notes=9):
    random = np.random.default_rng(seed)
    pitches = random.choice(np.arange(40, 90), n_notes, replace=False)
    return [(int(pitch), int(start), 2) for pitch, start in zip(pitches, random.integers(0, n_frames, n_notes))]


def repeated(bar, n_frames, times, start=0):
    return [(pitch, start + time * n_frames + onset, length) for time in range(times) for pitch, onset, length in bar]


@pytest.mark.parametrize("period", [10, 33, 80])
@pytest.mark.parametrize("times", [3, 7])
def test_a_bar_is_found_however_often_it_comes(period, times):
    bar = bar_of(period, seed=period)
    before, after = bar_of(100, seed=1, n_notes=20), bar_of(100, seed=2, n_notes=20)
    music = [*before, *repeated(bar, period, times, 100), *repeated(after, 100, 1, 100 + times * period)]
    found = longest_repeat_seconds(notes_of(*music))
    # From its first onset to its last, which need not lie at the bar lines.
    assert found == pytest.approx(times * period / 20, abs=1.0)
    assert longest_repeat_seconds(notes_of(*before, *repeated(after, 100, 1, 100))) < 1.0


def test_a_pianist_who_repeats_a_bar_is_not_a_machine():
    random = np.random.default_rng(0)
    bar = repeated(bar_of(40, seed=3, n_notes=12), 40, 10)
    near = notes_of(*((pitch, start + int(random.integers(2)) + 1, 2) for pitch, start, _ in bar))
    far = notes_of(*((pitch, start + int(random.integers(8)) + 1, 2) for pitch, start, _ in bar))
    assert longest_repeat_seconds(near) == pytest.approx(20, abs=1.0)
    assert longest_repeat_seconds(far) < 10


def test_what_is_no_repetition():
    bar = bar_of(40, seed=4)
    rising = [(pitch + time, start, 2) for time in range(10) for pitch, start, _ in repeated(bar, 40, 1, 40 * time)]
    changing = [note for time in range(10) for note in repeated(bar_of(40, seed=time), 40, 1, 40 * time)]
    held = [(60, 0, 600), (64, 0, 600)]
    seldom = repeated([(60, 0, 3), (67, 5, 3)], 100, 6)  # a bar of five seconds
    for music in (rising, changing, held, seldom):
        assert longest_repeat_seconds(notes_of(*music)) < 4


def test_a_pause_ends_a_repetition_however_long_it_was():
    bar = bar_of(80, seed=4)
    pause = notes_of(*repeated(bar, 80, 20), *repeated(bar, 80, 15, start=80 * 20 + 170))
    assert longest_repeat_seconds(pause) == pytest.approx(20 * 4, abs=1.0)


def slow_repeat_frames(roll, periods, tolerance):
    """Try every period, every first and every last onset."""
    struck = {(int(t), int(key)) for t, key in zip(*np.nonzero(roll.onsets))}
    longest = 0
    for period in periods:
        events = []
        for t, key in struck:
            if t >= period:
                events.append((t, any((t - period + d, key) in struck for d in range(-tolerance, tolerance + 1))))
            if t + period < roll.n_frames:
                again = any((t + period + d, key) in struck for d in range(-tolerance, tolerance + 1))
                events.append((t + period, again))
        frames = sorted({t for t, _ in events})
        scores = {t: sum(1 if again else -9 for when, again in events if when == t) for t in frames}
        for number, first in enumerate(frames):
            total, before = 0, first
            for last in frames[number:]:
                if last - before > period:
                    break
                total, before = total + scores[last], last
                if total >= 0 < min(scores[first], scores[last]) and last - first >= period:
                    longest = max(longest, last - first + period)
    return longest


@pytest.mark.parametrize("seed", range(12))
def test_the_longest_repetition_is_that_of_a_slow_search(seed):
    random = np.random.default_rng(seed)
    bar = random_roll(7 + seed, seed, density=0.01).velocity
    velocity = np.concatenate([random_roll(9, 50 + seed).velocity, *(5 * [bar]), random_roll(9, 90 + seed).velocity])
    changed = random.random(velocity.shape) < 0.0004 * (seed % 4)
    roll = PianoRoll(np.where(changed, 64 * (velocity == 0), velocity).astype(np.uint8), fps=10)
    assert longest_repeat_seconds(roll) * 10 == slow_repeat_frames(roll, range(5, 41), tolerance=1)
