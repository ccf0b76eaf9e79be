"""Ctrl-C and SIGTERM as a flag that a loop checks, or as an exception."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Holds the signal that arrived, if any."""

    def __init__(self):
        self.number: int | None = None

    def is_set(self) -> bool:
        """Return whether a signal arrived."""
        return self.number is not None


@contextmanager
def catch_signals() -> Iterator[StopSignal]:
    """Record Ctrl-C, the notebook's stop button and SIGTERM instead of stopping at once (main thread only)."""
    stop = StopSignal()

    def note(number: int, _frame) -> None:
        stop.number = number

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in (SIGNALS if main else ())}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(Exception):
    """Raised by a command that a signal stopped, once it has saved its work.

    Parameters
    ----------
    number : int
        The signal.
    advice : str
        The rest of the message: how to go on, or what was written.
    """

    def __init__(self, number: int, advice: str = ""):
        super().__init__(number, advice)
        self.number = number
        self.advice = advice


class Terminated(BaseException):
    """Raised when SIGTERM arrives."""


def terminate_by_exception() -> None:
    """Make SIGTERM raise `Terminated`, so that files are closed and worker processes end."""

    def raise_terminated(number: int, _frame) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, raise_terminated)
