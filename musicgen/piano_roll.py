"""The piano roll: one note x time matrix that holds a whole piece."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LOWEST_PITCH = 21
HIGHEST_PITCH = 108
N_PITCHES = HIGHEST_PITCH - LOWEST_PITCH + 1
DEFAULT_FPS = 20

NOTE_DTYPE = np.dtype([("pitch", np.int64), ("velocity", np.int64), ("start_frame", np.int64), ("end_frame", np.int64)])


@dataclass(frozen=True, eq=False)
class PianoRoll:
    """A piece of piano music on a constant time grid.

    A run of sounding frames of one key is one note, with the velocity of its first frame.

    Parameters
    ----------
    velocity : numpy.ndarray of uint8, shape (n_frames, 88)
        0 where the key is up, else the velocity (1..127) of the sounding note. Column 0 is pitch 21 (A0).
    fps : int
        Frames a second; the poster samples at 20 Hz.

    Raises
    ------
    ValueError
        If the matrix has another type, shape or range, or `fps` is not a positive whole number.
    """

    velocity: np.ndarray
    fps: int = DEFAULT_FPS

    def __post_init__(self):
        if not isinstance(self.velocity, np.ndarray) or self.velocity.dtype != np.uint8:
            raise ValueError("velocity must be a numpy array of uint8")
        if self.velocity.ndim != 2 or self.velocity.shape[1] != N_PITCHES:
            raise ValueError(f"velocity must have shape (n_frames, {N_PITCHES}), not {self.velocity.shape}")
        if self.velocity.size and self.velocity.max() > 127:
            raise ValueError(f"velocity must lie in 0..127, found {self.velocity.max()}")
        check_fps(self.fps)
        object.__setattr__(self, "fps", int(self.fps))

    def __eq__(self, other):
        if not isinstance(other, PianoRoll):
            return NotImplemented
        return self.fps == other.fps and np.array_equal(self.velocity, other.velocity)

    def __getitem__(self, frames: slice) -> "PianoRoll":
        """Return the frames of a slice, ``roll[80:160]``, as a roll of its own (a view, not a copy)."""
        if not isinstance(frames, slice):
            raise TypeError("a roll is cut by a slice of frames, as in roll[0:80]")
        return PianoRoll(self.velocity[frames], self.fps)

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
        """The binary matrix of the poster: bool, shape (n_frames, 88), true where a key sounds."""
        return self.velocity > 0

    @cached_property
    def onsets(self) -> np.ndarray:
        """The frames in which a key is struck: bool, shape (n_frames, 88)."""
        return starts_of_runs(self.active)

    @property
    def n_notes(self) -> int:
        """The number of notes, that is of runs of sounding frames."""
        return int(self.onsets.sum())

    @cached_property
    def notes(self) -> np.ndarray:
        """The notes by time, then pitch: a structured array of pitch, velocity, start_frame, end_frame (exclusive)."""
        keys, starts = np.nonzero(self.onsets.T)
        _, lasts = np.nonzero(starts_of_runs(self.active[::-1])[::-1].T)
        notes = np.empty(len(keys), NOTE_DTYPE)
        notes["pitch"] = keys + LOWEST_PITCH
        notes["velocity"] = self.velocity[starts, keys]
        notes["start_frame"] = starts
        notes["end_frame"] = lasts + 1
        return np.sort(notes, order=["start_frame", "pitch"])

    @classmethod
    def from_notes(cls, notes: np.ndarray, fps: int = DEFAULT_FPS, n_frames: int | None = None) -> "PianoRoll":
        """Paint notes into a roll, keeping re-struck keys apart.

        A key that is struck again while it sounds, or in the frame of its release, ends its earlier note one
        frame before the new one, so that the two stay two runs; where the earlier note has a single frame
        there is nothing to give up and they merge.

        Parameters
        ----------
        notes : numpy.ndarray
            Structured as `PianoRoll.notes`; notes at one pitch may overlap.
        fps : int
            Frames a second.
        n_frames : int, optional
            The length of the roll; by default it ends with the last sounding frame.
        """
        if ((notes["pitch"] < LOWEST_PITCH) | (notes["pitch"] > HIGHEST_PITCH)).any():
            raise ValueError(f"pitches must lie in {LOWEST_PITCH}..{HIGHEST_PITCH}, the keys of a piano")
        notes = np.sort(notes, order=["pitch", "start_frame", "end_frame"])
        starts, ends = notes["start_frame"], notes["end_frame"].copy()
        again = (np.diff(notes["pitch"]) == 0) & (ends[:-1] >= starts[1:])
        room = starts[1:] - starts[:-1] >= 2
        ends[:-1] = np.where(again, starts[1:] - room, ends[:-1])
        length = n_frames if n_frames is not None else int(ends.max(initial=0))
        velocity = np.zeros((length, N_PITCHES), np.uint8)
        for key, start, end, loudness in zip(notes["pitch"] - LOWEST_PITCH, starts, ends, notes["velocity"]):
            velocity[start:end, key] = loudness
        return cls(velocity, fps)


def starts_of_runs(active: np.ndarray) -> np.ndarray:
    """Mark the cells that are true while the cell one frame before is not.

    Parameters
    ----------
    active : numpy.ndarray of bool, shape (n_frames, n_pitches)

    Returns
    -------
    numpy.ndarray of bool, shape (n_frames, n_pitches)
    """
    starts = active.copy()
    starts[1:] &= ~active[:-1]
    return starts


def pad(excerpts: Sequence[np.ndarray], n_frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Bring excerpts, or whole pieces as on the poster, to one length by zeros at their ends.

    Parameters
    ----------
    excerpts : sequence of numpy.ndarray, shape (n_frames_i, 88)
    n_frames : int, optional
        The length to reach; by default that of the longest.

    Returns
    -------
    padded : numpy.ndarray, shape (n_excerpts, n_frames, 88)
    lengths : numpy.ndarray of int, shape (n_excerpts,)
        The frames of each that are music. A loss must leave out the rest.
    """
    lengths = np.array([len(excerpt) for excerpt in excerpts])
    padded = np.zeros((len(excerpts), n_frames or lengths.max(), N_PITCHES), excerpts[0].dtype)
    for row, excerpt in zip(padded, excerpts):
        row[: len(excerpt)] = excerpt
    return padded, lengths


def check_fps(fps: int) -> None:
    """Raise ValueError unless `fps` is a whole number of frames a second from 1 to 1000."""
    if isinstance(fps, bool) or not isinstance(fps, (int, np.integer)) or not 1 <= fps <= 1000:
        raise ValueError(f"fps must be a whole number from 1 to 1000, not {fps!r}")
