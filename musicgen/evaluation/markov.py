"""A Markov chain that composes baseline pieces."""

import numpy as np
from numpy.typing import ArrayLike

from musicgen.piano_roll import N_PITCHES, PianoRoll


def markov_piece(markov: ArrayLike, prime: PianoRoll, n_frames: int, seed: int) -> PianoRoll:
    """Continue a prime with the Markov baseline.

    The baseline only knows how often each pitch starts and ends.

    Parameters
    ----------
    markov : array, shape (2, 88)
        As in `likelihood.Baselines`: P(on) of each pitch, in row 0 if it was off in the previous frame, in row 1 if on.
    prime : PianoRoll
        At least one frame.
    n_frames : int
        The length of the piece, prime included.
    seed : int
        The same seed gives the same piece again.

    Returns
    -------
    PianoRoll
        All new notes have the median velocity of the prime.
    """
    random = np.random.default_rng(seed)
    p_after_off, p_after_on = np.asarray(markov)
    frames = list(prime.active)
    while len(frames) < n_frames:
        p_on = np.where(frames[-1], p_after_on, p_after_off)
        frames.append(random.random(N_PITCHES) < p_on)
    usual = np.median(prime.velocity[prime.active]) if prime.n_notes else 64
    velocity = (np.array(frames) * usual).astype(np.uint8)
    velocity[: prime.n_frames] = prime.velocity
    return PianoRoll(velocity, prime.fps)
