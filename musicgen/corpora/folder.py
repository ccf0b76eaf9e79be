"""The pieces of a folder, each in one split: a corpus with MAESTRO's table, or any MIDI files."""

import csv
import hashlib
import json
import os
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PureWindowsPath

import numpy as np

from musicgen.corpora.splits import SPLITS, group_versions, split_by_hash
from musicgen.dataset import CorpusError, Piece

UNKNOWN = "unknown"  # the composer of a file without a table
TABLES = ("maestro-v*.csv", "pieces.csv", "maestro-v*.json")  # a json counts only where there is no csv
COLUMNS = {"canonical_composer", "canonical_title", "split", "midi_filename"}
ENDINGS = (".mid", ".midi", ".kar", ".rmi", ".smf", ".mid.gz", ".midi.gz")
MAGICS = (b"MThd", b"RIFF", b"\x1f\x8b")  # MIDI, MIDI in RIFF, gzip
BEATS = "beats.npz"
MAX_HASHED = 4_000_000  # bytes


class Corpus(list):
    """A list of `Piece`, sorted by name; `missing` names the files that a table lists but the folder lacks."""

    missing: list[str]

    def __init__(self, pieces: Collection[Piece] = (), missing: Collection[str] = ()):
        super().__init__(pieces)
        self.missing = list(missing)

    def describe_missing(self) -> str:
        """Return a sentence about missing files, or an empty string."""
        few = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
        return f"{len(self.missing)} files of the table are missing: {few}" if self.missing else ""


def load_corpus(folder: Path | str, *more: Path | str) -> Corpus:
    """List the pieces of one or several folders.

    Parameters
    ----------
    folder, *more : Path or str
        A folder with a table in MAESTRO's layout (``maestro-v*.csv``, ``maestro-v*.json`` or ``pieces.csv``) and all or
        some of its files. Without a table, every MIDI file below the folder is a piece, with a split by the hash of
        its name. ``beats.npz`` may hold annotated beats: for each ``midi_filename`` an array (n_beats, 2) with the
        time in seconds, and 1.0 for a downbeat. With several folders, names begin with the name of their folder.

    Raises
    ------
    CorpusError
        If there is no such folder or no piece in it, or if its table or its beats are wrong.
    """
    corpora = [_load_folder(Path(each)) for each in (folder, *more)]
    if len(corpora) == 1:
        return corpora[0]
    pieces, missing = [], []
    for place, corpus in zip((folder, *more), corpora):
        prefix = Path(place).resolve().name
        pieces += [Piece(p.path, f"{prefix}/{p.name}", p.composer, p.title, p.split, p.beats) for p in corpus]
        missing += [f"{prefix}/{name}" for name in corpus.missing]
    return Corpus(pieces, missing)


def _load_folder(folder: Path) -> Corpus:
    if not folder.is_dir():
        raise CorpusError(folder, "not a folder; name the one that holds the MIDI files")
    found = [table for pattern in TABLES for table in sorted(folder.glob(pattern)) if table.is_file()]
    tables = [table for table in found if table.suffix == ".csv"] or found
    if len(tables) > 1:
        raise CorpusError(folder, f"more than one table: {', '.join(table.name for table in tables)}")
    return _listed_pieces(tables[0]) if tables else _found_pieces(folder)


def match_composer(name: str, known: Collection[str]) -> str:
    """Return the one composer of `known` with this name or surname, ignoring case; ValueError if there is not one."""
    wanted = name.strip().casefold()
    surnames = {each: each.split()[-1] for each in known if each.split() and "/" not in each}
    matches = [each for each in known if wanted in {each.casefold(), surnames.get(each, each).casefold()}]
    if len(matches) != 1:
        problem = "more than one composer" if matches else "no composer"
        names = sorted(set(matches or known) - {UNKNOWN})
        there = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "no composers that are known"
        raise ValueError(f"{name!r} is the name of {problem} here; there are {there}")
    return matches[0]


