"""What one file may take, in time and in memory."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import resource


class TooLong(BaseException):
    """The time is over. No Exception, so that nobody on the way takes it for a fault of his own and goes on."""


@contextmanager
def bounded(seconds: float, n_bytes: int) -> Iterator[None]:
    """Bound what happens inside, as far as the system and the thread let it.

    Time is bounded in the main thread of a process, where there are signals (not on Windows); memory on Linux.

    Parameters
    ----------
    seconds : float
        By the clock.
    n_bytes : int
        Of memory, beyond what the process has already.

    Raises
    ------
    TooLong
        When the time is over; again each second, for what did not let itself be stopped.
    MemoryError
        Where the memory would be exceeded.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    used = Path("/proc/self/statm")
    limited = used.exists() and (resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS))
    handler = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        if limited:
            wanted = int(used.read_text().split()[0]) * resource.getpagesize() + n_bytes
            lower = min({wanted, *limited[1]} - {resource.RLIM_INFINITY})
            resource.setrlimit(resource.RLIMIT_AS, (lower, limited[1][1]))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if limited:
            resource.setrlimit(*limited)


def _stop(*_) -> None:
    raise TooLong
