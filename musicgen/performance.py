"""A piece as its MIDI file tells it, in ticks, and its sampling onto the constant grid of a piano roll."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen.piano_roll import DEFAULT_FPS, NOTE_DTYPE, PianoRoll, check_fps

MAX_SECONDS = 420.0
DEFAULT_TEMPO = 500_000
PEDAL_DOWN = 64

RAW_NOTE_DTYPE = np.dtype([(name, np.int64) for name in ("pitch", "velocity", "channel", "start_tick", "end_tick")])


class MidiError(ValueError):
    """A MIDI file that cannot be sampled; the message names the file and the reason."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{str(path)!r}: {reason}")
        self.path, self.reason = Path(path), reason

    def __reduce__(self):
        return MidiError, (self.path, self.reason)


@dataclass(frozen=True)
class TempoMap:
    """Where the ticks of a file lie in time, in exact integers.

    Parameters
    ----------
    ticks_per_beat : int
        The file's resolution.
    changes : list of (int, int)
        (tick, microseconds per beat) by tick, of all tracks; before the first the tempo is 120 BPM.
    """

    ticks_per_beat: int
    changes: list[tuple[int, int]]

    def frames(self, ticks: np.ndarray, fps: int) -> np.ndarray:
        """Return the frame of each tick: its time in frames, rounded half up.

        The time is ``fps * sum(delta_ticks * microseconds_per_beat) / (ticks_per_beat * 10**6)``, summed in
        integers: a sum of floats puts one onset in a hundred of MAESTRO into the wrong frame.

        Parameters
        ----------
        ticks : numpy.ndarray of int, any shape
        fps : int
            Frames a second.

        Returns
        -------
        numpy.ndarray of int64, same shape
        """
        changes = [(0, DEFAULT_TEMPO), *self.changes]
        last_tick = max(int(ticks.max(initial=0)), changes[-1][0])
        change_ticks, tempos = np.array(changes, self._integer_type(last_tick, fps)).T
        clocks = np.concatenate([[0], np.cumsum(np.diff(change_ticks) * tempos[:-1])])
        latest = np.searchsorted(change_ticks, ticks, side="right") - 1
        clock = clocks[latest] + (ticks - change_ticks[latest]) * tempos[latest]
        denominator = self.ticks_per_beat * 10**6
        return ((2 * int(fps) * clock + denominator) // (2 * denominator)).astype(np.int64)

    def _integer_type(self, last_tick: int, fps: int) -> type:
        """Take 64-bit integers where they are sure to hold the sum, else Python's own of any size."""
        slowest = max([DEFAULT_TEMPO, *(tempo for _, tempo in self.changes)])
        return np.int64 if 2 * int(fps) * last_tick * slowest + self.ticks_per_beat * 10**6 < 2**63 else object


@dataclass(frozen=True)
class Performance:
    """What a MIDI file says about a piano: its notes and pedal in ticks, before any sampling.

    Parameters
    ----------
    path : Path
        The file, for messages.
    notes : numpy.ndarray
        Structured: pitch, velocity, channel, start_tick, end_tick.
    pedal : dict of int to list of (int, int)
        For each channel, (tick, value 0..127) of the sustain pedal by tick.
    tempo_map : TempoMap
        The file's clock.
    dropped : dict of str to int
        Notes left out, by reason: ``never_released``, ``drums``, ``off_the_piano``.
    """

    path: Path
    notes: np.ndarray
    pedal: dict[int, list[tuple[int, int]]]
    tempo_map: TempoMap
    dropped: dict[str, int]

    def to_roll(self, fps: int = DEFAULT_FPS, sustain: bool = False, max_seconds: float = MAX_SECONDS) -> PianoRoll:
        """Sample the performance at a constant rate (the poster: 20 Hz, cut at seven minutes).

        A note sounds from its onset frame up to its release frame, release excluded, and at least one frame.

        Parameters
        ----------
        fps : int
            Frames a second.
        sustain : bool
            Let notes ring on while the sustain pedal is down.
        max_seconds : float
            What comes later is cut off.

        Returns
        -------
        PianoRoll
            As long as its last sounding frame.

        Raises
        ------
        MidiError
            If no note is left.
        ValueError
            If `fps` or `max_seconds` is out of its range.
        """
        check_fps(fps)
        if not 0 < max_seconds < np.inf:
            raise ValueError(f"max_seconds must be above 0, not {max_seconds!r}")
        end_ticks = self._pedalled_ends() if sustain else self.notes["end_tick"]
        notes = np.empty(len(self.notes), NOTE_DTYPE)
        notes["pitch"], notes["velocity"] = self.notes["pitch"], self.notes["velocity"]
        notes["start_frame"] = self.tempo_map.frames(self.notes["start_tick"], fps)
        notes["end_frame"] = np.maximum(self.tempo_map.frames(end_ticks, fps), notes["start_frame"] + 1)
        limit = int(round(max_seconds * fps, 6))
        # A note that starts on the limit is not heard, but may cut its forerunner short.
        notes = notes[notes["start_frame"] <= limit]
        roll = PianoRoll.from_notes(notes, fps, n_frames=min(limit, int(notes["end_frame"].max(initial=0))))
        sounding = np.flatnonzero(roll.velocity.any(axis=1))
        if not len(sounding):
            raise MidiError(self.path, f"no piano notes in its first {max_seconds:g} seconds")
        return roll[: sounding[-1] + 1]

    def first_beats(self, n_beats: float, fps: int = DEFAULT_FPS) -> PianoRoll:
        """Sample the opening, as a prime: its beats are counted by the file's own tempo (at 120 BPM, 8 are 4 s)."""
        if not 0 < n_beats <= 10_000:
            raise ValueError(f"n_beats must be above 0 and at most 10000, not {n_beats!r}")
        return self.to_roll(fps)[: self.frame_of_beat(n_beats, fps)]

    def frame_of_beat(self, n_beats: float, fps: int = DEFAULT_FPS) -> int:
        """Return the frame in which beat `n_beats` begins, by the file's own tempo (beat 0 is frame 0)."""
        tick = np.array([round(n_beats * self.tempo_map.ticks_per_beat)])
        return int(self.tempo_map.frames(tick, fps)[0])

    def _pedalled_ends(self) -> np.ndarray:
        """Move each release that falls under the pedal to where the pedal comes up, or else to the last release."""
        ends = self.notes["end_tick"].copy()
        never, last_release = np.iinfo(np.int64).max, ends.max(initial=0)
        for channel, events in self.pedal.items():
            ticks, values = np.array(events).T
            next_up = np.minimum.accumulate(np.where(values < PEDAL_DOWN, ticks, never)[::-1])[::-1]
            next_up[next_up == never] = last_release
            # The last pedal event at or before the release tells whether the pedal is down then.
            event = np.searchsorted(ticks, ends, side="right") - 1
            held = (self.notes["channel"] == channel) & (event >= 0) & (values[event] >= PEDAL_DOWN)
            ends = np.where(held, next_up[event], ends)
        return ends
