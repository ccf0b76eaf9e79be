"""Bach's chorales from music21, a corpus that needs no download."""

import csv
import importlib.util
import re
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path

from tqdm import tqdm

from musicgen.corpora.splits import split_by_hash
from musicgen.dataset import CorpusError
from musicgen.utils.files import atomic_folder
from musicgen.utils.processes import run_parallel
from musicgen.utils.progress import progress_bar

# A singable tempo that fits the 20 Hz grid: a quarter note is 16 frames, a sixteenth note 4.
QUARTERS_PER_MINUTE = 75


def make_chorales(data_dir: Path | str, progress: bool = True) -> Path:
    """Write Bach's chorales as MIDI files with a table like MAESTRO's; a second call returns at once.

    The scores are part of music21. The 365 works in exactly four parts are kept, 265 minutes, with the notes as
    notated: one tempo, one velocity, the time signatures of the score, no repeats or grace notes. An upbeat is a short
    bar of its own. Works of one BWV number share a split.

    Parameters
    ----------
    data_dir : Path or str
        The folder to create. It appears only when all files are written.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder, for `load_corpus`.

    Raises
    ------
    CorpusError
        If the folder exists and holds something else.
    """
    folder = Path(data_dir)
    if (folder / "pieces.csv").is_file():
        return folder
    if folder.exists():
        raise CorpusError(folder, "exists, but does not hold the chorales; name a folder that does not exist yet")
    try:
        _write_chorales(folder, progress)
    except OSError:
        if not (folder / "pieces.csv").is_file():  # otherwise another process was faster
            raise
    return folder


def _write_chorales(folder: Path, progress: bool) -> None:
    scores = _find_scores()
    written = {}
    with atomic_folder(folder) as temporary:
        jobs = [(score, (temporary / f"{score.stem}.mid").absolute()) for score in scores]
        with progress_bar("Bach's chorales", len(scores), "score", progress) as bar:
            for score, result in zip(scores, run_parallel(_convert, jobs)):
                written[score.stem] = result
                bar.update()
        _write_table(temporary / "pieces.csv", written)


def _find_scores() -> list[Path]:
    """List music21's Bach scores without importing music21, which would change the style of figures."""
    library = Path(importlib.util.find_spec("music21").origin).parent / "corpus" / "bach"
    return sorted(path for path in library.iterdir() if path.suffix in (".mxl", ".xml"))


def _convert(score: Path, midi: Path) -> tuple[float | str, str]:
    """Write a work if it has four parts. Return its length in seconds (0 if not written) or an error, and its title."""
    try:
        return _write_chorale(score, midi), _read_titles().get(score.stem.removeprefix("bwv"), "Chorale")
    except OSError:  # a fault of the disk, not of the score
        raise
    except Exception as error:  # the errors of music21 have no common type
        return f"{type(error).__name__}: {error}", ""


@cache
def _read_titles() -> dict[str, str]:
    """Return a dict from BWV numbers to the titles of the chorales in music21."""
    from music21.corpus.chorales import ChoraleListRKBWV

    return {bwv: chorale["title"] for bwv, chorale in ChoraleListRKBWV().byBWV.items()}


def _write_chorale(score: Path, midi: Path) -> float:
    from music21 import converter, stream, tempo

    voices = converter.parse(score, forceSource=True, storePickle=False).parts
    if len(voices) != 4:
        return 0.0
    # Only the notes and the metre are copied: music21 would play repeats, and write grace notes without length.
    plain = stream.Score([tempo.MetronomeMark(number=QUARTERS_PER_MINUTE)])
    for voice in voices:
        part = stream.Part()
        for note in voice.flatten().notes:
            if not note.duration.isGrace:
                part.insert(note.offset, note)
        plain.insert(0, part)
    for offset, metre in _metres(voices[0]):
        plain.parts[0].insert(offset, metre)
    plain.write("midi", fp=midi)
    return float(plain.highestTime) * 60 / QUARTERS_PER_MINUTE


def _metres(voice) -> list:
    """Return the offset in quarter notes and the new time signature of each change of metre."""
    from music21 import meter

    measures = list(voice.getElementsByClass("Measure"))
    metres = {m.offset: each.ratioString for m in measures for each in m.getElementsByClass("TimeSignature")}
    if metres and len(measures) > 1:
        upbeat = measures[1].offset
        if min(metres) == 0 < upbeat < meter.TimeSignature(metres[0]).barDuration.quarterLength:
            metres = {upbeat: metres[0]} | metres | {0: str(Fraction(upbeat) / 4)}
    return [(offset, meter.TimeSignature(ratio)) for offset, ratio in sorted(metres.items())]


def _write_table(table: Path, written: dict[str, tuple[float | str, str]]) -> None:
    """Write the table of the corpus, and report the works that failed.

    The names of the works are like "bwv18.5-lz".
    """
    numbers = {work: re.match(r"bwv\d+", work)[0] for work in written}
    splits = split_by_hash(numbers.values())
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow("canonical_composer canonical_title split year midi_filename audio_filename duration".split())
        for work, (seconds, title) in written.items():
            if isinstance(seconds, str):
                tqdm.write(f"{work} is left out: {seconds}", file=sys.stderr)
            elif seconds:
                title = f"{title}, BWV {work.removeprefix('bwv')}"
                split = splits[numbers[work]]
                writer.writerow(["Johann Sebastian Bach", title, split, "", f"{work}.mid", "", round(seconds, 3)])
