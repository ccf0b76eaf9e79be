"""Infilling: an opening and an ending are given, and the middle that fits best is kept."""

import numpy as np
import pytest

from musicgen.evaluation.likelihood import piece_nlls
from musicgen.generation import GenerationConfig, fill_between, generate_several
from musicgen.generation.infilling import ending_nlls, join
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

CONFIG = GenerationConfig(seconds=3, seed=4)


def roll_of(*notes, n_frames=None, **more):
    """A roll from (pitch, velocity, first frame, frame of the release)."""
    roll = PianoRoll.from_notes(np.array(list(notes), NOTE_DTYPE), n_frames=n_frames)
    return PianoRoll(roll.velocity, **more)


PRIME = roll_of((60, 70, 0, 9), (67, 50, 12, 30))
ENDING = roll_of((64, 80, 0, 25), (48, 40, 20, 44), n_frames=50)


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4, composers=("Bach",), home=True)


def test_a_piece_begins_with_the_opening_and_ends_with_the_ending(model):
    (piece,) = fill_between(model, PRIME, ENDING, CONFIG, n_middles=3)
    assert piece.n_frames == 3 * 20 + 50
    assert np.array_equal(piece.velocity[:30], PRIME.velocity)
    assert np.array_equal(piece.velocity[60:], ENDING.velocity)


def test_the_middles_after_which_the_ending_is_likeliest_are_kept_in_order(model):
    config = GenerationConfig(seconds=3, seed=4, candidates=1, home=False)
    best = fill_between(model, PRIME, ENDING, config, n_pieces=3, n_middles=5)
    all_five = [join(each, ENDING) for each in generate_several(model, PRIME, config, 5)]

    def nll_of_ending(piece):
        with_two_seconds, before = (piece_nlls(model, [piece[:n]])[0].sum() for n in (100, 60))
        return with_two_seconds - before

    ranked = sorted(all_five, key=nll_of_ending)
    assert all(np.array_equal(a.velocity, b.velocity) for a, b in zip(best, ranked))
    assert ending_nlls(model, ranked[:1], 60)[0] * 40 == pytest.approx(nll_of_ending(ranked[0]), rel=1e-4)


def test_a_pitch_that_goes_on_is_struck_again_by_the_ending():
    start = roll_of((64, 30, 0, 10), (72, 90, 4, 10))
    joined = join(start, roll_of((64, 100, 0, 5)))
    assert joined.notes.tolist() == [(64, 30, 0, 9), (72, 90, 4, 10), (64, 100, 10, 15)]


def test_beats_and_pedal_go_on_in_the_ending():
    pedal = np.array([True] * 3 + [False] * 7)
    start = roll_of((60, 70, 0, 10), pedal=pedal, beats=np.array([[0, 1], [0.4, 0.0], [0.8, 0]]))
    ending = roll_of((62, 70, 0, 4), beats=np.array([[-0.2, 0], [0.15, 1.0]]))
    joined = join(start, ending)
    assert joined.pedal.tolist() == [True] * 3 + [False] * 11
    assert joined.beats.tolist() == [[0, 1], [0.4, 0], [0.65, 1]]


@pytest.mark.parametrize(
    ("prime", "ending", "n", "fault"),
    [
        (None, ENDING, 1, "opening"),
        (PRIME, PianoRoll(ENDING.velocity * 0), 1, "notes"),
        (PRIME, PianoRoll(ENDING.velocity, fps=10), 1, "20 frames per second"),
        (PRIME, ENDING, 4, "of 3 middles"),
    ],
)
def test_what_cannot_be_filled_is_refused(model, prime, ending, n, fault):
    with pytest.raises(ValueError, match=fault):
        fill_between(model, prime, ending, CONFIG, n, n_middles=3)


def test_the_last_beat_of_the_middle_makes_room_for_the_first_of_the_ending():
    start = roll_of((60, 70, 0, 10), beats=np.array([[0, 1], [0.24, 0], [0.48, 0.0]]))
    ending = roll_of((62, 70, 0, 20), beats=np.array([[0, 1], [0.5, 0.0]]))
    assert join(start, ending).beats.tolist() == [[0, 1], [0.24, 0], [0.5, 1], [1.0, 0]]


def test_a_long_middle_is_scored_as_in_one_go(model, monkeypatch):
    pieces = [join(each, ENDING) for each in generate_several(model, PRIME, CONFIG, 2)]
    in_one_go = ending_nlls(model, pieces, 60)
    monkeypatch.setattr("musicgen.generation.infilling.CHUNK_FRAMES", 7)
    np.testing.assert_allclose(ending_nlls(model, pieces, 60), in_one_go, rtol=1e-5)
