"""A piano roll that plays: in JupyterLab and in exported pages, offline; a figure where pages may not run scripts."""

import html
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from musicgen.lab.audio import mp3_bytes, render
from musicgen.lab.plots import plot_rolls, png_bytes
from musicgen.midi import midi_bytes
from musicgen.piano_roll import PianoRoll

TEMPLATE = Path(__file__).with_name("player.html")
CONTROLS_HEIGHT, TRACK_HEIGHT = 120, 268  # pixels

# The frame runs the player's script and hands out files; it has no access to the page around it. That page tells it
# whether it is light or dark by some more pixels of height. Below the frame lies the figure: it is what shows where
# frames are taken out (on GitHub, in a notebook that is not trusted).
FRAME = Path(__file__).with_name("player_frame.html")


@dataclass(frozen=True, eq=False)
class Player:
    """One or more pieces on one time axis, to be seen and heard; a notebook shows it.

    Every piece is rendered when it is first shown: half a second, and about 0.3 MB in a notebook, for each minute.

    Parameters
    ----------
    rolls : mapping of str to PianoRoll
        The pieces by their titles, which may come from anywhere: they are shown as plain text.
    prime_frames : int
        Length of the opening that was given, which is shaded; 0 for none.
    """

    rolls: Mapping[str, PianoRoll]
    prime_frames: int = 0

    @cached_property
    def page(self) -> str:
        """The player as a web page of its own, which needs nothing beside it."""
        tracks = [_track(title, roll, self.prime_frames) for title, roll in self.rolls.items()]
        data = {"tracks": tracks, "seconds": max(track["seconds"] for track in tracks), "height": self._height}
        # Within a script element only "<" could end it; in a JSON text it stands in strings alone.
        return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", json.dumps(data).replace("<", "\\u003c"))

    @cached_property
    def html(self) -> str:
        """The player as a part of a page: a sandboxed frame."""
        title = html.escape(", ".join(self.rolls))
        figure = b64encode(self._figure).decode()
        frame, page = FRAME.read_text(encoding="utf-8"), html.escape(self.page)
        return frame.format(height=self._height, figure=figure, title=title, page=page)

    @property
    def _height(self) -> int:
        return CONTROLS_HEIGHT + TRACK_HEIGHT * len(self.rolls)

    @cached_property
    def _figure(self) -> bytes:
        return png_bytes(plot_rolls(self.rolls, self.prime_frames), dpi=80)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str | bytes]:
        return {"text/html": self.html, "image/png": self._figure, "text/plain": f"Player: {', '.join(self.rolls)}"}


def player(roll: PianoRoll, title: str = "", prime_frames: int = 0) -> Player:
    """Return a piece as something that a notebook shows and plays."""
    return Player({title: roll}, prime_frames)


def _track(title: str, roll: PianoRoll, prime_frames: int) -> dict:
    """Gather what the script of the page reads."""
    sound = render(roll)
    return {
        "title": title,
        "fps": roll.fps,
        "frames": roll.n_frames,
        "prime": prime_frames,
        "notes": roll.notes.tolist(),
        "seconds": len(sound.samples) / sound.rate,
        "rate": sound.rate,
        "mp3": b64encode(mp3_bytes(sound)).decode(),
        "midi": b64encode(midi_bytes(roll)).decode(),
    }
