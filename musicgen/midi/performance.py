"""From a MIDI file to a performance (piano notes, pedal, tempo), and from a performance to a piano roll."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musicgen.midi.events import BrokenFile, read_events, unpack
from musicgen.midi.pairing import DRUM_CHANNEL, pair_notes, pedal_moves
from musicgen.midi.tempo_map import TempoMap
from musicgen.piano_roll import DEFAULT_FPS, HIGHEST_PITCH, LOWEST_PITCH, NOTE_DTYPE, PianoRoll, check_fps
from musicgen.utils.arrays import read_only

MAX_FILE_BYTES = 4_000_000
MAX_SECONDS = 420.0
BEATS_TEXT = "The tempo map follows the beats."  # in a file that is written from a roll with beats
# General MIDI's 128 programs are 16 families of 8.
FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass",
    "reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects",
)  # fmt: skip


class MidiError(ValueError):
    """Raised when a MIDI file cannot be sampled; the message is one printable line of at most 300 characters."""

    def __init__(self, path: Path | str, reason: str):
        name = repr(str(path))  # escapes what is not printable
        if len(name) >= 160:
            name = f"...{name[-150:]}"
        super().__init__(f"{name}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self):
        return MidiError, (self.path, self.reason)


@dataclass(frozen=True)
class Performance:
    """The piano notes and the pedal of a MIDI file, timed in ticks.

    Parameters
    ----------
    path : Path
    notes : numpy.ndarray
        Structured: pitch, velocity, channel, start_tick, end_tick; read-only.
    pedal : tuple of (int, bool)
        The moves of the sustain pedal, which all channels share, as (tick, whether it is down from there on) in
        ascending order. Empty if the file does not mention it.
    tempo_map : TempoMap
    dropped : dict of str to int
        Number of dropped notes by reason: ``never_released``, ``drums``, ``off_the_piano``.
    warnings : tuple of str
        Faults of the file that were passed over.
    beats_known : bool
        Whether the tempo map and the time signatures follow the music, as in a score.
    """

    path: Path
    notes: np.ndarray
    pedal: tuple[tuple[int, bool], ...]
    tempo_map: TempoMap
    dropped: dict[str, int]
    warnings: tuple[str, ...] = ()
    beats_known: bool = False

    def __post_init__(self):
        object.__setattr__(self, "notes", read_only(self.notes))

    def to_roll(self, fps: int = DEFAULT_FPS, sustain: bool = False, max_seconds: float = MAX_SECONDS) -> PianoRoll:
        """Sample the performance into a piano roll. Each note lasts at least one frame.

        Parameters
        ----------
        fps : int
            Frames per second.
        sustain : bool
            Extend notes while the sustain pedal is down.
        max_seconds : float
            Where to cut off the roll. It always ends with its last sounding frame.

        Raises
        ------
        MidiError
            If no note is left.
        ValueError
            If `fps` or `max_seconds` is out of range.
        """
        limit = _limit(fps, max_seconds)
        roll = self._sample(fps, sustain, 0, limit)
        sounding = np.flatnonzero(roll.velocity.any(axis=1))
        if not len(sounding):
            raise MidiError(self.path, f"no piano notes in its first {max_seconds:g} seconds")
        return self._complete(roll[: sounding[-1] + 1], 0)

    def first_beats(self, n_beats: float, fps: int = DEFAULT_FPS) -> PianoRoll:
        """Sample the first `n_beats` quarter notes from the first note on, but at most 7 minutes."""
        if not 0 < n_beats <= 10_000:
            raise ValueError(f"n_beats must be above 0 and at most 10000, not {n_beats!r}")
        n_frames = self.frame_of_beat(n_beats, fps)
        if not n_frames:
            raise MidiError(self.path, f"{n_beats:g} beats are less than a frame")
        first = int(self._start_frames(fps).min())
        roll = self._sample(fps, False, first, min(n_frames, _limit(fps, MAX_SECONDS)))
        return self._complete(roll, first)

    def frame_of_beat(self, n_beats: float, fps: int = DEFAULT_FPS) -> int:
        """Return the length in frames of the first `n_beats` quarter notes after the first onset."""
        start = int(self.notes["start_tick"].min())
        ticks = np.array([start, start + round(n_beats * self.tempo_map.ticks_per_beat)])
        return int(np.diff(self.tempo_map.frames(ticks, fps))[0])

    @property
    def prime_tempo_map(self) -> TempoMap:
        """The tempo map of `first_beats`, which begins at the first note."""
        return self.tempo_map.since(int(self.notes["start_tick"].min()))

    def dropped_notes(self, fps: int = DEFAULT_FPS, max_seconds: float = MAX_SECONDS) -> dict[str, int]:
        """Count the dropped notes by reason; ``truncated`` are those that begin at or after the time limit."""
        return {**self.dropped, "truncated": int((self._start_frames(fps) >= _limit(fps, max_seconds)).sum())}

    def _start_frames(self, fps: int) -> np.ndarray:
        return self.tempo_map.frames(self.notes["start_tick"], fps)

    def _sample(self, fps: int, sustain: bool, first: int, n_frames: int) -> PianoRoll:
        """Sample the notes that begin at frame `first` or later, for at most `n_frames` frames."""
        ends = self._pedalled_ends() if sustain else self.notes["end_tick"]
        notes = np.empty(len(self.notes), NOTE_DTYPE)
        notes["pitch"] = self.notes["pitch"]
        notes["velocity"] = self.notes["velocity"]
        notes["start_frame"] = self._start_frames(fps) - first
        notes["end_frame"] = np.maximum(self.tempo_map.frames(ends, fps) - first, notes["start_frame"] + 1)
        n_frames = min(n_frames, int(notes["end_frame"].max()))
        # A note that starts at the limit is not in the roll, but may shorten the note before it.
        return PianoRoll.from_notes(notes[notes["start_frame"] <= n_frames], fps, n_frames)

    def _complete(self, roll: PianoRoll, first: int) -> PianoRoll:
        """Add the pedal and the beats to a roll that begins in frame `first`."""
        pedal = self._sample_pedal(roll.fps, first, roll.n_frames) if self.pedal else None
        beats = self.tempo_map.beats(first, first + roll.n_frames, roll.fps) if self.beats_known else None
        return replace(roll, pedal=pedal, beats=beats)

    def _sample_pedal(self, fps: int, first: int, n_frames: int) -> np.ndarray:
        """Return whether the pedal is down at the end of each frame; after a lift it is up for at least one frame."""
        ticks, is_down = self._pedal_arrays()
        frames = self.tempo_map.frames(ticks, fps) - first
        move = np.searchsorted(frames, np.arange(n_frames), side="right") - 1  # the last one in or before each frame
        down = (move >= 0) & is_down[move]
        is_lift = ~is_down
        is_lift[0] = False  # the first position is no move
        lifts = frames[is_lift]
        down[lifts[(lifts >= 0) & (lifts < n_frames)]] = False  # also if it is down again at the end of that frame
        return down

    def _pedalled_ends(self) -> np.ndarray:
        """Return the end of each note in ticks; a release while the pedal is down moves to where the pedal comes up."""
        ends = self.notes["end_tick"]
        if not self.pedal:
            return ends
        ticks, is_down = self._pedal_arrays()
        never = np.iinfo(np.int64).max
        next_up = np.minimum.accumulate(np.where(is_down, never, ticks)[::-1])[::-1]
        next_up[next_up == never] = ends.max(initial=0)  # if it stays down, notes ring to the last release
        move = np.searchsorted(ticks, ends, side="right") - 1
        is_held = (move >= 0) & is_down[move]
        return np.where(is_held, next_up[move], ends)

    def _pedal_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        ticks, is_down = zip(*self.pedal)
        return np.array(ticks, np.int64), np.array(is_down, bool)


def read_midi(
    path: Path | str, fps: int = DEFAULT_FPS, sustain: bool = False, max_seconds: float = MAX_SECONDS
) -> PianoRoll:
    """Read a MIDI file and sample it: `read_performance`, then `Performance.to_roll`.

    Parameters
    ----------
    path : Path or str
    fps : int
        Frames per second; the poster samples at 20 Hz.
    sustain : bool
        Let notes sound while the pedal is down.
    max_seconds : float
        Notes that begin later are dropped, and longer ones are cut off; the poster truncates at seven minutes.

    Raises
    ------
    MidiError
        If the file cannot be read, or holds no note of a piano within that time.
    """
    return read_performance(path).to_roll(fps, sustain, max_seconds)


def read_performance(path: Path | str, content: bytes | None = None) -> Performance:
    """Read the piano notes of a MIDI file.

    Notes are paired per track, channel and pitch, first in, first out. All-notes-off and all-sound-off end the notes
    of their channel. Channel 10, pitches that a piano lacks and notes that are never released are dropped and counted.
    The notes of other instruments are read as piano, with a warning. All channels share one pedal.

    Parameters
    ----------
    path : Path or str
        A MIDI file, also inside gzip or RIFF (RMID).
    content : bytes, optional
        The bytes of the file. If given, `path` is only a name for messages.

    Returns
    -------
    Performance

    Raises
    ------
    MidiError
        If the file cannot be read, is not a MIDI file, or contains no piano note.
    """
    path = Path(path)
    try:
        events = read_events(unpack(_read_bytes(path) if content is None else content, MAX_FILE_BYTES))
    except BrokenFile as error:
        raise MidiError(path, str(error)) from error
    notes, n_never_released = pair_notes(events.messages)
    is_drum = notes["channel"] == DRUM_CHANNEL
    is_off = ~is_drum & ((notes["pitch"] < LOWEST_PITCH) | (notes["pitch"] > HIGHEST_PITCH))
    dropped = {"never_released": n_never_released, "drums": int(is_drum.sum()), "off_the_piano": int(is_off.sum())}
    notes = notes[~is_drum & ~is_off]
    if not len(notes):
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise MidiError(path, f"no piano notes (dropped: {reasons})" if reasons else "no piano notes")
    tempo_map = TempoMap(events.ticks_per_beat, events.tempos, events.metres)
    return Performance(
        path=path,
        notes=notes,
        pedal=pedal_moves(events.messages),
        tempo_map=tempo_map,
        dropped=dropped,
        warnings=(*events.warnings, *_other_instruments(notes, events.programs)),
        beats_known=BEATS_TEXT.encode() in events.texts or tempo_map.is_followed_by(notes["start_tick"]),
    )


def _other_instruments(notes: np.ndarray, programs: list[tuple[int, int, int]]) -> list[str]:
    """Return a warning if some notes are played by other instruments than a piano."""
    family = np.zeros(len(notes), np.int64)
    for channel in np.unique(notes["channel"]):
        chosen = [(0, 0), *((tick, program // 8) for tick, where, program in programs if where == channel)]
        ticks, families = np.array(chosen).T
        is_here = notes["channel"] == channel
        last_chosen = np.searchsorted(ticks, notes["start_tick"][is_here], side="right") - 1
        family[is_here] = families[last_chosen]
    n_others = np.count_nonzero(family)
    names = ", ".join(FAMILIES[number] for number in np.unique(family[family > 0]))
    return [f"notes of other instruments are read as piano: {n_others:,} ({names})"] if n_others else []


def _limit(fps: int, max_seconds: float) -> int:
    """Return `max_seconds` in frames; raise ValueError if an argument is out of range."""
    check_fps(fps)
    if not 0 < max_seconds < np.inf:
        raise ValueError(f"max_seconds must be a finite number above 0, not {max_seconds!r}")
    return int(round(max_seconds * fps, 6))


def _read_bytes(path: Path) -> bytes:
    """Read the start of a regular file: a pipe could block, and a huge file could fill the memory."""
    try:
        if not path.is_file():
            raise MidiError(path, "not a file" if path.exists() else "no such file")
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise MidiError(path, error.strerror or "it cannot be read") from error
