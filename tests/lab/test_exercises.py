"""What `check` says: about right answers, about each usual mistake, and about functions that misbehave."""

import re
import time

import numpy as np
import pytest
import torch

from musicgen.lab import check
from musicgen.lab.course.exercises import EXERCISES
from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import Case, FunctionExercise, same

VALUES = {name: each for name, each in EXERCISES.items() if isinstance(each, Exercise)}
FUNCTIONS = {name: each for name, each in EXERCISES.items() if isinstance(each, FunctionExercise)}
DOUBLE = FunctionExercise(
    'def double(numbers, times):\n    """Return the numbers times 2."""',
    (
        Case(([1, 2], 2), [2, 4], "Multiply each number."),
        Case(([], 2), [], "There may be no numbers."),
        Case(([3], 3), lambda result: result == [9], "Use the argument times."),
    ),
    ((lambda numbers, times: numbers * times, "That repeats the list."),),
)


def endless(numbers, times):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


def printing(numbers, times):
    for _ in range(10_000):
        print("numbers" * 100)


def changing(numbers, times):
    for i in range(len(numbers)):
        numbers[i] *= times
    return numbers


def raising(numbers, times):
    return numbers[0] / 0


def leaving(numbers, times):
    raise SystemExit


class Odd:
    def __eq__(self, other):
        raise RuntimeError("never compared")

    __repr__ = __eq__


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (raising, r"double\(\[1, 2\], 2\) raises ZeroDivisionError.* in the line `return numbers\[0\] / 0`. Multiply"),
        (leaving, "raises SystemExit"),
        (printing, "returns None.* return it instead"),
        (changing, "changes its argument"),
        (lambda numbers, times: numbers * times, "That repeats the list."),
        (lambda numbers, times: [2 * n for n in numbers], r"double\(\[3\], 3\) returns \[6\]. Use the argument times."),
        (lambda numbers, times: None, "returns None: write the body"),
        (lambda numbers, times: Odd(), "should be .*, not Odd"),
        (lambda numbers: numbers, r"It must take 2 arguments: double\(numbers, times\)"),
        ([2, 4], "The answer is the function double itself"),
        (max, "raises TypeError"),
    ],
)
def test_a_wrong_function_gets_one_clear_line(answer, says, capsys):
    fault = DOUBLE.fault(answer)
    assert re.search(says, fault) and "\n" not in fault
    assert capsys.readouterr().out == ""


def test_an_endless_function_is_stopped(monkeypatch):
    monkeypatch.setattr("musicgen.lab.course.exercises.calls.call_within.__defaults__", (0.1,))
    assert "Does a loop never end?" in DOUBLE.fault(endless)


def test_a_right_function_is_right_each_time():
    assert DOUBLE.fault(lambda numbers, times: [times * n for n in numbers]) is None
    assert DOUBLE.fault(lambda numbers, times=2: [times * n for n in numbers]) is None


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (np.array([1.0, 2.0]), torch.tensor([1, 2]), True),
        (np.array([[1.0, 2.0]]), np.array([1.0, 2.0]), False),
        ([1, (2, 3.0)], [1, (2, 3)], True),
        ([1], [1, 2], False),
        (np.nan, 1.0, False),
        ({1}, {1}, True),
        ([1], {1}, False),
        ("a", 1.0, False),
    ],
)
def test_results_are_compared_by_value_and_shape(one, other, agree):
    assert same(one, other, 1e-6) is agree


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_usual_mistake_is_found_and_named(name):
    exercise = FUNCTIONS[name]
    for mistake, hint in exercise.mistakes:
        assert exercise.fault(mistake).endswith(hint)  # an error comes first
    assert len(exercise.cases) >= 2 and exercise.mistakes


@pytest.mark.parametrize("name", VALUES)
def test_the_answer_is_right_and_no_known_mistake_is(name):
    exercise = VALUES[name]
    assert exercise.is_right(exercise.answer)
    assert not any(exercise.is_right(wrong) for wrong, _ in exercise.mistakes)


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("02-4", lambda row: np.array([1, 2]), r"should be \[1, 4\], not \[1, 2\]"),
        ("02-5", lambda notes, n_frames: [[0] * 88] * n_frames, "one array of shape"),
        ("02-6", lambda rolls: [np.pad(roll, ((0, 3 - len(roll)), (0, 0))) for roll in rolls], "one array of shape"),
        ("03-2", lambda windows: torch.stack((windows[:, :-1], windows[:, 1:])), "a tuple of 2 arrays, not one array"),
        (
            "03-2",
            lambda windows: (windows[:, :-1], windows[:, 1:] + 1),
            r"item 1: entry \[0, 0, 0\] should be 1, not 2",
        ),
        ("03-3", lambda n_frames, span: torch.ones(n_frames, n_frames).tril().triu(1 - span), "True and False"),
        ("03-4", lambda query, key, value: 0 * value + 7, r"entry \[0, 0, 0\] should be -?\d\.\d+, not 7"),
    ],
)
def test_the_kind_or_the_first_entry_that_differs_is_named(name, answer, says):
    assert re.search(says, FUNCTIONS[name].fault(answer))


def test_a_value_gets_three_hints_and_then_the_solution(capsys):
    assert not check("01-1", None) and check("01-1", 62.5)
    found = [check("02-2", wrong) for wrong in (1, 2, 3, 4)]
    lines = capsys.readouterr().out.splitlines()
    assert not any(found) and "solutions/02_solutions.ipynb" in lines[-1]
    assert [EXERCISES["02-2"].hints[i] in lines[i - 4] for i in range(3)] == [True] * 3
    with pytest.raises(ValueError, match="no exercise '9'"):
        check("9", 1)


def test_values_may_come_from_torch_but_not_in_another_kind(capsys):
    assert check("05-3", torch.tensor(80)) and check("05-4", "Which ")
    assert not check("05-5", False) and not check("01-2", ["train", "validation", "test"])
    *_, bool_line, list_line = capsys.readouterr().out.splitlines()
    assert "a number, not a bool" in bool_line and "a set, not a list" in list_line
