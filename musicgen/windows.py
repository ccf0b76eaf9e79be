"""What a model learns from: windows cut from the pieces."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from musicgen.dataset import RollCache
from musicgen.piano_roll import N_KEYS, pad


@dataclass(frozen=True)
class WindowConfig:
    """How training excerpts are cut from the pieces.

    Parameters
    ----------
    window_frames : int
        Frames that are predicted in one window (2..8192).
    batch_size : int
        Windows in one batch (1..1024).
    max_transpose : int
        Each window is transposed by up to so many semitones (0..12), as far as the piano reaches.
    seed : int
        Fixes the cuts, their order and the transpositions.
    """

    window_frames: int = 128
    batch_size: int = 8
    max_transpose: int = 0
    seed: int = 0

    def __post_init__(self):
        limits = {
            "window_frames": (2, 8192),
            "batch_size": (1, 1024),
            "max_transpose": (0, 12),
            "seed": (0, 2**63 - 1),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")


class WindowBatches:
    """One epoch after the other of shuffled windows, each within one piece.

    Every frame but the first of a piece is predicted at least once in an epoch. The batches of an epoch depend on
    the seed and the epoch alone, so that a stopped run can take up where it was.

    Parameters
    ----------
    rolls : RollCache
        The pieces to cut.
    config : WindowConfig
        How to cut them.
    """

    def __init__(self, rolls: RollCache, config: WindowConfig):
        self.rolls, self.config = rolls, config

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        number : int
            Which epoch, from 0.

        Yields
        ------
        active : numpy.ndarray of bool, shape (batch, window_frames + 1, 88)
            Frame t + 1 is the target of frame t; short windows are padded with zeros.
        lengths : numpy.ndarray of int, shape (batch,)
            Frames of each window that are music, not padding.
        """
        random = np.random.default_rng([self.config.seed, number])
        windows = random.permutation(self._cut(random))
        for first in range(0, len(windows), self.config.batch_size):
            excerpts = [self._excerpt(*window, random) for window in windows[first : first + self.config.batch_size]]
            yield pad(excerpts, self.config.window_frames + 1)

    def n_batches(self, number: int) -> int:
        """Return how many batches epoch `number` has."""
        n_windows = len(self._cut(np.random.default_rng([self.config.seed, number])))
        return -(-n_windows // self.config.batch_size)

    def _cut(self, random: np.random.Generator) -> np.ndarray:
        """Lay a grid of windows at a random phase over each piece; the outermost are moved inside it."""
        step = self.config.window_frames
        phases = random.integers(step, size=len(self.rolls))
        cuts = []
        for piece, (phase, length) in enumerate(zip(phases, self.rolls.lengths)):
            if length < 2:
                continue
            starts = np.clip(np.arange(-phase, length - 1, step), 0, max(0, length - 1 - step))
            cuts.append(np.column_stack([np.full_like(starts, piece), starts]))
        if not cuts:
            raise ValueError("no piece has two frames or more: there is nothing to predict")
        return np.concatenate(cuts)

    def _excerpt(self, piece: int, start: int, random: np.random.Generator) -> np.ndarray:
        active = self.rolls[piece][start : start + self.config.window_frames + 1].active
        return transpose(active, random.integers(-self.config.max_transpose, self.config.max_transpose + 1))


def transpose(active: np.ndarray, semitones: int) -> np.ndarray:
    """Move music up or down the piano, as far as its outermost notes allow.

    Parameters
    ----------
    active : numpy.ndarray, shape (n_frames, 88)
    semitones : int
        Up where positive.

    Returns
    -------
    numpy.ndarray, same shape and type
    """
    sounding = np.flatnonzero(active.any(axis=0))
    if not len(sounding):
        return active
    return np.roll(active, np.clip(semitones, -sounding[0], N_KEYS - 1 - sounding[-1]), axis=1)
