"""Overlap of the descriptors of two sets of pieces, and a Markov chain that generates baseline pieces."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from musicgen.piano_roll import N_PITCHES, PianoRoll

N_POINTS = 1000
LEAST_DENSITY = 1e-12


class Overlap(NamedTuple):
    """Similarity of the distributions of one statistic in two sets of pieces.

    `area` is 1 for equal distributions, 0 for disjoint ones.
    `divergence` is the Kullback-Leibler divergence D(within || between) in nats, of the distances within the real set
    and those between the two sets. It is 0 for equal distributions.
    """

    area: float
    divergence: float


def compare(
    real: Sequence[Mapping[str, ArrayLike]], generated: Sequence[Mapping[str, ArrayLike]]
) -> dict[str, Overlap]:
    """Compare two sets of pieces in each statistic, with the method of Yang and Lerch [1]_.

    For each statistic, two densities are estimated with Gaussian kernels (Scott's bandwidth): that of the distances
    between two real pieces, and that of the distances between a real and a generated piece. Their overlap is measured.

    Parameters
    ----------
    real, generated : sequence of mappings of str to float or array
        One mapping for each piece, as `statistics.statistics` returns it; arrays are compared by Euclidean distance.

    Returns
    -------
    dict of str to Overlap

    Raises
    ------
    ValueError
        If there are fewer than two real pieces or no generated one, if two pieces have different statistics, or if
        a value is not finite.

    Notes
    -----
    Two steps differ from the authors' own script (mgeval). First, both densities are evaluated at the same points and
    sum to 1. So equal distributions have an area of 1, and the divergence notices a shift, which it would miss if each
    density had its own points. Second, if all distances are equal, no density can be estimated, and one point gets all
    of it. The divergence is at most 28, because no density is taken to be below 1e-12.

    References
    ----------
    .. [1] Yang and Lerch, "On the evaluation of generative models in music", Neural Computing and Applications 32,
       2020.
    """
    if len(real) < 2 or not generated:
        raise ValueError(f"{len(real)} real and {len(generated)} generated pieces: at least 2 and 1 are needed")
    if any(row.keys() != real[0].keys() for row in [*real, *generated]):
        raise ValueError("the pieces must all have the same descriptors")
    return {name: _overlap(_values(real, name), _values(generated, name)) for name in real[0]}


def _values(rows: Sequence[Mapping[str, ArrayLike]], name: str) -> np.ndarray:
    values = np.array([np.ravel(row[name]) for row in rows], float)  # (n_pieces, n_values)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite for every piece")
    return values


def _overlap(real: np.ndarray, generated: np.ndarray) -> Overlap:
    within, between = _distances(real, real)[np.triu_indices(len(real), 1)], _distances(real, generated).ravel()
    largest = max(within.max(), between.max()) or 1.0
    within, between = (np.round(distances / largest, 9) for distances in (within, between))  # no rounding errors
    points = np.linspace(min(within.min(), between.min()), max(within.max(), between.max()), N_POINTS)
    inner, outer = _density(within, points), _density(between, points)
    inner_p, outer_p = (p / p.sum() for p in (np.maximum(inner, LEAST_DENSITY), np.maximum(outer, LEAST_DENSITY)))
    divergence = (inner_p * np.log(inner_p / outer_p)).sum()
    return Overlap(float(np.minimum(inner, outer).sum()), float(divergence))


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(((one[:, None] - other) ** 2).sum(axis=-1))


def _density(distances: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a smoothed density of distances at the given points, with sum 1.

    If all distances are equal, the density is 1 at one point.
    """
    if np.ptp(distances) <= points[1] - points[0]:
        density = np.zeros(len(points))
        density[np.abs(points - distances[0]).argmin()] = 1
    else:
        bandwidth = distances.std(ddof=1) * len(distances) ** (-1 / 5)  # Scott's rule
        density = np.zeros(len(points))
        for part in np.array_split(distances, max(1, len(distances) // 1000)):
            density += np.exp(-(((points[:, None] - part) / bandwidth) ** 2) / 2).sum(axis=1)
    return density / density.sum()


def markov_piece(markov: ArrayLike, prime: PianoRoll, n_frames: int, seed: int) -> PianoRoll:
    """Continue a prime with the Markov baseline.

    The baseline only knows how often each pitch starts and ends.

    Parameters
    ----------
    markov : array, shape (2, 88)
        As in `likelihood.Baselines`: P(on) of each pitch, in row 0 if it was off in the previous frame, in row 1 if on.
    prime : PianoRoll
        At least one frame.
    n_frames : int
        The length of the piece, prime included.
    seed : int
        The same seed gives the same piece again.

    Returns
    -------
    PianoRoll
        All new notes have the median velocity of the prime.
    """
    random, after = np.random.default_rng(seed), np.asarray(markov)
    frames = list(prime.active)
    while len(frames) < n_frames:
        frames.append(random.random(N_PITCHES) < np.where(frames[-1], after[1], after[0]))
    loudness = np.median(prime.velocity[prime.active]) if prime.n_notes else 64
    velocity = (np.array(frames) * loudness).astype(np.uint8)
    velocity[: prime.n_frames] = prime.velocity
    return PianoRoll(velocity, prime.fps)
