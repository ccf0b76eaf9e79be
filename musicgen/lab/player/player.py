"""A player for piano rolls, in JupyterLab and in exported pages. Where scripts cannot run, it is a figure."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from musicgen.lab.figures.html import escape, readable
from musicgen.lab.figures.rolls import beats_within, pedal_spans, plot_rolls
from musicgen.lab.figures.style import COLOURS, Figure, png_bytes
from musicgen.lab.player.sound import mp3_bytes, render
from musicgen.midi import midi_bytes
from musicgen.piano_roll import PianoRoll

FILES = {"STYLE": "player.css", "SCRIPT": "player.js"}  # by their places in player.html
CONTROLS_HEIGHT, TRACK_HEIGHT = 120, 268  # pixels

# The frame may run the player's script and offer files to save, but it has no access to the page around it. That page
# passes on its theme by making the frame 8 (light) or 16 pixels (dark) taller. The figure lies below the frame, and
# shows where frames are removed: on GitHub, and in a notebook that is not trusted.
FRAME = "player_frame.html"


@dataclass(frozen=True, eq=False)
class Player:
    """Shows and plays one or more pieces on one time axis.

    A cell displays the player if it is the last expression.
    The sound is rendered when the player is first shown. Each minute of music takes about half a second, and 0.3 MB in
    the notebook.

    Parameters
    ----------
    rolls : mapping of str to PianoRoll
        The pieces by title. A title may come from anywhere: it is shown as plain text.
    prime_frames : int
        Length of the given opening, which is shaded; 0 for none.
    """

    rolls: Mapping[str, PianoRoll]
    prime_frames: int = 0

    @cached_property
    def page(self) -> str:
        """The player as a self-contained web page."""
        tracks = [_track(title, roll, self.prime_frames) for title, roll in self.rolls.items()]
        seconds = max(track["seconds"] for track in tracks)
        data = {"tracks": tracks, "seconds": seconds, "height": self._height, "music": COLOURS}
        page = _read("player.html")
        for place, name in FILES.items():
            page = page.replace(f"/*{place}*/", _read(name))
        # Only "<" could end the script element, and in JSON it occurs in strings only.
        return page.replace("/*DATA*/", json.dumps(data).replace("<", "\\u003c"))

    @cached_property
    def html(self) -> str:
        """The player as a sandboxed frame to embed in a page."""
        frame, figure = _read(FRAME), b64encode(self._png).decode()
        parts = {"title": escape(self._title), "alt": escape(self._figure.alt), "page": escape(self.page)}
        return frame.format(height=self._height, figure=figure, **parts)

    @property
    def _height(self) -> int:
        return CONTROLS_HEIGHT + TRACK_HEIGHT * len(self.rolls)

    @property
    def _title(self) -> str:
        return readable(", ".join(self.rolls))

    @cached_property
    def _figure(self) -> Figure:
        return plot_rolls(self.rolls, self.prime_frames).figure

    @cached_property
    def _png(self) -> bytes:
        return png_bytes(self._figure, dpi=80)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        png = b64encode(self._png).decode()
        return {"text/html": self.html, "image/png": png, "text/plain": f"Player: {self._title}"}


def player(roll: PianoRoll, title: str = "", prime_frames: int = 0) -> Player:
    """Return a player for one piece; see `Player`."""
    return Player({title: roll}, prime_frames)


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _track(title: str, roll: PianoRoll, prime_frames: int) -> dict:
    """Return the data of a piece that the player's script needs."""
    sound = render(roll)
    return {
        "title": readable(title),
        "fps": roll.fps,
        "frames": roll.n_frames,
        "prime": prime_frames,
        "notes": roll.notes.tolist(),
        "pedal": None if roll.pedal is None else pedal_spans(roll),
        "beats": None if roll.beats is None else np.round(beats_within(roll), 3).tolist(),
        "seconds": len(sound.samples) / sound.rate,
        "rate": sound.rate,
        "mp3": b64encode(mp3_bytes(sound)).decode(),
        "midi": b64encode(midi_bytes(roll)).decode(),
    }
