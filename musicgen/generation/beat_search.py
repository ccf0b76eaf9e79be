"""The beats of a prime, found by the model itself.

The model takes beats as input. So the beats under which it finds a prime most likely are a maximum likelihood estimate.
A classical beat tracker proposes candidates: for each tempo, dynamic programming [1]_ finds the beats that meet most
onsets while the tempo changes little. The model chooses among them.

References
----------
.. [1] Ellis, "Beat Tracking by Dynamic Programming", Journal of New Music Research, 2007.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen.beats import beat_features
from musicgen.model import AttentionLSTM
from musicgen.model.heads import teacher_forced_logits
from musicgen.piano_roll import PianoRoll

PERIODS = 0.3 * 1.12 ** np.arange(13)  # seconds, 0.3 to 1.17: 200 to 51 beats per minute
N_PHASES = 4  # candidates per period: beats that end at different points of the last period
LONGEST = 4.0  # seconds: of a longer prime the end is searched
MOST_CANDIDATES = 24  # for the model to choose among: those that meet most onsets
# Dynamic programming
TIGHTNESS = 30.0  # cost of a squared logarithmic deviation from the period, in standard deviations of the onsets
SHORTEST_BEAT, LONGEST_BEAT = 0.67, 1.5  # of a beat, in periods
SMOOTHING = 1.0  # onsets are rounded to frames; this takes the jitter out of the beats
BASS, BASS_WEIGHT = 36, 1.5  # pitches below column 36 (F sharp 3) count more
# Priors, in nats
USUAL_PERIOD, PERIOD_SPREAD = 0.5, 0.8  # seconds, octaves
RUBATO = 0.1  # standard deviation of the logarithmic ratio of neighbouring beats
METRES = (2, 3, 4)
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
        beats = _with_bars(model, part, candidates[best], nll[best])
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


@torch.inference_mode()
def nll_given_beats(model: AttentionLSTM, roll: PianoRoll, candidates: list[np.ndarray | None]) -> np.ndarray:
    """Return the negative log-likelihood of a roll's pitches for each candidate's beats, computed as one batch.

    Returns
    -------
    numpy.ndarray, shape (n_candidates,)
        In nats, summed over the pitches and over all frames but the first.
    """
    B = len(candidates)
    device = next(model.parameters()).device
    velocity = torch.tensor(roll.velocity, device=device).expand(B, -1, -1)  # (B, T, K)
    down = np.zeros(roll.n_frames) if roll.pedal is None else roll.pedal
    pedal = torch.tensor(down, dtype=torch.float32, device=device).expand(B, -1)  # (B, T)
    features = np.stack([beat_features(beats, roll.n_frames, roll.fps) for beats in candidates])
    frames = velocity[:, :-1] / 127
    beats = torch.from_numpy(features).to(device)
    target = (velocity[:, 1:] > 0).float()
    past, _ = model(frames, pedal=pedal[:, :-1], beats=beats[:, 1:])
    logits, _ = teacher_forced_logits(model.output, past, target, pedal[:, 1:])
    nll: Tensor = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=(1, 2))
    return nll.double().cpu().numpy()


def propose_beats(roll: PianoRoll) -> list[np.ndarray]:
    """Return at most 24 candidates for the beats of a roll. They cover its whole length, and have no bars."""
    strength = onset_strength(roll)
    totals: dict[tuple[int, ...], float] = {}
    for period in PERIODS:
        totals |= _beat_paths(strength, period * roll.fps)
    # By chance, a path of n beats meets onsets whose sum varies with sqrt(n).
    best = sorted(totals, key=lambda path: totals[path] / math.sqrt(len(path)), reverse=True)[:MOST_CANDIDATES]
    return [_extend(_smooth(np.array(path, float)) / roll.fps, roll.duration_seconds) for path in sorted(best)]


def onset_strength(roll: PianoRoll) -> np.ndarray:
    """Return the strength of the onsets in each frame, in standard deviations, shape (n_frames,)."""
    weight = np.where(np.arange(roll.velocity.shape[1]) < BASS, BASS_WEIGHT, 1.0)
    struck = (roll.onsets * np.sqrt(roll.velocity / 127)) @ weight
    strength = np.sqrt(struck)  # a chord of nine notes counts three times as much as one note
    return strength / (strength.std() + 1e-6)


def _beat_paths(strength: np.ndarray, period: float) -> dict[tuple[int, ...], float]:
    """Return the best sequence of beats that ends in each quarter of the last period, and its total.

    `period` is in frames. The total is the sum of the strengths less the cost of deviations from the period.
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
    for ends in np.array_split(last_period, N_PHASES):
        if len(ends):
            end = int(ends[total[ends].argmax()])
            path = [end]
            while previous[path[0]] >= 0:
                path.insert(0, int(previous[path[0]]))
            if len(path) > 1:
                paths[tuple(path)] = float(total[end])
    return paths


def _smooth(times: np.ndarray) -> np.ndarray:
    """Make times more evenly spaced, by penalised least squares (Whittaker smoothing)."""
    curvature = np.diff(np.eye(len(times)), n=2, axis=0)  # second differences; none for two times
    return np.linalg.solve(np.eye(len(times)) + SMOOTHING * curvature.T @ curvature, times)


def _extend(times: np.ndarray, seconds: float) -> np.ndarray:
    """Add beats at the first and last tempo, to begin before 0 and end after `seconds`; return (n_beats, 2)."""
    first, last = times[1] - times[0], times[-1] - times[-2]
    n_before = math.ceil(times[0] / first) + 1
    n_after = math.ceil((seconds - times[-1]) / last) + 1
    before = times[0] - first * np.arange(n_before, 0, -1)
    after = times[-1] + last * np.arange(1, n_after + 1)
    times = np.concatenate([before, times, after])
    return np.column_stack([times, np.zeros(len(times))])


def _prior(beats: np.ndarray, seconds: float) -> float:
    """Return the negative log-probability of beats: of their tempo, and of its changes between 0 and `seconds`."""
    heard = beats[(beats[:, 0] > -1e-6) & (beats[:, 0] < seconds), 0]
    periods = np.diff(heard if len(heard) > 2 else beats[:, 0])
    tempo = (math.log2(np.median(periods) / USUAL_PERIOD) / PERIOD_SPREAD) ** 2
    return tempo + float((np.diff(np.log(periods)) ** 2).sum()) / (2 * RUBATO**2)


def _with_bars(model: AttentionLSTM, roll: PianoRoll, beats: np.ndarray, nll: float) -> np.ndarray:
    """Return the beats with the bars that make a roll most likely, or unchanged if no bars help."""
    barred = []
    for metre in METRES:
        for downbeat in range(metre):
            candidate = beats.copy()
            candidate[downbeat::metre, 1] = 1
            barred.append(candidate)
    found = nll_given_beats(model, roll, barred)
    return barred[int(found.argmin())] if found.min() + MIN_GAIN < nll else beats
