"""Steering by sequential Monte Carlo: of several continuations those go on that sound like a pianist.

A particle filter [1]_. Every two seconds each candidate is weighted with the odds that a `Probe` gives it to be real
music. When few of them carry most of the weight, they are resampled: the heavy ones are copied, with all that the
model remembers, and the light ones are dropped. If the probe were right, the strength 1 and the register 0, the
result would be distributed as real music.

Candidates that leave the register in which a pianist would play lose weight, too: the model wanders more than a
pianist does, up as well as down, and a linear probe cannot weigh a distance in both directions.

References
----------
.. [1] Doucet, de Freitas and Gordon, "Sequential Monte Carlo Methods in Practice", 2001.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musicgen.generation.continuation import Continuation
from musicgen.model.probe import Probe, hidden_statistics

SEGMENT_SECONDS = 2.0
MIN_EFFECTIVE = 0.75  # share of the candidates; below it they are resampled
REGISTER_SECONDS = 4.0  # of recent music, of which the mean pitch is compared with `expected_pitch`
# Of pianists, in the training split: see benchmarks/registers.py.
USUAL_PITCH = 64.5  # mean pitch after the first half minute
MOVING_SECONDS = 10.0  # a piece then has gone two thirds of the way from its opening's register to the usual one
LEAST_SHARE = 0.25


class SteeringStep(NamedTuple):
    """Record of one weighting of P pieces with C candidates each.

    Attributes
    ----------
    frame : int
        Number of new frames so far.
    logits : Tensor, shape (P, C)
        Log-odds of "generated", from the probe.
    weights : Tensor, shape (P, C)
        Before resampling; they sum to 1.
    ancestors : Tensor of int, shape (P, C)
        Which candidate each one goes on from; 0, 1, ... where nothing was resampled.
    """

    frame: int
    logits: Tensor
    weights: Tensor
    ancestors: Tensor


class SteeringTrace(NamedTuple):
    """Record of one weighting of a piece's candidates, with the music of each candidate so far.

    `logits`, `weights` and `ancestors` have the shape (n_candidates,), see `SteeringStep`; `velocity`, uint8, has
    (n_candidates, n_frames, 88), and `pedal`, 1 where it is down, (n_candidates, n_frames), both with the prime.
    """

    frame: int
    logits: Tensor
    weights: Tensor
    ancestors: Tensor
    velocity: Tensor
    pedal: Tensor


class Steering:
    """Weights and resamples candidates. Each one has row ``piece * n_candidates + candidate`` of the batch.

    Parameters
    ----------
    probe : Probe
    prime : Tensor, shape (P, 2 H)
        `hidden_statistics` of each prime.
    n_candidates : int
    strength : float
        Exponent of the odds: 0 leaves them out.
    seed : int
    """

    def __init__(self, probe: Probe, prime: Tensor, n_candidates: int, strength: float, seed: int):
        self.probe = probe
        self.prime = prime.repeat_interleave(n_candidates, dim=0)  # (P * C, 2 H)
        self.n_candidates = n_candidates
        self.strength = strength
        self.random = torch.Generator().manual_seed(seed)
        self.log_weights = torch.zeros(len(prime), n_candidates)
        self.steps: list[SteeringStep] = []

    def weigh(self, frame: int, hidden: Tensor, penalty: Tensor | float = 0.0) -> Tensor | None:
        """Weight all candidates, and resample pieces with few heavy ones.

        Parameters
        ----------
        frame : int
            Number of new frames so far.
        hidden : Tensor, shape (P * C, T, H)
            The hidden states of the new frames.
        penalty : Tensor, shape (P * C,), or float
            To subtract from the logarithm of each weight.

        Returns
        -------
        Tensor of int, shape (P * C,), or None
            The row that each row goes on from; None if nothing is resampled.
        """
        logits = self.probe(hidden_statistics(hidden), self.prime).cpu()  # (P * C,)
        change = -self.strength * logits - penalty
        logits, change = (x.unflatten(0, (-1, self.n_candidates)) for x in (logits, change))  # (P, C)
        self.log_weights = self.log_weights + change
        weights = self.log_weights.softmax(dim=-1)
        ancestors = torch.arange(self.n_candidates).repeat(len(weights), 1)  # (P, C)
        few = effective_number(weights) < MIN_EFFECTIVE * self.n_candidates  # (P,)
        uniform = torch.rand(len(weights), 1, generator=self.random)
        ancestors[few] = systematic_resampling(weights, uniform)[few]
        self.log_weights[few] = 0.0
        self.steps.append(SteeringStep(frame, logits, weights, ancestors))
        return self._rows(ancestors) if few.any() else None

    def choose(self) -> Tensor:
        """Draw one candidate per piece by the weights, and return their rows in the batch, shape (P,)."""
        chosen = torch.multinomial(self.log_weights.softmax(dim=-1), 1, generator=self.random)  # (P, 1)
        return self._rows(chosen)

    def _rows(self, candidates: Tensor) -> Tensor:
        first = torch.arange(len(candidates))[:, None] * self.n_candidates
        return (first + candidates).flatten()


def start_steering(pieces: Continuation, probe: Probe, n_candidates: int, strength: float, seed: int) -> Steering:
    """Copy each piece into `n_candidates` rows, which share the past and the state; see `Steering`."""
    prime = hidden_statistics(pieces.take_hidden())
    rows = torch.arange(len(prime)).repeat_interleave(n_candidates)
    pieces.select(rows)
    return Steering(probe, prime, n_candidates, strength, seed)


def steer(
    pieces: Continuation, steering: Steering, n_new: int, register: float, trace: list[SteeringTrace] | None
) -> None:
    """Weight each piece's candidates by their music since the last call, and resample them if needed.

    Parameters
    ----------
    pieces : Continuation
    steering : Steering
    n_new : int
        Number of new frames so far.
    register : float
        See `register_penalty`.
    trace : list of SteeringTrace, optional
        Receives a record.
    """
    penalty = torch.from_numpy(register_penalty(pieces, register))  # (P * C,)
    rows = steering.weigh(n_new, pieces.take_hidden(), penalty)
    if trace is not None:
        _, logits, weights, ancestors = steering.steps[-1]
        played = slice(steering.n_candidates), slice(pieces.n_known)  # of the first piece
        velocity = torch.from_numpy(pieces.velocity[played].copy())
        pedal = torch.from_numpy(pieces.pedal[played].copy())
        trace.append(SteeringTrace(n_new, logits[0], weights[0], ancestors[0], velocity, pedal))
    if rows is not None:
        pieces.select(rows)


def register_penalty(pieces: Continuation, register: float) -> np.ndarray:
    """Return the penalty of each piece for the register of its recent music, shape (B,): see `penalty_of_pitch`.

    It is 0 where the prime or the recent music has no onsets.
    """
    prime = pieces.mean_pitch(pieces.n_silent, pieces.n_prime)
    first = max(pieces.n_prime, pieces.n_known - round(REGISTER_SECONDS * pieces.fps))
    recent = pieces.mean_pitch(first, pieces.n_known)
    seconds = (pieces.n_known - pieces.n_prime) / pieces.fps
    return np.nan_to_num(penalty_of_pitch(recent, prime, seconds, register)).astype(np.float32)


def penalty_of_pitch(recent: np.ndarray, prime: np.ndarray, seconds: float, register: float) -> np.ndarray:
    """Return the penalty, in nats, for the mean pitch of recent music: `register` for an octave, four times for two.

    The distance is from the `expected_pitch`, some seconds after a prime of a given mean pitch.
    """
    octaves = (recent - expected_pitch(prime, seconds)) / 12
    return octaves**2 * register


def expected_pitch(prime: np.ndarray, seconds: float) -> np.ndarray:
    """Return the mean pitch that pianists have some seconds after a prime, given that of the prime.

    Openings differ more than what follows: later the mean pitch depends on the prime's only by a quarter.
    """
    share = np.maximum(np.exp(-seconds / MOVING_SECONDS), LEAST_SHARE)
    return (prime - USUAL_PITCH) * share + USUAL_PITCH


def effective_number(weights: Tensor) -> Tensor:
    """Return the effective sample size of weights (P, C): C if all are equal, 1 if one candidate has all the weight."""
    return 1 / (weights**2).sum(dim=-1)


def systematic_resampling(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw C ancestors per row by weights (P, C) that sum to 1, with one uniform random number per row (P, 1).

    The points ``(uniform + i) / C`` are looked up in the cumulative weights. So a candidate with weight w is copied
    w C times, rounded up or down.

    Returns
    -------
    Tensor of int, shape (P, C)
        In ascending order.
    """
    n_candidates = weights.shape[-1]
    points = (uniform + torch.arange(n_candidates)) / n_candidates
    ancestors = torch.searchsorted(weights.cumsum(dim=-1), points, right=True)
    return ancestors.clamp(max=n_candidates - 1)  # the weights may sum to a little less than 1
