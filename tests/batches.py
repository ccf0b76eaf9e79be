"""Training batches for tests."""

import numpy as np

from musicgen.beats import N_BEAT_FEATURES
from musicgen.dataset import Batch
from musicgen.home import N_HOME_FEATURES
from musicgen.piano_roll import N_PITCHES


def batch_of(velocity, lengths, composers, seed=0):
    """Complete a batch with a random pedal and random beats."""
    random, shape = np.random.default_rng(seed), velocity.shape[:2]
    pedal = (random.random(shape) < 0.5).astype(np.float32)
    beats = random.normal(size=(*shape, N_BEAT_FEATURES)).astype(np.float32)
    home = random.normal(size=(len(velocity), N_PITCHES, N_HOME_FEATURES)).astype(np.float32)
    return Batch(velocity, pedal, beats, lengths, composers, home)
