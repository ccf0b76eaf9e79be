"""Pieces that grow frame by frame, and what a model remembers of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musicgen.beats import beat_features
from musicgen.generation import sampling
from musicgen.generation.engines import OnnxState
from musicgen.generation.repetition import RepetitionPenalty
from musicgen.generation.steps import Frames, GuidedModel, Known
from musicgen.home import corrected_home, home_features, smoothing_like
from musicgen.model.attention_lstm import ModelState
from musicgen.piano_roll import LOWEST_PITCH, N_PITCHES, PianoRoll

CHUNK_FRAMES = 512  # of a prime per call of the model
RECENT_SECONDS = 30  # at most, of music that is compared with home
FEWEST_SECONDS = 4  # a profile of less would say little


@dataclass
class Continuation:
    """A batch of pieces that grow frame by frame, with the state that each piece keeps between two frames.

    Everything has one row per piece, so that `select` can copy and reorder pieces. B pieces, at most T frames, K
    pitches.

    Attributes
    ----------
    velocity : numpy.ndarray of uint8, shape (B, T, K)
        The first `n_known` frames are known, the others are 0.
    pedal : numpy.ndarray, shape (B, T)
        1 where the pedal is down.
    beat_features : numpy.ndarray, shape (B, T + 1, N_BEAT_FEATURES)
    beats : list of numpy.ndarray or None
        The beats of each piece, up to its last frame.
    beats_estimated : list of bool
    composers : numpy.ndarray of int, shape (B,)
    prime_velocity : numpy.ndarray of uint8, shape (B, 1)
        The median velocity of each prime, for models that predict none.
    repetition : RepetitionPenalty
    fps : int
    has_pedal : bool
        Otherwise the pedal is always up, and the rolls have none.
    n_prime : int
        The number of known frames at first, with the silent one.
    n_known : int
    n_silent : int
        Frames before the piece: a piece without a prime follows one frame of silence.
    rate_sums : numpy.ndarray, shape (B, 2), or None
        See `sampling.constant_rate`.
    network : ModelState, OnnxState or None
        What the model remembers.
    opening : numpy.ndarray, shape (B, K, N_HOME_FEATURES), or None
        The profile of each prime.
    home : numpy.ndarray, shape (B, K, N_HOME_FEATURES), or None
        What the model is told of it: see `correct_home`.
    hidden : list of Tensor, shape (B, T, n_layers * H), or None
        Hidden states that `take_hidden` has not taken yet; None if nobody wants them.
    """

    velocity: np.ndarray
    pedal: np.ndarray
    beat_features: np.ndarray
    beats: list[np.ndarray | None]
    beats_estimated: list[bool]
    composers: np.ndarray
    prime_velocity: np.ndarray
    repetition: RepetitionPenalty
    fps: int
    has_pedal: bool
    n_prime: int = 0
    n_known: int = 0
    n_silent: int = 0
    rate_sums: np.ndarray | None = None
    network: ModelState | OnnxState | None = None
    opening: np.ndarray | None = None
    home: np.ndarray | None = None
    hidden: list[Tensor] | None = None

    @classmethod
    def of_primes(
        cls,
        primes: list[PianoRoll],
        n_new: int,
        beats: list[np.ndarray | None],
        composers: list[int],
        max_repeat: float,
        has_pedal: bool,
        homes: np.ndarray | None = None,
        keep_hidden: bool = False,
    ) -> "Continuation":
        """Start a batch with primes of equal length, and make room for `n_new` frames.

        Parameters
        ----------
        primes : list of PianoRoll
        n_new : int
        beats : list of numpy.ndarray or None
            Of each whole piece.
        composers : list of int
            From `ModelConfig.label_of`.
        max_repeat : float
            As for `RepetitionPenalty`.
        has_pedal : bool
        homes : numpy.ndarray, shape (B, K, N_HOME_FEATURES), optional
            `home_features` of each prime.
        keep_hidden : bool
            Keep hidden states for `take_hidden`.
        """
        n_pieces = len(primes)
        n_prime = primes[0].n_frames
        fps = primes[0].fps
        n_silent = 0 if n_prime else 1
        n_frames = n_silent + n_prime + n_new
        features = np.stack([beat_features(each, n_prime + n_new + 1, fps) for each in beats])
        features = np.pad(features, [(0, 0), (n_silent, 0), (0, 0)])
        shape = (n_pieces, n_frames, N_PITCHES)
        primes_velocity = np.stack([prime.velocity for prime in primes])
        pieces = cls(
            velocity=np.zeros(shape, np.uint8),
            pedal=np.zeros((n_pieces, n_frames), np.float32),
            beat_features=features,
            beats=beats,
            beats_estimated=[prime.beats_estimated for prime in primes],
            composers=np.array(composers),
            prime_velocity=sampling.median_velocity(primes_velocity),
            repetition=RepetitionPenalty(shape, max_repeat, fps),
            fps=fps,
            has_pedal=has_pedal,
            n_prime=n_silent + n_prime,
            n_silent=n_silent,
            opening=homes,
            home=homes,
            hidden=[] if keep_hidden else None,
        )
        if n_silent:
            pieces.append(pieces.velocity[:, 0], pieces.pedal[:, 0])
        for t in range(n_prime):
            down = [bool(has_pedal and prime.pedal is not None and prime.pedal[t]) for prime in primes]
            pieces.append(primes_velocity[:, t], np.array(down, np.float32))
        return pieces

    def append(self, velocity: np.ndarray, pedal: np.ndarray) -> None:
        """Add a frame: velocities (B, K) and the pedal (B,)."""
        t = self.n_known
        self.velocity[:, t] = velocity
        self.pedal[:, t] = pedal
        struck = velocity > 0
        if t:
            struck = struck & (self.velocity[:, t - 1] == 0)
        self.repetition.append(struck)
        self.n_known += 1

    def prefill(self, model: GuidedModel) -> None:
        """Run the model on all known frames except the last one."""
        end = self.n_known - 1
        for start in range(0, end, CHUNK_FRAMES):
            self._encode(model, slice(start, min(start + CHUNK_FRAMES, end)))

    def encode_past(self, model: GuidedModel) -> Known:
        """Run the model on the last known frame, and return the encoding from which the next one is sampled."""
        return self._encode(model, slice(self.n_known - 1, self.n_known))

    def _encode(self, model: GuidedModel, which: slice) -> Known:
        frames = Frames(
            velocity=self.velocity[:, which],
            pedal=self.pedal[:, which],
            beats=self.beat_features[:, which.start + 1 : which.stop + 1],  # of the frames to be predicted
            composer=self.composers,
            home=self.home,
        )
        known, self.network = model.encode(frames, self.network)
        if self.hidden is not None:
            self.hidden.append(known.hidden[: len(self.composers)])  # with guidance: those with the composer
        return known

    def take_hidden(self) -> Tensor:
        """Return the hidden states of all frames heard since the last call, shape (B, T, n_layers * H)."""
        hidden = torch.cat(self.hidden, dim=1)
        self.hidden = []
        return hidden

    def mean_pitch(self, start: int, end: int) -> np.ndarray:
        """Return the mean pitch of the notes that begin in some frames, shape (B,): NaN where none does."""
        active = self.velocity[:, start:end] > 0  # (B, T, K)
        before = self.velocity[:, start - 1 : start] > 0 if start else np.zeros_like(active[:, :1])
        onsets = active & ~np.concatenate([before, active[:, :-1]], axis=1)
        counts = onsets.sum(axis=1)  # (B, K)
        n_notes = counts.sum(axis=1)  # (B,)
        total = counts @ np.arange(LOWEST_PITCH, LOWEST_PITCH + N_PITCHES)
        return np.where(n_notes > 0, total / np.maximum(n_notes, 1), np.nan)

    def correct_home(self, feedback: float) -> None:
        """Correct the home that the model is told, by negative feedback; see `corrected_home`.

        The recent music is at most the last half minute of that since the prime, but at least the last four seconds.
        """
        if self.opening is None or not feedback:
            return
        start = min(self.n_prime, self.n_known - FEWEST_SECONDS * self.fps)
        start = max(start, self.n_known - RECENT_SECONDS * self.fps, self.n_silent)
        velocity = self.velocity[:, start : self.n_known]
        pedal = self.pedal[:, start : self.n_known] > 0
        primes = self.velocity[:, self.n_silent : self.n_prime]
        profiles = [
            _profile_like(PianoRoll(prime, self.fps), PianoRoll(v, self.fps, p))
            for prime, v, p in zip(primes, velocity, pedal)
        ]
        profile = np.stack(profiles)  # (B, K, N_HOME_FEATURES)
        self.home = corrected_home(self.opening, profile, feedback)

    def select(self, rows: Tensor) -> None:
        """Replace each piece i by a copy of piece ``rows[i]``, with its past and state. The batch may change its size.

        Parameters
        ----------
        rows : Tensor of int, shape (n_pieces,)
            On the CPU.
        """
        n_pieces = len(self.composers)
        self.beats = [self.beats[row] for row in rows.tolist()]
        self.beats_estimated = [self.beats_estimated[row] for row in rows.tolist()]
        names = "velocity", "pedal", "beat_features", "composers", "prime_velocity", "rate_sums", "opening", "home"
        for name in names:
            value = getattr(self, name)
            setattr(self, name, None if value is None else value[rows.numpy()])
        self.repetition.select(rows.numpy())
        if self.hidden is not None:
            self.hidden = [hidden[rows.to(hidden.device)] for hidden in self.hidden]
        if self.network is not None:
            n_streams = self.network.n_rows // n_pieces  # see `GuidedModel`
            stream_rows = torch.cat([rows + stream * n_pieces for stream in range(n_streams)])
            self.network = self.network.select(stream_rows)

    def rolls(self) -> list[PianoRoll]:
        """Return the known frames of each piece as a roll."""
        frames = slice(self.n_silent, self.n_known)
        velocity = self.velocity[:, frames]
        pedal = self.pedal[:, frames] > 0
        return [
            PianoRoll(velocity[i], self.fps, pedal[i] if self.has_pedal else None, beats, self.beats_estimated[i])
            for i, beats in enumerate(self.beats)
        ]


def _profile_like(prime: PianoRoll, recent: PianoRoll) -> np.ndarray:
    """Return the profile of recent music, smoothed as much as that of the prime; see `smoothing_like`."""
    return home_features(recent, smoothing_like(max(1, prime.n_notes), max(1, recent.n_notes)))
