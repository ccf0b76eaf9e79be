"""Pure functions that turn logits into samples, on NumPy arrays: they are small, and NumPy has the least overhead.

Shapes: B pieces, K pitches. The probability of an onset passes through these steps, in this order:

1. `guide`: classifier-free guidance towards a composer, on the logits;
2. the repetition penalty, subtracted from the logits (see `repetition`);
3. `sharpen`: the temperature, on the probabilities;
4. `top_p_mask`: unlikely pitches are left out;
5. `onset_gain`: what is left is scaled so that the temperature changes which pitches are struck, and not how many
   (`constant_rate`, `gain_for_rate`);
6. `limit_polyphony`: the least likely onsets are removed from the sample.

The probability that a sounding pitch is held has a temperature of its own. A pitch sounds if its random number is below
its probability. So, as soon as the gain is known, the random numbers become thresholds of the logits
(`start_threshold`, `hold_threshold`), and after each pass of the network one comparison is left.
"""

import numpy as np
from numpy import ndarray

DEFAULT_VELOCITY = 64
RATE_DECAY = 0.995  # of the sums in `constant_rate`: over about 10 s
TINY = 1e-9
LEAST_LOGIT = -80  # the exponential of 80 is still a number with 32 bits
LEAST_P = 1.8e-35  # its probability


def guide(logits: ndarray, scale: float) -> ndarray:
    """Apply classifier-free guidance [1]_ to logits (2 B, ...): B rows with a condition, then the same without it.

    It extrapolates: unconditional + scale * (conditional - unconditional).

    References
    ----------
    .. [1] Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.
    """
    conditional, unconditional = np.split(logits, 2)
    return unconditional + scale * (conditional - unconditional)


def sigmoid(logits: ndarray) -> ndarray:
    """Return the probabilities of logits, at least `LEAST_P`, which avoids an overflow."""
    return 1 / (1 + np.exp(-np.maximum(logits, LEAST_LOGIT)))


