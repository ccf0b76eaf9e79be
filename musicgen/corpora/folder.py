"""Which pieces there are, each in one split: MAESTRO, the Bach chorales, or any folder of MIDI files."""

import csv
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path, PureWindowsPath

import joblib
from tqdm import tqdm

from musicgen.dataset import CorpusError, Piece
from musicgen.support.files import atomic_folder

SPLITS = ("train", "validation", "test")
UNKNOWN = "unknown"  # the composer of a file that no table lists
TABLES = ("maestro-v*.csv", "pieces.csv")
COLUMNS = {"canonical_composer", "canonical_title", "split", "midi_filename"}  # of MAESTRO's table, those used here

# A pace to sing at, and one that fits the 20 Hz grid: a quarter note is 16 frames, a sixteenth 4.
QUARTERS_PER_MINUTE = 75


def load_corpus(data_dir: Path | str) -> list[Piece]:
    """List the pieces in a folder, sorted by name.

    Parameters
    ----------
    data_dir : Path or str
        A folder with a table in MAESTRO's layout (``maestro-v*.csv`` or ``pieces.csv``) and all or some of the
        files in it. Without a table every .mid and .midi file below the folder is a piece, and its name decides
        on its split, 80, 10 and 10 % on average.

    Returns
    -------
    list of Piece

    Raises
    ------
    CorpusError
        If there is no such folder or no piece in it, or if its table is wrong.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise CorpusError(folder, "not a folder; name the one that holds the MIDI files")
    tables = [table for pattern in TABLES for table in folder.glob(pattern) if table.is_file()]
    if len(tables) > 1:
        raise CorpusError(folder, f"more than one table: {', '.join(sorted(table.name for table in tables))}")
    pieces = _listed_pieces(tables[0]) if tables else _found_pieces(folder)
    return sorted(pieces, key=lambda piece: piece.name)


def make_chorales(data_dir: Path | str, progress: bool = True) -> Path:
    """Write Bach's chorales as MIDI files with a table like MAESTRO's; a second call returns at once.

    The scores are music21's and need no download. The 365 works in exactly four parts are kept, 265 minutes, with
    the notes as notated: one tempo, one velocity, no repeats or grace notes. Works of one BWV number share a split.

    Parameters
    ----------
    data_dir : Path or str
        The folder to make. It appears when everything is written.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder, for `load_corpus`.

    Raises
    ------
    CorpusError
        If something else is there.
    """
    folder = Path(data_dir)
    if (folder / "pieces.csv").is_file():
        return folder
    if folder.exists():
        raise CorpusError(folder, "exists, but without the chorales; name a folder that is still to be made")
    scores = _find_scores()
    with atomic_folder(folder) as temporary:
        workers = joblib.Parallel(n_jobs=-1, return_as="generator")
        titles = next(workers([joblib.delayed(_read_titles)()]))
        lengths = workers(joblib.delayed(_write_chorale)(score, temporary / f"{score.stem}.mid") for score in scores)
        bar = tqdm(lengths, "Bach's chorales", len(scores), disable=not progress)
        _write_table(temporary / "pieces.csv", {score.stem: seconds for seconds, score in zip(bar, scores)}, titles)
    return folder


def match_composer(name: str, known: Collection[str]) -> str:
    """Return the one composer of `known` that has this name or surname, in any case; ValueError if it is not one."""
    wanted = name.strip().casefold()
    surnames = {
        known_name: known_name.split()[-1] for known_name in known if known_name.split() and "/" not in known_name
    }
    matches = [each for each in known if wanted in {each.casefold(), surnames.get(each, each).casefold()}]
    if len(matches) != 1:
        found = "more than one composer" if matches else "no composer"
        there = ", ".join(sorted(set(matches or known) - {UNKNOWN})) or "no composers that are known"
        raise ValueError(f"{name!r} is the name of {found} here; there are {there}")
    return matches[0]


def stays_inside(name: str) -> bool:
    """Tell whether a relative path from a stranger stays below the folder it starts in, on any system."""
    path = PureWindowsPath(name)  # knows both kinds of slash, and drives
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _listed_pieces(table: Path) -> list[Piece]:
    """Read the table of a corpus, and keep the pieces whose files are there, or something else of that name."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            if missing := COLUMNS - set(reader.fieldnames or ()):
                raise CorpusError(table, f"lacks the column {', '.join(sorted(missing))}")
            pieces = [_listed_piece(table, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(table, f"cannot be read as CSV ({error})") from error
    present = [piece for piece in pieces if os.path.lexists(piece.path)]
    if not present:
        raise CorpusError(table, f"lists {len(pieces)} MIDI files, and none of them is in the folder")
    return present


def _listed_piece(table: Path, line: int, row: dict[str, str]) -> Piece:
    name, split = row["midi_filename"], row["split"]
    if not stays_inside(name):
        raise CorpusError(table, f"line {line}: midi_filename {name!r} is not a path inside the folder")
    if split not in SPLITS:
        raise CorpusError(table, f"line {line}: split {split!r} is none of {', '.join(SPLITS)}")
    return Piece(table.parent / name, name, row["canonical_composer"], row["canonical_title"], split)


def _found_pieces(folder: Path) -> list[Piece]:
    """Find what is called a MIDI file below a folder that has no table; whether it is one is the sampler's to say."""
    if below := {table.parent.name for pattern in TABLES for table in folder.glob(f"*/{pattern}")}:
        raise CorpusError(folder, f"holds a corpus in a folder of its own; name that one: {', '.join(sorted(below))}")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi")]
    if not any(path.is_file() for path in paths):
        raise CorpusError(folder, "holds no .mid or .midi file")
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    splits = _split_by_hash(names)
    return [Piece(path, name, UNKNOWN, path.stem, splits[name]) for name, path in names.items()]


def _split_by_hash(names: Iterable[str]) -> dict[str, str]:
    """Give each name the split that its hash falls in, on every machine and in any company the same.

    Only where a split would stay empty a name moves there; fewer than three names are all for training.
    """
    places = {name: int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()) / 2**256 for name in names}
    if len(places) < 3:
        return dict.fromkeys(places, "train")
    splits = {name: "train" if at >= 0.2 else "validation" if at >= 0.1 else "test" for name, at in places.items()}
    if len(set(splits.values())) < 3:
        test, validation, *_, train = sorted(places, key=places.get)
        splits |= {test: "test", validation: "validation", train: "train"}
    return splits


def _find_scores() -> list[Path]:
    """Find Bach in music21, which only the workers import: in a notebook's process it would change the figures."""
    library = Path(importlib.util.find_spec("music21").origin).parent / "corpus" / "bach"
    return sorted(path for path in library.iterdir() if path.suffix in (".mxl", ".xml"))


def _write_chorale(score: Path, midi: Path) -> float | str:
    """Write a work in four parts; return its length in seconds, 0 if it has other parts, or what went wrong."""
    from music21 import converter, stream, tempo

    try:
        voices = converter.parse(score, forceSource=True, storePickle=False).parts
        if len(voices) != 4:
            return 0.0
        # Only the notes go on: music21 would play the repeats of whole measures, and write grace notes without length.
        plain = stream.Score([tempo.MetronomeMark(number=QUARTERS_PER_MINUTE)])
        for voice in voices:
            part = stream.Part()
            for note in voice.flatten().notes:
                if not note.duration.isGrace:
                    part.insert(note.offset, note)
            plain.insert(0, part)
        plain.write("midi", fp=midi)
        return float(plain.highestTime) * 60 / QUARTERS_PER_MINUTE
    except OSError:  # no fault of the score
        raise
    except Exception as error:  # what music21 raises has no common type
        return f"{type(error).__name__}: {error}"


def _read_titles() -> dict[str, str]:
    """Return music21's list of the chorales' titles, by BWV number."""
    from music21.corpus.chorales import ChoraleListRKBWV

    return {bwv: chorale["title"] for bwv, chorale in ChoraleListRKBWV().byBWV.items()}


def _write_table(table: Path, lengths: dict[str, float | str], titles: dict[str, str]) -> None:
    """List what was written of the works, whose names are like "bwv18.5-lz", and tell what went wrong."""
    numbers = {work: re.match(r"bwv\d+", work)[0] for work in lengths}
    splits = _split_by_hash(numbers.values())
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow("canonical_composer canonical_title split year midi_filename audio_filename duration".split())
        for work, seconds in lengths.items():
            if isinstance(seconds, str):
                tqdm.write(f"{work} is left out: {seconds}", file=sys.stderr)
            elif seconds:
                bwv = work.removeprefix("bwv")
                title = f"{titles.get(bwv, 'Chorale')}, BWV {bwv}"
                split = splits[numbers[work]]
                writer.writerow(["Johann Sebastian Bach", title, split, "", f"{work}.mid", "", round(seconds, 3)])
