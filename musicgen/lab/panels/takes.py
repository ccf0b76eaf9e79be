"""A take: a generated piece with its prime, composer and settings, and how to save it."""

import json
import re
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from musicgen.generation import GenerationConfig, generate
from musicgen.lab.figures.html import readable
from musicgen.lab.player.sound import render_wav
from musicgen.midi import write_midi
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.utils.files import atomic_write


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
        """Save the piece as MIDI, sound and settings under an unused name, and return the paths."""
        plain = unicodedata.normalize("NFKD", f"{self.begun_with} {self.composer or ''}")  # é becomes e and an accent
        words = re.findall("[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
        stem = "-".join(words)[:40].rstrip("-") or "piece"
        number = next(n for n in range(1, 10_000) if not (Path(folder) / f"{stem}-{n}.json").exists())
        midi, wav, settings = (Path(folder) / f"{stem}-{number}{suffix}" for suffix in (".mid", ".wav", ".json"))
        write_midi(self.roll, midi)
        render_wav(self.roll, wav)
        about = {"begun_with": readable(self.begun_with), "prime_frames": self.prime_frames, "composer": self.composer}
        with atomic_write(settings) as temporary:
            temporary.write_text(json.dumps(about | asdict(self.config), indent=1, ensure_ascii=False), "utf-8")
        return [midi, wav, settings]


def compose(
    model: AttentionLSTM, prime: PianoRoll | None, begun_with: str, config: GenerationConfig, composer: str | None
) -> Take:
    """Continue a prime with `generate`, and return the piece with its settings."""
    roll = generate(model, prime, config, composer)
    return Take(roll, prime.n_frames if prime else 0, begun_with, composer, config)
