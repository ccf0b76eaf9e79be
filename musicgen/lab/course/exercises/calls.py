"""Call a reader's function: it may hang, raise, print or change its arguments without harm to the notebook."""

import contextlib
import copy
import ctypes
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass

LIMIT_SECONDS = 5.0
PATIENCE_SECONDS = 0.5  # for a stopped function to end
MOST_PRINTED = 1_000  # characters that are kept of what a function prints


@dataclass
class Outcome:
    """Outcome of a call: its result, or the reason why it has none."""

    result: object = None
    error: BaseException | None = None
    printed: str = ""
    changed: bool = False
    timed_out: bool = False


class Stopped(BaseException):
    """Raised inside a function that takes too long. Not an `Exception`, so that ``except Exception`` lets it pass."""


class _Beginning(io.StringIO):
    """A stream that keeps only the first characters, so that endless printing does not fill the memory."""

    def write(self, text: str) -> int:
        if self.tell() < MOST_PRINTED:
            super().write(text[:MOST_PRINTED])
        return len(text)


def call_within(function: Callable, arguments: tuple, same: Callable | None, seconds: float = LIMIT_SECONDS) -> Outcome:
    """Call a function with copies of its arguments, in a thread that is stopped after a time limit.

    Parameters
    ----------
    function : callable
    arguments : tuple
    same : callable, optional
        Compares two values, to find out whether the function changed an argument; None does not look.
    seconds : float
        The time limit. It stops loops in Python; a single call of a library runs to its end in the background.
    """
    outcome = Outcome()
    given = copy.deepcopy(arguments)
    printed = _Beginning()

    def run() -> None:
        try:
            outcome.result = function(*given)
        except Stopped:
            outcome.timed_out = True
        except BaseException as error:  # also SystemExit: it would end the thread without a word
            outcome.error = error

    thread = threading.Thread(target=run, daemon=True)
    with contextlib.redirect_stdout(printed):
        thread.start()
        try:
            thread.join(seconds)
        finally:  # also after Ctrl-C
            if thread.is_alive():
                _stop(thread)
                outcome.timed_out = True
    outcome.printed = printed.getvalue()
    if same is not None and not outcome.timed_out:
        outcome.changed = not all(same(one, other) for one, other in zip(given, arguments))
    return outcome


def _stop(thread: threading.Thread) -> None:
    """Raise `Stopped` in a thread at its next Python instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
    thread.join(PATIENCE_SECONDS)
