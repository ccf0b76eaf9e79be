"""Home: a profile of the opening of a piece, which the model receives at every frame.

The state of the network and its attention reach back half a minute. Over three minutes a piece that is generated from
them alone loses its key and its register. So the head is told the profile of the opening, from the first frame to the
last, with its pitch classes corrected (see `corrected_home`).
"""

from typing import NamedTuple

import numpy as np

from musicgen.piano_roll import LOWEST_PITCH, N_PITCHES, NOTE_DTYPE, PianoRoll

N_HOME_FEATURES = 15
N_PITCH_CLASS_FEATURES = 2  # these are the first ones
KNOWN = -1  # place of the feature that is 1 where the opening is known
NEIGHBOURHOOD = 3.0  # standard deviation in semitones of "near a pitch"
SMALLEST_SPREAD = 3.0  # semitones
SMOOTHING = 0.5  # notes added to each pitch class


class Excerpt(NamedTuple):
    """Music of which there is a profile, with one note or more.

    Attributes
    ----------
    notes : numpy.ndarray, shape (n_notes, 4)
        Pitch, velocity, first frame and end frame of each note, sorted by the first frame.
    n_frames : numpy.ndarray or int, shape ()
    n_pedal : numpy.ndarray or int, shape ()
        The number of frames in which the pedal is down.
    """

    notes: np.ndarray
    n_frames: np.ndarray
    n_pedal: np.ndarray


def home_features(opening: PianoRoll, smoothing: float = SMOOTHING) -> np.ndarray:
    """Return the profile of an opening of any length.

    Parameters
    ----------
    opening : PianoRoll
    smoothing : float
        Notes that are added to each pitch class, above 0.

    Returns
    -------
    numpy.ndarray of float32, shape (88, N_HOME_FEATURES)
        For each pitch: logarithm and value of the share of its pitch class; its distance from the mean pitch in
        octaves, squared, and in standard deviations; the share of notes near it. Then, the same for all pitches:
        notes per second, mean and spread of the velocities, active pitches per frame, length of the notes, notes per
        chord, spread of the pitches, share of frames with the pedal down, and 1 for "known". All 0 if the opening has
        no notes.
    """
    if not len(opening.notes):
        return np.zeros((N_PITCHES, N_HOME_FEATURES), np.float32)
    notes = np.stack([opening.notes[name] for name in NOTE_DTYPE.names], axis=1).astype(float)
    n_pedal = opening.pedal_down.sum()
    return profile(Excerpt(notes, opening.n_frames, n_pedal), opening.fps, smoothing).astype(np.float32)


def profile(music: Excerpt, fps: int, smoothing: float) -> np.ndarray:
    """Return the profile of music. PyTorch can trace this function, to export it."""
    pitches = music.notes[:, 0]
    by_pitch = np.stack(_of_each_pitch(pitches, smoothing), axis=1)  # (K, 6)
    overall = np.stack(_of_all_pitches(music, fps))  # (9,)
    return np.concatenate([by_pitch, np.broadcast_to(overall, (N_PITCHES, len(overall)))], axis=1)


def count(notes: np.ndarray) -> np.ndarray:
    """Return the number of notes as an array: the tracer would take their length for a constant."""
    return np.ones_like(notes[:, 0]).sum()


def _of_each_pitch(pitches: np.ndarray, smoothing: float) -> list[np.ndarray]:
    """Return the features that differ between pitches, shape (K,) each, given the pitches of all notes."""
    keys = np.arange(LOWEST_PITCH, LOWEST_PITCH + N_PITCHES)
    counts = (np.arange(12)[:, None] == pitches % 12).sum(axis=1) + smoothing
    share = 12 * counts[keys % 12] / counts.sum()  # 1 where all pitch classes are equally frequent
    semitones = keys - pitches.mean()
    octaves = semitones / 12
    deviations = semitones / np.maximum(SMALLEST_SPREAD, pitches.std())
    kernel = np.exp(-(((keys[:, None] - pitches) / NEIGHBOURHOOD) ** 2) / 2)  # (K, n_notes)
    flat = NEIGHBOURHOOD * (2 * np.pi) ** 0.5 / N_PITCHES  # the mean of the kernel over the whole keyboard
    near = kernel.mean(axis=1) / flat
    return [np.log(share), share - 1, octaves, octaves**2, deviations, np.log1p(near)]


def _of_all_pitches(music: Excerpt, fps: int) -> list[np.ndarray]:
    """Return the features that all pitches share: density, velocities, texture; each roughly between -1 and 1."""
    pitches, velocities, starts, ends = music.notes.T
    velocities = velocities / 127
    lengths = ends - starts
    n_notes = count(music.notes)
    seconds = np.maximum(1.0, music.n_frames / fps)
    n_chords = 1.0 + (starts[1:] != starts[:-1]).sum()
    return [
        np.log(n_notes / seconds / 8),
        2 * velocities.mean() - 1,
        5 * velocities.std() - 0.5,
        np.log1p(lengths.sum() / music.n_frames) - 1.3,
        np.log(lengths / fps).mean() + 1.5,
        2 * np.log(n_notes / n_chords) - 1,
        np.maximum(SMALLEST_SPREAD, pitches.std()) / 12 - 1,
        music.n_pedal / music.n_frames - 0.5,
        np.ones(()),
    ]


def smoothing_like(n_opening: int, n_recent: int) -> float:
    """Return the smoothing of a profile of recent music, given the numbers of notes, at least 1.

    It makes the profile as smooth as that of the opening, which may have fewer notes. Otherwise a pitch class that
    neither has would seem to be missing more and more in the recent music.
    """
    return SMOOTHING * n_recent / n_opening


def corrected_home(opening: np.ndarray, recent: np.ndarray, feedback: float) -> np.ndarray:
    """Return the home to tell the model: its pitch classes with negative feedback, the rest as in the opening.

    The features of the pitch classes become opening + feedback * (opening - recent). So a pitch class that has become
    rarer than it was in the opening is told to be more frequent than it was. Both are profiles, shape (..., K,
    N_HOME_FEATURES); nothing is corrected where one of them is unknown.
    """
    both_known = opening[..., KNOWN:] * recent[..., KNOWN:]  # 1 if both have notes, otherwise 0
    correction = (opening - recent) * feedback * both_known
    pitch_classes = (opening + correction)[..., :N_PITCH_CLASS_FEATURES]
    return np.concatenate([pitch_classes, opening[..., N_PITCH_CLASS_FEATURES:]], axis=-1)
