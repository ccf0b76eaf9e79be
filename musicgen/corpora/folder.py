"""The pieces of a folder, each in one split: a corpus with MAESTRO's table, or any MIDI files."""

import csv
import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from musicgen.corpora.splits import SPLITS, group_versions, split_by_hash
from musicgen.dataset import FILE_BYTES, FILE_SECONDS, CorpusError, Piece
from musicgen.midi import MidiError, read_performance
from musicgen.utils.files import atomic_write, npz_bytes
from musicgen.utils.limits import OverLimit, bounded

UNKNOWN = "unknown"  # the composer of a file without a table
TABLES = ("maestro-v*.csv", "pieces.csv", "maestro-v*.json")  # a json table is used only without a csv
COLUMNS = {"canonical_composer", "canonical_title", "split", "midi_filename"}
ENDINGS = (".mid", ".midi", ".kar", ".rmi", ".smf", ".mid.gz", ".midi.gz")
MAGICS = (b"MThd", b"RIFF", b"\x1f\x8b")  # MIDI, MIDI in RIFF, gzip
BEATS = "beats.npz"
MAX_HASHED = 4_000_000  # bytes


class Corpus(list):
    """The pieces of one or several folders: a list of `Piece`, with the missing files and unreadable folders.

    Parameters
    ----------
    pieces : collection of Piece
    missing : collection of str
        The files that a table lists but the folder lacks.
    unreadable : collection of str
        The subfolders that cannot be opened.
    """

    def __init__(self, pieces: Collection[Piece] = (), missing: Collection[str] = (), unreadable: Collection[str] = ()):
        super().__init__(pieces)
        self.missing = list(missing)
        self.unreadable = list(unreadable)

    def describe_missing(self) -> str:
        """Return a sentence about missing files and unreadable folders, or an empty string."""
        problems = (
            ("file of the table is missing", "files of the table are missing", self.missing),
            ("folder cannot be opened", "folders cannot be opened", self.unreadable),
        )
        return "; ".join(
            f"{len(names)} {one if len(names) == 1 else many}: {', '.join(names[:3])}{', ...' if names[3:] else ''}"
            for one, many, names in problems
            if names
        )


def load_corpus(folder: Path | str, *more: Path | str) -> Corpus:
    """List the pieces of one or several folders.

    Parameters
    ----------
    folder, *more : Path or str
        A folder with a table in MAESTRO's layout (``maestro-v*.csv``, ``maestro-v*.json`` or ``pieces.csv``) and all or
        some of its files. Without a table, every MIDI file below the folder is a piece, with a split by the hash of
        its name. ``beats.npz`` may hold annotated beats: for each ``midi_filename`` an array (n_beats, 2) with the
        time in seconds, and 1.0 for a downbeat. With several folders, names begin with the name of their folder.
        Files with the same content get the split of the first of them.

    Raises
    ------
    CorpusError
        If there is no such folder or no piece in it, or if its table or its beats are invalid.
    """
    corpora = {Path(each).resolve(): _load_folder(Path(each)) for each in (folder, *more)}
    if len(corpora) == 1:
        (corpus,) = corpora.values()
        return Corpus(_same_split_for_copies(corpus), corpus.missing, corpus.unreadable)
    pieces = []
    missing = []
    unreadable = []
    for number, (place, corpus) in enumerate(corpora.items(), 1):
        is_shared = [other.name for other in corpora].count(place.name) > 1
        prefix = f"{place.name}-{number}" if is_shared else place.name
        pieces += [replace(piece, name=f"{prefix}/{piece.name}") for piece in corpus]
        missing += [f"{prefix}/{name}" for name in corpus.missing]
        unreadable += [f"{prefix}/{name}" for name in corpus.unreadable]
    return Corpus(_same_split_for_copies(pieces), missing, unreadable)


def _same_split_for_copies(pieces: Collection[Piece]) -> list[Piece]:
    """Assign files with the same content to the split of the first of them.

    Only files of the same size are read.
    """
    sizes = [piece.path.stat().st_size if piece.path.is_file() else -1 for piece in pieces]
    n_files = Counter(sizes)
    splits = {}  # of the first copy, by the hash of its content
    united = []
    for piece, size in zip(pieces, sizes):
        digest = _content_hash(piece.path) if n_files[size] > 1 else None
        united.append(replace(piece, split=splits.setdefault(digest, piece.split)) if digest else piece)
    return united


