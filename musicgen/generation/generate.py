"""Continue a prime frame by frame, with the same modules as in training."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musicgen.beats import beat_features, metronome
from musicgen.generation.repetition import RepetitionPenalty
from musicgen.generation.sampling import frame_by_frame, limit_polyphony, median_velocity, top_p_mask
from musicgen.model import AttentionLSTM
from musicgen.model.heads import N_CHOICES, N_VELOCITIES, FrameFeatures, decode_frame, velocity_in_bin
from musicgen.piano_roll import DEFAULT_FPS, N_PITCHES, PianoRoll
from musicgen.utils.settings import Settings, setting

CHUNK_FRAMES = 512  # of a prime per call of the model
RATE_DECAY = 0.995  # of the running means that keep the number of onsets constant, over about 10 s


@dataclass(frozen=True)
class GenerationConfig(Settings):
    """Configuration of `generate`."""

    seconds: float = setting("Length of the whole piece, including the prime.", 60.0, 0.1, 3600, usual=(5, 120))
    temperature: float = setting("Below 1: likelier pitches, but as many onsets.", 0.85, 0.1, 10, usual=(0.7, 1.2))
    onset_temperature: float = setting("Below 1: onsets at likelier times, as many.", 1.0, 0.1, 10, usual=(0.6, 1.2))
    release_temperature: float = setting("Below 1: note lengths vary less.", 1.0, 0.01, 10, usual=(0.8, 1.2))
    pedal_temperature: float = setting("Above 1: the pedal changes more often.", 1.1, 0.1, 10, usual=(0.8, 1.2))
    top_p: float = setting("Keep the likeliest onsets with this share of probability.", 1.0, 1e-6, 1, usual=(0.5, 1))
    max_polyphony: int = setting("Most pitches that sound at once.", N_PITCHES, 1, N_PITCHES)
    max_repeat: float = setting("Seconds after which a repetition becomes less likely.", 8.0, 0, 3600, usual=(1, 60))
    guidance_scale: float = setting("Strength of the style: 0 is none, 1 is as trained.", 1.0, 0, 10, usual=(0, 3))
    pedal: bool = setting("Play with the sustain pedal, if the model knows it.", True)
    bpm: float = setting("Beats per minute after the prime; 0 keeps its tempo.", 0.0, 0, 400, usual=(0, 200))
    beats_per_bar: int = setting("Beats in a bar for `bpm`.", 4, 1, 16)
    rubato: float = setting("How much the tempo of the beats varies; 0 is a metronome.", 0.05, 0, 0.2)
    seed: int = setting("The same seed gives the same piece.", 0, 0, 2**63 - 1)


def generate(
    model: AttentionLSTM, prime: PianoRoll | None, config: GenerationConfig, composer: str | None = None
) -> PianoRoll:
    """Continue a prime frame by frame, without post-processing.

    Parameters
    ----------
    model : AttentionLSTM
        Trained on rolls with the prime's frame rate.
    prime : PianoRoll or None
        The opening, for example `Performance.first_beats`; without one the piece starts from silence.
    config : GenerationConfig
    composer : str, optional
        One of ``model.config.composers``.

    Returns
    -------
    PianoRoll
        The prime and its continuation, with the pedal and the beats if the model and the prime have them.

    Raises
    ------
    ValueError
        If the prime is longer than the piece, the model does not have 88 pitches, or does not know the composer.
    """
    if model.config.n_pitches != N_PITCHES:
        raise ValueError(f"the model has {model.config.n_pitches} pitches, a piano has {N_PITCHES}")
    prime = prime or PianoRoll(np.zeros((0, N_PITCHES), np.uint8), DEFAULT_FPS)
    n_new = round(config.seconds * prime.fps) - prime.n_frames
    if n_new < 0:
        raise ValueError(f"the prime lasts {prime.duration_seconds:g} s, longer than the piece of {config.seconds:g} s")
    return continue_rolls(model, [prime], n_new, config, [model.config.label_of(composer)])[0]


@frame_by_frame
def continue_rolls(
    model: AttentionLSTM, primes: list[PianoRoll], n_frames: int, config: GenerationConfig, composers: list[int]
) -> list[PianoRoll]:
    """Continue a batch of primes of the same length.

    Parameters
    ----------
    model : AttentionLSTM
    primes : list of PianoRoll
        All with the same number of frames, which may be 0.
    n_frames : int
        Number of frames to add.
    config : GenerationConfig
        Its `seconds` is not used.
    composers : list of int
        From `ModelConfig.label_of`, one per prime.
    """
    n_prime, fps = primes[0].n_frames, primes[0].fps
    beats = [continue_beats(prime, n_prime + n_frames, config, i) for i, prime in enumerate(primes)]
    velocity = torch.zeros(len(primes), n_prime + n_frames, primes[0].velocity.shape[1], dtype=torch.uint8)
    pedal = torch.zeros(velocity.shape[:2])
    velocity[:, :n_prime] = torch.from_numpy(np.stack([prime.velocity for prime in primes]))
    if has_pedal := config.pedal and model.output.pedal is not None:
        for row, prime in zip(pedal, primes):
            row[:n_prime] = 0 if prime.pedal is None else torch.tensor(prime.pedal)
    phases = torch.from_numpy(np.stack([beat_features(each, velocity.shape[1] + 1, fps) for each in beats]))
    _Sampler(model, config, composers).run(velocity, pedal, phases, n_prime, fps)
    pedals = pedal.numpy() > 0 if has_pedal else [None] * len(primes)
    return [PianoRoll(*each) for each in zip(velocity.numpy(), [fps] * len(primes), pedals, beats)]


def continue_beats(prime: PianoRoll, n_frames: int, config: GenerationConfig, number: int = 0) -> np.ndarray | None:
    """Return the beats of a prime and their continuation, or None if the beats are unknown."""
    beats = np.zeros((0, 2)) if prime.beats is None else prime.beats
    span, random = (prime.duration_seconds, n_frames / prime.fps), np.random.default_rng([config.seed, number])
    return metronome(beats, *span, config.bpm, config.beats_per_bar, config.rubato, random)


class _Sampler:
    """Samples frames from a model with the settings of a `GenerationConfig`."""

    def __init__(self, model: AttentionLSTM, config: GenerationConfig, composers: list[int]):
        on_cpu = next(model.parameters()).device.type == "cpu"  # frame by frame, a GPU would not be faster
        self.model = model.eval() if on_cpu else copy.deepcopy(model).cpu().eval()
        self.output, self.config = self.model.output, config
        self.labels, self.copies = torch.tensor(composers), 1
        if config.guidance_scale != 1 and self.labels.any():  # run each piece also without its composer
            self.labels, self.copies = torch.cat([self.labels, torch.zeros_like(self.labels)]), 2
        self.random = torch.Generator().manual_seed(config.seed)
        self.controlled = (config.temperature, config.onset_temperature, config.top_p) != (1, 1, 1)
        self.means = None

    def run(self, velocity: Tensor, pedal: Tensor, beats: Tensor, n_prime: int, fps: int) -> None:
        """Fill in all frames of `velocity` (B, T, K) and `pedal` (B, T) after the prime."""
        state = None
        self.loudness = median_velocity(velocity[:, :n_prime])
        repetition = RepetitionPenalty(velocity, self.config.max_repeat, fps)
        for first in range(0, n_prime - 1, CHUNK_FRAMES):
            state = self._step(velocity, pedal, beats, slice(first, min(first + CHUNK_FRAMES, n_prime - 1)), state)[1]
        silence = torch.zeros_like(velocity[:, :1])
        for t in range(n_prime, velocity.shape[1]):
            if t:
                features, state = self._step(velocity, pedal, beats, slice(t - 1, t), state)
            else:
                features, state = self._step(silence, pedal[:, :1] * 0, beats[:, :1], slice(0, 1), None)
            last, self.penalty = velocity[:, t - 1] if t else silence[:, 0], repetition.at(t)
            velocity[:, t], pedal[:, t] = self.next_frame(features.map(lambda x: x[:, -1]), last)

    def _step(self, velocity: Tensor, pedal: Tensor, beats: Tensor, at: slice, state) -> tuple[FrameFeatures, object]:
        following = beats[:, at.start + 1 : at.stop + 1] if beats.shape[1] > at.stop else beats[:, at]
        inputs = (velocity[:, at] / 127, pedal[:, at], following)
        frames, pedal, beats = (x.repeat(self.copies, *[1] * (x.ndim - 1)) for x in inputs)
        return self.model(frames, state, self.labels, pedal, beats)

    def next_frame(self, features: FrameFeatures, last: Tensor) -> tuple[Tensor, Tensor]:
        """Sample the velocities (B, K) and the pedal (B,) of the next frame, given the velocities `last` (B, K)."""
        n_pieces, self.up = len(last), last == 0
        uniform = torch.rand(last.shape, generator=self.random)
        pedal, gain = self._next_pedal(features, n_pieces), []

        def decide(logits: Tensor) -> Tensor:
            self.logits = self._mix(logits, n_pieces) - self.penalty * self.up
            if self.controlled and not gain:  # the first guess is that nothing changes
                gain.append(self._gain(torch.sigmoid(self.logits)))
            on = (uniform < self._probability(self.logits, *gain)).to(logits.dtype)
            return on.repeat(self.copies, 1)

        encoded = self.output.encode(features, pedal.repeat(self.copies))
        following, conditioned = decode_frame(self.output, encoded, features, decide)
        following = following[:n_pieces] > 0
        following = limit_polyphony(following, self.up, self.logits, self.config.max_polyphony)
        velocity = self._velocities(following & self.up, conditioned, features)
        return torch.where(following, last, torch.zeros_like(last)) + velocity, pedal

    def _mix(self, logits: Tensor, n_pieces: int) -> Tensor:
        """Apply classifier-free guidance: extrapolate from the logits without a composer to those with one."""
        if len(logits) == n_pieces:
            return logits
        told, untold = logits[:n_pieces], logits[n_pieces:]
        return untold + self.config.guidance_scale * (told - untold)

    def _next_pedal(self, features: FrameFeatures, n_pieces: int) -> Tensor:
        if self.output.pedal is None or not self.config.pedal:
            return torch.zeros(n_pieces)
        logits = self._mix(self.output.pedal.logits(features), n_pieces) / self.config.pedal_temperature
        return (torch.rand(n_pieces, generator=self.random) < torch.sigmoid(logits)).float()

    def _probability(self, logits: Tensor, gain: Tensor | None = None) -> Tensor:
        """Return the probability that each pitch sounds, after the temperatures."""
        held = torch.sigmoid(logits / self.config.release_temperature)
        if gain is None:
            return torch.where(self.up, torch.sigmoid(logits), held)
        return torch.where(self.up, torch.sigmoid(logits) ** (1 / self.config.temperature) * gain, held)

    def _gain(self, p: Tensor) -> Tensor:
        """Return factors (B, K) for the sharpened onset probabilities that keep the expected number of onsets."""
        p = p * self.up
        sharp = p ** (1 / self.config.temperature)
        kept = top_p_mask(sharp, self.config.top_p)
        expected = p.sum(-1, keepdim=True) + 1e-9
        sharp_rate = expected ** (1 / self.config.onset_temperature)
        rates = torch.stack([expected, sharp_rate])
        self.means = rates if self.means is None else RATE_DECAY * self.means + (1 - RATE_DECAY) * rates
        rate = sharp_rate * self.means[0] / self.means[1]
        return kept * rate / (sharp * kept).sum(-1, keepdim=True).clamp(min=1e-9)

    def _velocities(self, struck: Tensor, conditioned: Tensor, features: FrameFeatures) -> Tensor:
        """Sample the velocity of each struck pitch given those below it, by iteration as in `decode_frame`."""
        velocity = torch.zeros_like(struck, dtype=torch.uint8)
        if self.output.velocity is None:
            return struck * self.loudness
        if not struck.any():
            return velocity
        n_struck = int(struck.sum())
        uniform = torch.rand(n_struck, 1, generator=self.random)
        number = torch.randint(N_CHOICES, (n_struck,), generator=self.random)
        while True:
            inputs = (x.repeat(self.copies, 1) for x in (velocity, struck))
            logits = self._mix(self.output.velocity_logits(conditioned, features, *inputs), n_struck)
            bins = (logits.softmax(-1).cumsum(-1) < uniform).sum(-1).clamp(max=N_VELOCITIES - 1)
            drawn = velocity_in_bin(bins, number).to(torch.uint8)
            if torch.equal(velocity[struck], drawn):
                return velocity
            velocity[struck] = drawn
