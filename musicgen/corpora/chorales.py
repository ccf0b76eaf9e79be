"""Bach's chorales from music21, a corpus that needs no download."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import joblib
from tqdm import tqdm

from musicgen.corpora.splits import split_by_hash
from musicgen.dataset import CorpusError
from musicgen.support.files import atomic_folder

# A tempo to sing at, which fits the 20 Hz grid: a quarter note is 16 frames, a sixteenth 4.
QUARTERS_PER_MINUTE = 75


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
    splits = split_by_hash(numbers.values())
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
