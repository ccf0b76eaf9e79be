"""The piano roll: a piece as a note x time matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from musicgen.beats import check_beats
from musicgen.utils.arrays import read_only

LOWEST_PITCH = 21
HIGHEST_PITCH = 108
N_PITCHES = HIGHEST_PITCH - LOWEST_PITCH + 1
DEFAULT_FPS = 20
MOST_FPS = 1000
PITCH_CLASSES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")

NOTE_DTYPE = np.dtype([("pitch", np.int64), ("velocity", np.int64), ("start_frame", np.int64), ("end_frame", np.int64)])


@dataclass(frozen=True, eq=False)
class PianoRoll:
    """A piece of piano music on a constant time grid.

    A run of sounding frames of one pitch is one note, with the velocity of its first frame. Nothing of a roll can be
    changed, since several readers may share it: its arrays are read-only copies of those that are given.

    Parameters
    ----------
    velocity : numpy.ndarray of uint8, shape (n_frames, 88)
        0 where the pitch is silent, otherwise the velocity (1..127) of its note. Column 0 is pitch 21 (A0).
    fps : int
        Frames per second; the poster samples at 20 Hz.
    pedal : numpy.ndarray of bool, shape (n_frames,), optional
        Whether the sustain pedal is down. None if it is unknown. It does not change `velocity`.
    beats : numpy.ndarray of float64, shape (n_beats, 2), optional
        For each beat, its time in seconds from the first frame, and 1.0 if it begins a bar, otherwise 0.0. The times
        ascend and are rounded to microseconds. They may lie before the first frame or after the last. None if the
        beats are unknown.
    beats_estimated : bool
        Whether the beats were found by a model, and not given.

    Raises
    ------
    ValueError
        If an array has another type, shape or range, or `fps` is not a positive whole number.
    """

    velocity: np.ndarray
    fps: int = DEFAULT_FPS
    pedal: np.ndarray | None = None
    beats: np.ndarray | None = None
    beats_estimated: bool = False

    def __post_init__(self):
        if not isinstance(self.velocity, np.ndarray) or self.velocity.dtype != np.uint8:
            raise ValueError("velocity must be a numpy array of uint8")
        if self.velocity.ndim != 2 or self.velocity.shape[1] != N_PITCHES:
            raise ValueError(f"velocity must have shape (n_frames, {N_PITCHES}), not {self.velocity.shape}")
        if self.velocity.size and self.velocity.max() > 127:
            raise ValueError(f"velocity must lie in 0..127, found {self.velocity.max()}")
        check_fps(self.fps)
        object.__setattr__(self, "fps", int(self.fps))
        if self.pedal is not None:
            pedal = np.asarray(self.pedal)
            if pedal is not self.pedal or pedal.dtype != bool or pedal.shape != (self.n_frames,):
                raise ValueError(f"pedal must be a numpy array of bool of shape ({self.n_frames},)")
            object.__setattr__(self, "pedal", read_only(pedal))
        if self.beats is not None:
            object.__setattr__(self, "beats", read_only(check_beats(self.beats)))
        object.__setattr__(self, "velocity", read_only(self.velocity))

    def __eq__(self, other):
        if not isinstance(other, PianoRoll):
            return NotImplemented
        same = (_equal(getattr(self, name), getattr(other, name)) for name in ("velocity", "pedal", "beats"))
        return self.fps == other.fps and all(same)

    def __getitem__(self, frames: slice) -> "PianoRoll":
        """Return a slice of frames, such as ``roll[80:160]``, as a roll that shares memory."""
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise TypeError("index a roll with a slice of frames, such as roll[0:80]")
        first = frames.indices(self.n_frames)[0]
        pedal = None if self.pedal is None else self.pedal[frames]
        beats = None if self.beats is None else self.beats - [first / self.fps, 0]
        return PianoRoll(self.velocity[frames], self.fps, pedal, beats, self.beats_estimated)

    @property
    def n_frames(self) -> int:
        """The length in frames."""
        return len(self.velocity)

    @property
    def duration_seconds(self) -> float:
        """The length in seconds."""
        return self.n_frames / self.fps

    @cached_property
    def active(self) -> np.ndarray:
        """The binary matrix of the poster: bool, shape (n_frames, 88), true where a pitch sounds."""
        return read_only(self.velocity > 0)

    @cached_property
    def onsets(self) -> np.ndarray:
        """The beginnings of notes: bool, shape (n_frames, 88), true where a pitch is struck."""
        return read_only(starts_of_runs(self.active))

    @property
    def pedal_down(self) -> np.ndarray:
        """The pedal as the model sees it: bool, shape (n_frames,), false where the pedal is up or unknown."""
        return np.zeros(self.n_frames, bool) if self.pedal is None else self.pedal

    @property
    def n_notes(self) -> int:
        """The number of notes (runs of sounding frames)."""
        return int(self.onsets.sum())

    @cached_property
    def notes(self) -> np.ndarray:
        """The notes, sorted by start and pitch. Fields: pitch, velocity, start_frame, end_frame (exclusive)."""
        columns, starts = np.nonzero(self.onsets.T)
        _, lasts = np.nonzero(starts_of_runs(self.active[::-1])[::-1].T)
        notes = np.empty(len(columns), NOTE_DTYPE)
        notes["pitch"] = columns + LOWEST_PITCH
        notes["velocity"] = self.velocity[starts, columns]
        notes["start_frame"] = starts
        notes["end_frame"] = lasts + 1
        return read_only(np.sort(notes, order=["start_frame", "pitch"]))

    def pedal_spans(self) -> list[tuple[int, int]]:
        """Return for each press of the pedal its first frame, and the first frame after it; none if it is unknown."""
        if self.pedal is None:
            return []
        down = np.pad(self.pedal, 1).astype(np.int8)
        change = np.diff(down)
        return list(zip(np.flatnonzero(change == 1).tolist(), np.flatnonzero(change == -1).tolist()))

    def transpose(self, semitones: int) -> "PianoRoll":
        """Move the music up or down by semitones, as far as its outermost notes allow."""
        sounding = np.flatnonzero(self.velocity.any(axis=0))
        if not len(sounding) or not semitones:
            return self
        shift = np.clip(semitones, -sounding[0], N_PITCHES - 1 - sounding[-1])
        return replace(self, velocity=np.roll(self.velocity, shift, axis=1))

    def stretch(self, factor: float) -> "PianoRoll":
        """Make the music slower (`factor` above 1) or faster.

        Each note, and each lift of the pedal, keeps at least one frame.
        """
        if not 0 < factor < np.inf:
            raise ValueError(f"factor must be a finite number above 0, not {factor!r}")
        n_frames = max(round(self.n_frames * factor), min(self.n_frames, 1))
        notes = self.notes.copy()
        notes["start_frame"] = np.minimum(np.rint(notes["start_frame"] * factor), n_frames - 1)
        notes["end_frame"] = np.maximum(np.rint(notes["end_frame"] * factor), notes["start_frame"] + 1)
        pedal = None if self.pedal is None else self._stretched_pedal(factor, n_frames)
        beats = None if self.beats is None else self.beats * [factor, 1]
        stretched = PianoRoll.from_notes(notes, self.fps, n_frames)
        return replace(stretched, pedal=pedal, beats=beats, beats_estimated=self.beats_estimated)

    def _stretched_pedal(self, factor: float, n_frames: int) -> np.ndarray:
        source = (np.arange(n_frames) / factor).astype(int).clip(max=self.n_frames - 1)
        pedal = self.pedal[source]
        lifts = 1 + np.flatnonzero(self.pedal[:-1] & ~self.pedal[1:])
        # The first frame whose source is the lift or a later one: it is down only if it passed over the lift.
        pedal[np.searchsorted(source, lifts).clip(max=n_frames - 1)] = False
        return pedal

    @classmethod
    def from_notes(cls, notes: np.ndarray, fps: int = DEFAULT_FPS, n_frames: int | None = None) -> "PianoRoll":
        """Build a roll from notes. Where notes of one pitch overlap or touch, the earlier one is shortened.

        A pitch sounds as long as any of its notes lasts. If it is struck again while it sounds, or in the frame of
        its release, the earlier note ends one frame before the new one, so that both remain. An earlier note of one
        frame cannot be shortened: the two merge.

        Parameters
        ----------
        notes : numpy.ndarray
            Structured as `PianoRoll.notes`; notes of one pitch may overlap.
        fps : int
            Frames per second.
        n_frames : int, optional
            The length of the roll; by default it ends with the last sounding frame.
        """
        if ((notes["pitch"] < LOWEST_PITCH) | (notes["pitch"] > HIGHEST_PITCH)).any():
            raise ValueError(f"pitches must lie in {LOWEST_PITCH}..{HIGHEST_PITCH}, the keys of a piano")
        length = n_frames if n_frames is not None else int(notes["end_frame"].max(initial=0))
        notes = np.sort(notes, order=["pitch", "start_frame", "end_frame"])
        pitches = notes["pitch"]
        starts = notes["start_frame"]
        # The latest end so far at each pitch. An offset larger than any end keeps the pitches apart.
        offset = pitches * (length + 1)
        ends = np.maximum.accumulate(np.minimum(notes["end_frame"], length) + offset) - offset
        again = (np.diff(pitches) == 0) & (ends[:-1] >= starts[1:])
        has_frame_to_spare = np.diff(starts) >= 2
        ends[:-1] = np.where(again, starts[1:] - has_frame_to_spare, ends[:-1])
        velocity = np.zeros((length, N_PITCHES), np.uint8)
        for column, start, end, value in zip(pitches - LOWEST_PITCH, starts, ends, notes["velocity"]):
            velocity[start:end, column] = value
        return cls(velocity, fps)


def as_roll(matrix: PianoRoll | ArrayLike, fps: int = DEFAULT_FPS, velocity: int = 80) -> PianoRoll:
    """Return a matrix of your own as a roll, to draw it, play it or write it; a roll is returned as it is.

    Parameters
    ----------
    matrix : PianoRoll or array_like, shape (n_frames, 88)
        True or 1 where a pitch sounds (a bool matrix, or numbers 0 and 1), or velocities from 0 to 127. Column 0 is
        pitch 21 (A0). A tensor is fine.
    fps : int
        Frames per second.
    velocity : int
        How hard the notes are struck, if the matrix does not tell.

    Raises
    ------
    ValueError
        If the matrix has another shape, or other values.
    """
    if isinstance(matrix, PianoRoll):
        return matrix
    values = np.asarray(matrix)
    if values.ndim != 2 or values.shape[1] != N_PITCHES:
        advice = ": transpose it" if values.ndim == 2 and values.shape[0] == N_PITCHES else ""
        raise ValueError(f"a roll is a matrix of shape (n_frames, {N_PITCHES}), not {values.shape}{advice}")
    if values.dtype.kind not in "biuf" or not np.isin(values, np.arange(128)).all():
        raise ValueError("a roll holds 0 and 1, or velocities up to 127: draw notes from probabilities first")
    is_binary = values.max(initial=0) <= 1
    return PianoRoll((values * (velocity if is_binary else 1)).astype(np.uint8), fps)


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def pitch_name(pitch: int) -> str:
    """Return the name of a MIDI pitch, such as C4 for 60."""
    return f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


def starts_of_runs(active: np.ndarray) -> np.ndarray:
    """Mark where each run of true cells begins, in each column of a bool matrix (n_frames, n_pitches)."""
    starts = active.copy()
    starts[1:] &= ~active[:-1]
    return starts


def pad(excerpts: Sequence[np.ndarray], n_frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Append zeros to excerpts so that all have the same length.

    Parameters
    ----------
    excerpts : sequence of numpy.ndarray, shape (n_frames_i, 88)
    n_frames : int, optional
        The common length; by default that of the longest excerpt.

    Returns
    -------
    padded : numpy.ndarray, shape (n_excerpts, n_frames, 88)
    lengths : numpy.ndarray of int, shape (n_excerpts,)
        The length of each excerpt without padding. A loss must not count the padding.
    """
    lengths = np.array([len(excerpt) for excerpt in excerpts])
    padded = np.zeros((len(excerpts), n_frames or lengths.max(), N_PITCHES), excerpts[0].dtype)
    for row, excerpt in zip(padded, excerpts):
        row[: len(excerpt)] = excerpt
    return padded, lengths


def check_fps(fps: int) -> None:
    """Raise ValueError unless `fps` is a whole number from 1 to `MOST_FPS`."""
    if isinstance(fps, bool) or not isinstance(fps, (int, np.integer)) or not 1 <= fps <= MOST_FPS:
        raise ValueError(f"fps must be a whole number from 1 to {MOST_FPS}, not {fps!r}")
