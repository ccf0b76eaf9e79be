"""Limits of time and memory for reading one file."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

LOOK_SECONDS = 0.05
PATIENCE = 10  # times the limit of a block's own time: it may wait that long for others
STATM = Path("/proc/self/statm")  # the memory of this process, on Linux
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class OverLimit(BaseException):
    """Raised when a limit is exceeded. A BaseException, so that ``except Exception`` does not catch it."""


def resident_bytes() -> int:
    """Return the memory of this process in bytes.

    It is the resident memory on Linux, 0 on Windows, and the peak so far elsewhere, or in a sandbox without /proc.
    """
    if sys.platform == "linux" and STATM.exists():
        return _pages()[1]
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _pages() -> tuple[int, int]:
    """Return the virtual and the resident memory of this process in bytes, on Linux."""
    total, resident = STATM.read_text().split()[:2]
    return int(total) * PAGE_BYTES, int(resident) * PAGE_BYTES


@contextmanager
def bounded(seconds: float, n_bytes: int) -> Iterator[None]:
    """Raise `OverLimit` if the block exceeds a limit of time or memory.

    A timer checks the clock and the resident memory twenty times per second, between two steps of Python. It needs the
    main thread and a system with timers. (`system_bounded` is no alternative: its limit holds for all threads, and a
    thread that cannot allocate may hang.)

    Parameters
    ----------
    seconds : float
        Of the processor, so that a busy computer does not make a block too slow. A block that waits, as for a file on
        a network, may take ten times as long.
    n_bytes : int
        Beyond what the process has already.

    Raises
    ------
    OverLimit
        Its message names the limit. It is raised repeatedly if it is caught inside.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    over = False
    busy_until = time.process_time() + seconds
    deadline = time.monotonic() + PATIENCE * seconds
    most_bytes = resident_bytes() + n_bytes

    def look(*_) -> None:
        if over:
            return
        if time.process_time() > busy_until or time.monotonic() > deadline:
            raise OverLimit(f"took longer than {seconds:g} seconds")
        if resident_bytes() > most_bytes:
            raise OverLimit(f"took more than {n_bytes / 1e9:g} GB of memory")

    handler = signal.signal(signal.SIGALRM, look)
    try:
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        yield
    finally:
        over = True  # first of all: a last signal could arrive during the calls below
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def system_bounded(n_bytes: int) -> Iterator[None]:
    """Raise MemoryError if the block allocates more than `n_bytes` of new memory (Linux only).

    For one long call of compiled code in a process of its own: see `bounded`.
    """
    if sys.platform != "linux" or not STATM.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _pages()[0] + n_bytes
    resource.setrlimit(resource.RLIMIT_AS, (min({wanted, *before} - {resource.RLIM_INFINITY}), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
