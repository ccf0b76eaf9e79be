"""The Markov baseline composes by its two rows of probabilities."""

import numpy as np

from musicgen.evaluation.markov import markov_piece
from musicgen.piano_roll import PianoRoll


def test_the_markov_baseline_goes_on_from_the_prime_by_its_two_rows():
    velocity = np.zeros((3, 88), np.uint8)
    velocity[1, 4], velocity[2, [5, 9]] = 20, [50, 90]
    prime = PianoRoll(velocity, fps=10)
    markov = np.stack([np.linspace(0.02, 0.3, 88), np.linspace(0.9, 0.5, 88)])
    piece = markov_piece(markov, prime, 6000, seed=3)
    assert piece[:3] == prime and (piece.n_frames, piece.fps) == (6000, 10)
    assert set(np.unique(piece.velocity[3:])) == {0, 50}
    before, after = piece.active[2:-1], piece.active[3:]
    for row, state in zip(markov, (~before, before)):
        counted = (state & after).sum(axis=0) / state.sum(axis=0)
        np.testing.assert_allclose(counted, row, atol=0.07)
    assert markov_piece(markov, prime, 6000, seed=3) == piece != markov_piece(markov, prime, 6000, seed=4)


def test_after_a_silent_prime_the_markov_baseline_takes_the_usual_velocity():
    piece = markov_piece(np.full((2, 88), 0.5), PianoRoll(np.zeros((1, 88), np.uint8)), 20, seed=0)
    assert set(np.unique(piece.velocity)) == {0, 64}
