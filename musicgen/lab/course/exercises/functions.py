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


@dataclass(frozen=True)
class Case:
    """One call of the reader's function.

    Parameters
    ----------
    arguments : tuple
    expected : object
        The right result; or a function of the result that returns whether it is right.
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
    """

    stub: str
    cases: tuple[Case, ...]
    mistakes: tuple[tuple[Callable, str], ...] = ()
    tolerance: float = 1e-5
    call: Callable = lambda function, *arguments: function(*arguments)

    @property
    def name(self) -> str:
        """The name of the function or the class."""
        return self._node.name

    @property
    def _node(self) -> ast.FunctionDef | ast.ClassDef:
        return ast.parse(self.stub).body[0]

    def fault(self, answer: object) -> str | None:
        """Return what is wrong with an answer, with a hint, as one line; None if every case is right."""
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
        """Return a sentence about what is wrong with an answer in one test case; None if it is right."""
        outcome = self._run(answer, case)
        call = f"{self.name}({', '.join(map(_short, case.arguments))})"
        if outcome.timed_out:
            return f"{call} takes longer than {LIMIT_SECONDS} s. Does a loop never end?"
        if outcome.error is not None:
            return f"{call} raises {_describe(outcome.error)}. {case.hint}"
        if outcome.changed:
            return f"{call} changes its argument. Work on a copy."
        if self._is_right(outcome.result, case.expected):
            return None
        if outcome.result is None:
            printed = " It prints something: return it instead." if outcome.printed else ""
            return f"{call} returns None: write the body, and end it with return.{printed}"
        if mistake := self._known_mistake(answer, outcome.result, case):
            return mistake
        return f"{call}{self._difference(outcome.result, case.expected)}. {case.hint}"

    def _run(self, answer: Callable, case: Case) -> Outcome:
        return call_within(lambda *arguments: self.call(answer, *arguments), case.arguments, same)

    def _is_right(self, result: object, expected: object) -> bool:
        if callable(expected):
            outcome = call_within(expected, (result,), None)
            return outcome.error is None and not outcome.timed_out and bool(outcome.result)
        return same(result, expected, self.tolerance)

    def _known_mistake(self, answer: Callable, result: object, case: Case) -> str | None:
        """Return the hint for the known mistake that gives this result.

        If several do, prefer one that gives the same results as the answer in all other cases, too.
        """
        found = [(wrong, hint) for wrong, hint in self.mistakes if self._gives(wrong, result, case)]
        for wrong, hint in found if len(found) > 1 else []:
            if all(self._gives(wrong, self._run(answer, each).result, each) for each in self.cases):
                return hint
        return found[0][1] if found else None

    def _gives(self, mistake: Callable, result: object, case: Case) -> bool:
        wrong = call_within(mistake, case.arguments, None)
        return wrong.error is None and same(result, wrong.result, self.tolerance)

    def _difference(self, result: object, expected: object) -> str:
        if callable(expected):
            return f" returns {_short(result)}"
        if shape(result) != shape(expected):
            return f" should have the shape {shape(expected)}, not {shape(result)}"
        return f" should be {_short(expected)}, not {_short(result)}"


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
    try:
        left, right = (_as_array(value) for value in (one, other))
    except (TypeError, ValueError, RuntimeError):
        return False
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=tolerance, atol=tolerance))


def _as_array(value: object) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    return np.asarray(value, dtype=float)


def _short(value: object) -> str:
    """Return a value as text on one line, a large array by its shape."""
    if len(shape(value)) > 1 or sum(shape(value)) > 8:
        return f"array of shape {shape(value)}"
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic, torch.Tensor)) else value
    value = round(value, 4) if isinstance(value, float) else value
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a __repr__ of the reader's own
        text = type(value).__name__
    return text if len(text) <= SHORT else f"{text[:SHORT]} ..."


def _describe(error: BaseException) -> str:
    """Return the kind, the message and the line of an error in the reader's code."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    own = [frame for frame in frames if frame.filename not in (__file__, call_within.__code__.co_filename)]
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip() if own else ""
    message = " ".join(str(error).split())[: 2 * SHORT]
    where = f" in the line `{line}`" if line else ""
    return f"{type(error).__name__}{': ' + message if message else ''}{where}"
