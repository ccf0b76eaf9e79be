"""Ticks, time and bars of a MIDI file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

DEFAULT_TEMPO = 500_000  # microseconds per quarter note
MAX_TEMPO, MAX_TICKS_PER_BEAT, MAX_NUMERATOR = 2**24 - 1, 2**15 - 1, 2**8 - 1  # the largest that a file can hold
MAX_QUARTERS = 50_000
BEAT_SECONDS = (0.05, 10.0)  # the shortest and the longest beat
MIN_SCORE_NOTES, MIN_ON_GRID = 8, 0.9
TICKS_PER_BEAT = 480  # in a file that follows a roll's beats


@dataclass(frozen=True)
class TempoMap:
    """Converts the ticks of a MIDI file to times, beats and bars.

    Parameters
    ----------
    ticks_per_beat : int
        Ticks per quarter note.
    changes : list of (int, int)
        (tick, microseconds per quarter note) in ascending order; 120 BPM before the first.
    metres : list of (int, int, int)
        Time signatures as (tick, numerator, denominator) in ascending order.
    """

    ticks_per_beat: int
    changes: list[tuple[int, int]]
    metres: list[tuple[int, int, int]] = field(default_factory=list)

    def frames(self, ticks: np.ndarray, fps: int) -> np.ndarray:
        """Return the frame of each tick, rounded half up.

        The sum of ``delta_ticks * microseconds`` is an integer. With floats one onset in a hundred of MAESTRO would
        lie in the wrong frame.

        Parameters
        ----------
        ticks : numpy.ndarray of int, any shape
        fps : int
            Frames per second.

        Returns
        -------
        numpy.ndarray of int64, same shape
        """
        starts, tempos, clocks = self._segments(int(ticks.max(initial=0)), int(fps))
        segment = np.searchsorted(starts, ticks, side="right") - 1
        clock = clocks[segment] + (ticks - starts[segment]) * tempos[segment]
        denominator = self.ticks_per_beat * 10**6
        return ((2 * int(fps) * clock + denominator) // (2 * denominator)).astype(np.int64)

    def ticks(self, frames: np.ndarray, fps: int) -> np.ndarray:
        """Return the tick nearest to the time of each frame."""
        starts, tempos, clocks = self._segments(0, int(fps))
        clock = frames.astype(object) * (self.ticks_per_beat * 10**6) // int(fps)
        segment = np.searchsorted(clocks, clock, side="right") - 1
        passed = (2 * (clock - clocks[segment]) + tempos[segment]) // (2 * tempos[segment])
        return (starts[segment] + passed).astype(np.int64)

    def beats(self, first: int, last: int, fps: int) -> np.ndarray | None:
        """Return the beats of an excerpt, from the first time signature on.

        A beat is one unit of the denominator of the time signature; in 6/8, 9/8 and 12/8 it is three units.

        Parameters
        ----------
        first, last : int
            The frames in which the excerpt begins and ends.
        fps : int
            Frames per second.

        Returns
        -------
        numpy.ndarray of float64, shape (n_beats, 2), or None
            As in `PianoRoll`, counted from `first`, up to the first beat at or after `last`. None if there is no
            beat, or if the length of one is implausible.
        """
        end_tick = int(self.ticks(np.array([last]), fps)[0])
        if end_tick > MAX_QUARTERS * self.ticks_per_beat:
            return None
        ticks, is_downbeat = self._beat_ticks(end_tick)
        seconds = self.frames(ticks, 10**6) / 10**6
        n_beats = np.searchsorted(seconds, last / fps) + 1
        lengths = np.diff(seconds[:n_beats])
        if not len(lengths) or lengths.min() < BEAT_SECONDS[0] or lengths.max() > BEAT_SECONDS[1]:
            return None
        return np.stack([seconds - first / fps, is_downbeat], axis=1)[:n_beats]

    def is_followed_by(self, onsets: np.ndarray) -> bool:
        """Return whether most notes begin on beats or simple fractions of beats, as in a score.

        Parameters
        ----------
        onsets : numpy.ndarray of int, shape (n_notes,)
            The tick in which each note begins.
        """
        ticks = np.unique(onsets) % self.ticks_per_beat
        on_grid = (12 * ticks % self.ticks_per_beat == 0) | (16 * ticks % self.ticks_per_beat == 0)
        return len(onsets) >= MIN_SCORE_NOTES and float(on_grid.mean()) >= MIN_ON_GRID

    def since(self, tick: int) -> "TempoMap":
        """Return a tempo map that begins at `tick`.

        What is left of a bar there becomes a shorter bar.
        """
        changes = {max(at - tick, 0): tempo for at, tempo in self.changes}
        metres = {}
        for start, numerator, denominator in [metre for metre in self.metres if metre[0] <= tick][-1:]:
            unit = max(4 * self.ticks_per_beat // denominator, 1)
            n_left = (start - tick) // unit % numerator
            metres = {0: (n_left, denominator), n_left * unit: (numerator, denominator)}
        metres |= {at - tick: (numerator, denominator) for at, numerator, denominator in self.metres if at > tick}
        return TempoMap(self.ticks_per_beat, [*changes.items()], sorted((at, *metre) for at, metre in metres.items()))

    def refined(self, fps: int) -> "TempoMap | None":
        """Return a tempo map in which no two frames share a tick, or None if that takes too many ticks per beat."""
        slowest = max([DEFAULT_TEMPO, *(tempo for _, tempo in self.changes)])
        factor = 2 * slowest * int(fps) // (self.ticks_per_beat * 10**6) + 1
        if self.ticks_per_beat * factor > MAX_TICKS_PER_BEAT:
            return None
        finer = ([(tick * factor, *value) for tick, *value in some] for some in (self.changes, self.metres))
        return TempoMap(self.ticks_per_beat * factor, *finer)

    def _segments(self, last_tick: int, fps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each tempo its first tick, its value, and the time at which it begins.

        The numbers are Python integers if 64 bits would overflow.
        """
        changes = [(0, DEFAULT_TEMPO), *self.changes]
        largest = 2 * fps * max(last_tick, changes[-1][0]) * max(tempo for _, tempo in changes)
        kind = np.int64 if largest + self.ticks_per_beat * 10**6 < 2**63 else object
        starts, tempos = np.array(changes, kind).T
        return starts, tempos, np.concatenate([[0], np.cumsum(np.diff(starts) * tempos[:-1])])

    def _beat_ticks(self, end_tick: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ticks of the beats until shortly after `end_tick`, and whether each is a downbeat."""
        found = [(np.zeros(0, np.int64), np.zeros(0, bool))]
        nexts = [metre[0] for metre in self.metres[1:]] + [np.iinfo(np.int64).max]
        for (start, numerator, denominator), stop in zip(self.metres, nexts):
            group = 3 if denominator == 8 and numerator in (6, 9, 12) else 1
            whole = 4 * self.ticks_per_beat * group
            beat = np.arange(-((start - min(stop, end_tick + 2 * whole)) * denominator // whole))
            found.append((start + beat * whole // denominator, beat % (numerator // group) == 0))
        ticks, is_downbeat = map(np.concatenate, zip(*found))
        return ticks, is_downbeat


def tempo_map_of_beats(beats: np.ndarray | None) -> TempoMap | None:
    """Return a tempo map in which each beat is a quarter note.

    It has a time signature wherever the length of the bars changes.

    Parameters
    ----------
    beats : numpy.ndarray, shape (n_beats, 2), or None
        As in `PianoRoll`. Those before the first frame are left out.

    Returns
    -------
    TempoMap or None
        None if there are fewer than two beats, or a MIDI file cannot hold their tempo.
    """
    if beats is None or (beats[:, 0] >= 0).sum() < 2:
        return None
    clock = np.rint(beats[:, 0] * 10**6).astype(np.int64)
    first = int(np.searchsorted(clock, 0))
    start, tempos = int(clock[first]), np.diff(clock)
    lead = max(round(TICKS_PER_BEAT * start / int(tempos[max(first - 1, 0)])), 1) if start else 0
    changes = [(0, round(TICKS_PER_BEAT * start / lead))] if lead else []
    changes += [(lead + TICKS_PER_BEAT * beat, tempo) for beat, tempo in enumerate(tempos[first:].tolist())]
    if not all(1 <= tempo <= MAX_TEMPO for _, tempo in changes):
        return None
    downbeats = np.flatnonzero(beats[first:, 1]).tolist()
    bars = list(zip(downbeats, np.diff(downbeats).tolist()))
    if bars and downbeats[0]:
        bars.insert(0, (0, downbeats[0]))
    if any(length > MAX_NUMERATOR for _, length in bars):
        bars = []
    metres = [(lead + TICKS_PER_BEAT * beat, length, 4) for beat, length in _changes(bars)]
    return TempoMap(TICKS_PER_BEAT, _changes(changes), metres)


def _changes(timed: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop each pair whose second value equals that of the pair before it."""
    return [next(group) for _, group in groupby(timed, key=lambda pair: pair[1])]
