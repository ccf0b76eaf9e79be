"""Ticks, time and bars of a MIDI file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

DEFAULT_TEMPO = 500_000  # microseconds per quarter note
# The largest values that a MIDI file can hold.
MAX_TEMPO = 2**24 - 1
MAX_TICKS_PER_BEAT = 2**15 - 1
MAX_NUMERATOR = 2**8 - 1

MAX_QUARTERS = 50_000
BEAT_SECONDS = (0.05, 10.0)  # the shortest and the longest beat
MIN_SCORE_NOTES = 8
MIN_ON_GRID = 0.9  # the share of notes
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
        """Return the time of each beat of an excerpt, and whether it starts a bar.

        There are no beats before the first time signature.

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
        """Return whether nine in ten onsets or more lie on beats or simple fractions of beats, as in a score.

        Parameters
        ----------
        onsets : numpy.ndarray of int, shape (n_notes,)
            The tick in which each note begins.
        """
        onset_ticks = np.unique(onsets)
        starts = np.array([0, *(start for start, _, _ in self.metres)])  # beats are counted from these
        last_start = starts[np.searchsorted(starts, onset_ticks, side="right") - 1]
        in_beat = (onset_ticks - last_start) % self.ticks_per_beat
        on_grid = (12 * in_beat % self.ticks_per_beat == 0) | (16 * in_beat % self.ticks_per_beat == 0)
        return len(onsets) >= MIN_SCORE_NOTES and float(on_grid.mean()) >= MIN_ON_GRID

    def since(self, tick: int) -> "TempoMap":
        """Return a tempo map that begins at `tick`.

        Its first time signature is at the first beat from there on. What is left of a bar there becomes a shorter bar.
        """
        changes = {max(start - tick, 0): tempo for start, tempo in self.changes}
        earlier = [metre for metre in self.metres if metre[0] <= tick]
        later = [(start - tick, *fraction) for start, *fraction in self.metres if start > tick]
        metres = _rest_of_bar(earlier[-1], tick, self.ticks_per_beat) if earlier else []
        if later:
            metres = [metre for metre in metres if metre[0] < later[0][0]]
        return TempoMap(self.ticks_per_beat, list(changes.items()), metres + later)

    def refined(self, fps: int) -> "TempoMap | None":
        """Return a finer tempo map in which no two frames share a tick, or None if a MIDI file cannot hold one."""
        slowest = max([DEFAULT_TEMPO, *(tempo for _, tempo in self.changes)])
        factor = 2 * slowest * int(fps) // (self.ticks_per_beat * 10**6) + 1
        if self.ticks_per_beat * factor > MAX_TICKS_PER_BEAT:
            return None
        changes = [(tick * factor, tempo) for tick, tempo in self.changes]
        metres = [(tick * factor, *fraction) for tick, *fraction in self.metres]
        return TempoMap(self.ticks_per_beat * factor, changes, metres)

    def _segments(self, last_tick: int, fps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the first tick, the microseconds per beat and the start time of each tempo.

        The unit of time is a microsecond / `ticks_per_beat`, so that times are whole numbers. The numbers are Python
        integers if 64 bits would overflow.
        """
        changes = [(0, DEFAULT_TEMPO), *self.changes]
        largest = 2 * fps * max(last_tick, changes[-1][0]) * max(tempo for _, tempo in changes)
        kind = np.int64 if largest + self.ticks_per_beat * 10**6 < 2**63 else object
        starts, tempos = np.array(changes, kind).T
        return starts, tempos, np.concatenate([[0], np.cumsum(np.diff(starts) * tempos[:-1])])

    def _beat_ticks(self, end_tick: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ticks of the beats until shortly after `end_tick`, and whether each is a downbeat."""
        ticks = [np.zeros(0, np.int64)]
        is_downbeat = [np.zeros(0, bool)]
        stops = [start for start, _, _ in self.metres[1:]] + [np.iinfo(np.int64).max]
        for (start, numerator, denominator), stop in zip(self.metres, stops):
            units = units_per_beat(numerator, denominator)
            group = 4 * self.ticks_per_beat * units  # ticks in a whole note, times the units of a beat
            n_ticks = min(stop, end_tick + 2 * group) - start
            beat = np.arange(_ceil_divide(n_ticks * denominator, group))
            ticks.append(start + beat * group // denominator)
            is_downbeat.append(beat % (numerator // units) == 0)
        return np.concatenate(ticks), np.concatenate(is_downbeat)


def units_per_beat(numerator: int, denominator: int) -> int:
    """Return the length of a beat in units of the denominator: 3 in 6/8, 9/8 and 12/8, otherwise 1."""
    return 3 if denominator == 8 and numerator in (6, 9, 12) else 1


def _ceil_divide(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _rest_of_bar(metre: tuple[int, int, int], tick: int, ticks_per_beat: int) -> list[tuple[int, int, int]]:
    """Return the time signatures of a metre from `tick` on, with ticks counted from there.

    The first is at the first beat from `tick` on. If a bar has begun before, it covers the rest of that bar,
    and the second is at the next downbeat.
    """
    start, numerator, denominator = metre
    units = units_per_beat(numerator, denominator)
    group = 4 * ticks_per_beat * units
    beat = _ceil_divide((tick - start) * denominator, group)  # the number of the first beat from `tick` on
    n_left = -beat % (numerator // units)
    first_beat = start + beat * group // denominator - tick
    if n_left == 0:
        return [(first_beat, numerator, denominator)]
    downbeat = start + (beat + n_left) * group // denominator - tick
    n_units = n_left * units
    if units_per_beat(n_units, denominator) != units:  # 3/8 would be three beats, 6/8 of 7/8 two
        n_units = numerator  # a whole bar, which the next time signature cuts short
    return [(first_beat, n_units, denominator), (downbeat, numerator, denominator)]


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
    clock = np.rint(beats[:, 0] * 10**6).astype(np.int64)  # in microseconds
    tempos = np.diff(clock)
    first = int(np.searchsorted(clock, 0))
    start = int(clock[first])
    changes = []
    lead = 0  # the ticks before the first beat
    if start:
        tempo_before = int(tempos[max(first - 1, 0)])
        lead = max(round(TICKS_PER_BEAT * start / tempo_before), 1)
        changes.append((0, round(TICKS_PER_BEAT * start / lead)))
    changes += [(lead + TICKS_PER_BEAT * beat, tempo) for beat, tempo in enumerate(tempos[first:].tolist())]
    if not all(1 <= tempo <= MAX_TEMPO for _, tempo in changes):
        return None
    bars = _bars(beats[first:, 1])
    if any(length > MAX_NUMERATOR for _, length in bars):
        bars = []
    metres = [(lead + TICKS_PER_BEAT * beat, length, 4) for beat, length in _changes(bars)]
    return TempoMap(TICKS_PER_BEAT, _changes(changes), metres)


def _bars(is_downbeat: np.ndarray) -> list[tuple[int, int]]:
    """Return the first beat and the number of beats of each bar; an empty list if no bar is complete."""
    downbeats = np.flatnonzero(is_downbeat).tolist()
    if len(downbeats) < 2:
        return []
    bars = list(zip(downbeats, np.diff(downbeats).tolist()))
    if downbeats[0]:
        bars.insert(0, (0, downbeats[0]))
    # The last bar is as long as the one before, or longer if it has more beats already: that one may be an upbeat.
    n_last = len(is_downbeat) - downbeats[-1]
    bars.append((downbeats[-1], max(n_last, bars[-1][1])))
    return bars


def _changes(timed: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep only the pairs whose value differs from the value of the pair before."""
    return [next(group) for _, group in groupby(timed, key=lambda pair: pair[1])]
