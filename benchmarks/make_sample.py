"""Make the bundled sample of MAESTRO, from which the primes are taken: ``python benchmarks/make_sample.py DATA``.

DATA is MAESTRO v2.0.0 with beats, as ASAP annotates them (beats.npz). The rule: of each of five composers and each
official split, the shortest performances of at least a minute with different titles.
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.midi import read_midi

PLACE = Path(__file__).parents[1] / "musicgen" / "corpora" / "data"
WANTED = {"train": 3, "validation": 1, "test": 1}  # performances per composer
COMPOSERS = ("Johann Sebastian Bach", "Ludwig van Beethoven", "Frédéric Chopin", "Franz Liszt", "Franz Schubert")
SHORTEST, MAX_BYTES, MAX_TOTAL = 60.0, 45_000, 1_000_000


def choose(data: Path) -> list[dict]:
    """Return the rows of the table to keep."""
    rows = list(csv.DictReader(next(data.glob("maestro-v*.csv")).open(encoding="utf-8")))
    rows.sort(key=lambda row: float(row["duration"]))
    chosen = []
    for composer in COMPOSERS:
        for split, n_wanted in WANTED.items():
            titles = set()
            for row in rows:
                small = (data / row["midi_filename"]).stat().st_size <= MAX_BYTES
                fits = row["canonical_composer"] == composer and row["split"] == split and small
                if fits and float(row["duration"]) >= SHORTEST and row["canonical_title"] not in titles:
                    titles.add(row["canonical_title"])
                    if len(titles) <= n_wanted:
                        chosen.append(row)
    return chosen


def main(data: Path) -> None:
    """Copy the chosen files, their rows and their beats."""
    folder, rows = PLACE / "maestro-sample", choose(data)
    shutil.rmtree(folder, ignore_errors=True)
    beats = np.load(data / "beats.npz")
    for row in rows:
        target = folder / row["midi_filename"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / row["midi_filename"], target)
    with (folder / "maestro-v2.0.0.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    np.savez_compressed(folder / "beats.npz", **{row["midi_filename"]: beats[row["midi_filename"]] for row in rows})
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total <= MAX_TOTAL, total
    seconds = sum(read_midi(piece.path).duration_seconds for piece in load_corpus(folder))
    print(f"{len(rows)} performances, {seconds / 60:.0f} minutes, {total:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
