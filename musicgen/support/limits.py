"""What one file may take, in time and in memory."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

if sys.platform == "linux":
    import resource

LOOK_SECONDS = 0.05


class OverLimit(BaseException):
    """Too much was taken. No Exception, so that nobody on the way takes it for a fault of his own and goes on."""


@contextmanager
def bounded(seconds: float, n_bytes: int) -> Iterator[None]:
    """Stop what happens inside when it takes too long or too much, in the main thread and where there are timers.

    Twenty times a second the clock and the process's resident memory are looked at, between two steps of Python.
    A limit of the system's (`system_bounded`) is no choice here: it holds for every thread, and one that starts,
    locks or imports without memory may hang for ever.

    Parameters
    ----------
    seconds : float
        By the clock.
    n_bytes : int
        Of memory, beyond what the process has already.

    Raises
    ------
    OverLimit
        Its message tells which bound was passed. Raised again and again, for what did not let itself be stopped.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    process, over = psutil.Process(), False
    deadline, most_bytes = time.monotonic() + seconds, process.memory_info().rss + n_bytes

    def look(*_) -> None:
        if over:
            return
        if time.monotonic() > deadline:
            raise OverLimit(f"took longer than {seconds:g} seconds")
        if process.memory_info().rss > most_bytes:
            raise OverLimit(f"took more than {n_bytes / 1e9:g} GB of memory")

    handler = signal.signal(signal.SIGALRM, look)
    try:
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        yield
    finally:
        over = True  # before any call, in which a last signal could still arrive
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def system_bounded(n_bytes: int) -> Iterator[None]:
    """Let the system refuse, with a MemoryError, more than `n_bytes` beyond what the process has; on Linux.

    For one long call of compiled code, in a process that does nothing else: see `bounded`.
    """
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = psutil.Process().memory_info().vms + n_bytes
    resource.setrlimit(resource.RLIMIT_AS, (min({wanted, *before} - {resource.RLIM_INFINITY}), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
