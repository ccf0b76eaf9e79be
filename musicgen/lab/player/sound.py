"""A roll as sound: a sampled piano if midirenderer is installed, otherwise sums of decaying partials."""

import io
import tempfile
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile

from musicgen.midi import midi_bytes
from musicgen.piano_roll import PianoRoll
from musicgen.utils.files import atomic_write

PEAK = 0.89  # -1 dBFS: a decoded MP3 may exceed the original
LARGEST_MP3_RATE = 24_000
N_TAPS = 63  # of the filter before a rate is halved
TAIL_SECONDS = 1.5
BLOCK_SECONDS = 60  # rendered at once
LEAD_SECONDS = 10  # before each block; a string that was struck earlier is hardly heard

# For the fallback, sums of partials:
PARTIALS_RATE = 24_000
N_PARTIALS = 8
RELEASE_SECONDS = 0.3


@dataclass(frozen=True, eq=False)
class Sound:
    """A mono waveform.

    Parameters
    ----------
    samples : numpy.ndarray of float32, shape (n_samples,)
        Between -1 and 1.
    rate : int
        Samples per second.
    """

    samples: np.ndarray
    rate: int


def render(roll: PianoRoll) -> Sound:
    """Render a roll as sound, with its pedal.

    Without midirenderer, which has no wheel for some platforms, each note is a sum of decaying partials.

    Parameters
    ----------
    roll : PianoRoll

    Returns
    -------
    Sound
        1.5 seconds longer than the roll, so that the last notes ring out. Its peak is -1 dBFS, or 0 for silence.
    """
    parts = list(_parts(roll))
    samples = np.concatenate([part.samples for part in parts])
    return Sound(samples * _gain(_peak(samples)), parts[0].rate)


def render_wav(roll: PianoRoll, path: Path | str) -> None:
    """Write the sound of `render` as a WAV file atomically.

    The memory use does not grow with the piece.
    """
    with atomic_write(path) as temporary, _stored(roll, temporary.parent) as (sound, gain):
        starts = range(0, len(sound.samples), BLOCK_SECONDS * sound.rate)
        blocks = (sound.samples[start : start + starts.step] * gain for start in starts)
        _write_pcm(temporary, sound.rate, blocks)


def render_mp3(roll: PianoRoll) -> tuple[bytes, int, float]:
    """Return the sound of `render` as MP3.

    Of the memory, only that of the MP3 itself grows with the piece.

    Returns
    -------
    mp3 : bytes
        See `mp3_bytes`.
    rate : int
        Samples per second of the sound before it was compressed.
    seconds : float
        Its length.
    """
    with _stored(roll) as (sound, gain):
        return _encode(sound, gain), sound.rate, len(sound.samples) / sound.rate


