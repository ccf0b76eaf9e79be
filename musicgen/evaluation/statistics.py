"""Measures of one piece, to compare real and generated music: rhythm, pitch, velocity, repetition, continuity."""

import numpy as np

from musicgen.piano_roll import LOWEST_PITCH, N_PITCHES, PianoRoll

MAJOR = (0, 2, 4, 5, 7, 9, 11)
# Row r: the pitch classes of the major scale on r, which are also those of a natural minor scale: all 24 in 12 rows.
SCALES = np.array([[(pitch - root) % 12 in MAJOR for pitch in range(12)] for root in range(12)], float)
CLASSES_OF_KEYS = np.eye(12)[(np.arange(N_PITCHES) + LOWEST_PITCH) % 12]

CHROMA_SECONDS = 2.0
PERIOD_SECONDS = (0.5, 4.0)  # how long a bar may be
TOLERANCE_SECONDS = 0.1
REPEATED_TO_NEW = 9  # in a repetition, nine in ten onsets are repeated
LAGS = slice(3, 41)  # frames: 0.15 to 2 s at 20 Hz
PATTERN_SECONDS = 2.0
MEMORY_SECONDS = 12.0
INTERVALS = np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 1000])  # frames between onsets, as histogram edges


def statistics(roll: PianoRoll) -> dict[str, float]:
    """Return statistics of rhythm, pitch, velocity and repetition of a piece.

    Parameters
    ----------
    roll : PianoRoll

    Returns
    -------
    dict of str to float
        ``notes_per_second``; ``polyphony``, the mean number of pitches in a frame with sound; ``note_seconds`` and
        ``mean_note_seconds``, the median and the mean length of a note; ``inter_onset_seconds``, the mean time from
        one frame with an onset to the next; ``mean_pitch`` (MIDI number); ``pitch_range`` in semitones;
        ``velocity`` and ``velocity_spread``, mean and standard deviation over the notes; ``pitch_classes``, the
        entropy of the twelve classes in bits; ``scale_consistency``, the share of the notes in the major or natural
        minor scale that holds most of them [1]_; `self_similarity`; ``longest_silence_seconds``,
        ``longest_note_seconds`` and `longest_repeat_seconds`. Values that need a note are 0 without one.

    References
    ----------
    .. [1] Mogren, "C-RNN-GAN: Continuous recurrent neural networks with adversarial training", 2016, as in MusPy
       (Dong et al., "MusPy: A toolkit for symbolic music generation", ISMIR 2020).
    """
    notes = roll.notes
    pitches = notes["pitch"]
    velocities = notes["velocity"]
    n_notes = max(1, len(notes))  # a divisor
    sounding = roll.active.any(axis=1)
    held = (notes["end_frame"] - notes["start_frame"]) / roll.fps
    onset_frames = np.flatnonzero(roll.onsets.any(axis=1))
    classes = np.bincount(pitches % 12, minlength=12) / n_notes
    return {
        "notes_per_second": len(notes) / max(roll.duration_seconds, 1 / roll.fps),
        "polyphony": float(roll.active.sum() / max(1, sounding.sum())),
        "note_seconds": float(np.median(held)) if len(notes) else 0.0,
        "mean_note_seconds": float(held.sum() / n_notes),
        "inter_onset_seconds": float(np.diff(onset_frames).sum() / max(1, len(onset_frames) - 1) / roll.fps),
        "mean_pitch": float(pitches.sum() / n_notes),
        "pitch_range": float(np.ptp(pitches)) if len(notes) else 0.0,
        "velocity": float(velocities.sum() / n_notes),
        "velocity_spread": float(velocities.std()) if len(notes) else 0.0,
        "pitch_classes": float(-(classes[classes > 0] * np.log2(classes[classes > 0])).sum()),
        "scale_consistency": float((SCALES @ classes).max()),
        "self_similarity": self_similarity(roll),
        "longest_silence_seconds": _longest_run(~sounding) / roll.fps,
        "longest_note_seconds": float(held.max(initial=0)),
        "longest_repeat_seconds": longest_repeat_seconds(roll),
    }


def self_similarity(roll: PianoRoll) -> float:
    """Return the mean similarity of two-second stretches of a piece, over all pairs [1]_.

    The similarity is the cosine of the two chroma vectors (how long each pitch class sounds), 0 for a silent stretch.
    A shorter stretch at the end does not count.

    References
    ----------
    .. [1] Foote, "Visualizing music and audio using self-similarity", ACM Multimedia 1999; with chroma, as in Müller,
       "Fundamentals of music processing", 2015, chapter 4.
    """
    stretch = max(1, round(CHROMA_SECONDS * roll.fps))
    n = roll.n_frames // stretch
    chroma = (roll.active[: n * stretch] @ CLASSES_OF_KEYS).reshape(n, stretch, 12).sum(axis=1)
    chroma /= np.maximum(1e-9, np.linalg.norm(chroma, axis=1, keepdims=True))
    similarity = chroma @ chroma.T
    return float((similarity.sum() - np.trace(similarity)) / max(1, n * (n - 1)))


