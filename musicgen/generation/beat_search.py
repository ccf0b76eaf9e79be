"""The beats of a prime, found by the model itself.

The model takes beats as input. So the beats under which it finds a prime most likely are a maximum likelihood estimate.
A classical beat tracker proposes candidates (`musicgen.beat_candidates`). The model chooses among them.
"""

import math
from typing import NamedTuple

import numpy as np

from musicgen.beat_candidates import bars_of, beat_paths, extend_beats, onset_strength, smooth_times
from musicgen.model import AttentionLSTM
from musicgen.model.given_beats import nll_given_beats
from musicgen.piano_roll import PianoRoll

PERIODS = 0.3 * 1.12 ** np.arange(13)  # seconds, 0.3 to 1.17: 200 to 51 beats per minute
N_PHASES = 4  # candidates per period: beats that end at different points of the last period
LONGEST = 4.0  # seconds: of a longer prime the end is searched
MOST_CANDIDATES = 24  # for the model to choose among: those that meet most onsets
# Priors, in nats
USUAL_PERIOD, PERIOD_SPREAD = 0.5, 0.8  # seconds, octaves
RUBATO = 0.1  # standard deviation of the logarithmic ratio of neighbouring beats
MIN_GAIN = 2.0  # nats by which beats must be better than no beats, and bars better than no bars
SHORTEST = 1.0  # seconds: in a shorter prime no beats are looked for, nor among fewer notes than MIN_NOTES
MIN_NOTES = 4


class FoundBeats(NamedTuple):
    """Result of `find_beats`: the candidates, their scores, and the beats that were chosen.

    N candidates; times are in seconds from the first frame.

    Attributes
    ----------
    beats : numpy.ndarray, shape (n_beats, 2), or None
        As in `PianoRoll`; None if no candidate is clearly better than no beats.
    candidates : list of numpy.ndarray, shape (n_beats, 2)
    periods, phases : numpy.ndarray, shape (N,)
        The median distance of a candidate's beats, and its first beat in the part that was searched.
    scores : numpy.ndarray, shape (N,)
        Negative log-likelihood of the prime given each candidate, plus that of the candidate itself, in nats.
    free_nll : float
        Negative log-likelihood of the prime without beats.
    """

    beats: np.ndarray | None
    candidates: list[np.ndarray]
    periods: np.ndarray
    phases: np.ndarray
    scores: np.ndarray
    free_nll: float

    @property
    def bpm(self) -> float | None:
        """The tempo of the chosen beats in beats per minute, or None if no beats were found."""
        return None if self.beats is None else 60 / float(np.median(np.diff(self.beats[:, 0])))


def find_beats(model: AttentionLSTM, prime: PianoRoll) -> FoundBeats:
    """Find the beats that make a prime most likely under a model.

    Parameters
    ----------
    model : AttentionLSTM
        With ``config.beats``; another model is not asked, and no beats are found.
    prime : PianoRoll
        Its own beats are not used. Of a long prime only the end is searched.
    """
    start = max(0, prime.n_frames - round(LONGEST * prime.fps))
    part = prime[start:]
    if not model.config.beats or part.duration_seconds < SHORTEST or part.n_notes < MIN_NOTES:
        return FoundBeats(None, [], np.zeros(0), np.zeros(0), np.zeros(0), math.nan)
    candidates = propose_beats(part)
    free_nll, *nll = nll_given_beats(model, part, [None, *candidates])
    scores = np.array(nll) + [_prior(beats, part.duration_seconds) for beats in candidates]
    beats = None
    if scores.min() + MIN_GAIN < free_nll:
        best = int(scores.argmin())
        beats = _best_bars(model, part, candidates[best], nll[best])
    offset = [start / prime.fps, 0]
    candidates = [each + offset for each in candidates]
    return FoundBeats(
        beats=None if beats is None else beats + offset,
        candidates=candidates,
        periods=np.array([np.median(np.diff(each[:, 0])) for each in candidates]),
        phases=np.array([each[each[:, 0] >= offset[0], 0][0] for each in candidates]),
        scores=scores,
        free_nll=float(free_nll),
    )


def propose_beats(roll: PianoRoll) -> list[np.ndarray]:
    """Return at most 24 candidates for the beats of a roll. They cover its whole length, and have no bars."""
    strength = onset_strength(roll)
    totals: dict[tuple[int, ...], float] = {}
    for period in PERIODS:
        totals |= beat_paths(strength, period * roll.fps, N_PHASES)
    # By chance, a path of n beats meets onsets whose sum varies with sqrt(n).
    best = sorted(totals, key=lambda path: totals[path] / math.sqrt(len(path)), reverse=True)[:MOST_CANDIDATES]
    times = [smooth_times(np.array(path, float)) / roll.fps for path in sorted(best)]
    return [extend_beats(each, roll.duration_seconds) for each in times]


def _prior(beats: np.ndarray, seconds: float) -> float:
    """Return the negative log-probability of beats: of their tempo, and of its changes between 0 and `seconds`."""
    heard = beats[(beats[:, 0] > -1e-6) & (beats[:, 0] < seconds), 0]
    periods = np.diff(heard if len(heard) > 2 else beats[:, 0])
    tempo = (math.log2(np.median(periods) / USUAL_PERIOD) / PERIOD_SPREAD) ** 2
    return tempo + float((np.diff(np.log(periods)) ** 2).sum()) / (2 * RUBATO**2)


def _best_bars(model: AttentionLSTM, roll: PianoRoll, beats: np.ndarray, nll: float) -> np.ndarray:
    """Return the beats with the bars that make a roll most likely, or unchanged if no bars help."""
    barred = bars_of(beats)
    found = nll_given_beats(model, roll, barred)
    return barred[int(found.argmin())] if found.min() + MIN_GAIN < nll else beats
