"""Novelty: the longest run of notes that a piece shares with the training pieces."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from musicgen.piano_roll import N_PITCHES, PianoRoll

GROUP_NOTES = 6
TOLERANCE_SECONDS = 0.1
TEMPO_RATIO = 1.5

_GROUP_DTYPE = np.dtype(
    [
        ("note", np.int64),  # number of its first note
        ("shape", np.int64),  # its intervals above its lowest note, written as one number
        ("lowest", np.int64),  # pitch
        ("onsets", np.float32, GROUP_NOTES),  # seconds after its first onset, in the order of its pitches
    ]
)


class SharedRun(NamedTuple):
    """A run of notes that a piece shares with a piece of the index.

    `piece` is the number of the indexed piece, None if nothing is shared.
    It begins at `start_seconds` and lasts `seconds` from its first to its last onset. In the indexed piece it begins at
    `piece_start_seconds` and sounds `semitones` higher.
    """

    n_notes: int = 0
    seconds: float = 0.0
    start_seconds: float = 0.0
    piece: int | None = None
    piece_start_seconds: float = 0.0
    semitones: int = 0


class NoveltyIndex:
    """An index of a training set that finds shared runs of notes quickly.

    Two groups of six successive notes are alike if they hold the same pitches up to one transposition, in whatever
    order (a chord is never struck in quite the same order twice), and each onset falls within 0.1 s of its partner's
    after the tempo is matched, by a factor of at most 1.5. A shared run is a chain of such groups, all in one
    transposition, in which each group has at least one note in common with the next. One extra, missing or wrong note
    ends it, so it measures note-perfect copies.

    Parameters
    ----------
    rolls : sequence of PianoRoll
        The training set.
    """

    def __init__(self, rolls: Sequence[PianoRoll]):
        self._onsets, self._pieces, groups = _collect_notes(rolls)
        self._groups = groups[np.argsort(groups["shape"], kind="stable")]

    def longest_shared_run(self, roll: PianoRoll) -> SharedRun:
        """Find the longest run of notes that a piece shares with any piece of the index.

        Parameters
        ----------
        roll : PianoRoll
            Without its prime, as in ``piece[prime.n_frames :]``: the prime itself is a copy.

        Returns
        -------
        SharedRun
            Of six notes or more, or an empty one.
        """
        onsets, _, groups = _collect_notes([roll])
        bounds = (np.searchsorted(self._groups["shape"], groups["shape"], side) for side in ("left", "right"))
        alike = [self._like(group, low, high) for group, low, high in zip(groups, *bounds)]
        counts = [len(found) for found in alike]
        if not sum(counts):
            return SharedRun()
        mine = np.repeat(groups, counts)  # each group of the piece, once for each group that is like it
        theirs = np.concatenate(alike)
        semitones = theirs["lowest"] - mine["lowest"]
        first, last = _longest_chain(mine["note"], theirs["note"], semitones)
        start = mine["note"][first]  # numbers of notes
        end = mine["note"][last] + GROUP_NOTES - 1
        partner = theirs["note"][first]
        return SharedRun(
            n_notes=int(end - start + 1),
            seconds=float(onsets[end] - onsets[start]),
            start_seconds=float(onsets[start]),
            piece=int(self._pieces[partner]),
            piece_start_seconds=float(self._onsets[partner]),
            semitones=int(semitones[first]),
        )

    def _like(self, group: np.void, low: int, high: int) -> np.ndarray:
        """Return the groups from `low` to `high` of the index whose onsets are timed like those of `group`."""
        mine = group["onsets"]
        theirs = self._groups["onsets"][low:high]
        tempo = theirs.max(axis=1, keepdims=True) / max(mine.max(), 1e-9)
        apart = np.abs(mine * np.clip(tempo, 1 / TEMPO_RATIO, TEMPO_RATIO) - theirs).max(axis=1)
        return self._groups[low:high][apart <= TOLERANCE_SECONDS + 1e-5]  # float32 rounding


def _collect_notes(rolls: Sequence[PianoRoll]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the onset in seconds of each note, the piece of each note, and all groups of successive notes."""
    notes = [roll.notes for roll in rolls]
    pitches = np.concatenate([np.zeros(0, int), *(own["pitch"] for own in notes)])
    onsets = np.concatenate([np.zeros(0), *(own["start_frame"] / roll.fps for own, roll in zip(notes, rolls))])
    pieces = np.repeat(np.arange(len(rolls)), [len(own) for own in notes])
    first = np.flatnonzero(pieces[: 1 - GROUP_NOTES] == pieces[GROUP_NOTES - 1 :])
    members = first[:, None] + np.arange(GROUP_NOTES)
    members = np.take_along_axis(members, np.argsort(pitches[members], axis=1, kind="stable"), axis=1)
    groups = np.empty(len(first), _GROUP_DTYPE)
    groups["note"] = first
    groups["lowest"] = pitches[members[:, 0]]
    groups["shape"] = (pitches[members] - groups["lowest"][:, None]) @ N_PITCHES ** np.arange(GROUP_NOTES)
    groups["onsets"] = onsets[members] - onsets[first][:, None]
    return onsets, pieces, groups


def _longest_chain(mine: np.ndarray, theirs: np.ndarray, semitones: np.ndarray) -> tuple[int, int]:
    """Chain similar groups that overlap in both pieces at the same transposition; find the longest chain.

    Returns the indices of its first and its last pair of groups. Along a shared run, the difference between the note
    numbers in the two pieces is constant.
    """
    order = np.lexsort((mine, semitones, theirs - mine))
    steps = np.diff(np.stack([mine, semitones, theirs - mine])[:, order])
    breaks = np.flatnonzero((steps[1:] != 0).any(axis=0) | (steps[0] >= GROUP_NOTES))
    firsts = np.concatenate([[0], breaks + 1])
    lasts = np.concatenate([breaks, [len(order) - 1]])
    longest = np.argmax(mine[order[lasts]] - mine[order[firsts]])
    return order[firsts[longest]], order[lasts[longest]]
