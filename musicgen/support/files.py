"""Writing a file or a folder whole or not at all, and showing the names that a stranger gave."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path | str, previous: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place when the block ends well.

    A reader, or a machine that stops in the middle, meets the old file or the new one, never a part of it.

    Parameters
    ----------
    path : Path or str
        The file to write. Its folder is made if need be.
    previous : Path, optional
        The name that an old file goes on under.

    Yields
    ------
    Path
        The temporary file, empty, in the same folder and of the same kind.

    Raises
    ------
    OSError
        If the folder cannot be made or written to, or is full; the error names the path, and an old file is left as
        it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix=path.suffix[:20], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, path, previous)
    except OSError as error:
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk names no file by itself
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a new folder of the same name beside `path`, which takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as parent:
        folder = Path(parent) / path.name
        folder.mkdir()
        yield folder
        folder.rename(path)


def printable(text: str) -> str:
    """Escape what would break a line or command a terminal: a stranger's names are shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _publish(temporary: Path, path: Path, previous: Path | None) -> None:
    """Bring the bytes to the disk before the name points at them, with the rights a new file would have."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    if previous and path.exists():
        os.replace(path, previous)
    os.replace(temporary, path)