def stays_inside(name: str) -> bool:
    """Return whether a relative path stays below the folder it starts in, on any system."""
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
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise CorpusError(table, f"cannot be read as a table ({error})") from error


def _check_columns(table: Path, names: Collection[str]) -> None:
    if missing := COLUMNS - set(names):
        raise CorpusError(table, f"lacks the column {', '.join(sorted(missing))}")


def _listed_pieces(table: Path) -> Corpus:
    """Read the table of a corpus; the pieces whose files are there, and the names of the others."""
    beats, present, pieces, missing, splits = _load_beats(table.parent), None, [], [], {}
    for line, row in _rows(table):
        name, split = row["midi_filename"], row["split"]
        if not stays_inside(name):
            raise CorpusError(table, f"line {line}: midi_filename {name!r} is not a path inside the folder")
        if split not in SPLITS:
            raise CorpusError(table, f"line {line}: split {split!r} is none of {', '.join(SPLITS)}")
        if splits.setdefault(_normal(name), split) != split:
            raise CorpusError(table, f"line {line}: {name!r} is in two splits")
        path = table.parent / name
        if not os.path.lexists(path):
            present = _present_files(table.parent) if present is None else present
            path = present.get(_normal(name))
        if path is None:
            missing.append(name)
            continue
        about = row["canonical_composer"], row["canonical_title"], split
        pieces.append(Piece(path, name, *about, beats.get(name)))
    if not pieces:
        raise CorpusError(table, f"lists {len(missing)} MIDI files, and none of them is in the folder")
    return Corpus(sorted(pieces, key=lambda piece: piece.name), missing)


def _normal(name: str) -> str:
    """Return a name in one Unicode normalisation and with forward slashes."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _present_files(folder: Path) -> dict[str, Path]:
    return {_normal(path.relative_to(folder).as_posix()): path for path in _walk(folder)}


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder; links to folders are followed, each folder once."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name != "__MACOSX")
        yield from (Path(place) / name for name in sorted(files))


def _found_pieces(folder: Path) -> Corpus:
    """Find the MIDI files below a folder without a table, and assign splits to those that are MIDI files."""
    if below := {table.parent.name for pattern in TABLES for table in folder.glob(f"*/{pattern}")}:
        raise CorpusError(folder, f"holds a corpus in a folder of its own; name that one: {', '.join(sorted(below))}")
    paths = [p for p in _walk(folder) if p.name.lower().endswith(ENDINGS) and not p.name.startswith("._")]
    if not paths:
        raise CorpusError(folder, f"holds no MIDI file ({' '.join(ENDINGS)})")
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    contents = {name: digest for name, path in names.items() if (digest := _content_hash(path))}
    groups = group_versions(contents)
    splits, beats = split_by_hash(groups.values()), _load_beats(folder)
    pieces = [
        Piece(path, name, UNKNOWN, path.stem, splits[groups[name]] if name in groups else "train", beats.get(name))
        for name, path in names.items()
    ]
    return Corpus(sorted(pieces, key=lambda piece: piece.name))


def _content_hash(path: Path) -> str | None:
    """Return the hash of a file that may be MIDI; None for any other, which gets no vote in the splits."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_HASHED:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest() if content.startswith(MAGICS) else None


def _load_beats(folder: Path) -> dict[str, np.ndarray]:
    """Read the annotated beats of a corpus; times that do not ascend are left out."""
    path, beats = folder / BEATS, {}
    if not path.is_file():
        return beats
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                times = np.asarray(arrays[name], np.float64).reshape(-1, 2)
                times = times[np.diff(np.maximum.accumulate(times[:, 0]), prepend=-np.inf) > 1e-6]
                beats[name] = np.column_stack([times[:, 0].round(6), times[:, 1] > 0.5]).astype(np.float64)
    except Exception as error:  # numpy and zipfile raise many types for a broken file
        raise CorpusError(path, f"cannot be read as beats ({type(error).__name__})") from error
    return beats
