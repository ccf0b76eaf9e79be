"""Continue a prime, frame by frame."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musicgen.model import AttentionLSTM
from musicgen.piano_roll import DEFAULT_FPS, N_KEYS, PianoRoll

DEFAULT_VELOCITY = 64


@dataclass(frozen=True)
class GenerationConfig:
    """How a piece is made.

    Parameters
    ----------
    seconds : float
        The length of the whole piece, its prime included (0.1..3600).
    temperature : float
        The logits are divided by it (0.01..10): below 1 the model takes fewer risks, above 1 more.
    seed : int
        The same seed gives the same piece again (0..2**63 - 1).
    """

    seconds: float = 60.0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0.1 <= self.seconds <= 3600:
            raise ValueError(f"seconds must lie in 0.1..3600, not {self.seconds!r}")
        if not 0.01 <= self.temperature <= 10:
            raise ValueError(f"temperature must lie in 0.01..10, not {self.temperature!r}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, not {self.seed!r}")


def generate(model: AttentionLSTM, prime: PianoRoll | None, config: GenerationConfig) -> PianoRoll:
    """Let a model continue a prime.

    Each key of each next frame is drawn by its own probability. Nothing is repaired afterwards: what the model
    holds it must release, and if it falls silent, that is what it does.

    Parameters
    ----------
    model : AttentionLSTM
        Trained on rolls of the prime's rate.
    prime : PianoRoll or None
        The given opening, as in `Performance.first_beats`; without one the piece begins out of silence.
    config : GenerationConfig

    Returns
    -------
    PianoRoll
        The prime and what follows. New notes have the median velocity of the prime's cells: it knows no dynamics.

    Raises
    ------
    ValueError
        If the prime is longer than the piece, or the model is not one of 88 keys.
    """
    if model.config.n_keys != N_KEYS:
        raise ValueError(f"the model has {model.config.n_keys} keys, a piano {N_KEYS}")
    fps = prime.fps if prime else DEFAULT_FPS
    n_frames = round(config.seconds * fps)
    given = prime.velocity if prime else np.zeros((0, N_KEYS), np.uint8)
    if len(given) > n_frames:
        raise ValueError(f"the prime lasts {len(given) / fps:g} s, longer than the piece of {config.seconds:g} s")
    random = torch.Generator().manual_seed(config.seed)
    active = continue_frames(model, given[None] > 0, n_frames - len(given), config.temperature, random)[0]
    return PianoRoll(_add_velocity(active, given), fps)


@torch.inference_mode()
def continue_frames(
    model: AttentionLSTM, primes: np.ndarray, n_frames: int, temperature: float, random: torch.Generator
) -> np.ndarray:
    """Continue a batch of primes of one length, all with state kept from frame to frame.

    Parameters
    ----------
    model : AttentionLSTM
    primes : numpy.ndarray of bool, shape (batch, n_prime, n_keys)
        `n_prime` may be 0.
    n_frames : int
        How many frames to add.
    temperature : float
    random : torch.Generator
        Where the draws come from, on the CPU.

    Returns
    -------
    numpy.ndarray of bool, shape (batch, n_prime + n_frames, n_keys)
    """
    model.eval()
    device = next(model.parameters()).device
    frames = torch.from_numpy(primes).to(device).float()  # (B, P, K)
    silence = torch.zeros(len(primes), 1, primes.shape[2], device=device)
    logits, state = model(frames if primes.shape[1] else silence)
    made: list[Tensor] = []
    for _ in range(n_frames):
        probability = torch.sigmoid(logits[:, -1] / temperature)  # (B, K)
        made.append((torch.rand(probability.shape, generator=random).to(device) < probability).float())
        logits, state = model(made[-1][:, None], state)
    return torch.cat([frames, torch.stack(made, dim=1)] if made else [frames], dim=1).bool().cpu().numpy()


def _add_velocity(active: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give new notes the prime's median velocity, and let a note that reaches out of the prime keep its own."""
    loudness = int(np.median(given[given > 0])) if given.any() else DEFAULT_VELOCITY
    velocity = np.zeros(active.shape, np.uint8)
    velocity[: len(given)] = given
    for t in range(len(given), len(active)):
        held = velocity[t - 1] if t else np.zeros(N_KEYS, np.uint8)
        velocity[t] = np.where(active[t], np.where(held, held, loudness), 0)
    return velocity