def in_key_shares(roll: PianoRoll, prime_frames: int, stretch_seconds: float = 8.0) -> np.ndarray:
    """Return the share of notes that belong to the opening's scale, for each stretch of the piece.

    Parameters
    ----------
    roll : PianoRoll
    prime_frames : int
        The opening. Its scale is the major or natural minor scale that holds most of its notes. Where several hold
        as many, the share is the mean over them.
    stretch_seconds : float
        The rest of the piece is cut into stretches of this length; a shorter one at the end does not count.

    Returns
    -------
    numpy.ndarray, shape (n_stretches,)
        From 0 to 1 for each stretch (7/12 for pitch classes drawn at random); nan where no note is struck.

    Raises
    ------
    ValueError
        If the opening has no note.
    """
    frames = roll.notes["start_frame"] - prime_frames
    classes = roll.notes["pitch"] % 12
    if not (frames < 0).any():
        raise ValueError(f"no note is struck in the first {prime_frames} frames: there is no key to stay in")
    fits = SCALES @ np.bincount(classes[frames < 0], minlength=12)
    scale = SCALES[fits == fits.max()].mean(axis=0)
    stretch = round(stretch_seconds * roll.fps)
    n_stretches = max(0, (roll.n_frames - prime_frames) // stretch)
    counted = (frames >= 0) & (frames < n_stretches * stretch)
    where = frames[counted] // stretch
    inside = scale[classes[counted]]
    n_notes = np.bincount(where, minlength=n_stretches)
    return np.where(n_notes, np.bincount(where, inside, n_stretches) / np.maximum(1, n_notes), np.nan)


def longest_repeat_seconds(roll: PianoRoll) -> float:
    """Return the length in seconds of the longest passage that repeats with a fixed period; 0 if there is none.

    A bar is a stretch of 0.5 to 4 s. The repetition lasts as long as nine in ten onsets occurred one bar before, or
    occur again one bar later, at the same pitch and at most 0.1 s early or late. Two bars without an onset end it, so
    that silence and a held chord do not count as repetition.
    """
    frames, keys = np.nonzero(roll.onsets)
    near = np.zeros((roll.n_frames, N_PITCHES), bool)
    tolerance = round(TOLERANCE_SECONDS * roll.fps)
    for shift in range(-tolerance, tolerance + 1):
        shifted = frames + shift
        inside = (shifted >= 0) & (shifted < roll.n_frames)
        near[shifted[inside], keys[inside]] = True
    shortest, longest = (max(1, round(seconds * roll.fps)) for seconds in PERIOD_SECONDS)
    return max(_repeated_frames(near, frames, keys, period) for period in range(shortest, longest + 1)) / roll.fps


def _repeated_frames(near: np.ndarray, frames: np.ndarray, keys: np.ndarray, period: int) -> int:
    """Return the length in frames of the longest repetition with a given period."""
    late = frames >= period
    early = frames + period < len(near)
    again = np.concatenate([near[frames[late] - period, keys[late]], near[frames[early] + period, keys[early]]])
    times, which = np.unique(np.concatenate([frames[late], frames[early] + period]), return_inverse=True)
    scores = np.bincount(which, np.where(again, 1, -REPEATED_TO_NEW))
    # A stretch counts if its scores sum to 0 or more. A period without any onset, played or expected, always ends it.
    pauses = np.diff(times, prepend=times[:1]) > period
    ends = np.cumsum(scores - pauses * (len(again) + 1))
    starts = np.where(scores > 0, ends - scores, np.inf)
    lowest = np.minimum.accumulate(starts)  # decreasing, so that the first low enough value is the earliest start
    earliest = np.minimum(np.searchsorted(-lowest, -ends), len(times) - 1)
    length = int((times - times[earliest])[scores > 0].max(initial=0))
    return length + period if length >= period else 0


def _longest_run(flags: np.ndarray) -> int:
    """Return the length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def onset_autocorrelation(roll: PianoRoll) -> np.ndarray:
    """Return the autocorrelation of the number of onsets per frame at lags of 3 to 40 frames, shape (38,)."""
    counts = roll.onsets.sum(axis=1) - roll.onsets.sum(axis=1).mean()
    power = (counts**2).sum()
    if not power or len(counts) <= LAGS.stop:
        return np.zeros(LAGS.stop - LAGS.start)
    return np.array([(counts[lag:] * counts[:-lag]).sum() / power for lag in range(LAGS.start, LAGS.stop)])


def pulse(roll: PianoRoll) -> tuple[float, float]:
    """Measure how clear the pulse is: the standard deviation and the maximum of `onset_autocorrelation`."""
    values = onset_autocorrelation(roll)
    return float(values.std()), float(values.max())


def memory(roll: PianoRoll, prime_frames: int = 0) -> float:
    """Measure how closely the music repeats passages that were played shortly before.

    Every second after the prime, the onsets of the next two seconds are compared with each stretch of equal length in
    the 12 seconds before them, on the same pitches and with one frame of tolerance. The result is the mean of the best
    F1 scores.
    """
    n = round(PATTERN_SECONDS * roll.fps)
    reach = round(MEMORY_SECONDS * roll.fps)
    step = round(PATTERN_SECONDS / 2 * roll.fps)
    onsets = roll.onsets.astype(np.float32)
    near = np.maximum(onsets, np.maximum(_shift(onsets, 1), _shift(onsets, -1)))
    found = []
    for start in range(max(n, prime_frames), roll.n_frames - n + 1, step):
        pattern = onsets[start : start + n]
        pattern_near = near[start : start + n]
        if not pattern.sum():
            continue
        first = max(0, start - reach)
        scores = [
            ((pattern * near[s : s + n]).sum() + (pattern_near * onsets[s : s + n]).sum())
            / max(1, pattern.sum() + onsets[s : s + n].sum())
            for s in range(first, start - n + 1)
        ]
        found.append(max(scores, default=0.0))
    return float(np.mean(found)) if found else 0.0


def _shift(matrix: np.ndarray, frames: int) -> np.ndarray:
    shifted = np.zeros_like(matrix)
    if frames > 0:
        shifted[frames:] = matrix[:-frames]
    else:
        shifted[:frames] = matrix[-frames:]
    return shifted


def pitch_classes(roll: PianoRoll) -> np.ndarray:
    """Return the normalised pitch-class histogram of the notes, shape (12,); all zeros without notes."""
    classes = np.bincount(roll.notes["pitch"] % 12, minlength=12).astype(float)
    return classes / max(1.0, classes.sum())


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays; 0 if one of them is constant."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0


def steadiness(roll: PianoRoll, seconds: float = 4.0) -> float:
    """Return the mean correlation between the pitch-class histograms of neighbouring blocks of a few seconds."""
    n = round(seconds * roll.fps)
    blocks = [pitch_classes(roll[start : start + n]) for start in range(0, roll.n_frames - n + 1, n)]
    pairs = [correlation(a, b) for a, b in zip(blocks, blocks[1:]) if a.any() and b.any()]
    return float(np.mean(pairs)) if pairs else 0.0


def continuity(roll: PianoRoll, prime_frames: int, seconds: float = 10.0) -> dict[str, float]:
    """Compare the first seconds of a continuation with its prime.

    Returns
    -------
    dict of str to float
        ``pitch_class_correlation``; ``density_shift``, the absolute log ratio of notes per second; ``pitch_shift`` in
        semitones; ``interval_overlap`` of the histograms of inter-onset times, from 0 to 1.
    """
    prime = roll[:prime_frames]
    after = roll[prime_frames : prime_frames + round(seconds * roll.fps)]
    rates = [(part.n_notes + 1) / max(1, part.n_frames) for part in (prime, after)]
    pitches = [part.notes["pitch"].mean() if part.n_notes else 60.0 for part in (prime, after)]
    intervals = [onset_intervals(part) for part in (prime, after)]
    return {
        "pitch_class_correlation": correlation(pitch_classes(prime), pitch_classes(after)),
        "density_shift": float(abs(np.log(rates[1] / rates[0]))),
        "pitch_shift": float(abs(pitches[1] - pitches[0])),
        "interval_overlap": float(np.minimum(*intervals).sum()),
    }


def onset_intervals(roll: PianoRoll) -> np.ndarray:
    """Return the normalised histogram of inter-onset intervals; all zeros for fewer than two onsets."""
    gaps = np.diff(np.flatnonzero(roll.onsets.any(axis=1)))
    counts = np.histogram(gaps, INTERVALS)[0].astype(float)
    return counts / max(1.0, counts.sum())


def velocity_step(roll: PianoRoll) -> float:
    """Return the mean absolute difference in velocity between successive notes."""
    velocities = roll.notes["velocity"]
    return float(np.abs(np.diff(velocities)).mean()) if len(velocities) > 1 else 0.0


def pedal_statistics(roll: PianoRoll) -> tuple[float, float]:
    """Return the share of frames with the pedal down, and the mean length of a press in seconds."""
    presses = [end - start for start, end in roll.pedal_spans()]  # frames
    if not presses:
        return 0.0, 0.0
    return sum(presses) / roll.n_frames, float(np.mean(presses)) / roll.fps