def _load_folder(folder: Path) -> Corpus:
    if not folder.is_dir():
        raise CorpusError(folder, "not a folder; name the one that holds the MIDI files")
    found = [table for pattern in TABLES for table in sorted(folder.glob(pattern)) if table.is_file()]
    tables = [table for table in found if table.suffix == ".csv"] or found
    if len(tables) > 1:
        raise CorpusError(folder, f"more than one table: {', '.join(table.name for table in tables)}")
    return _listed_pieces(tables[0]) if tables else _found_pieces(folder)


def match_composer(name: str, known: Collection[str]) -> str:
    """Return the composer in `known` with this name or surname, ignoring case; ValueError if none or several match."""
    wanted = name.strip().casefold()
    surnames = {each: each.split()[-1] for each in known if each.split() and "/" not in each}
    matches = [each for each in known if wanted in {each.casefold(), surnames.get(each, each).casefold()}]
    if len(matches) != 1:
        problem = "more than one composer" if matches else "no composer"
        names = sorted(set(matches or known) - {UNKNOWN})
        there = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "no composers that are known"
        raise ValueError(f"{name!r} matches {problem} here; there are {there}")
    return matches[0]


def stays_inside(name: str) -> bool:
    """Return whether a relative path stays inside its folder, on every operating system."""
    path = PureWindowsPath(name)  # knows both kinds of slash, and drives
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the columns of each row of a csv or json table."""
    try:
        if table.suffix == ".json":
            columns = json.loads(table.read_text(encoding="utf-8-sig"))
            names = [name for name in columns if isinstance(columns[name], dict)]
            _check_columns(table, names)
            for line, key in enumerate(columns["midi_filename"], 1):
                yield line, {name: str(columns[name].get(key, "")) for name in names}
            return
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            _check_columns(table, reader.fieldnames or ())
            for row in reader:
                yield reader.line_num, row
    except (AttributeError, TypeError, RecursionError) as error:
        raise CorpusError(table, "cannot be read as a table (it is not a dict of columns, as MAESTRO's is)") from error
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise CorpusError(table, f"cannot be read as a table ({error})") from error


def _check_columns(table: Path, names: Collection[str]) -> None:
    if missing := COLUMNS - set(names):
        raise CorpusError(table, f"lacks the column {', '.join(sorted(missing))}")


def _listed_pieces(table: Path) -> Corpus:
    """Read the table of a corpus. Return the pieces whose files exist, and the names of missing files."""
    beats = read_beats(table.parent / BEATS)
    present = cache(lambda: _present_files(table.parent))  # called only if a name is spelt in another way
    pieces = []
    missing = []
    splits = {}
    for line, row in _rows(table):
        name = row["midi_filename"]
        split = row["split"]
        if not stays_inside(name):
            raise CorpusError(table, f"line {line}: midi_filename {name!r} is not a path inside the folder")
        if split not in SPLITS:
            raise CorpusError(table, f"line {line}: split {split!r} is none of {', '.join(SPLITS)}")
        if splits.setdefault(normal_name(name), split) != split:
            raise CorpusError(table, f"line {line}: {name!r} is in two splits")
        path = table.parent / name
        if not os.path.lexists(path):
            path = present().get(normal_name(name))
        if path is None:
            missing.append(name)
            continue
        composer = row["canonical_composer"]
        title = row["canonical_title"]
        pieces.append(Piece(path, name, composer, title, split, beats.get(normal_name(name))))
    if not pieces:
        raise CorpusError(table, f"lists {len(missing)} MIDI files, and none of them is in the folder")
    return Corpus(sorted(pieces, key=lambda piece: piece.name), missing)


def normal_name(name: str) -> str:
    """Return a file name in Unicode normal form (NFC), with forward slashes and without "./".

    Bytes that are not UTF-8 are escaped, since names in an npz file cannot have them.
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).as_posix()
    return path.encode(errors="xmlcharrefreplace").decode()


