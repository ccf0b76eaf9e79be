"""Pure functions that turn logits into samples. Shapes: B pieces, K pitches.

The probability of an onset passes through these steps, in this order:

1. `guide`: classifier-free guidance towards a composer, on the logits;
2. the repetition penalty, subtracted from the logits (see `repetition`);
3. `sharpen`: the temperature, on the probabilities;
4. `top_p_mask`: unlikely pitches are left out;
5. `constant_rate` and `gain_for_rate`: what is left is scaled so that the temperature changes which pitches are
   struck, and not how many;
6. `limit_polyphony`: the least likely onsets are removed from the sample.

The probability that a sounding pitch is held has a temperature of its own: `hold_probability`.
"""

import math

import torch
from torch import Tensor

DEFAULT_VELOCITY = 64
RATE_DECAY = 0.995  # of the running means in `constant_rate`: over about 10 s
TINY = 1e-9


def guide(logits: Tensor, scale: float) -> Tensor:
    """Apply classifier-free guidance [1]_ to logits (2 B, ...): B rows with a condition, then the same without it.

    It extrapolates: unconditional + scale * (conditional - unconditional).

    References
    ----------
    .. [1] Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.
    """
    conditional, unconditional = logits.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def hold_probability(logits: Tensor, temperature: float) -> Tensor:
    """Return the probability that a sounding pitch goes on: sigmoid(logits / temperature)."""
    return torch.sigmoid(logits / temperature)


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Raise probabilities to 1 / temperature; a temperature below 1 favours likely pitches."""
    return p ** (1 / temperature)


def top_p_mask(weights: Tensor, top_p: float) -> Tensor:
    """Return a mask of the largest weights of each row: as few as reach the share `top_p` of the row's sum."""
    if top_p == 1:
        return torch.ones_like(weights, dtype=torch.bool)
    ordered, order = weights.sort(-1, descending=True)
    sum_of_larger = ordered.cumsum(-1) - ordered
    kept = sum_of_larger < top_p * weights.sum(-1, keepdim=True)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def constant_rate(expected: Tensor, temperature: float, means: Tensor | None) -> tuple[Tensor, Tensor]:
    """Apply a temperature to the expected number of onsets, but keep its long-run mean; return it and the new means.

    rate = expected ** (1 / temperature) * mean(expected) / mean(expected ** (1 / temperature)). A temperature below 1
    moves onsets from frames with few to frames with many.

    Parameters
    ----------
    expected : Tensor, shape (B, 1)
        The expected number of onsets, the sum of their probabilities.
    temperature : float
    means : Tensor, shape (B, 2), or None
        Running means of `expected` and of its power, from the frame before.

    Returns
    -------
    rate : Tensor, shape (B, 1)
    means : Tensor, shape (B, 2), or None
        As before with a temperature of 1.
    """
    expected = expected + TINY
    if temperature == 1:  # nothing is moved
        return expected, means
    sharpened = sharpen(expected, temperature)
    now = torch.cat([expected, sharpened], dim=-1)  # (B, 2)
    means = now if means is None else RATE_DECAY * means + (1 - RATE_DECAY) * now
    rate = sharpened * means[:, :1] / means[:, 1:]
    return rate, means


def gain_for_rate(weights: Tensor, kept: Tensor, rate: Tensor) -> Tensor:
    """Return factors (B, K) that scale the kept weights of each row to sum to `rate` (B, 1), and the others to 0."""
    total = (weights * kept).sum(-1, keepdim=True).clamp(min=TINY)
    return kept * rate / total


def limit_polyphony(on: Tensor, may_start: Tensor, logits: Tensor, most: int) -> Tensor:
    """Remove the least likely onsets, so that at most `most` pitches of each row sound; held pitches stay."""
    if most >= on.shape[-1]:
        return on
    rank = torch.where(on, math.inf, -math.inf)
    rank = torch.where(on & may_start, logits, rank)
    best = rank.topk(most).indices
    top = torch.zeros_like(on).scatter(-1, best, True)
    return on & (~may_start | top)


def draw_categories(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw a category from each row of logits (N, C) by the inverse CDF, given uniform random numbers (N, 1)."""
    cumulative = logits.softmax(-1).cumsum(-1)
    return (cumulative < uniform).sum(-1).clamp(max=logits.shape[-1] - 1)


def median_velocity(primes: Tensor) -> Tensor:
    """Return the median velocity (B, 1) of each prime (B, T, K), for models that predict no velocity."""
    medians = [int(prime[prime > 0].median()) if prime.any() else DEFAULT_VELOCITY for prime in primes]
    return torch.tensor(medians, dtype=torch.uint8, device=primes.device)[:, None]
