"""Exercises that ask for a function: it is called with the arguments of each case, and its results are compared."""

import ast
import inspect
import linecache
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from musicgen.lab.course.exercises.calls import LIMIT_SECONDS, Outcome, call_within

SHORT = 60  # characters of a value in a message
FEW = 8  # entries of an array that is shown as a whole
OF_SOLUTION = object()  # as the expected result of a case: what the solution returns


@dataclass(frozen=True)
class Case:
    """One call of the reader's function.

    Parameters
    ----------
    arguments : tuple
    expected : object
        The right result; or a function of the result that returns whether it is right; or `OF_SOLUTION`, which is
        computed when the case is checked, and not when the module is imported.
    hint : str
        What to think of if this case fails.
    """

    arguments: tuple
    expected: object
    hint: str


@dataclass(frozen=True)
class FunctionExercise:
    """A function (or a class) for the reader to write.

    Parameters
    ----------
    stub : str
        What the notebook shows: the line with ``def`` and the docstring, without a body.
    cases : tuple of Case
        From easy to hard. The hint of the first one that fails is shown.
    mistakes : tuple of (callable, str)
        Usual mistakes as functions, each with its hint, which names the mistake. It is shown instead of the case's hint
        if the reader's function returns in the failing case what the mistake returns.
    tolerance : float
        The largest absolute error of a number.
    call : callable
        How to call the answer with the arguments of a case: for a class, for example, ``lambda cls, x: cls()(x)``.
    boolean : bool
        Whether an array must hold booleans, and not just numbers that are equal to them.
    solution : callable, optional
        A right answer, for cases that expect what it returns.
    """

    stub: str
    cases: tuple[Case, ...]
    mistakes: tuple[tuple[Callable, str], ...] = ()
    tolerance: float = 1e-5
    call: Callable = lambda function, *arguments: function(*arguments)
    boolean: bool = False
    solution: Callable | None = None

    @property
    def name(self) -> str:
        """The name of the function or the class."""
        return self._node.name

    @property
    def _node(self) -> ast.FunctionDef | ast.ClassDef:
        return ast.parse(self.stub).body[0]

    def fault(self, answer: object) -> str | None:
        """Return one line about the fault of an answer, with a hint; None if every case is right."""
        if not callable(answer):
            return f"The answer is the function {self.name} itself, without brackets, not {_short(answer)}."
        if problem := self._wrong_parameters(answer):
            return problem
        for case in self.cases:
            if problem := self._fault_in(case, answer):
                return problem
        return None

    def _wrong_parameters(self, answer: Callable) -> str | None:
        if isinstance(self._node, ast.ClassDef):
            return None
        wanted = [argument.arg for argument in self._node.args.args]
        try:
            inspect.signature(answer).bind(*wanted)
        except TypeError:
            return f"It must take {len(wanted)} arguments: {self.name}({', '.join(wanted)})."
        except ValueError:  # a function without a signature, such as some that are written in C
            return None
        return None

    def _fault_in(self, case: Case, answer: Callable) -> str | None:
        """Return a sentence about the fault of an answer in one test case; None if it is right."""
        expected = self._expected(case)  # first: torch's imports on first use must not count against the answer
        outcome = self._run(answer, case)
        call = f"{self.name}({', '.join(map(_short, case.arguments))})"
        if outcome.timed_out:
            return f"{call} takes longer than {LIMIT_SECONDS} s. Does a loop never end?"
        if outcome.error is not None:
            hint = self._known_mistake(answer, outcome, case) or case.hint
            return f"{call} raises {_describe(outcome.error)}. {hint}"
        if outcome.changed:
            return f"{call} changes its argument. Work on a copy."
        if self._is_right(outcome.result, expected):
            return None
        if outcome.result is None:
            printed = " It prints something: return it instead." if outcome.printed else ""
            return f"{call} returns None: write the body, and end it with return.{printed}"
        if mistake := self._known_mistake(answer, outcome, case):
            return mistake
        return f"{call}{self._difference(outcome.result, expected)}. {case.hint}"

    def _expected(self, case: Case) -> object:
        if case.expected is OF_SOLUTION:
            return self.call(self.solution, *case.arguments)
        return case.expected

    def _run(self, answer: Callable, case: Case) -> Outcome:
        return call_within(lambda *arguments: self.call(answer, *arguments), case.arguments, same)

    def _is_right(self, result: object, expected: object) -> bool:
        if callable(expected):
            outcome = call_within(expected, (result,), None)
            return outcome.error is None and not outcome.timed_out and bool(outcome.result)
        if shape(expected) and not _is_array(result):  # a list of lists, or of arrays
            return False
        if self.boolean and _is_array(result) and not _is_boolean(result):
            return False
        return same(result, expected, self.tolerance)

    def _known_mistake(self, answer: Callable, outcome: Outcome, case: Case) -> str | None:
        """Return the hint for the known mistake with the same outcome as the answer, or None.

        A mistake that is right in this case is none here. If several have the outcome, prefer one that does the same as
        the answer in all other cases, too.
        """
        found = [
            (wrong, hint)
            for wrong, hint in self.mistakes
            if self._does(wrong, outcome, case)
            and not self._is_right(self._run(wrong, case).result, self._expected(case))
        ]
        for wrong, hint in found if len(found) > 1 else []:
            if all(self._does(wrong, self._run(answer, each), each) for each in self.cases):
                return hint
        return found[0][1] if found else None

    def _does(self, mistake: Callable, outcome: Outcome, case: Case) -> bool:
        """Return whether a mistake leads to this outcome: the same error, or the same result of the same kind."""
        wrong = self._run(mistake, case)
        if outcome.error is not None or wrong.error is not None:
            return type(wrong.error) is type(outcome.error) and str(wrong.error) == str(outcome.error)
        if _is_array(wrong.result) != _is_array(outcome.result):
            return False
        if self.boolean and _is_array(outcome.result) and not _is_boolean(outcome.result):
            return False
        return same(outcome.result, wrong.result, self.tolerance)

    def _difference(self, result: object, expected: object) -> str:
        """Return the end of a sentence: how a result differs from the expected one."""
        if callable(expected):
            return f" returns {_short(result)}"
        as_list = isinstance(expected, list) and isinstance(result, np.ndarray)  # counts as one
        if _value_kind(result) != _value_kind(expected) and not _is_number(expected) and not as_list:
            return f" should be {_described(expected)}, not {_described(result)}"
        if shape(result) != shape(expected) and not as_list:
            return f" should have the shape {shape(expected)}, not {shape(result)}"
        if self.boolean and not _is_boolean(result):
            return f" should hold True and False (bool), not numbers ({result.dtype})"
        if isinstance(expected, tuple) and len(expected) == len(result):
            number = next(i for i, pair in enumerate(zip(result, expected)) if not self._is_right(*pair))
            return f", item {number}{self._difference(result[number], expected[number])}"
        if not _fits_in_a_line(expected):
            return _first_difference(_as_array(result), _as_array(expected), self.tolerance)
        return f" should be {_short(expected)}, not {_short(result)}"


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor))