def logit(p: ndarray) -> ndarray:
    """Return the logits of probabilities, the inverse of `sigmoid`. They are finite, since 0 and 1 are left out."""
    p = np.clip(p, LEAST_P, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


def start_threshold(uniform: ndarray, gain: ndarray | float, temperature: float) -> ndarray:
    """Return the logits above which silent pitches start, shape (B, K): infinite where they cannot.

    A pitch starts if ``uniform < sharpen(sigmoid(logit), temperature) * gain``.

    Parameters
    ----------
    uniform : numpy.ndarray, shape (B, K)
        Random numbers from 0 to 1.
    gain : numpy.ndarray, shape (B, K), or float
        See `onset_gain`.
    temperature : float
    """
    p = np.minimum(uniform / np.maximum(gain, TINY), 1) ** temperature
    return np.where(uniform < gain, logit(p), np.inf)


def hold_threshold(uniform: ndarray, temperature: float) -> ndarray:
    """Return the logits above which sounding pitches go on: if ``uniform < sigmoid(logit / temperature)``."""
    return temperature * logit(uniform)


def pitch_threshold(
    uniform: ndarray,
    inactive: ndarray,
    gain: ndarray | float,
    penalty: ndarray | float,
    temperature: float,
    release_temperature: float,
) -> ndarray:
    """Return the logits (B, K) above which pitches sound in the next frame; the penalty is that of onsets."""
    may_start = start_threshold(uniform, gain, temperature) + penalty
    may_go_on = hold_threshold(uniform, release_temperature)
    return np.where(inactive, may_start, may_go_on)


def sharpen(p: ndarray, temperature: float) -> ndarray:
    """Raise probabilities to 1 / temperature; a temperature below 1 favours likely pitches."""
    return p ** (1 / temperature)


def top_p_mask(weights: ndarray, top_p: float) -> ndarray:
    """Return a mask of the largest weights of each row: as few as reach the share `top_p` of the row's sum."""
    if top_p == 1:
        return np.ones(weights.shape, bool)
    order = np.argsort(-weights, axis=-1)
    ordered = np.take_along_axis(weights, order, axis=-1)
    sum_of_larger = ordered.cumsum(axis=-1) - ordered
    kept = np.zeros(weights.shape, bool)
    np.put_along_axis(kept, order, sum_of_larger < top_p * weights.sum(axis=-1, keepdims=True), axis=-1)
    return kept


def constant_rate(expected: ndarray, temperature: float, sums: ndarray | None) -> tuple[ndarray, ndarray | None]:
    """Apply a temperature to the expected number of onsets, but keep its long-run mean; return it and the new sums.

    rate = expected ** (1 / temperature) * mean(expected) / mean(expected ** (1 / temperature)). A temperature below 1
    moves onsets from frames with few to frames with many.

    Parameters
    ----------
    expected : numpy.ndarray, shape (B, 1)
        The expected number of onsets, the sum of their probabilities.
    temperature : float
    sums : numpy.ndarray, shape (B, 2), or None
        Decaying sums of `expected` and of its power, from the frame before. Their ratio is that of the two means; in
        the first seconds, of the plain means.

    Returns
    -------
    rate : numpy.ndarray, shape (B, 1)
    sums : numpy.ndarray, shape (B, 2), or None
        As before with a temperature of 1.
    """
    expected = expected + TINY
    if temperature == 1:  # nothing is moved
        return expected, sums
    sharpened = sharpen(expected, temperature)
    now = np.concatenate([expected, sharpened], axis=-1)  # (B, 2)
    sums = now if sums is None else RATE_DECAY * sums + now
    rate = sharpened * sums[:, :1] / sums[:, 1:]
    return rate, sums


def gain_for_rate(weights: ndarray, kept: ndarray, rate: ndarray) -> ndarray:
    """Return factors (B, K) that scale the kept weights of each row to sum to `rate` (B, 1), and the others to 0."""
    total = np.maximum((weights * kept).sum(axis=-1, keepdims=True), TINY)
    return kept * rate / total


def onset_gain(
    p: ndarray, sums: ndarray | None, temperature: float, onset_temperature: float, top_p: float
) -> tuple[ndarray | float, ndarray | None]:
    """Return factors (B, K) that keep the number of onsets after sharpening, and the new sums of `constant_rate`.

    Parameters
    ----------
    p : numpy.ndarray, shape (B, K)
        Onset probabilities; 0 for pitches that sound already.
    sums : numpy.ndarray, shape (B, 2), or None
        See `constant_rate`.
    temperature, onset_temperature, top_p : float
        Of the pitches, of the number of onsets, and the share of likely pitches that is kept.
    """
    if temperature == onset_temperature == top_p == 1:
        return 1.0, sums
    weights = sharpen(p, temperature)
    kept = top_p_mask(weights, top_p)
    expected = p.sum(axis=-1, keepdims=True)  # (B, 1)
    rate, sums = constant_rate(expected, onset_temperature, sums)
    return gain_for_rate(weights, kept, rate), sums


def limit_polyphony(on: ndarray, may_start: ndarray, logits: ndarray, most: int) -> ndarray:
    """Remove the least likely onsets, so that at most `most` pitches of each row sound; held pitches stay."""
    if most >= on.shape[-1]:
        return on
    held_first = np.where(on, np.inf, -np.inf)  # then the onsets by their logits, silent pitches last
    rank = np.where(on & may_start, logits, held_first)
    best = np.argsort(-rank, axis=-1)[..., :most]
    top = np.zeros(on.shape, bool)
    np.put_along_axis(top, best, True, axis=-1)
    return on & (~may_start | top)


def draw_categories(logits: ndarray, uniform: ndarray) -> ndarray:
    """Draw a category from each row of logits (N, C) by the inverse CDF, given uniform random numbers (N, 1)."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    cumulative = weights.cumsum(axis=-1)
    return (cumulative < uniform * cumulative[:, -1:]).sum(axis=-1)


def median_velocity(primes: ndarray) -> ndarray:
    """Return the median velocity (B, 1) of each prime (B, T, K), for models that predict no velocity."""
    medians = [
        np.quantile(prime[prime > 0], 0.5, method="lower") if prime.any() else DEFAULT_VELOCITY for prime in primes
    ]
    return np.array(medians, np.uint8)[:, None]
