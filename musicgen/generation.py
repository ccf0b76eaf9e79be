"""Continue a prime, frame by frame."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit as sigmoid
from torch import Tensor

from musicgen.keys import N_VELOCITIES, decode_frame, teacher_forced_logits
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import DEFAULT_FPS, N_PITCHES, PianoRoll
from musicgen.stepping import StepFeatures, Stepper
from musicgen.support.settings import Settings, setting

DEFAULT_VELOCITY = 64
CHUNK_FRAMES = 512  # of a prime, heard at once


@dataclass(frozen=True)
class GenerationConfig(Settings):
    """How a piece is made. All but its length and its seed leave the model as it is unless they are set.

    Parameters
    ----------
    seconds : float
        The length of the whole piece, its prime included (0.1..3600).
    temperature : float
        The logits of keys that are up are divided by it (0.01..10): below 1 only likelier notes are struck, above 1
        also odd ones.
    release_temperature : float
        The same for keys that sound (0.01..10). Apart from the other, since its effect is another: below 1 notes
        last as long as the model thinks likeliest, above 1 lengths vary more.
    top_p : float
        Of the keys that might be struck in a frame only the likeliest, which have together this share of the
        probability of all, remain possible (above 0, to 1): it cuts off the many keys that are each very unlikely,
        of which one in a while would sound wrong.
    max_polyphony : int
        So many keys sound at once (1..88); the unlikeliest new ones are left out, held ones never.
    style : float
        How much the composer matters (0..10): 0 as without one, 1 as learned, above 1 exaggerated. The logits are
        moved along the line from those without to those with the composer.
    seed : int
        The same seed gives the same piece again (0..2**63 - 1).
    """

    seconds: float = setting(60.0, 0.1, 3600, usual=(5, 120))
    temperature: float = setting(1.0, 0.01, 10, usual=(0.8, 1.2))
    release_temperature: float = setting(1.0, 0.01, 10, usual=(0.8, 1.2))
    top_p: float = setting(1.0, 1e-6, 1, usual=(0.5, 1))
    max_polyphony: int = setting(N_PITCHES, 1, N_PITCHES)
    style: float = setting(1.0, 0, 10, usual=(0, 3))
    seed: int = setting(0, 0, 2**63 - 1)


def generate(
    model: AttentionLSTM, prime: PianoRoll | None, config: GenerationConfig, composer: str | None = None
) -> PianoRoll:
    """Let a model continue a prime.

    Nothing is repaired afterwards: what the model holds it must release, and if it falls silent, that is what it
    does.

    Parameters
    ----------
    model : AttentionLSTM
        Trained on rolls of the prime's rate.
    prime : PianoRoll or None
        The given opening, as in `Performance.first_beats`; without one the piece begins out of silence.
    config : GenerationConfig
    composer : str, optional
        In whose style, one of ``model.config.composers``.

    Returns
    -------
    PianoRoll
        The prime and what follows.

    Raises
    ------
    ValueError
        If the prime is longer than the piece, or the model is not one of 88 keys, or does not know the composer.
    """
    if model.config.n_pitches != N_PITCHES:
        raise ValueError(f"the model has {model.config.n_pitches} keys, a piano {N_PITCHES}")
    label = model.config.label_of(composer)
    fps = prime.fps if prime else DEFAULT_FPS
    n_frames = round(config.seconds * fps)
    given = prime.velocity if prime else np.zeros((0, N_PITCHES), np.uint8)
    if len(given) > n_frames:
        raise ValueError(f"the prime lasts {len(given) / fps:g} s, longer than the piece of {config.seconds:g} s")
    return PianoRoll(continue_frames(model, given[None], n_frames - len(given), config, [label])[0], fps)


@torch.inference_mode()
def continue_frames(
    model: AttentionLSTM, primes: np.ndarray, n_frames: int, config: GenerationConfig, composers: list[int]
) -> np.ndarray:
    """Continue a batch of primes of one length, all with state kept from frame to frame.

    Parameters
    ----------
    model : AttentionLSTM
    primes : numpy.ndarray of uint8, shape (batch, n_prime, n_pitches)
        Velocities; `n_prime` may be 0.
    n_frames : int
        How many frames to add.
    config : GenerationConfig
        How; its `seconds` are not looked at.
    composers : list of int
        For each piece as in `AttentionLSTM.forward`.

    Returns
    -------
    numpy.ndarray of uint8, shape (batch, n_prime + n_frames, n_pitches)
    """
    device = next(model.eval().parameters()).device
    labels = torch.tensor(composers, device=device)
    copies = 1
    if config.style != 1 and labels.any():  # hear the same pieces a second time, without their composers
        labels, copies = torch.cat([labels, torch.zeros_like(labels)]), 2
    given = torch.tensor(primes, device=device)  # (B, P, K)
    state = None
    for first in range(0, primes.shape[1] - 1, CHUNK_FRAMES):
        part = given[:, first : min(first + CHUNK_FRAMES, primes.shape[1] - 1)]
        _, state = model(part.repeat(copies, 1, 1) / 127, state, labels)
    stepper = Stepper(model, labels, state)
    sampler = _Sampler(stepper, config, _median_velocity(primes))
    music = np.concatenate([primes, np.zeros((len(primes), n_frames, primes.shape[2]), np.uint8)], axis=1)
    last = primes[:, -1] if primes.shape[1] else np.zeros_like(music[:, 0])
    for index in range(primes.shape[1], music.shape[1]):
        music[:, index] = last = sampler.next_frame(stepper.hear(np.concatenate([last] * copies) / 127), last)
    return music


class _Sampler:
    """Draws one frame after the other from what a model says of it, under the controls of a `GenerationConfig`."""

    def __init__(self, stepper: Stepper, config: GenerationConfig, loudness: np.ndarray):
        self.output, self.config, self.loudness = stepper.output, config, loudness
        self.random = torch.Generator().manual_seed(config.seed)

    def next_frame(self, heard: StepFeatures, last: np.ndarray) -> np.ndarray:
        """Return the velocities of the next frame after `last`, both of shape (B, K)."""
        uniform = torch.rand(last.shape, generator=self.random).numpy()
        up = last == 0
        temperature = np.where(up, self.config.temperature, self.config.release_temperature)
        possible = self._possible(heard, up, temperature)
        copies = len(heard.hidden) // len(last)

        def decide(logits: np.ndarray) -> np.ndarray:
            probability = sigmoid(self._mixed(logits, len(last)) / temperature)
            return np.concatenate([(uniform < probability) & possible] * copies).astype(logits.dtype)

        following, within = decode_frame(self.output, heard, decide)
        following = following[: len(last)] > 0
        if self.config.max_polyphony < last.shape[1]:
            logits = self._mixed(self.output.logits(within, heard), len(last)) / temperature
            following = self._bounded(following, up, logits)
        return np.where(following, last, 0) + self._velocities(following & up, within)

    def _mixed(self, logits: np.ndarray | Tensor, n_pieces: int) -> np.ndarray | Tensor:
        """Move the logits along the line from those without to those with the composer, where both are there."""
        told, untold = logits[:n_pieces], logits[-n_pieces:]
        return untold + self.config.style * (told - untold) if len(logits) > n_pieces else told

    def _possible(self, heard: StepFeatures, up: np.ndarray, temperature: np.ndarray) -> np.ndarray | bool:
        """Return which keys may be on: those that sound, and the likeliest of the others up to `top_p`."""
        if self.config.top_p == 1:
            return True
        logits, _ = teacher_forced_logits(self.output, heard, heard.keys[..., 0])
        struck = sigmoid(self._mixed(logits, len(up)) / temperature) * up
        order = np.argsort(-struck)
        probability = np.take_along_axis(struck, order, -1)
        likelier = probability.cumsum(-1) - probability
        kept = np.zeros_like(up)
        np.put_along_axis(kept, order, likelier < self.config.top_p * probability.sum(-1, keepdims=True), -1)
        return kept | ~up

    def _bounded(self, following: np.ndarray, up: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Leave out the unlikeliest new notes until no more than `max_polyphony` keys sound."""
        rank = np.where(following & up, logits, np.where(following, math.inf, -math.inf))
        kept = np.zeros_like(following)
        np.put_along_axis(kept, np.argsort(-rank)[:, : self.config.max_polyphony], True, -1)
        return following & (~up | kept)

    def _velocities(self, struck: np.ndarray, within: np.ndarray) -> np.ndarray:
        """Draw the velocity of each struck key; all others get 0."""
        if self.output.velocity is None:
            return struck * self.loudness
        velocity = np.zeros_like(struck, dtype=np.uint8)
        if struck.any():
            of_struck = torch.from_numpy(within.reshape(-1, *struck.shape, within.shape[-1])[:, struck])
            logits = self._mixed(self.output.velocity(of_struck), 1)[0]  # (N, bins)
            bins = logits.softmax(-1).multinomial(1, generator=self.random)[:, 0]
            width = 128 // N_VELOCITIES
            drawn = bins * width + torch.randint(width, bins.shape, generator=self.random)
            velocity[struck] = drawn.clamp(min=1).numpy()
        return velocity


def _median_velocity(primes: np.ndarray) -> np.ndarray:
    """Return what an output without dynamics plays: the median of each prime's cells, shape (batch, 1)."""
    medians = [int(np.median(prime[prime > 0])) if prime.any() else DEFAULT_VELOCITY for prime in primes]
    return np.array(medians, np.uint8)[:, None]
