"""How well can the beat of a prime be estimated from its onsets?  ``python benchmarks/beat_estimates.py DATA``

The estimate is the classical one: the lag with the highest autocorrelation of the onset counts, weighted towards 100
beats per minute (Ellis, "Beat Tracking by Dynamic Programming", 2007). It is compared with the annotated beats of the
first four and the first twelve seconds of each piece of the train split.
"""

import sys

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.piano_roll import PianoRoll

LAGS = np.arange(5, 41)  # frames: 240 to 30 beats per minute
TOLERANCE = 0.08  # of the period, as is usual for tempo estimates


def estimate_period(roll: PianoRoll) -> tuple[float, float]:
    """Return the most likely beat period in seconds, and the autocorrelation at it, from 0 to 1."""
    counts = roll.onsets.sum(axis=1) - roll.onsets.sum(axis=1).mean()
    near = np.convolve(counts, [0.5, 1, 0.5], mode="same")
    power = (near**2).sum() + 1e-9
    found = np.array([(near[lag:] * near[:-lag]).sum() / power for lag in LAGS if lag < len(near)])
    weight = np.exp(-0.5 * (np.log2(LAGS[: len(found)] / (0.6 * roll.fps)) / 0.9) ** 2)
    best = int((found * weight).argmax())
    return LAGS[best] / roll.fps, float(found[best])


def main() -> None:
    rolls = prepare(load_corpus(sys.argv[1])).select(split="train")
    for seconds in (4, 12):
        rows = []
        for roll in rolls:
            if roll.beats is None or not roll.n_notes:
                continue
            first = int(roll.notes["start_frame"][0])
            part = roll[first : first + seconds * roll.fps]
            beats = part.beats[(part.beats[:, 0] >= 0) & (part.beats[:, 0] <= seconds), 0]
            if len(beats) >= 4:
                period, strength = estimate_period(part)
                rows.append((period / np.median(np.diff(beats)), strength))
        ratio, strength = np.array(rows).T
        same = abs(ratio - 1) < TOLERANCE
        multiple = np.min([abs(ratio / k - 1) for k in (1, 2, 3, 1 / 2, 1 / 3)], axis=0) < TOLERANCE
        sure = strength > np.quantile(strength, 0.75)
        print(f"{seconds} s, {len(ratio)} pieces: right {same.mean():.0%}, up to factor 2 or 3 {multiple.mean():.0%};")
        print(
            f"  among the quarter with the clearest peaks: right {same[sure].mean():.0%}, {multiple[sure].mean():.0%}"
        )


if __name__ == "__main__":
    main()
