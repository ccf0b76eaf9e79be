"""What is played on the keyboard, as a roll."""

import math

import pytest

from musicgen.lab.player.keyboard import PianoKeyboard, played_roll


def test_times_are_rounded_to_frames_and_a_note_has_one_at_least():
    roll = played_roll([[60, 80, 0.0, 0.52], [64, 100, 0.525, 0.53]])
    assert roll.notes.tolist() == [(60, 80, 0, 10), (64, 100, 11, 12)]


def test_a_key_struck_twice_stays_two_notes():
    assert played_roll([[60, 80, 0.0, 1.0], [60, 90, 1.0, 2.0]]).n_notes == 2


@pytest.mark.parametrize(
    "note",
    [[20, 80, 0, 1], [60, 0, 0, 1], [60, 128, 0, 1], [60, 80, -1, 1], [60, 80, 2, 1], [60, 80, 0, 61]]
    + [[60, 80, 0, math.inf], [60, 80, math.nan, 1], ["60", None, 0, 1], [60, 80, 0]],
)
def test_what_no_keyboard_plays_is_refused(note):
    with pytest.raises(ValueError):
        played_roll([note])


def test_a_keyboard_has_a_roll_once_something_was_played():
    keyboard = PianoKeyboard()
    with pytest.raises(ValueError, match="nothing has been played"):
        keyboard.roll()
    keyboard.notes = [[69, 70, 0.1, 0.4]]
    assert keyboard.roll().notes.tolist() == [(69, 70, 2, 8)]


def test_its_script_loads_nothing():
    script = PianoKeyboard._esm
    assert "import " not in str(script) and "http" not in str(script)
    assert "export default" in str(script)
