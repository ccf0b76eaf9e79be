"""Continue a prime frame by frame, with the same modules as in training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from musicgen.beats import metronome
from musicgen.generation import sampling
from musicgen.generation.beat_search import find_beats
from musicgen.generation.continuation import Continuation
from musicgen.generation.engines import Engine, Graphs, choose_engine
from musicgen.generation.steering import SEGMENT_SECONDS, SteeringTrace, start_steering, steer
from musicgen.generation.steps import GuidedModel, Known
from musicgen.home import home_features
from musicgen.model import AttentionLSTM
from musicgen.model.heads import N_CHOICES, decode_frame, velocity_in_bin
from musicgen.piano_roll import N_PITCHES, PianoRoll
from musicgen.utils.inference import for_inference, single_thread
from musicgen.utils.settings import Settings, setting

MOST_PIECES = 1000  # at once
Callback = Callable[[int], bool | None]  # takes the number of new frames; returns whether to stop


@dataclass(frozen=True)
class GenerationConfig(Settings):
    """Configuration of `generate`."""

    seconds: float = setting("Length of the whole piece, including the prime.", 60.0, 0.1, 3600, usual=(5, 120))
    temperature: float = setting("Below 1: likelier pitches, but as many onsets.", 0.88, 0.1, 10, usual=(0.7, 1.2))
    onset_temperature: float = setting("Below 1: onsets at likelier times, as many.", 1.0, 0.1, 10, usual=(0.6, 1.2))
    release_temperature: float = setting("Below 1: note lengths vary less.", 1.0, 0.01, 10, usual=(0.8, 1.2))
    pedal_temperature: float = setting("Above 1: the pedal changes more often.", 1.1, 0.1, 10, usual=(0.8, 1.2))
    top_p: float = setting("Keep the likeliest onsets with this share of probability.", 1.0, 1e-6, 1, usual=(0.5, 1))
    max_polyphony: int = setting("Most pitches that sound at once.", N_PITCHES, 1, N_PITCHES)
    max_repeat: float = setting("Seconds after which a repetition becomes less likely.", 8.0, 0, 3600, usual=(1, 60))
    guidance_scale: float = setting("Strength of the style: 0 is none, 1 is as trained.", 1.0, 0, 10, usual=(0, 3))
    pedal: bool = setting("Play with the sustain pedal, if the model knows it.", True)
    bpm: float = setting("Beats per minute after the prime; 0 keeps its tempo.", 0.0, 0, 400, usual=(0, 200))
    beats_per_bar: int = setting("Beats in a bar for `bpm`; 0: as in the prime, or 4.", 0, 0, 16)
    rubato: float = setting("How much the tempo of the beats varies; 0 is a metronome.", 0.05, 0, 0.2)
    beat: bool = setting("Play to a beat: the prime's own, or the one that the model finds in it.", True)
    home: bool = setting("Stay near the opening's key, register and texture, if the model knows home.", True)
    feedback: float = setting("How firmly music is led back to the opening's key.", 1.0, 0, 4, usual=(0, 4))
    candidates: int = setting("Continuations that play at once; those that sound human go on.", 8, 1, 64, usual=(1, 16))
    strength: float = setting("How strictly candidates must sound human; 0 ignores it.", 1.0, 0, 10, usual=(0, 2))
    register: float = setting("How strictly candidates must keep the register; 0 ignores it.", 3.0, 0, 10, usual=(0, 6))
    seed: int = setting("The same seed gives the same piece.", 0, 0, 2**63 - 1)


def generate(
    model: AttentionLSTM,
    prime: PianoRoll | None,
    config: GenerationConfig,
    composer: str | None = None,
    callback: Callback | None = None,
    trace: list[SteeringTrace] | None = None,
    engine: str | Graphs | Engine | None = None,
) -> PianoRoll:
    """Continue a prime frame by frame, without post-processing.

    If the beats of the prime are unknown, the model looks for them (see `find_beats`). With several candidates, those
    that sound like a pianist and keep the register go on (see `Steering`), if the model has a probe.

    Parameters
    ----------
    model : AttentionLSTM
        It is not changed, and several threads may use it at once.
    prime : PianoRoll or None
        The opening, for example `Performance.first_beats`; without one the piece starts from silence.
    config : GenerationConfig
    composer : str, optional
        One of ``model.config.composers``.
    callback : callable, optional
        Called after each frame with the number of new frames. If it returns true, the piece ends there.
    trace : list of SteeringTrace, optional
        Receives what the candidates were and how they were weighted, if there are several.
    engine : {"torch", "onnx"}, Graphs or an engine, optional
        What computes the frames; see `choose_engine`. By default the faster one that there is.

    Returns
    -------
    PianoRoll
        The prime and its continuation, with the pedal and the beats if the model and the prime have them.

    Raises
    ------
    ValueError
        If the prime is longer than the piece, or has another frame rate than the model; if the model does not have 88
        pitches, or does not know the composer; if the engine cannot be used.
    """
    return generate_several(model, prime, config, 1, composer, callback, trace=trace, engine=engine)[0]


def generate_several(
    model: AttentionLSTM,
    prime: PianoRoll | None,
    config: GenerationConfig,
    n_pieces: int,
    composer: str | None = None,
    callback: Callback | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> list[PianoRoll]:
    """Continue a prime in several ways at once, which takes much less time than one after another.

    Parameters
    ----------
    model, prime, config, composer, callback
        As in `generate`.
    n_pieces : int
        How many continuations, 1 to 1000. With the same number the same seed gives the same pieces.
    device : torch.device or str
        Where to compute. Frame by frame, a graphics card is faster only for many pieces at once.
    **options
        `trace` and `engine`, as in `generate`.

    Returns
    -------
    list of PianoRoll

    Raises
    ------
    ValueError
        As in `generate`.
    """
    if model.config.n_pitches != N_PITCHES:
        raise ValueError(f"the model has {model.config.n_pitches} pitches, a piano has {N_PITCHES}")
    if not 1 <= n_pieces <= MOST_PIECES:
        raise ValueError(f"the number of pieces must lie in 1..{MOST_PIECES}, not {n_pieces}")
    fps = model.config.fps
    prime = prime or PianoRoll(np.zeros((0, N_PITCHES), np.uint8), fps)
    _check_rate(prime, model)
    n_new = round(config.seconds * fps) - prime.n_frames
    if n_new < 0:
        raise ValueError(f"the prime lasts {prime.duration_seconds:g} s, longer than the piece of {config.seconds:g} s")
    labels = [model.config.label_of(composer)] * n_pieces
    return continue_rolls(model, [prime] * n_pieces, n_new, config, labels, callback, device, **options)


def without_prime(roll: PianoRoll, n_prime: int) -> PianoRoll:
    """Return a generated piece without the first `n_prime` frames, and without the notes that began in them."""
    continuation = roll[n_prime:]
    if not n_prime or not continuation.n_frames:
        return continuation
    held = roll.active[n_prime - 1] & np.logical_and.accumulate(continuation.active, axis=0)  # since before
    return replace(continuation, velocity=np.where(held, np.uint8(0), continuation.velocity))


@torch.inference_mode()
def continue_rolls(
    model: AttentionLSTM,
    primes: list[PianoRoll],
    n_frames: int,
    config: GenerationConfig,
    composers: list[int],
    callback: Callback | None = None,
    device: torch.device | str = "cpu",
    trace: list[SteeringTrace] | None = None,
    engine: str | Graphs | Engine | None = None,
) -> list[PianoRoll]:
    """Continue a batch of primes of the same length.

    Parameters
    ----------
    model, callback, device, engine
        As in `generate_several`.
    primes : list of PianoRoll
        All with the same number of frames, which may be 0.
    n_frames : int
        Number of frames to add.
    config : GenerationConfig
        Its `seconds` is not used.
    composers : list of int
        From `ModelConfig.label_of`, one per prime.
    trace : list of SteeringTrace, optional
        As in `generate`; the first prime's.

    Returns
    -------
    list of PianoRoll
    """
    for prime in primes:
        _check_rate(prime, model)
    model = for_inference(model, device)
    guided = GuidedModel(choose_engine(model, engine, device), config.guidance_scale if any(composers) else 1.0)
    random = torch.Generator().manual_seed(config.seed)  # on the CPU: the same numbers on every device
    with single_thread():
        distinct = {id(prime): prime for prime in primes}  # one prime may be continued often
        found = {key: with_beats(model, prime, config) for key, prime in distinct.items()}
        primes = [found[id(prime)] for prime in primes]
        is_steered = config.candidates > 1 and model.probe is not None and primes[0].n_frames > 1
        pieces = start_pieces(model, primes, n_frames, config, composers, keep_hidden=is_steered)
        pieces.prefill(guided)
        steering = None
        if is_steered:
            steering = start_steering(pieces, model.probe, config.candidates, config.strength, config.seed)
        for n_new in range(1, n_frames + 1):
            add_frame(pieces, guided, config, random)
            if n_new % round(SEGMENT_SECONDS * pieces.fps) == 0:
                if steering:
                    steer(pieces, steering, n_new, config.register if config.home else 0.0, trace)
                pieces.correct_home(config.feedback)
            if callback and callback(n_new):
                break
        if steering:
            pieces.select(steering.choose())
    return pieces.rolls()


def _check_rate(prime: PianoRoll, model: AttentionLSTM) -> None:
    if prime.fps != model.config.fps:
        rates = f"the prime has {prime.fps} frames per second, the model was trained with {model.config.fps}"
        raise ValueError(rates)


def start_pieces(
    model: AttentionLSTM,
    primes: list[PianoRoll],
    n_frames: int,
    config: GenerationConfig,
    composers: list[int],
    keep_hidden: bool,
) -> Continuation:
    """Return primes with room for `n_frames` more, and with what the model is told of the whole pieces."""
    has_home = model.config.home and config.home
    has_pedal = config.pedal and model.output.pedal is not None
    n_total = primes[0].n_frames + n_frames
    return Continuation.of_primes(
        primes,
        n_frames,
        [continue_beats(prime, n_total, config, number) for number, prime in enumerate(primes)],
        composers,
        config.max_repeat,
        has_pedal=has_pedal,
        homes=np.stack([home_of(prime, has_pedal) for prime in primes]) if has_home else None,
        keep_hidden=keep_hidden,
    )


def with_beats(model: AttentionLSTM, prime: PianoRoll, config: GenerationConfig) -> PianoRoll:
    """Return a prime with the beats to play to: its own beats, those that the model finds in it, or none."""
    if not config.beat:
        return replace(prime, beats=None)
    is_known = prime.beats is not None and len(prime.beats) > 2  # two beats are no tempo to continue
    if is_known or config.bpm:
        return prime
    found = find_beats(model, prime)
    return prime if found.beats is None else replace(prime, beats=found.beats, beats_estimated=True)


def home_of(prime: PianoRoll, with_pedal: bool = True) -> np.ndarray:
    """Return the profile of a prime from its first note on; without pedal if the piece shall have none."""
    first = int(prime.notes["start_frame"][0]) if prime.n_notes else 0
    opening = prime[first:]
    return home_features(opening if with_pedal else replace(opening, pedal=None))


def add_frame(pieces: Continuation, model: GuidedModel, config: GenerationConfig, random: torch.Generator) -> None:
    """Sample the next frame of each piece: the pedal, then all pitches, then the velocities of the struck pitches.

    Each is drawn from its probability given everything before it.
    """
    known = pieces.encode_past(model)
    before = pieces.velocity[:, pieces.n_known - 1]  # (B, K)
    inactive = before == 0
    uniform = torch.rand(before.shape, generator=random).numpy()

    if pieces.has_pedal:
        pedal = sample_pedal(known, model, config, random)  # (B,)
    else:
        pedal = np.zeros(len(before), np.float32)
    on, logits, conditioned = sample_pitches(known, pedal, pieces, model, config, uniform)
    # The velocities are conditioned on all drawn pitches, also on those that the limit removes: that is close enough,
    # and saves a pass of the network.
    on = sampling.limit_polyphony(on, inactive, logits, config.max_polyphony)
    struck = on & inactive
    velocity = before * on  # a note keeps its velocity
    if model.predicts_velocity:
        velocity = velocity + sample_velocities(known, conditioned, struck, model, random)
    else:
        velocity = velocity + struck * pieces.prime_velocity
    pieces.append(velocity, pedal)


def sample_pedal(known: Known, model: GuidedModel, config: GenerationConfig, random: torch.Generator) -> np.ndarray:
    """Sample the pedal of the next frame, shape (B,): 1 where it is down."""
    p = sampling.sigmoid(model.pedal_logits(known) / config.pedal_temperature)
    uniform = torch.rand(p.shape, generator=random).numpy()
    return (uniform < p).astype(np.float32)


def sample_pitches(
    known: Known,
    pedal: np.ndarray,
    pieces: Continuation,
    model: GuidedModel,
    config: GenerationConfig,
    uniform: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Draw all pitches of the next frame, each given the lower ones, by fixed-point iteration (see `decode_frame`).

    Returns
    -------
    on : numpy.ndarray of bool, shape (B, K)
    logits : numpy.ndarray, shape (B, K)
    conditioned
        The embeddings of the pitches, which know those below them, for `GuidedModel.velocity_logits`.
    """
    before = pieces.velocity[:, pieces.n_known - 1] > 0  # (B, K)
    inactive = ~before
    penalty = pieces.repetition.penalty()  # of onsets: (B, K), or 0
    # The gain comes from the first guess, that nothing changes: the passes converge only if they share one gain.
    first = model.pitch_logits(known, pedal, before)
    p_onset = sampling.sigmoid(first[0] - penalty) * inactive
    temperatures = config.temperature, config.onset_temperature
    gain, pieces.rate_sums = sampling.onset_gain(p_onset, pieces.rate_sums, *temperatures, config.top_p)
    temperatures = config.temperature, config.release_temperature
    threshold = sampling.pitch_threshold(uniform, inactive, gain, penalty, *temperatures)  # (B, K)
    logits_of = partial(model.pitch_logits, known, pedal)
    on, logits, conditioned = decode_frame(logits_of, before, lambda logits: logits > threshold, first)
    return on, logits - penalty, conditioned


