"""Comparison of generated with real music: a classifier that tells them apart, and means over many pieces.

The measures of one piece are in `musicgen.evaluation.statistics`.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from musicgen.evaluation.statistics import (
    continuity,
    correlation,
    memory,
    onset_autocorrelation,
    onset_intervals,
    pedal_statistics,
    pitch_classes,
    pulse,
    steadiness,
    velocity_step,
)
from musicgen.piano_roll import PianoRoll

EXCERPT_SECONDS = 10.0
HALF_MINUTE = 30  # seconds
N_FOLDS = 5


def excerpt_statistics(roll: PianoRoll) -> dict[str, float]:
    """Return about 60 simple statistics of rhythm, pitch, chords, note lengths and velocities."""
    notes = roll.notes
    seconds = max(roll.duration_seconds, 1 / roll.fps)
    lengths = (notes["end_frame"] - notes["start_frame"]).astype(float)
    chords = roll.onsets.sum(axis=1)
    chords = chords[chords > 0]
    polyphony = roll.active.sum(axis=1)
    pitches = notes["pitch"].astype(float)
    velocities = notes["velocity"].astype(float)
    spread, peak = pulse(roll)
    values = {
        "notes_per_second": len(notes) / seconds,
        "acf_std": spread,
        "acf_peak": peak,
        "acf_peak_lag": float(onset_autocorrelation(roll).argmax()),
        "memory": memory(roll),
        "steadiness": steadiness(roll),
        "velocity_step": velocity_step(roll),
        "distinct_pitches": len(np.unique(pitches)) / max(1, len(notes)),
        "silence": float((polyphony == 0).mean()),
        "repeated_pitch": float((np.diff(pitches) == 0).mean()) if len(pitches) > 1 else 0.0,
    }
    pedal = pedal_statistics(roll)
    values |= {"pedal_share": pedal[0], "pedal_press": pedal[1]}
    for name, data in (("chord", chords), ("polyphony", polyphony), ("pitch", pitches), ("velocity", velocities)):
        values |= _summary(name, np.asarray(data, float))
    values |= _summary("length", lengths) | _summary("leap", np.abs(np.diff(pitches)))
    values |= {f"interval_{i}": float(x) for i, x in enumerate(onset_intervals(roll))}
    values |= {f"class_{i}": float(x) for i, x in enumerate(np.sort(pitch_classes(roll))[::-1][:8])}
    return values


def _summary(name: str, data: np.ndarray) -> dict[str, float]:
    if not len(data):
        data = np.zeros(1)
    low, middle, high = np.percentile(data, [10, 50, 90])
    return {
        f"{name}_mean": data.mean(),
        f"{name}_std": data.std(),
        f"{name}_p10": low,
        f"{name}_p50": middle,
        f"{name}_p90": high,
    }


def excerpts(roll: PianoRoll, first: int = 0) -> list[PianoRoll]:
    """Cut a roll into excerpts of 10 seconds from frame `first` on; a shorter rest is dropped."""
    n = round(EXCERPT_SECONDS * roll.fps)
    return [roll[start : start + n] for start in range(first, roll.n_frames - n + 1, n)]


def classifier_auc(
    real: Sequence[Sequence[PianoRoll]], generated: Sequence[Sequence[PianoRoll]], seed: int = 0
) -> dict[str, object]:
    """Cross-validate a classifier that tells generated from real excerpts, and return its mean AUC and the spread.

    Parameters
    ----------
    real, generated : sequence of sequence of PianoRoll
        Excerpts per piece; entry i of both belongs to the same piece, which is never split between folds.
    seed : int

    Returns
    -------
    dict
        ``auc``, the mean over five folds (0.5: cannot tell); ``auc_spread``, the standard deviation over the folds;
        ``telling``, the AUC of each statistic alone, the most telling first.
    """
    rows = []
    labels = []
    groups = []
    for label, pieces in enumerate((real, generated)):
        for group, piece in enumerate(pieces):
            for excerpt in piece:
                rows.append(list(excerpt_statistics(excerpt).values()))
                labels.append(label)
                groups.append(group)
    x = np.array(rows)
    y = np.array(labels)
    scores = []
    for train, test in StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(x, y, groups):
        judge = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, max_leaf_nodes=8, random_state=seed)
        scores.append(roc_auc_score(y[test], judge.fit(x[train], y[train]).predict_proba(x[test])[:, 1]))
    names = list(excerpt_statistics(PianoRoll(np.zeros((1, 88), np.uint8))))
    alone = {name: roc_auc_score(y, column) for name, column in zip(names, x.T)}
    telling = sorted(alone.items(), key=lambda item: -abs(item[1] - 0.5))
    return {"auc": float(np.mean(scores)), "auc_spread": float(np.std(scores)), "telling": dict(telling)}


def mean_measures(rolls: Sequence[PianoRoll], prime_frames: int) -> dict[str, float]:
    """Return the mean of each measure over several pieces.

    All measures but those of `continuity` are of the part after the prime.
    """
    rows = []
    for roll in rolls:
        after = roll[prime_frames:]
        spread, peak = np.mean([pulse(part) for part in excerpts(after) or [after]], axis=0)
        chords = after.onsets.sum(axis=1)
        share = pedal_statistics(after)[0]
        distinct = [len(np.unique(p.notes["pitch"])) / p.n_notes for p in excerpts(after) if p.n_notes]
        rows.append(
            {
                "acf_std": spread,
                "acf_peak": peak,
                "memory": memory(roll, prime_frames),
                "steadiness": steadiness(after),
                "velocity_step": velocity_step(after),
                "notes_per_second": after.n_notes / after.duration_seconds,
                "chord": chords.sum() / max(1, (chords > 0).sum()),
                "distinct_pitches": np.mean(distinct) if distinct else np.nan,
                "pedal_share": share,
                **continuity(roll, prime_frames),
            }
        )
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    return means | {"pedal_press": mean_press([roll[prime_frames:] for roll in rolls])}


def mean_press(rolls: Sequence[PianoRoll]) -> float:
    """Return the mean length of all pedal presses in several rolls, in seconds."""
    presses = [(end - start) / roll.fps for roll in rolls for start, end in roll.pedal_spans()]
    return float(np.mean(presses)) if presses else 0.0


def by_half_minutes(rolls: Sequence[PianoRoll], prime_frames: int) -> list[dict[str, float]]:
    """Compare each half minute after the prime with the prime; return means over rolls of equal length.

    Returns
    -------
    list of dict of str to float
        ``second``, where the half minute begins; ``pitch_class_correlation`` with the prime; ``mean_pitch``, a MIDI
        number; ``notes_per_second``.
    """
    length = HALF_MINUTE * rolls[0].fps
    rows = []
    for start in range(prime_frames, rolls[0].n_frames - length + 1, length):
        parts = [roll[start : start + length] for roll in rolls]
        primes = [pitch_classes(roll[:prime_frames]) for roll in rolls]
        correlations = [correlation(prime, pitch_classes(part)) for prime, part in zip(primes, parts)]
        pitches = [part.notes["pitch"].mean() for part in parts if part.n_notes]
        row = {"second": (start - prime_frames) // rolls[0].fps, "pitch_class_correlation": np.mean(correlations)}
        row["mean_pitch"] = np.mean(pitches)
        row["notes_per_second"] = np.mean([part.n_notes for part in parts]) / HALF_MINUTE
        rows.append({name: round(float(value), 4) for name, value in row.items()})
    return rows