def _present_files(folder: Path) -> dict[str, Path]:
    return {normal_name(path.relative_to(folder).as_posix()): path for path in _walk(folder, [])}


def _walk(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Yield all files below a folder, and append the folders that cannot be opened to `unreadable`.

    Links to folders are followed, each folder once.
    """
    seen = set()

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename).relative_to(folder).as_posix())

    for place, folders, files in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name != "__MACOSX")
        yield from (Path(place) / name for name in sorted(files))


def _found_pieces(folder: Path) -> Corpus:
    """Find the MIDI files below a folder without a table, and assign splits to those that can be read."""
    if below := {table.parent.name for pattern in TABLES for table in folder.glob(f"*/{pattern}")}:
        raise CorpusError(folder, f"holds a corpus in a subfolder; name that one: {', '.join(sorted(below))}")
    unreadable: list[str] = []
    paths = [p for p in _walk(folder, unreadable) if p.name.lower().endswith(ENDINGS) and not p.name.startswith("._")]
    if not paths:
        closed = f"; cannot be opened: {', '.join(unreadable[:3])}" if unreadable else ""
        raise CorpusError(folder, f"holds no MIDI file ({' '.join(ENDINGS)}){closed}")
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    contents = {name: digest for name, path in names.items() if (digest := _content_hash(path))}
    splits = _splits_of_readable(contents, names)
    beats = read_beats(folder / BEATS)
    pieces = [
        Piece(path, name, UNKNOWN, path.stem, splits.get(name, "train"), beats.get(normal_name(name)))
        for name, path in names.items()
    ]
    return Corpus(sorted(pieces, key=lambda piece: piece.name), unreadable=unreadable)


def _splits_of_readable(contents: dict[str, str], names: dict[str, Path]) -> dict[str, str]:
    """Assign splits so that each split has at least one readable file.

    Only a few files are read, unless many are broken.
    """
    readable = cache(lambda name: _is_readable(names[name]))
    splits = _splits_by_group(contents)
    if all(any(readable(name) for name in splits if splits[name] == split) for split in SPLITS):
        return splits
    return _splits_by_group({name: content for name, content in contents.items() if readable(name)}) or splits


def _splits_by_group(contents: dict[str, str]) -> dict[str, str]:
    groups = group_versions(contents)
    splits = split_by_hash(groups.values())
    return {name: splits[group] for name, group in groups.items()}


def _is_readable(path: Path) -> bool:
    """Return whether a file has piano notes and can be read within the limits of time and memory."""
    try:
        with bounded(FILE_SECONDS, FILE_BYTES):
            read_performance(path)
    except (MidiError, OverLimit):
        return False
    return True


def _content_hash(path: Path) -> str | None:
    """Return the content hash of a file that looks like MIDI, otherwise None.

    Other files are ignored by the splits.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_HASHED:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest() if content.startswith(MAGICS) else None


def read_beats(path: Path) -> dict[str, np.ndarray]:
    """Return a dict from normalised file names to beats (n_beats, 2); empty if there is no such file.

    Raises
    ------
    CorpusError
        If the file cannot be read as beats.
    """
    beats = {}
    if not path.is_file():
        return beats
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                beats[normal_name(name)] = _clean_beats(np.asarray(arrays[name], np.float64))
    except Exception as error:  # numpy and zipfile raise many types for a broken file
        raise CorpusError(path, "cannot be read as beats; it must be an npz file of arrays (n_beats, 2)") from error
    return beats


def write_beats(path: Path, beats: dict[str, np.ndarray]) -> None:
    """Write beats as `read_beats` reads them, atomically."""
    content = npz_bytes(beats)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _clean_beats(beats: np.ndarray) -> np.ndarray:
    if beats.ndim != 2 or beats.shape[1] != 2:
        raise ValueError(f"beats must have shape (n_beats, 2), not {beats.shape}")
    beats = beats[np.isfinite(beats).all(1)]
    times = beats[:, 0].round(6)
    ascends = np.diff(np.maximum.accumulate(times), prepend=-np.inf) > 0
    return np.column_stack([times, beats[:, 1] > 0.5])[ascends]
