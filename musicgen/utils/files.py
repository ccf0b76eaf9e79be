"""Atomic writes, checked files, and printable names."""

import hashlib
import io
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

DIGEST_BYTES = 32


@contextmanager
def atomic_write(path: Path | str, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` if the block ends without an error.

    A reader, or a machine that stops in the middle, sees the old file or the new one, never a part of it.

    Parameters
    ----------
    path : Path or str
        The file to write. Its folder is created if necessary.
    previous : Path, optional
        Where to keep the old file.

    Yields
    ------
    Path
        The temporary file, empty, in the same folder and with the same extension.

    Raises
    ------
    OSError
        If the folder cannot be created or written to, or is full; the error names `path`. The old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{secrets.token_hex(8)}{path.suffix[:20]}")
    try:
        temporary.touch(exist_ok=False)  # unlike one of tempfile, it gets the permissions that the user's files get
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the temporary name
    try:
        yield temporary
        _publish(temporary, path, previous)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the error of a full disk names no file
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as parent:
        folder = Path(parent) / path.name
        folder.mkdir()
        yield folder
        folder.rename(path)


def write_checked(path: Path, content: bytes) -> None:
    """Write a file atomically, with the SHA-256 of the content in front of it."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)


def read_checked(path: Path) -> bytes | None:
    """Return the content that `write_checked` wrote, or None if the file is missing, unreadable or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest = stored[:DIGEST_BYTES]
    content = stored[DIGEST_BYTES:]
    return content if digest == hashlib.sha256(content).digest() else None


def content_hash(path: Path, max_bytes: int, context: str = "") -> str:
    """Hash `context` and a file's content, or its path if the file is unreadable or larger than `max_bytes`."""
    content = str(path).encode(errors="surrogateescape")
    try:
        if path.is_file() and path.stat().st_size <= max_bytes:
            content = path.read_bytes()
    except OSError:
        pass
    return hashlib.sha256(context.encode() + content).hexdigest()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as a compressed npz file."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def read_npz(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `npz_bytes` stored."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def printable(text: str) -> str:
    """Escape control characters, bidirectional marks and undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _publish(temporary: Path, path: Path, previous: Path | None) -> None:
    """Flush a temporary file to disk, and rename it to its final name."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    if previous and path.exists():
        os.replace(path, previous)
    os.replace(temporary, path)
