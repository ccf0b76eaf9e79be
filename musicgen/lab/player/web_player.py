"""A player for piano rolls, in JupyterLab and in exported pages. Where scripts cannot run, it shows a figure."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from musicgen.lab.figures.html import escape, png_bytes, readable
from musicgen.lab.figures.rolls import beats_within, plot_rolls
from musicgen.lab.figures.style import COLOURS, Figure
from musicgen.lab.player.sound import render_mp3
from musicgen.midi import midi_bytes
from musicgen.piano_roll import PianoRoll, as_roll

FILES = {"STYLE": "player.css", "CANVAS": "canvas.js", "SCRIPT": "player.js"}  # by their places in player.html
EXPORTS = re.compile(
    r"^export \{.*\};$", re.MULTILINE
)  # of canvas.js, which the page that composes imports as a module
CONTROLS_HEIGHT = 120  # pixels, as the next three
HEAD_HEIGHT = 36  # of the title of a piece
ROLL_HEIGHT = 232  # of one or two rolls
LOW_ROLL_HEIGHT = 152  # of each of three or more

# The frame may run the player's script and offer files to save, but it has no access to the page around it. That page
# passes on its theme by making the frame 8 (light) or 16 pixels (dark) taller. The figure lies below the frame, and
# shows where frames are removed: on GitHub, and in a notebook that is not trusted.
FRAME = "player_frame.html"


@dataclass(frozen=True, eq=False)
class Player:
    """Shows and plays one or more pieces on one time axis.

    With several pieces, a click on a title (or its number on the computer's keyboard) chooses the piece that is heard,
    at the same moment. A cell displays the player if it is the last expression.
    The sound is rendered when the player is first shown. Each minute of music takes about half a second, and 0.3 MB in
    the notebook.

    Parameters
    ----------
    rolls : mapping of str to PianoRoll or array_like
        The pieces by title. A matrix of your own, shape (n_frames, 88), is turned into a roll by `as_roll`.
        A title may come from anywhere: it is shown as plain text.
    prime_frames : int
        Length of the opening that the pieces share, which is shaded; 0 for none.

    Raises
    ------
    ValueError
        If there is no piece, or one of them is not a piano roll.

    Examples
    --------
    >>> from musicgen.lab import Player
    >>> Player({"prime": prime, "own model": matrix > 0, "Bach": bach}, prime_frames=80)  # doctest: +SKIP
    """

    rolls: Mapping[str, PianoRoll]
    prime_frames: int = 0

    def __post_init__(self):
        if not self.rolls:
            raise ValueError("a player needs at least one piece")
        object.__setattr__(self, "rolls", {title: as_roll(roll) for title, roll in self.rolls.items()})

    @cached_property
    def page(self) -> str:
        """The player as a self-contained web page."""
        tracks = [_track(title, roll, self.prime_frames) for title, roll in self.rolls.items()]
        seconds = max(track["seconds"] for track in tracks)
        data = {"tracks": tracks, "seconds": seconds, "music": COLOURS}
        data |= {"height": self._height, "roll_height": self._roll_height}
        page = _read("player.html")
        for place, name in FILES.items():
            page = page.replace(f"/*{place}*/", EXPORTS.sub("", _read(name)))
        # Only "<" could end the script element, and in JSON it occurs in strings only.
        return page.replace("/*DATA*/", json.dumps(data).replace("<", "\\u003c"))

    @cached_property
    def html(self) -> str:
        """The player as a sandboxed frame to embed in a page."""
        frame = _read(FRAME)
        figure = b64encode(self._png).decode()
        parts = {"title": escape(self._title), "alt": escape(self._figure.alt), "page": escape(self.page)}
        return frame.format(height=self._height, figure=figure, **parts)

    @property
    def _height(self) -> int:
        return CONTROLS_HEIGHT + (HEAD_HEIGHT + self._roll_height) * len(self.rolls)

    @property
    def _roll_height(self) -> int:
        return ROLL_HEIGHT if len(self.rolls) <= 2 else LOW_ROLL_HEIGHT

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
    """Return a player for a single piece, given as a roll or a matrix; see `Player`."""
    return Player({title: roll}, prime_frames)


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _track(title: str, roll: PianoRoll, prime_frames: int) -> dict:
    """Return a piece as the data that the player's script needs."""
    mp3, rate, seconds = render_mp3(roll)
    return {
        "title": readable(title),
        "fps": roll.fps,
        "frames": roll.n_frames,
        "prime": min(prime_frames, roll.n_frames),
        "notes": roll.notes.tolist(),
        "pedal": None if roll.pedal is None else roll.pedal_spans(),
        "beats": None if roll.beats is None else np.round(beats_within(roll), 3).tolist(),
        "seconds": seconds,
        "rate": rate,
        "mp3": b64encode(mp3).decode(),
        "midi": b64encode(midi_bytes(roll)).decode(),
    }
