"""Exercises with feedback: ``check("01-1", value)`` confirms an answer or gives a hint."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from musicgen.piano_roll import PianoRoll


@dataclass(frozen=True)
class Exercise:
    """An exercise: a function that checks an answer, and three hints, from general to specific."""

    is_right: Callable[[object], bool]
    hints: tuple[str, str, str]


def _close(wanted: float, tolerance: float = 1e-6) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (int, float, np.number)) and abs(float(value) - wanted) <= tolerance


def _two_notes() -> PianoRoll:
    velocity = np.zeros((8, 88), np.uint8)
    velocity[1:4, 39], velocity[5:7, 39] = 80, 60
    return PianoRoll(velocity)


EXERCISES = {
    "01-1": Exercise(
        _close(62.5, 0.01),
        (
            "A beat lasts 60 / tempo seconds.",
            "At 120 beats per minute, a beat lasts 0.5 s.",
            "0.5 s / 8 in milliseconds",
        ),
    ),
    "01-2": Exercise(
        lambda value: value in ({"train", "validation", "test"}, ["test", "train", "validation"]),
        ("Look at the field `split` of the pieces.", "Use a set.", "{piece.split for piece in rolls.pieces}"),
    ),
    "01-3": Exercise(
        _close(261.63, 0.01),
        ("Twelve semitones double the frequency.", "A4 is pitch 69 and 440 Hz.", "440 * 2 ** ((60 - 69) / 12)"),
    ),
    "02-1": Exercise(
        _close(_two_notes().n_notes),
        ("A run of sounding frames is one note.", "Silence separates two runs.", "Count the onsets of the column."),
    ),
    "02-2": Exercise(
        _close(8400),
        ("The poster cuts pieces at seven minutes.", "20 frames per second.", "7 * 60 * 20"),
    ),
    "02-3": Exercise(
        _close(0.025, 1e-9),
        ("Times are rounded to the nearest frame.", "A frame lasts 0.05 s.", "half of a frame, in seconds"),
    ),
    "03-1": Exercise(
        _close(88 * np.log(2), 0.01),
        ("A coin has the probability 1/2.", "Its loss is log 2 nats.", "88 coins: 88 * log(2)"),
    ),
    "03-2": Exercise(
        _close(1.0, 1e-4),
        ("The softmax turns scores into weights.", "Weights are positive.", "What is the sum of a softmax?"),
    ),
    "03-3": Exercise(
        _close(4 * (128 * (176 + 128) + 2 * 128)),
        (
            "An LSTM layer has four gates.",
            "Each gate has a matrix for the input and one for the hidden state, and PyTorch keeps two biases.",
            "4 * (128 * (176 + 128) + 2 * 128)",
        ),
    ),
    "04-1": Exercise(
        _close(80),
        ("Eight beats at 120 beats per minute.", "A beat lasts 0.5 s, so the prime lasts 4 s.", "4 * 20 frames"),
    ),
    "04-2": Exercise(
        lambda value: value == "which",
        (
            "One temperature is about pitches, one about time.",
            "It keeps the number of onsets the same.",
            'the answer is "which"',
        ),
    ),
    "04-3": Exercise(
        _close(0.0),
        ("Guidance mixes two predictions.", "1 is as trained.", "Which scale ignores the composer?"),
    ),
}
_attempts: dict[str, int] = {}


def check(exercise: str, value: object) -> bool:
    """Print whether an answer is right, and return it; print a hint if not, or after three hints where the solution is.

    Parameters
    ----------
    exercise : str
        Such as ``"01-1"``.
    value : object
        The answer; None only prints a reminder.

    Raises
    ------
    ValueError
        If there is no such exercise.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"there is no exercise {exercise!r}, only {', '.join(EXERCISES)}")
    if value is None:
        print(f"{exercise}: replace None by your answer")
        return False
    if EXERCISES[exercise].is_right(value):
        print(f"{exercise}: correct")
        return True
    attempt = _attempts[exercise] = _attempts.get(exercise, 0) + 1
    hints = EXERCISES[exercise].hints
    solution = f"see solutions/{exercise[:2]}_solutions.ipynb"
    print(f"{exercise}: not yet. {hints[attempt - 1] if attempt <= len(hints) else solution}")
    return False
