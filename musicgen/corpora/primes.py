"""Openings typed from public-domain scores, so that a prime needs no data.

A voice reads ``name:beats``, as in ``"C4:2 Eb4+G4:1/2 r A4"``: ``+`` joins a chord, ``r`` is a rest, and a length
holds until another is given. What the pedal adds is left out.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from musicgen.midi import RAW_NOTE_DTYPE, Performance, TempoMap
from musicgen.piano_roll import DEFAULT_FPS, PianoRoll

TICKS_PER_BEAT = 480


@dataclass(frozen=True)
class Prime:
    """The opening of a piece: voices of one length, in the notation above, struck with one velocity."""

    title: str
    beats_per_minute: int
    velocity: int
    voices: tuple[str, ...]


PRIMES = {
    "Bach": Prime("Prelude in C major, BWV 846", 75, 56, (
        2 * "r:1/2 G4:1/4 C5 E5 G4 C5 E5 " + 2 * "r:1/2 A4:1/4 D5 F5 A4 D5 F5 "
        + 2 * "r:1/2 G4:1/4 D5 F5 G4 D5 F5 " + 2 * "r:1/2 G4:1/4 C5 E5 G4 C5 E5 ",
        2 * "r:1/4 E4:7/4 " + 4 * "r:1/4 D4:7/4 " + 2 * "r:1/4 E4:7/4 ",
        4 * "C4:2 " + 2 * "B3 " + 2 * "C4 ",
    )),
    "Beethoven": Prime("Sonata in C sharp minor, op. 27 no. 2", 54, 40, (
        8 * "G#3:1/3 C#4 E4 " + 2 * "A3 C#4 E4 " + 2 * "A3 D4 F#4 " + "G#3 B#3 F#4 G#3 C#4 E4 G#3 C#4 D#4 F#3 B#3 D#4",
        "C#2+C#3:4 B1+B2 A1+A2:2 F#1+F#2 G#1+G#2 G#1+G#2",
    )),
    "Chopin": Prime("Étude in A flat major, op. 25 no. 1", 104, 60, (
        "Eb5:1 " + 4 * "Eb5:1/6 Ab4 C5 Eb4 Ab4 C5 " + "F5 Ab4 C5 Eb4 Ab4 C5 " + 3 * "Eb5 Ab4 C5 Eb4 Ab4 C5 "
        + 2 * "Eb5 Bb4 Db5 Eb4 Bb4 Db5 " + "F5 Bb4 Db5 Eb4 Bb4 Db5 " + "Eb5 Bb4 Db5 Eb4 Bb4 Db5",
        "r:1 Ab1:1/6 Eb3 Ab3 C4 Ab3 Eb3 " + 7 * "Ab2 Eb3 Ab3 C4 Ab3 Eb3 " + 4 * "Ab2 Eb3 G3 Db4 G3 Eb3 ",
    )),
    "Liszt": Prime("Waldesrauschen, S. 145 no. 1", 100, 60, (
        "r:1/2 F5+Ab5:1/6 Eb5 C5 " + 11 * "Ab4 Eb5 C5 F5+Ab5 Eb5 C5 ",
        "r:9/2 Gb4:1 F4:1/2 D4 F4 Eb4 Db4 B3 Db4 C4 Bb3 G3 Bb3 Ab3 Gb3",
    )),
}  # fmt: skip


def shipped_prime(composer: str, n_beats: float = 8, fps: int = DEFAULT_FPS) -> PianoRoll:
    """Sample the first beats of a shipped opening; a note that sounds on is cut.

    Parameters
    ----------
    composer : str
        A key of `PRIMES`.
    n_beats : float
        Crotchets at its own tempo, an upbeat included.
    fps : int
        Frames a second.

    Raises
    ------
    ValueError
        If no opening of the composer is shipped, or not so many beats of it.
    """
    if composer not in PRIMES:
        raise ValueError(f"no opening by {composer!r} is shipped, only by {', '.join(PRIMES)}")
    prime = PRIMES[composer]
    notes = [(pitch, prime.velocity, 0, *span) for voice in prime.voices for pitch, *span in read_voice(voice)]
    n_typed = max(end for *_, end in notes) / TICKS_PER_BEAT
    if not 0 < n_beats <= n_typed:
        raise ValueError(f"n_beats must be above 0 and at most {n_typed:g} for {composer}, not {n_beats!r}")
    tempo_map = TempoMap(TICKS_PER_BEAT, [(0, round(60 * 10**6 / prime.beats_per_minute))])
    performance = Performance(Path(prime.title), np.array(notes, RAW_NOTE_DTYPE), {}, tempo_map, {})
    return performance.first_beats(n_beats, fps)


def read_voice(voice: str) -> list[tuple[int, int, int]]:
    """Return the notes of a voice as (pitch, start_tick, end_tick)."""
    notes, start, length = [], 0, TICKS_PER_BEAT
    for token in voice.split():
        names, _, beats = token.partition(":")
        length = int(Fraction(beats) * TICKS_PER_BEAT) if beats else length
        notes += [(pitch_of(name), start, start + length) for name in names.split("+") if name != "r"]
        start += length
    return notes


def pitch_of(name: str) -> int:
    """Return the MIDI number of a note's name: 60 for C4, 61 for C#4 and Db4."""
    return 12 * (int(name[-1]) + 1) + "C D EF G A B".index(name[0]) + name.count("#") - name.count("b")
