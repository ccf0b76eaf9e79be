"""Home: a profile of the opening of a piece, which the model receives at every frame.

The state of the network and its attention reach back half a minute. Over three minutes a piece that is generated from
them alone loses its key and its register. So the head is told the profile of the opening, from the first frame to the
last.
"""

import numpy as np

from musicgen.piano_roll import LOWEST_PITCH, N_PITCHES, PianoRoll

N_HOME_FEATURES = 15
KNOWN = -1  # place of the feature that is 1 where the opening is known
NEIGHBOURHOOD = 3.0  # standard deviation in semitones of "near a pitch"
SMALLEST_SPREAD = 3.0  # semitones
SMOOTHING = 0.5  # notes added to each pitch class


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
    notes = opening.notes
    if not len(notes):
        return np.zeros((N_PITCHES, N_HOME_FEATURES), np.float32)
    by_pitch = np.column_stack(_of_each_pitch(notes["pitch"].astype(float), smoothing))  # (K, 6)
    overall = np.tile(_of_all_pitches(opening), (N_PITCHES, 1))  # (K, 9)
    return np.concatenate([by_pitch, overall], axis=1).astype(np.float32)


def _of_each_pitch(pitches: np.ndarray, smoothing: float) -> list[np.ndarray]:
    """Return the features that differ between pitches, shape (K,) each, given the pitches of all notes."""
    keys = np.arange(LOWEST_PITCH, LOWEST_PITCH + N_PITCHES)
    counts = np.bincount(pitches.astype(int) % 12, minlength=12) + smoothing
    share = 12 * counts[keys % 12] / counts.sum()  # 1 where all pitch classes are equally frequent
    semitones = keys - pitches.mean()
    octaves = semitones / 12
    deviations = semitones / max(SMALLEST_SPREAD, pitches.std())
    kernel = np.exp(-(((keys[:, None] - pitches) / NEIGHBOURHOOD) ** 2) / 2)  # (K, n_notes)
    flat = NEIGHBOURHOOD * np.sqrt(2 * np.pi) / N_PITCHES  # the mean of the kernel over the whole keyboard
    near = kernel.mean(axis=1) / flat
    return [np.log(share), share - 1, octaves, octaves**2, deviations, np.log1p(near)]


def _of_all_pitches(opening: PianoRoll) -> list[float]:
    """Return the features that all pitches share: density, velocities, texture; each roughly between -1 and 1."""
    notes = opening.notes
    velocities = notes["velocity"] / 127
    lengths = (notes["end_frame"] - notes["start_frame"]) / opening.fps
    chords = opening.onsets.sum(axis=1)
    chords = chords[chords > 0]
    pedal = opening.pedal_down.mean()
    return [
        np.log(len(notes) / max(1.0, opening.duration_seconds) / 8),
        2 * velocities.mean() - 1,
        5 * velocities.std() - 0.5,
        np.log1p(opening.active.sum(axis=1).mean()) - 1.3,
        np.log(lengths).mean() + 1.5,
        2 * np.log(chords.mean()) - 1,
        max(SMALLEST_SPREAD, notes["pitch"].std()) / 12 - 1,
        pedal - 0.5,
        1.0,
    ]
