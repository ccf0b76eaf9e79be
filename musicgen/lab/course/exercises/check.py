"""The registry of all exercises, and `check`, which tells a reader whether an answer is right."""

import numpy as np

from musicgen.lab.course.exercises import building, data, music
from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import FunctionExercise

EXERCISES: dict[str, Exercise | FunctionExercise] = data.EXERCISES | building.EXERCISES | music.EXERCISES
_attempts: dict[str, int] = {}


def check(exercise: str, answer: object) -> bool:
    """Print and return whether an answer is right; if it is wrong, also print a hint.

    Parameters
    ----------
    exercise : str
        Such as ``"01-1"``.
    answer : object
        A value, or the function (or the class) that the exercise asks for. None only prints a reminder.

    Raises
    ------
    ValueError
        If there is no such exercise.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"there is no exercise {exercise!r}, only {', '.join(EXERCISES)}")
    if answer is None:
        print(f"{exercise}: replace None by your answer")
        return False
    task = EXERCISES[exercise]
    fault = task.fault(answer) if isinstance(task, FunctionExercise) else _fault_of_value(exercise, task, answer)
    print(f"{exercise}: not yet. {fault}" if fault else f"{exercise}: correct")
    return not fault


def _fault_of_value(name: str, exercise: Exercise, value: object) -> str | None:
    """Return the next hint for a wrong value, or None if the value is right."""
    if hasattr(value, "item") and np.ndim(value) == 0:  # a number from numpy or torch
        value = value.item()
    if exercise.is_right(value):
        return None
    attempt = _attempts.get(name, 0)
    _attempts[name] = attempt + 1
    return exercise.hint(value, attempt) or f"See solutions/{name[:2]}_solutions.ipynb, or ask your teacher"