@contextmanager
def _stored(roll: PianoRoll, folder: Path | None = None) -> Iterator[tuple[Sound, np.float32]]:
    """Yield the sound of a roll, not scaled, with its samples in a temporary file, and the gain that it needs."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        peak = 0.0  # the loudest sample is known only at the end
        try:
            for part in _parts(roll):
                peak = max(peak, _peak(part.samples))
                stream.write(part.samples.tobytes())
            stream.flush()
        except OSError as error:  # of a full disk, which names no file
            if folder or error.filename:
                raise
            raise OSError(error.errno, f"{error.strerror} (TMPDIR chooses another)", tempfile.gettempdir()) from error
        yield Sound(np.memmap(stream, np.float32, mode="r"), part.rate), _gain(peak)


def write_wav(sound: Sound, path: Path | str) -> None:
    """Write a sound as a 16-bit WAV file atomically."""
    with atomic_write(path) as temporary:
        _write_pcm(temporary, sound.rate, [sound.samples])


def _write_pcm(path: Path, rate: int, blocks: Iterable[np.ndarray]) -> None:
    """Write blocks of a mono waveform as a WAV file; unlike soundfile, this reports a full disk."""
    with path.open("wb") as stream, wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        for block in blocks:
            file.writeframes((block * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())


def _parts(roll: PianoRoll) -> Iterator[Sound]:
    """Yield the sound of a roll minute by minute, before its volume is scaled.

    Each part is rendered with the ten seconds before it, which are then cut off, so that notes that ring on are heard.
    """
    block = BLOCK_SECONDS * roll.fps
    for start in range(0, max(1, roll.n_frames), block):
        end = min(start + block, roll.n_frames)
        first = max(0, start - LEAD_SECONDS * roll.fps)
        part = _render_part(roll[first:end])
        samples = part.samples[(start - first) // roll.fps * part.rate :]
        if end < roll.n_frames:
            samples = samples[: BLOCK_SECONDS * part.rate]
        yield Sound(samples, part.rate)


def _render_part(roll: PianoRoll) -> Sound:
    """Return the sound of a roll with its fading end, before its volume is scaled."""
    try:
        from midirenderer import render_wave_from
    except ImportError:
        return Sound(_partials(roll), PARTIALS_RATE)
    content = render_wave_from(sound_font(), midi_bytes(roll, TAIL_SECONDS))
    stereo, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return Sound(stereo.mean(axis=1), rate)


def _peak(samples: np.ndarray) -> float:
    return float(np.abs(samples).max(initial=0))


def _gain(peak: float) -> np.float32:
    return np.float32(PEAK / peak if peak else 1)


def mp3_bytes(sound: Sound) -> bytes:
    """Return a sound as the bytes of an MP3 file (0.2 to 0.3 MB per minute).

    Rates above 24 kHz are halved first, because a piano has little above 12 kHz.
    """
    return _encode(sound, np.float32(1))


def _encode(sound: Sound, gain: np.float32) -> bytes:
    """Return a sound, times a gain, as MP3."""
    factor = 1  # of the rates
    while sound.rate > factor * LARGEST_MP3_RATE:
        factor *= 2
    stream = io.BytesIO()
    mp3 = {"format": "MP3", "compression_level": 0.7, "bitrate_mode": "VARIABLE"}
    with soundfile.SoundFile(stream, "w", sound.rate // factor, 1, **mp3) as file:
        for start in range(0, len(sound.samples), BLOCK_SECONDS * sound.rate):
            file.write(_slower(sound, start, start + BLOCK_SECONDS * sound.rate, factor) * gain)
    return stream.getvalue()


def _slower(sound: Sound, start: int, stop: int, factor: int) -> np.ndarray:
    """Return a part of a sound at a rate that is lower by a power of two, filtered with the samples around it."""
    first = max(0, start - factor * N_TAPS)
    part = Sound(sound.samples[first : stop + factor * N_TAPS], sound.rate)
    while part.rate > sound.rate // factor:
        part = _half_rate(part)
    stop = min(stop, len(sound.samples))
    return part.samples[(start - first) // factor : -((first - stop) // factor)]  # rounded up at the end


def _half_rate(sound: Sound) -> Sound:
    """Halve the sample rate of a sound, after a windowed-sinc low-pass filter."""
    radius = N_TAPS // 2
    taps = np.sinc(np.arange(-radius, radius + 1) / 2) * np.hamming(N_TAPS)
    filtered = np.convolve(sound.samples, (taps / taps.sum()).astype(np.float32), mode="same")
    return Sound(filtered[::2], sound.rate // 2)


@cache
def sound_font() -> bytes:
    """Return pretty_midi's sound font, a General MIDI bank in SF2 format."""
    return Path(pretty_midi.__file__).with_name("TimGM6mb.sf2").read_bytes()


def _partials(roll: PianoRoll) -> np.ndarray:
    """Return the sum of the tones of all notes, sampled at `PARTIALS_RATE`."""
    samples = np.zeros(round((roll.duration_seconds + TAIL_SECONDS) * PARTIALS_RATE), np.float32)
    for pitch, velocity, start, end in sustained(roll):
        tone = _tone(pitch, velocity, (end - start) / roll.fps)
        first = round(start / roll.fps * PARTIALS_RATE)
        samples[first : first + len(tone)] += tone
    return samples


def sustained(roll: PianoRoll) -> list[list[int]]:
    """Return the notes of a roll, lengthened while the pedal is down.

    With the pedal down a note sounds until the pedal is up or the pitch is struck again.
    """
    notes = roll.notes.tolist()
    up = np.ones(roll.n_frames + 1, bool)
    up[:-1] = True if roll.pedal is None else ~roll.pedal
    next_up = np.minimum.accumulate(np.where(up, np.arange(len(up)), len(up))[::-1])[::-1]
    again: dict[int, int] = {}  # the first frame of the next note of each pitch
    ringing = []
    for pitch, velocity, start, end in reversed(notes):
        ringing.append([pitch, velocity, start, max(end, min(int(next_up[end]), again.get(pitch, roll.n_frames)))])
        again[pitch] = start
    return ringing[::-1]


def _tone(pitch: int, velocity: int, held_seconds: float) -> np.ndarray:
    """Return the sound of one struck string.

    Higher partials are weaker and fade sooner, less so if the string is struck hard.
    """
    end_seconds = held_seconds + RELEASE_SECONDS
    seconds = np.arange(end_seconds * PARTIALS_RATE, dtype=np.float32) / PARTIALS_RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    tone = np.zeros_like(seconds)
    for k in range(1, N_PARTIALS + 1):
        if k * hertz < PARTIALS_RATE / 2:
            fading = np.exp(-0.4 * k * (hertz / 110) ** 0.5 * seconds)
            tone += k ** (velocity / 127 - 2.2) * fading * np.sin(2 * np.pi * k * hertz * seconds)
    attack = np.minimum(seconds / 0.004, 1)
    release = np.minimum((end_seconds - seconds) / RELEASE_SECONDS, 1) ** 2
    return (velocity / 127) ** 2 * attack * release * tone
