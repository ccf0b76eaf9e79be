"""A roll as sound: a sampled piano where its renderer is installed, plain decaying partials elsewhere."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile
from scipy.signal import resample_poly

from musicgen.midi import midi_bytes
from musicgen.piano_roll import PianoRoll
from musicgen.support.files import atomic_write

PEAK = 0.89  # -1 dBFS: room for what an MP3 decoder adds
MP3_RATE = 24_000
TAIL_SECONDS = 1.5

# Of the plain sound.
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
        Samples a second.
    """

    samples: np.ndarray
    rate: int


def render(roll: PianoRoll) -> Sound:
    """Play a roll on the piano of the sound font that pretty_midi ships.

    Without midirenderer, which has no wheel for some platforms, the notes are sums of decaying partials.

    Parameters
    ----------
    roll : PianoRoll
        Any roll; a silent one gives silence.

    Returns
    -------
    Sound
        As long as the roll and 1.5 seconds more, in which the last notes ring. Its peak is -1 dBFS.
    """
    try:
        from midirenderer import render_wave_from
    except ImportError:
        samples, rate = _partials(roll), PARTIALS_RATE
    else:
        wave = render_wave_from(_sound_font(), midi_bytes(roll, TAIL_SECONDS))
        stereo, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
        samples = stereo.mean(axis=1)
    peak = np.abs(samples).max(initial=0)
    return Sound(samples * np.float32(PEAK / peak) if peak else samples, rate)


def write_wav(sound: Sound, path: Path | str) -> None:
    """Write a sound as a WAV file of 16 bits, whole or not at all."""
    stream = io.BytesIO()  # soundfile would not tell that a disk is full
    soundfile.write(stream, sound.samples, sound.rate, format="WAV", subtype="PCM_16")
    with atomic_write(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def mp3_bytes(sound: Sound) -> bytes:
    """Encode a sound as MP3, about 0.2 MB a minute, which every browser plays; a piano has little above 12 kHz."""
    stream = io.BytesIO()
    samples = resample_poly(sound.samples, MP3_RATE, sound.rate)
    soundfile.write(stream, samples, MP3_RATE, format="MP3", compression_level=0.7, bitrate_mode="VARIABLE")
    return stream.getvalue()


@cache
def _sound_font() -> bytes:
    return Path(pretty_midi.__file__).with_name("TimGM6mb.sf2").read_bytes()


def _partials(roll: PianoRoll) -> np.ndarray:
    """Sum the tones of all notes, at `PARTIALS_RATE`."""
    samples = np.zeros(round((roll.duration_seconds + TAIL_SECONDS) * PARTIALS_RATE), np.float32)
    for pitch, velocity, start, end in roll.notes.tolist():
        tone = _tone(pitch, velocity, (end - start) / roll.fps)
        first = round(start / roll.fps * PARTIALS_RATE)
        samples[first : first + len(tone)] += tone
    return samples


def _tone(pitch: int, velocity: int, held_seconds: float) -> np.ndarray:
    """Strike a string: its higher partials are weaker and fade sooner, less so the harder it is struck."""
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
