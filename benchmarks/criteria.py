"""Check that no piece the model plays is broken: ``python benchmarks/criteria.py DATA [MORE ...]``.

The shipped model continues the first eight beats of all test pieces, a hundred times in total, for a minute, with the
default settings and the composer of the piece, if it knows him; nothing is selected. Each minute must meet four
criteria: it is never silent for 8 s, holds no note for 15 s, repeats no bar for 20 s, and shares no longer run of notes
with a training piece than real music does. The last limit is the longest run that a hundred minutes of the test split
share with the same training pieces, which are other works. DATA holds all splits, each MORE further training pieces.

``benchmarks/results/criteria.csv`` has a row for each criterion, with the longest value of the generated minutes
(`value`) and of the real ones (`real_value`), and the number of minutes beyond the limit (`n_beyond`,
`n_real_beyond`). ``criteria_pieces.csv`` has a row for each minute; there `shared_pitches` is the number of different
pitches in the shared run, which is 2 for a trill. What was generated is kept in ``runs/criteria``, so that an
interrupted run goes on where it stopped; delete that folder if the code of the generation has changed.
"""

import argparse
import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pieces import Made, described, opening
from tqdm import tqdm

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, prepare
from musicgen.evaluation.novelty import NoveltyIndex
from musicgen.evaluation.statistics import statistics
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write, npz_bytes, read_npz

RESULTS = Path(__file__).parent / "results"
N_PIECES, SECONDS = 100, 60
LIMITS = {"longest_silence_seconds": 8, "longest_note_seconds": 15, "longest_repeat_seconds": 20}  # not reached


def generated(model: AttentionLSTM, rolls: RollCache, n_pieces: int, folder: Path) -> Iterator[Made]:
    """Continue all openings about equally often, those of one opening as a batch; its seed is the opening's number."""
    share, more = divmod(n_pieces, len(rolls))
    for number, (piece, roll) in enumerate(zip(tqdm(rolls.pieces, "generating"), rolls)):
        prime, n_takes = opening(roll), share + (number < more)
        known = piece.composer if piece.composer in model.config.composers else None
        takes = continued(model, prime, n_takes, GenerationConfig(seed=number), model.config.label_of(known), folder)
        for take, velocity in enumerate(takes):
            about = {"source": "generated", "composer": piece.composer, "prime": piece.name, "part": take}
            yield Made(about, PianoRoll(velocity, prime.fps), prime)


def continued(
    model: AttentionLSTM, prime: PianoRoll, n_takes: int, config: GenerationConfig, label: int, folder: Path
) -> np.ndarray:
    """Return the velocities of continuations, shape (n_takes, n_frames, 88), from the folder if they are there."""
    if not n_takes:
        return np.zeros((0, prime.n_frames, 88), np.uint8)

    def make() -> np.ndarray:
        made = continue_rolls(model, [prime] * n_takes, SECONDS * prime.fps, config, [label] * n_takes)
        return np.stack([roll.velocity for roll in made])

    name = fingerprint(model, prime, n_takes, sorted(asdict(config).items()), label, SECONDS)
    return kept(folder / f"{name}.npz", make)


def fingerprint(model: AttentionLSTM, prime: PianoRoll, *settings: object) -> str:
    """Return a hash of all that decides what is played, but for the code."""
    weights = [tensor.contiguous().numpy() for tensor in model.state_dict().values()]
    sums = [float(weight.astype(np.float64).sum()) for weight in weights]
    arrays = [array.tobytes() for array in (prime.velocity, prime.pedal, prime.beats) if array is not None]
    return hashlib.sha256(b"".join([repr((sums, settings)).encode(), *arrays])).hexdigest()[:20]


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in a file, which is made first if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = npz_bytes({"velocity": make()})
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return read_npz(path.read_bytes())["velocity"]


def real_minutes(rolls: RollCache, n_minutes: int) -> list[Made]:
    """Cut what follows the openings into minutes: the first of every piece, then the second, and so on."""
    found = []
    for number, (piece, roll) in enumerate(zip(rolls.pieces, rolls)):
        prime = opening(roll)
        rest = roll[prime.n_frames :]
        for part in range(rest.n_frames // (SECONDS * roll.fps)):
            about = {"source": "real", "composer": piece.composer, "prime": piece.name, "part": part}
            found.append((part, number, Made(about, rest[part * SECONDS * roll.fps :], prime[:0])))
    return [made for *_, made in sorted(found, key=lambda each: each[:2])[:n_minutes]]


def row_of(made: Made, index: NoveltyIndex) -> dict:
    """Describe a minute by what is limited."""
    minute = described(made)
    values, run = statistics(minute), index.longest_shared_run(minute)
    shared = minute.notes[round(run.start_seconds * minute.fps) <= minute.notes["start_frame"]][: run.n_notes]
    about_run = {"shared_notes": run.n_notes, "shared_pitches": len(np.unique(shared["pitch"]))}
    return made.about | {name: round(values[name], 2) for name in LIMITS} | about_run


def judge(rows: list[dict], command: str) -> list[dict]:
    """Compare the generated minutes with each limit."""
    own, real = ([row for row in rows if row["source"] == source] for source in ("generated", "real"))
    judged = []
    for name in (*LIMITS, "shared_notes"):
        values, real_values = [row[name] for row in own], [row[name] for row in real]
        limit = LIMITS.get(name, max(real_values))
        n_beyond, n_real_beyond = (sum(beyond(name, value, limit) for value in each) for each in (values, real_values))
        row = {"name": name, "value": max(values), "limit": limit, "n_pieces": len(own), "n_beyond": n_beyond}
        real_row = {"real_value": max(real_values), "n_real": len(real), "n_real_beyond": n_real_beyond}
        judged.append(row | real_row | {"command": command})
    return judged


def beyond(name: str, value: float, limit: float) -> bool:
    """Return whether a value breaks a limit. One of `LIMITS` must not be reached, that of real music may be."""
    return value >= limit if name in LIMITS else value > limit


def write(path: Path, rows: list[dict]) -> None:
    """Write a CSV file whose first line names the columns."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show(judged: list[dict]) -> None:
    """Print a table of the criteria."""
    columns = [name for name in judged[0] if name != "command"]
    for row in [dict(zip(columns, columns)), *judged]:
        print(f"{row['name']:26}", *(f"{row[name]!s:>13}" for name in columns[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="MAESTRO, and further training pieces")
    parser.add_argument("--n-pieces", type=int, default=N_PIECES)
    parser.add_argument("--keep", type=Path, default=Path("runs/criteria"), help="receives what is generated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rolls, model = prepare(load_corpus(*args.data)), load_checkpoint(SHIPPED_CHECKPOINT).model
    test = rolls.select(split="test")
    made = [*generated(model, test, args.n_pieces, args.keep), *real_minutes(test, args.n_pieces)]
    index = NoveltyIndex(rolls.select(split="train"))
    rows = [row_of(each, index) for each in tqdm(made, "describing")]
    command = " ".join(["python benchmarks/criteria.py", *["DATA", *["MORE"] * (len(args.data) - 1)]])
    judged = judge(rows, command + (f" --n-pieces {args.n_pieces}" if args.n_pieces != N_PIECES else ""))
    write(RESULTS / "criteria_pieces.csv", rows)
    write(RESULTS / "criteria.csv", judged)
    show(judged)


if __name__ == "__main__":
    main()
