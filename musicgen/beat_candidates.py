"""Candidates for the beats of a roll, from its onsets alone.

For each tempo, dynamic programming [1]_ finds the beats that meet most onsets while the tempo changes little. A model
can then choose among them: it finds a roll most likely under the right beats.

References
----------
.. [1] Ellis, "Beat Tracking by Dynamic Programming", Journal of New Music Research, 2007.
"""

import math

import numpy as np

from musicgen.piano_roll import PianoRoll

# Dynamic programming
TIGHTNESS = 30.0  # cost of a squared logarithmic deviation from the period, in standard deviations of the onsets
SHORTEST_BEAT, LONGEST_BEAT = 0.67, 1.5  # of a beat, in periods
SMOOTHING = 1.0  # onsets are rounded to frames; this takes the jitter out of the beats
METRES = (2, 3, 4)  # beats per bar
BASS, BASS_WEIGHT = 36, 1.5  # pitches below column 36 (F sharp 3) count more


def onset_strength(roll: PianoRoll) -> np.ndarray:
    """Return the strength of the onsets in each frame, in standard deviations, shape (n_frames,)."""
    weight = np.where(np.arange(roll.velocity.shape[1]) < BASS, BASS_WEIGHT, 1.0)
    struck = (roll.onsets * np.sqrt(roll.velocity / 127)) @ weight
    strength = np.sqrt(struck)  # a chord of nine notes counts three times as much as one note
    return strength / (strength.std() + 1e-6)


def beat_paths(strength: np.ndarray, period: float, n_ends: int) -> dict[tuple[int, ...], float]:
    """Map the best sequence of beats that ends in each part of the last period to its score.

    Parameters
    ----------
    strength : numpy.ndarray, shape (n_frames,)
        From `onset_strength`.
    period : float
        In frames.
    n_ends : int
        Number of parts of the last period.

    Returns
    -------
    dict of tuple of int to float
        The frames of the beats, at least two; the sum of the strengths less the cost of deviations from the period.
    """
    n_frames = len(strength)
    lags = np.arange(max(2, math.floor(SHORTEST_BEAT * period)), math.ceil(LONGEST_BEAT * period) + 1)
    cost = TIGHTNESS * np.log(lags / period) ** 2
    total = np.zeros(n_frames)  # of the best beats that end in each frame
    previous = np.full(n_frames, -1)
    for t in range(n_frames):
        before = t - lags[lags <= t]
        gains = total[before] - cost[: len(before)]
        may_be_first = t < 1.2 * period
        if len(gains) and (not may_be_first or gains.max() > 0):
            previous[t] = before[gains.argmax()]
            total[t] = gains.max()
        elif not may_be_first:
            total[t] = -math.inf
        total[t] += strength[t]
    last_period = np.arange(max(0, n_frames - round(period)), n_frames)
    paths = {}
    for ends in np.array_split(last_period, n_ends):
        if len(ends):
            end = int(ends[total[ends].argmax()])
            path = [end]
            while previous[path[-1]] >= 0:
                path.append(int(previous[path[-1]]))
            if len(path) > 1:
                paths[tuple(reversed(path))] = float(total[end])
    return paths


def smooth_times(times: np.ndarray) -> np.ndarray:
    """Make times more evenly spaced, by penalised least squares (Whittaker smoothing)."""
    curvature = np.diff(np.eye(len(times)), n=2, axis=0)  # second differences; none for two times
    return np.linalg.solve(np.eye(len(times)) + SMOOTHING * curvature.T @ curvature, times)


def extend_beats(times: np.ndarray, seconds: float) -> np.ndarray:
    """Add beats at the first and last tempo, to begin before 0 and end after `seconds`; return (n_beats, 2)."""
    first, last = times[1] - times[0], times[-1] - times[-2]
    n_before = math.ceil(times[0] / first) + 1
    n_after = math.ceil((seconds - times[-1]) / last) + 1
    before = times[0] - first * np.arange(n_before, 0, -1)
    after = times[-1] + last * np.arange(1, n_after + 1)
    times = np.concatenate([before, times, after])
    return np.column_stack([times, np.zeros(len(times))])


def bars_of(beats: np.ndarray) -> list[np.ndarray]:
    """Return the beats with bars of two, three and four beats, which begin at each possible beat."""
    barred = []
    for metre in METRES:
        for downbeat in range(metre):
            candidate = beats.copy()
            candidate[downbeat::metre, 1] = 1
            barred.append(candidate)
    return barred
