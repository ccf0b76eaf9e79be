"""Beats: checks, the phase of each frame within beat and bar, and a metronome that continues them."""

import math
from collections.abc import Sequence

import numpy as np

BEAT_HARMONICS = (1, 2, 3, 4, 6)
BAR_HARMONICS = (1, 2)
DRIFT = 0.8  # the share of a deviation from the tempo that remains at the next beat

# The features of a frame: sine and cosine of each harmonic within the beat, within the bar, and "known".
IN_BEAT = slice(0, 2 * len(BEAT_HARMONICS))
IN_BAR = slice(IN_BEAT.stop, IN_BEAT.stop + 2 * len(BAR_HARMONICS))
KNOWN = IN_BAR.stop
N_BEAT_FEATURES = KNOWN + 1


def check_beats(beats: np.ndarray) -> np.ndarray:
    """Return beats as float64, rounded to microseconds; raise ValueError if they are invalid."""
    beats = np.round(np.asarray(beats, np.float64), 6)
    if beats.ndim != 2 or beats.shape[1] != 2 or not np.isfinite(beats).all():
        raise ValueError(f"beats must have shape (n_beats, 2) and finite values; they have shape {beats.shape}")
    if (np.diff(beats[:, 0]) <= 0).any() or not np.isin(beats[:, 1], (0, 1)).all():
        raise ValueError("beats must ascend in time, with 1 for a downbeat and 0 for any other beat")
    return beats


def beat_features(beats: np.ndarray | None, n_frames: int, fps: int = 20) -> np.ndarray:
    """Return the position of each frame within its beat and its bar, as sines and cosines.

    Parameters
    ----------
    beats : numpy.ndarray, shape (n_beats, 2), or None
        As in `PianoRoll`.
    n_frames : int
    fps : int
        Frames per second.

    Returns
    -------
    numpy.ndarray of float32, shape (n_frames, 15)
        Sine and cosine of 1, 2, 3, 4 and 6 times the phase within the beat, of 1 and 2 times the phase within the
        bar (0 where no bar is known), and 1 for "known". All 0 for frames before the first beat or after the last.
    """
    features = np.zeros((n_frames, N_BEAT_FEATURES), np.float32)
    if beats is None or len(beats) < 2:
        return features
    times, is_downbeat = beats.T
    now = np.arange(n_frames) / fps
    beat = np.searchsorted(times, now, side="right") - 1
    known = (beat >= 0) & (beat < len(times) - 1)
    beat = beat.clip(0, len(times) - 2)
    phase = (now - times[beat]) / np.diff(times)[beat]
    features[:, IN_BEAT] = _harmonics(phase, BEAT_HARMONICS)
    downbeats = np.flatnonzero(is_downbeat)
    if len(downbeats) >= 2:
        lengths = np.diff(downbeats)
        lengths = np.append(lengths, lengths[-1])  # the last bar goes on as long as the one before it
        bar = np.searchsorted(downbeats, beat, side="right") - 1
        beat_in_bar = beat - downbeats[bar]
        in_bar = (bar >= 0) & (beat_in_bar <= lengths.max())
        bar_phase = (beat_in_bar + phase) / lengths[bar]
        features[:, IN_BAR] = _harmonics(bar_phase, BAR_HARMONICS) * in_bar[:, None]
    features[:, KNOWN] = 1
    return features * known[:, None]


def _harmonics(phase: np.ndarray, harmonics: Sequence[int]) -> np.ndarray:
    angles = 2 * np.pi * phase[:, None] * np.array(harmonics)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def metronome(
    beats: np.ndarray,
    start: float,
    end: float,
    bpm: float = 0.0,
    beats_per_bar: int = 0,
    rubato: float = 0.0,
    random: np.random.Generator | None = None,
    may_be_strict: bool = True,
) -> np.ndarray | None:
    """Continue beats at a constant tempo, or at one that fluctuates like a pianist's.

    Parameters
    ----------
    beats : numpy.ndarray, shape (n_beats, 2)
        Known beats; those before `start` are kept. There may be none.
    start, end : float
        The new beats begin after `start` and reach `end`, in seconds.
    bpm : float
        Beats per minute; 0 for the median tempo of `beats`.
    beats_per_bar : int
        For `bpm`, unless it is 0; otherwise used only if `beats` do not show it. 0 then means 4.
    rubato : float
        Standard deviation of the logarithm of the tempo, which drifts from beat to beat (first-order autoregression).
        Beats in strict time, as in a score, go on in strict time unless `bpm` is given.
    random : numpy.random.Generator, optional
        Needed for a rubato above 0.
    may_be_strict : bool
        False for estimated beats: that they are in strict time may be the estimate's doing.

    Returns
    -------
    numpy.ndarray, shape (n_beats, 2), or None
        The kept and the new beats. None if `bpm` is 0 and fewer than three beats are known.
    """
    beats = beats[beats[:, 0] < start]
    downbeats = np.flatnonzero(beats[:, 1])
    if not bpm and len(beats) < 3:
        return None
    if not bpm and may_be_strict and in_strict_time(beats):
        rubato = 0.0
    period = 60 / bpm if bpm else float(np.median(np.diff(beats[:, 0])))
    if not bpm or not beats_per_bar:
        beats_per_bar = _beats_per_bar(downbeats, len(beats), beats_per_bar or 4)
    if not len(beats):
        beats = np.array([[start, 1.0]])
        downbeats = np.array([0])
    last = beats[-1, 0]
    n_more = max(1, math.ceil((end - last) / period) + 1) + 1
    periods = period * np.exp(_drift(2 * n_more, rubato, random)) if rubato else np.full(n_more, period)
    times = last + periods.round(6).cumsum()  # whole microseconds, as in a MIDI file
    times = times[: np.searchsorted(times, end) + 3]
    number = len(beats) - (downbeats[-1] if len(downbeats) else 0) + np.arange(len(times))
    return np.concatenate([beats, np.column_stack([times, number % beats_per_bar == 0])])


def _beats_per_bar(downbeats: np.ndarray, n_beats: int, default: int) -> int:
    """Return the number of beats per bar: the most frequent of the known bars, or a default.

    Of equally frequent lengths, it is that of the latest bar, as after a change of the metre. The first bar does not
    count if it may be an upbeat.
    """
    lengths = np.diff(downbeats)
    if len(lengths) > 1:
        latest_first = lengths[:0:-1].tolist()
        return max(latest_first, key=latest_first.count)  # the first of equals
    n_last = n_beats - downbeats[-1] if len(downbeats) else 0  # beats in the bar that is not complete
    if len(lengths) == 1 and n_last <= lengths[0]:
        return int(lengths[0])
    return max(default, n_last) if len(lengths) else default


def in_strict_time(beats: np.ndarray) -> bool:
    """Return whether all beats have the same length within 1 %."""
    periods = np.diff(beats[:, 0])
    return len(periods) > 0 and periods.max() <= 1.01 * periods.min()


def _drift(n: int, spread: float, random: np.random.Generator) -> np.ndarray:
    """Return `n` samples of a first-order autoregressive process with mean 0."""
    values = random.normal(scale=spread * math.sqrt(1 - DRIFT**2), size=n)
    for i in range(1, n):
        values[i] += DRIFT * values[i - 1]
    return values
