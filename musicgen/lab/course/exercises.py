"""Exercises with feedback: ``check("01-1", value)`` confirms an answer or gives a hint."""

import math
from dataclasses import dataclass

import numpy as np

N_HINTS = 3


@dataclass(frozen=True)
class Exercise:
    """An exercise with its answer, three general hints, and hints for common mistakes.

    The answer is a number, which may be off by `tolerance`, or anything that can be compared.
    """

    answer: object
    hints: tuple[str, str, str]
    mistakes: tuple[tuple[object, str], ...] = ()
    tolerance: float = 1e-6

    def is_right(self, value: object) -> bool:
        """Return whether a value is the correct answer."""
        return self._same(value, self.answer)

    def hint(self, value: object, attempt: int) -> str | None:
        """Return a hint: for the type, for a known mistake, or general hint `attempt` (0 to 2); None after the last."""
        known = next((hint for wrong, hint in self.mistakes if self._same(value, wrong)), None)
        if _kind(value) != _kind(self.answer):
            known = f"The answer is a {_kind(self.answer)}, not a {_kind(value)}."
        return known or (self.hints[attempt] if attempt < N_HINTS else None)

    def _same(self, value: object, other: object) -> bool:
        if _kind(value) == _kind(other) == "number":
            return abs(float(value) - other) <= self.tolerance
        if isinstance(value, str) and isinstance(other, str):
            return value.strip().lower() == other
        return type(value) is type(other) and value == other


def _kind(value: object) -> str:
    """Return "number" or "string", otherwise the name of the type."""
    name = type(value).__name__
    return {"int": "number", "float": "number", "str": "string"}.get(name, name)


EXERCISES = {
    "01-1": Exercise(
        62.5,
        ("A minute has 60 seconds.", "At 120 beats per minute, a beat lasts 0.5 s.", "0.5 s / 8, in ms"),
        (
            (0.0625, "That is in seconds. The answer is in milliseconds."),
            (500, "That is a whole beat. Take an eighth of it."),
            (250, "That is half a beat. Take an eighth of it."),
            (125, "That is a quarter of a beat. Take an eighth of it."),
        ),
        tolerance=0.01,
    ),
    "01-2": Exercise(
        {"train", "validation", "test"},
        ("Look at the field `split` of the pieces.", "Use a set.", "{piece.split for piece in rolls.pieces}"),
    ),
    "01-3": Exercise(
        261.63,
        ("Twelve semitones double the frequency.", "A4 is pitch 69 and 440 Hz.", "440 * 2 ** ((60 - 69) / 12)"),
        (
            (220, "That is A3, a whole octave below A4. Middle C is nine semitones below A4."),
            (740, "That is nine semitones above A4. Middle C is below it."),
            (523.25, "That is an octave too high."),
        ),
        tolerance=0.7,
    ),
    "02-1": Exercise(
        2,
        ("A run of sounding frames is one note.", "Silence separates two runs.", "Count where the sound begins."),
        ((5, "That is the number of sounding frames. A note can last several."), (8, "That is all frames.")),
    ),
    "02-2": Exercise(
        8400,
        ("The poster cuts pieces at seven minutes.", "20 frames per second.", "7 * 60 * 20"),
        (
            (420, "That is in seconds. A second has 20 frames."),
            (140, "A minute has 60 seconds."),
            (6171, "That is the longest of the first four rolls. How long can a roll be at most?"),
        ),
    ),
    "02-3": Exercise(
        0.025,
        ("Times are rounded to the nearest frame.", "A frame lasts 0.05 s.", "half of a frame, in seconds"),
        (
            (0.05, "That is a whole frame. Rounding goes to the nearest one."),
            (25, "That is in milliseconds. The answer is in seconds."),
        ),
    ),
    "04-1": Exercise(
        88 * math.log(2),
        ("A coin has the probability 1/2.", "Its loss is log 2 nats.", "88 coins: 88 * log(2)"),
        ((math.log(2), "That is one coin. There are 88."), (88, "That is in bits. A bit is log 2 nats.")),
        tolerance=0.01,
    ),
    "04-2": Exercise(
        1,
        ("The softmax turns scores into weights.", "Weights are positive.", "What is the sum of a softmax?"),
        ((0, "The weights are positive, so their sum is not 0."),),
        tolerance=1e-4,
    ),
    "04-3": Exercise(
        4 * (128 * (176 + 128) + 2 * 128),
        (
            "An LSTM layer has four parts: three gates and the candidate.",
            "Each part has a matrix for the input and one for the hidden state, and PyTorch keeps two biases.",
            "4 * (128 * (176 + 128) + 2 * 128)",
        ),
        (
            (128 * (176 + 128) + 2 * 128, "That is one gate. With the candidate, a layer has four parts."),
            (4 * (128 * (176 + 128) + 128), "Almost: PyTorch keeps two biases per part."),
            (4 * 128 * (176 + 128), "Almost: the biases are missing."),
        ),
    ),
    "05-1": Exercise(
        80,
        ("Eight beats at 120 beats per minute.", "A beat lasts 0.5 s, so the prime lasts 4 s.", "4 * 20 frames"),
        (
            (4, "That is in seconds. A second has 20 frames."),
            (160, "At 120 beats per minute, a beat lasts 0.5 s."),
            (8, "That is the number of beats."),
        ),
    ),
    "05-2": Exercise(
        "which",
        (
            "One temperature is about pitches, one about time.",
            "It keeps the number of onsets the same.",
            'The answer is "which" or "when".',
        ),
        (("when", "That is what `onset_temperature` does."),),
    ),
    "05-3": Exercise(
        0,
        ("untold + scale * (told - untold)", "1 is as trained.", "Only `untold` should be left."),
        ((1, "1 follows the composer as in training."), (-1, "That would go away from the composer.")),
    ),
}
_attempts: dict[str, int] = {}


def check(exercise: str, value: object) -> bool:
    """Print and return whether an answer is right; if it is wrong, also print a hint.

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
    if hasattr(value, "item") and np.ndim(value) == 0:  # a number from numpy or torch
        value = value.item()
    if EXERCISES[exercise].is_right(value):
        print(f"{exercise}: correct")
        return True
    attempt = _attempts[exercise] = _attempts.get(exercise, 0) + 1
    hint = EXERCISES[exercise].hint(value, attempt - 1) or f"See solutions/{exercise[:2]}_solutions.ipynb"
    print(f"{exercise}: not yet. {hint}")
    return False
