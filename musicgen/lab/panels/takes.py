"""A take: a generated piece with its prime, composer and settings, and how to save it."""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

from musicgen.generation import GenerationConfig, generate
from musicgen.lab.figures.html import readable
from musicgen.lab.player.sound import render_wav
from musicgen.midi import write_midi
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.utils.files import atomic_write
from musicgen.utils.signals import catch_signals

TELL_SECONDS = 5  # of new music between two messages


@dataclass(frozen=True)
class Take:
    """A generated piece with its settings.

    Parameters
    ----------
    roll : PianoRoll
        The prime and its continuation.
    prime_frames : int
        The length of the prime; 0 without one.
    begun_with : str
        Description of the prime for the reader; never a path.
    composer : str or None
        The composer whose style was requested.
    config : GenerationConfig
        The settings that it was generated with.
    """

    roll: PianoRoll
    prime_frames: int
    begun_with: str
    composer: str | None
    config: GenerationConfig

    @property
    def title(self) -> str:
        """A title with the prime, the style and the seed."""
        style = f", in the style of {self.composer}" if self.composer else ""
        return f"{self.begun_with}{style}, seed {self.config.seed}"

    @property
    def continuation(self) -> "Take":
        """The same take without its prime."""
        roll = self.roll[self.prime_frames :]
        return replace(self, roll=roll, prime_frames=0)

    def save(self, folder: Path | str) -> list[Path]:
        """Save the piece as MIDI, settings and sound under an unused name, and return the paths.

        Raises
        ------
        OSError
            If a file cannot be written. If only the sound is missing, the message names what was written.
        """
        plain = unicodedata.normalize("NFKD", f"{self.begun_with} {self.composer or ''}")  # é becomes e and an accent
        words = re.findall("[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
        stem = "-".join(words)[:40].rstrip("-") or "piece"
        names = ([Path(folder) / f"{stem}-{n}{end}" for end in (".mid", ".json", ".wav")] for n in count(1))
        midi, settings, wav = next(paths for paths in names if not any(path.exists() for path in paths))
        write_midi(self.roll, midi)
        about = {"begun_with": readable(self.begun_with), "prime_frames": self.prime_frames, "composer": self.composer}
        with atomic_write(settings) as temporary:
            temporary.write_text(json.dumps(about | asdict(self.config), indent=1, ensure_ascii=False), "utf-8")
        try:
            render_wav(self.roll, wav)
        except Exception as error:  # of whatever renders it
            raise OSError(f"saved {midi.name} and {settings.name}, but not the sound: {error}") from error
        return [midi, settings, wav]


def compose(
    model: AttentionLSTM,
    prime: PianoRoll | None,
    begun_with: str,
    config: GenerationConfig,
    composer: str | None,
    tell: Callable[[str], None] = lambda text: None,
) -> Take:
    """Continue a prime with `generate`, and return the piece with its settings.

    `tell` gets a line about the progress now and then. The notebook's stop button ends the piece early.
    """
    with catch_signals() as stop:

        def after_frame(n_new: int) -> bool:
            if n_new % (TELL_SECONDS * model.config.fps) == 0:
                tell(f"composing ... {n_new // model.config.fps} s of new music so far")
            return stop.is_set()

        roll = generate(model, prime, config, composer, after_frame)
    return Take(roll, prime.n_frames if prime else 0, begun_with, composer, config)
