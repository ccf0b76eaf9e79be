"""What a model learns from: windows cut from the pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from musicgen.dataset import RollCache
from musicgen.piano_roll import N_PITCHES, PianoRoll, pad
from musicgen.support.settings import Settings, setting


@dataclass(frozen=True)
class WindowConfig(Settings):
    """How training excerpts are cut from the pieces.

    Parameters
    ----------
    window_frames : int
        Frames that are predicted in one window (2..8192).
    batch_size : int
        Windows in one batch (1..1024).
    max_transpose : int
        Each window is transposed by up to so many semitones (0..12), as far as the piano reaches.
    max_stretch : float
        Each window is played slower or faster by up to this share (0..0.5) of its tempo.
    composer_dropout : float
        Share of the windows whose composer the model is not told (0..1), so that it can also do without.
    seed : int
        Fixes all that is drawn by chance.
    """

    window_frames: int = setting(128, 2, 8192, usual=(32, 1024))
    batch_size: int = setting(8, 1, 1024, usual=(1, 64))
    max_transpose: int = setting(0, 0, 12)
    max_stretch: float = setting(0.0, 0, 0.5)
    composer_dropout: float = setting(0.2, 0, 1)
    seed: int = setting(0, 0, 2**63 - 1)


class WindowBatches:
    """One epoch after the other of shuffled windows, each within one piece.

    Unless windows are stretched, every frame but the first of a piece is predicted at least once in an epoch. The
    batches of an epoch depend on the seed and the epoch alone, so that a stopped run can take up where it was.

    Parameters
    ----------
    rolls : RollCache
        The pieces to cut.
    config : WindowConfig
        How to cut them.
    composers : sequence of str
        Those that the model tells apart.
    """

    def __init__(self, rolls: RollCache, config: WindowConfig, composers: Sequence[str] = ()):
        self.rolls, self.config = rolls, config
        places = {composer: place for place, composer in enumerate(composers, 1)}
        self.labels = np.array([places.get(piece.composer, 0) for piece in rolls.pieces])

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        number : int
            Which epoch, from 0.

        Yields
        ------
        velocity : numpy.ndarray of uint8, shape (batch, window_frames + 1, 88)
            Frame t + 1 is the target of frame t; short windows are padded with zeros.
        lengths : numpy.ndarray of int, shape (batch,)
            Frames of each window that are music, not padding.
        labels : numpy.ndarray of int, shape (batch,)
            The place of each window's composer, counted from 1, or 0.
        """
        random = np.random.default_rng([self.config.seed, number])
        windows = random.permutation(self._cut(random))
        for first in range(0, len(windows), self.config.batch_size):
            chosen = windows[first : first + self.config.batch_size]
            excerpts = [self._excerpt(*window, random) for window in chosen]
            told = random.random(len(chosen)) >= self.config.composer_dropout
            yield *pad(excerpts, self.config.window_frames + 1), self.labels[chosen[:, 0]] * told

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
        semitones = random.integers(-self.config.max_transpose, self.config.max_transpose + 1)
        factor = 1 + random.uniform(-self.config.max_stretch, self.config.max_stretch)
        first = self.rolls.starts[piece] + start
        n_frames = round((self.config.window_frames + 1) / factor)
        excerpt = self.rolls.frames[first : first + min(n_frames, self.rolls.lengths[piece] - start)]
        excerpt = transpose(excerpt, semitones)
        return stretch(excerpt, factor)[: self.config.window_frames + 1] if self.config.max_stretch else excerpt


def transpose(velocity: np.ndarray, semitones: int) -> np.ndarray:
    """Move music up or down the piano, as far as its outermost notes allow.

    Parameters
    ----------
    velocity : numpy.ndarray, shape (n_frames, 88)
    semitones : int
        Up where positive.

    Returns
    -------
    numpy.ndarray, same shape and type
    """
    sounding = np.flatnonzero(velocity.any(axis=0))
    if not len(sounding):
        return velocity
    return np.roll(velocity, np.clip(semitones, -sounding[0], N_PITCHES - 1 - sounding[-1]), axis=1)


def stretch(velocity: np.ndarray, factor: float) -> np.ndarray:
    """Play music slower or faster: every note keeps its share of the time, but at least one frame.

    Parameters
    ----------
    velocity : numpy.ndarray of uint8, shape (n_frames, 88)
    factor : float
        Slower where above 1.

    Returns
    -------
    numpy.ndarray of uint8, shape (round(n_frames * factor), 88)
    """
    notes = PianoRoll(np.asarray(velocity)).notes
    n_frames = round(len(velocity) * factor)
    notes["start_frame"] = np.minimum(np.rint(notes["start_frame"] * factor), n_frames - 1)
    notes["end_frame"] = np.maximum(np.rint(notes["end_frame"] * factor), notes["start_frame"] + 1)
    return PianoRoll.from_notes(notes, n_frames=n_frames).velocity
