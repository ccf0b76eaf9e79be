"""A piano keyboard for mouse and computer keys; the recording becomes a roll, for example a prime."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from musicgen.piano_roll import DEFAULT_FPS, NOTE_DTYPE, PianoRoll

HERE = Path(__file__)
MAX_SECONDS = 60.0


class PianoKeyboard(anywidget.AnyWidget):
    """A Jupyter widget: a piano keyboard of three octaves that records what is played on it.

    ``keyboard.notes`` holds what was last recorded, ``keyboard.roll()`` the same as a roll.

    Parameters
    ----------
    seconds : float
        The longest recording, above 0 and at most 60.
    """

    _esm = HERE.with_suffix(".js")
    _css = HERE.with_suffix(".css")
    notes = traitlets.List().tag(sync=True)
    seconds = traitlets.Float(8.0).tag(sync=True)

    def __init__(self, **start):
        super().__init__(**start)
        self.layout.width = "100%"

    def roll(self, fps: int = DEFAULT_FPS) -> PianoRoll:
        """Return the recording as a roll; ValueError if there is none."""
        if not self.notes:
            raise ValueError("nothing has been played yet: press Record, then play")
        return played_roll(self.notes, fps)


def played_roll(notes: list, fps: int = DEFAULT_FPS) -> PianoRoll:
    """Sample recorded notes into a roll: times are rounded to frames, and each note lasts at least one frame.

    Parameters
    ----------
    notes : list of (int, int, float, float)
        Pitch, velocity, start and end in seconds, at most 60.
    fps : int
        Frames a second.

    Raises
    ------
    ValueError
        If the notes are not of this form.
    """
    try:
        played = np.array(notes, float).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError("each note must be four numbers: pitch, velocity, start, end") from error
    pitch, velocity, start, end = played.T
    if not (np.isfinite(played).all() and (start >= 0).all() and (end >= start).all() and (end <= MAX_SECONDS).all()):
        raise ValueError(f"notes must lie within 0..{MAX_SECONDS:g} s, and none may end before it starts")
    if not ((velocity >= 1) & (velocity <= 127)).all():
        raise ValueError("velocities must lie in 1..127")
    sampled = np.empty(len(played), NOTE_DTYPE)
    sampled["pitch"] = pitch
    sampled["velocity"] = velocity
    sampled["start_frame"] = np.floor(start * fps + 0.5)
    sampled["end_frame"] = np.maximum(np.floor(end * fps + 0.5), sampled["start_frame"] + 1)
    return PianoRoll.from_notes(sampled, fps)