def sample_velocities(
    known: Known, conditioned: Any, struck: np.ndarray, model: GuidedModel, random: torch.Generator
) -> np.ndarray:
    """Draw the velocity of each struck pitch, given the lower ones, by fixed-point iteration like `sample_pitches`."""
    velocity = np.zeros(struck.shape, np.uint8)  # (B, K)
    n_struck = int(struck.sum())
    if not n_struck:
        return velocity
    uniform = torch.rand(n_struck, 1, generator=random).numpy()
    number_in_bin = torch.randint(N_CHOICES, (n_struck,), generator=random).numpy()
    most_struck = int(struck.sum(axis=-1).max())
    for _ in range(most_struck):  # each pass settles one more struck pitch of each piece, from below
        bins = sampling.draw_categories(model.velocity_logits(known, conditioned, velocity, struck), uniform)
        drawn = velocity_in_bin(bins, number_in_bin).astype(np.uint8)
        if np.array_equal(velocity[struck], drawn):
            break
        velocity[struck] = drawn
    return velocity


def continue_beats(prime: PianoRoll, n_frames: int, config: GenerationConfig, number: int = 0) -> np.ndarray | None:
    """Return the beats of a prime, continued to frame `n_frames`, or None if the beats are unknown.

    `number` is that of a piece in its batch; pieces have different rubato.
    """
    if not config.beat:
        return None
    beats = np.zeros((0, 2)) if prime.beats is None else prime.beats
    random = np.random.default_rng([config.seed, number])
    start = prime.duration_seconds
    end = n_frames / prime.fps
    may_be_strict = not prime.beats_estimated
    return metronome(beats, start, end, config.bpm, config.beats_per_bar, config.rubato, random, may_be_strict)
