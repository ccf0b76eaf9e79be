"""Openings of bundled performances, so that a prime needs no data."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.sample import sample_corpus
from musicgen.dataset import Piece
from musicgen.midi import read_performance
from musicgen.piano_roll import DEFAULT_FPS, PianoRoll


@dataclass(frozen=True)
class Prime:
    """A performance in the bundled sample: its title, and the end of its file name."""

    title: str
    file: str


PRIMES = {
    "Bach": Prime("Prelude in A major, BWV 864", "Prelude_bwv_864.midi"),
    "Beethoven": Prime("Sonata in F sharp major, op. 78, second movement", "Piano_Sonatas_24_2.midi"),
    "Chopin": Prime("Étude in C sharp minor, op. 10 no. 4", "Etudes_op_10_4.midi"),
    "Liszt": Prime("Feux follets, S. 139 no. 5", "Transcendental_Etudes_5.midi"),
    "Schubert": Prime("Impromptu in E flat major, op. 90 no. 2", "Impromptu_op_90_D_899_2.midi"),
}


def shipped_prime(composer: str, n_beats: float = 8, fps: int = DEFAULT_FPS) -> PianoRoll:
    """Return the opening of a bundled performance as a roll, with its pedal and its annotated beats.

    Parameters
    ----------
    composer : str
        A key of `PRIMES`.
    n_beats : float
        Annotated beats, counted from the first note.
    fps : int
        Frames per second.

    Raises
    ------
    ValueError
        If there is no opening of the composer, or it has fewer beats.
    """
    return first_annotated_beats(_recording(composer, fps), n_beats)


def first_annotated_beats(roll: PianoRoll, n_beats: float = 8) -> PianoRoll:
    """Return the opening of a roll: its first `n_beats` annotated beats, counted from the first note."""
    first = roll.notes["start_frame"][0]
    beats = roll.beats[roll.beats[:, 0] >= (first - 1) / roll.fps, 0]
    if not 0 < n_beats <= len(beats) - 1:
        raise ValueError(f"n_beats must be above 0 and at most {len(beats) - 1} here, not {n_beats!r}")
    end = np.interp(n_beats, np.arange(len(beats)), beats)
    return roll[first : round(float(end) * roll.fps)]


@cache
def _piece(ending: str) -> Piece:
    pieces = load_corpus(sample_corpus())
    return next(piece for piece in pieces if piece.name.endswith(ending) and piece.split != "test")


def prime_recording(composer: str, fps: int = DEFAULT_FPS) -> PianoRoll:
    """Return the performance that begins with `shipped_prime`, from its first note to its end."""
    roll = _recording(composer, fps)
    return roll[roll.notes["start_frame"][0] :]


def _recording(composer: str, fps: int) -> PianoRoll:
    if composer not in PRIMES:
        raise ValueError(f"no opening by {composer!r} is bundled, only by {', '.join(PRIMES)}")
    piece = _piece(PRIMES[composer].file)
    return replace(read_performance(piece.path).to_roll(fps), beats=piece.beats)
