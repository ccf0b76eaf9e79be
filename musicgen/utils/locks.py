"""A lock on a folder, held by the operating system: nothing stays locked when a process is killed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


class Lock(Enum):
    """Result of an attempt to lock a file: held by us, held by another process, or not possible here."""

    HELD = "held"
    TAKEN = "taken by another process"
    UNKNOWN = "not possible here"


@contextmanager
def exclusive(path: Path) -> Iterator[Lock]:
    """Try to lock a file during the block, without waiting.

    Yields
    ------
    Lock
        Whether the file is locked now. Some network file systems know no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> Lock:
    """Lock an open file, and return the outcome; only EAGAIN and EACCES mean that another process holds it."""
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return Lock.TAKEN if error.errno in (errno.EAGAIN, errno.EACCES) else Lock.UNKNOWN
    return Lock.HELD
