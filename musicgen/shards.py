"""A file that grows by whole shards: what was killed while it made one goes on behind the last that is whole."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from musicgen.fingerprints import text_hash
from musicgen.support.files import atomic_write

CHUNK_BYTES = 2**20


class Shards:
    """The unfinished file beside `path`, and a journal with a line for each of its shards.

    Parameters
    ----------
    path : Path
        Where the file is to be when it is finished.

    Attributes
    ----------
    data_path : Path
        The unfinished file. What a process before left there has been checked, and cut behind the last whole shard.
    notes : list of dict
        What was noted with each shard that is there.
    seals : list of [int, str]
        The bytes of each, and their SHA-256: what `is_whole` asks for.
    """

    def __init__(self, path: Path):
        self.path, self.notes, self.seals = path, [], []
        self.data_path = path.with_name(f"{path.stem}.unfinished{path.suffix}")
        self.journal_path = self.data_path.with_suffix(".journal")
        if self.data_path.exists() and self.journal_path.exists():
            self._take_up()
        else:
            self.remove()

    def append(self, chunks: Iterable[np.ndarray], note: dict) -> None:
        """Write a shard as its chunks come; it counts when it lies on the disk and is in the journal.

        Parameters
        ----------
        chunks : iterable of numpy.ndarray
        note : dict
            What is to be known of it, in JSON. May be filled while the chunks are made.
        """
        digest, n_bytes = hashlib.sha256(), 0
        with self.data_path.open("ab") as stream:
            for chunk in chunks:
                stream.write(chunk)
                digest.update(chunk)
                n_bytes += chunk.nbytes
            stream.flush()
            os.fsync(stream.fileno())
        with self.journal_path.open("a") as stream:
            stream.write(_sealed(json.dumps({"n_bytes": n_bytes, "sha256": digest.hexdigest(), "note": note})))
            stream.flush()
            os.fsync(stream.fileno())
        self.notes.append(note)
        self.seals.append([n_bytes, digest.hexdigest()])

    def finish(self) -> None:
        """Give the file its name."""
        os.replace(self.data_path, self.path)
        self.remove()

    def remove(self) -> None:
        """Leave nothing unfinished."""
        for path in (self.data_path, self.journal_path):
            path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        whole, n_bytes = [], 0
        with self.data_path.open("rb+") as stream:
            for line in self.journal_path.read_text(errors="replace").splitlines(keepends=True):
                text = line.partition(" ")[2].rstrip("\n")
                shard = json.loads(text) if line == _sealed(text) else None
                if not shard or shard["sha256"] != _digest(stream, shard["n_bytes"]):
                    break
                self.notes.append(shard["note"])
                self.seals.append([shard["n_bytes"], shard["sha256"]])
                whole.append(line)
                n_bytes += shard["n_bytes"]
            stream.truncate(n_bytes)
        with atomic_write(self.journal_path) as temporary:
            temporary.write_text("".join(whole))


def is_whole(path: Path, seals: Iterable[tuple[int, str]]) -> bool:
    """Tell whether a finished file has the shards that were sealed, and nothing else."""
    try:
        with path.open("rb") as stream:
            return all(_digest(stream, n_bytes) == sha256 for n_bytes, sha256 in seals) and not stream.read(1)
    except OSError:
        return False


@contextmanager
def growing(path: Path) -> Iterator[Shards]:
    """Give the shards of a file that is being made, to one process at a time; another waits until the block ends.

    Raises
    ------
    OSError
        If the folder cannot be written to or is full; the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with FileLock(lock):
        shards = Shards(path)
        try:
            yield shards
        except OSError as error:
            if error.errno is None or error.filename:
                raise
            raise OSError(error.errno, error.strerror, str(shards.data_path)) from error
        finally:
            if not shards.notes:
                shards.remove()
            with suppress(PermissionError):  # of a system that removes it by itself
                lock.unlink(missing_ok=True)


def _sealed(text: str) -> str:
    return f"{text_hash(text)} {text}\n"


def _digest(stream: BinaryIO, n_bytes: int) -> str:
    """Hash the next part of a file."""
    digest = hashlib.sha256()
    while n_bytes and (chunk := stream.read(min(n_bytes, CHUNK_BYTES))):
        digest.update(chunk)
        n_bytes -= len(chunk)
    return digest.hexdigest()
