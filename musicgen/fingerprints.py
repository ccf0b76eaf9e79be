"""What files hold, told by a hash; and told again without reading them, as long as nobody touched them."""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musicgen.support.files import atomic_write

# A file written to twice within a clock's tick looks untouched: what is younger than this is always read.
SETTLED_SECONDS = 2.0

# A disk can decay without being written to: so often everything is read again.
TRUSTED_SECONDS = 24 * 3600.0


def text_hash(text: str) -> str:
    """Hash a text with SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def list_hash(settings: dict, sources: Iterable[list]) -> str:
    """Hash ``json.dumps([settings, [*sources]])``, without keeping it."""
    digest, comma = hashlib.sha256(f"[{json.dumps(settings)}, [".encode()), ""
    for source in sources:
        digest.update(f"{comma}{json.dumps(source)}".encode())
        comma = ", "
    digest.update(b"]]")
    return digest.hexdigest()


def file_hash(path: Path, most_bytes: float = math.inf) -> str:
    """Hash what a file holds; what cannot be read, or is too large to be, is told apart from every content."""
    try:
        if not path.is_file() or path.stat().st_size > most_bytes:
            return "no file to read"
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def write_sealed(path: Path, content: dict) -> None:
    """Write JSON, whole or not at all, behind its own hash, so that `read_sealed` sees any change of either."""
    text = json.dumps(content)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{text_hash(text)}\n{text}")


def read_sealed(path: Path) -> dict:
    """Return what was written with `write_sealed`; an empty dictionary where it is missing or damaged."""
    try:
        seal, _, text = path.read_text().partition("\n")
    except (OSError, ValueError):
        return {}
    return json.loads(text) if seal == text_hash(text) else {}


@dataclass(frozen=True)
class Status:
    """What the system tells of files without reading them.

    Attributes
    ----------
    key : str
        Stands for the name, place, size and times of change of each; any write changes it.
    settled : bool
        All are there, and nobody has touched them for a while: the next write will change the key.
    """

    key: str
    settled: bool

    @classmethod
    def of(cls, settings: dict, files: Iterable[tuple[str, Path]]) -> "Status":
        """Look at named files, in their order; the settings become a part of the key."""
        youngest, began = 0.0, time.time()

        def each() -> Iterator[list]:
            nonlocal youngest
            for name, path in files:
                try:
                    told = path.stat()
                except OSError:
                    youngest = math.inf
                    continue
                youngest = max(youngest, told.st_mtime, told.st_ctime)
                yield [name, str(path.absolute()), told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]

        return cls(list_hash(settings, each()), youngest < began - SETTLED_SECONDS)


def remember(path: Path, note: dict) -> None:
    """Keep a note about files, until they are to be read again; where nothing can be kept, it is not."""
    with suppress(OSError):
        write_sealed(path, note)


def recall(path: Path) -> dict:
    """Return what `remember` kept; an empty dictionary if nothing, or too long ago."""
    try:
        trusted = time.time() - path.stat().st_mtime < TRUSTED_SECONDS
    except OSError:
        return {}
    return read_sealed(path) if trusted else {}