def _is_boolean(value: np.ndarray | torch.Tensor) -> bool:
    return value.dtype in (np.dtype(bool), torch.bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (bool, int, float, np.generic)) or (_is_array(value) and not shape(value))


def _value_kind(value: object) -> str:
    """Return the kind of a value: "array", "number", or the name of its type."""
    if _is_number(value):
        return "number"
    return "array" if _is_array(value) else type(value).__name__


def _described(value: object) -> str:
    """Return a description of a value, such as "one array of shape (2, 3)" or "a tuple of 2 arrays"."""
    if shape(value):
        return f"one array of shape {shape(value)}"
    if isinstance(value, (list, tuple)) and any(map(_is_array, value)):
        return f"a {type(value).__name__} of {len(value)} arrays"
    return _short(value)


def _fits_in_a_line(value: object) -> bool:
    return len(shape(value)) <= 1 and sum(shape(value)) <= FEW


def _first_difference(result: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    """Return the end of a sentence about the first entry in which two arrays of equal shape differ."""
    differs = ~np.isclose(result, expected, rtol=tolerance, atol=tolerance)
    index = tuple(np.argwhere(differs)[0].tolist())
    return f": entry {list(index)} should be {_short(expected[index])}, not {_short(result[index])}"


def shape(value: object) -> tuple[int, ...]:
    """Return the shape of an array or a tensor; () for anything else."""
    return tuple(value.shape) if isinstance(value, (np.ndarray, torch.Tensor)) else ()


def same(one: object, other: object, tolerance: float = 0.0) -> bool:
    """Return whether two results agree: numbers and arrays up to a tolerance, in lists and tuples item by item."""
    if isinstance(other, (list, tuple)):
        if not isinstance(one, (list, tuple, np.ndarray)) or len(one) != len(other):
            return False
        return all(same(left, right, tolerance) for left, right in zip(one, other))
    if isinstance(other, (bool, int, float, np.ndarray, np.generic, torch.Tensor)):
        return _same_numbers(one, other, tolerance)
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # a comparison of the reader's own
        return False


def _same_numbers(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, int) and isinstance(other, int):  # as floats, large ones would be rounded
        return abs(one - other) <= tolerance
    try:
        left, right = (_as_array(value) for value in (one, other))
    except (TypeError, ValueError, RuntimeError):
        return False
    if left.shape != right.shape:
        return False
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True))


def _as_array(value: object) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    return np.asarray(value, dtype=float)


def _short(value: object) -> str:
    """Return a value as one short line: numbers have four digits, and a large array is shown by its shape."""
    try:
        text = _text(value)
    except Exception:  # a __repr__ of the reader's own
        text = type(value).__name__
    return text if len(text) <= SHORT else f"{text[:SHORT]} ..."


def _text(value: object) -> str:
    if not _fits_in_a_line(value):
        return f"array of shape {shape(value)}"
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1_000 else f"{value:.0f}"
    if type(value) is list:
        return f"[{', '.join(map(_text, value))}]"
    if type(value) is tuple and len(value) > 1:
        return f"({', '.join(map(_text, value))})"
    if type(value) is dict:
        return "{" + ", ".join(f"{_text(key)}: {_text(each)}" for key, each in value.items()) + "}"
    return " ".join(repr(value).split())


def _describe(error: BaseException) -> str:
    """Describe an error in the reader's code by its type, its message and the line."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    own = [frame for frame in frames if frame.filename not in (__file__, call_within.__code__.co_filename)]
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip() if own else ""
    message = " ".join(str(error).split())[: 2 * SHORT]
    where = f" in the line `{line}`" if line else ""
    return f"{type(error).__name__}{': ' + message if message else ''}{where}"
