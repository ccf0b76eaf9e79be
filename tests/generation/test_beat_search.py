"""The beats of a prime, found by the model."""

from dataclasses import replace

import numpy as np
import pytest

from musicgen.evaluation.likelihood import piece_nlls
from musicgen.generation import GenerationConfig, beat_search, generate
from musicgen.generation.beat_search import find_beats, nll_given_beats, propose_beats
from musicgen.piano_roll import PianoRoll


def chords_at(frames, n_frames=80):
    """A roll with a bass note and a higher one at each of the given frames."""
    velocity = np.zeros((n_frames, 88), np.uint8)
    for number, frame in enumerate(frames):
        velocity[frame : frame + 3, [15, 40 + number % 5]] = 70, 90
    return PianoRoll(velocity)


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4)


@pytest.fixture
def prefers(monkeypatch):
    """Let the likelihood be highest for a period in seconds, and 100 nats without beats."""

    def install(period, best=80.0, barred=None):
        def nll(model, roll, candidates):
            found = []
            for beats in candidates:
                if beats is None:
                    found.append(100.0)
                elif beats[:, 1].any() and barred is not None:
                    found.append(barred)
                else:
                    found.append(best + 20 * abs(np.log(np.median(np.diff(beats[:, 0])) / period)))
            return np.array(found)

        monkeypatch.setattr(beat_search, "nll_given_beats", nll)

    return install


@pytest.mark.parametrize(("first", "period"), [(3, 11), (0, 8), (7, 17)])
def test_among_the_candidates_are_the_beats_of_a_steady_pulse(first, period):
    struck = np.arange(first, 80, period)
    errors = []
    for beats in propose_beats(chords_at(struck)):
        nearest = np.abs(beats[:, 0, None] - struck / 20).min(axis=0)
        same_tempo = len(beats[(beats[:, 0] > -0.01) & (beats[:, 0] < 4)]) <= len(struck) + 1
        errors.append(nearest.max() if same_tempo else np.inf)
    assert min(errors) < 0.03


def test_candidates_follow_a_tempo_that_slows_down():
    struck = np.array([0, 8, 16, 25, 34, 44, 55, 67])
    assert min(np.abs(b[:, 0, None] - struck / 20).min(axis=0).max() for b in propose_beats(chords_at(struck))) < 0.06


def test_candidates_reach_beyond_both_ends():
    for beats in propose_beats(chords_at([11, 30, 41, 62])):
        assert beats[0, 0] < 0
        assert beats[-1, 0] > 4
        assert (np.diff(beats[:, 0]) > 0).all()


def test_the_likelihood_is_that_of_the_evaluation(model):
    roll = chords_at([2, 13, 30, 41, 55])
    candidates = propose_beats(roll)[:3]
    told, _ = piece_nlls(model, [replace(roll, beats=beats) for beats in candidates], with_beats=True)
    free, _ = piece_nlls(model, [roll])
    np.testing.assert_allclose(nll_given_beats(model, roll, [*candidates, None]), [*told, *free], rtol=1e-5)


def test_the_likeliest_candidate_wins_and_its_bars_if_they_help(model, prefers):
    roll = chords_at(np.arange(4, 80, 12))
    prefers(0.6)
    found = find_beats(model, roll)
    assert found.bpm == pytest.approx(100, rel=0.03)
    assert not found.beats[:, 1].any()
    assert len(found.candidates) == len(found.periods) == len(found.phases) == len(found.scores)
    prefers(0.6, barred=60.0)
    assert find_beats(model, roll).beats[:, 1].any()


def test_no_beats_are_found_if_they_hardly_help_and_a_model_without_beats_is_not_asked(model, prefers, tiny_model):
    roll = chords_at(np.arange(4, 80, 12))
    prefers(0.6, best=99.5)
    assert find_beats(model, roll).beats is None
    prefers(0.6)
    assert find_beats(model, chords_at([5])).beats is None  # two notes
    deaf = tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4, beats=False)
    assert find_beats(deaf, roll).candidates == []


def test_of_a_long_prime_the_end_is_searched_and_times_count_from_its_beginning(model, prefers):
    prefers(0.5)
    struck = np.concatenate([np.arange(0, 150, 17), np.arange(203, 320, 10)])  # the tempo changes
    found = find_beats(model, chords_at(struck, 320))
    within = found.beats[(found.beats[:, 0] > 10.2) & (found.beats[:, 0] < 15.5), 0]
    assert np.abs(within[:, None] - struck / 20).min(axis=1).max() < 0.06


def test_generate_plays_to_the_beats_that_it_finds_and_marks_them(model, prefers):
    roll = chords_at(np.arange(4, 80, 12))
    prefers(0.6)
    made = generate(model, roll, GenerationConfig(seconds=8, candidates=1))
    assert made.beats_estimated
    assert made.beats[-1, 0] >= 8
    after = np.diff(made.beats[made.beats[:, 0] > 4, 0])
    assert after.std() > 0.005  # rubato, although the estimate is in strict time
    for other in (GenerationConfig(seconds=8, bpm=70), replace(GenerationConfig(seconds=8), beat=False)):
        made = generate(model, roll, other)
        assert not made.beats_estimated
        assert (made.beats is None) == (not other.beat)
