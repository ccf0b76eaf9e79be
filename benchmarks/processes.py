"""Train in one process and in two with the command line, and time the second epoch of each."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from turns import ROUNDS, rows

N_PIECES = 12
ONE, TWO = [sys.executable], [sys.executable, *"-m torch.distributed.run --standalone --nproc_per_node 2".split()]
WAYS = {
    "one process, one thread": (ONE, 1),
    "one process, two threads": (ONE, 2),
    "two processes, one thread each": (TWO, 1),
}
OPTIONS = "--batch-size 32 --window-frames 256 --optimizer adamw --n-epochs 2".split()


def processes(pieces: list) -> Iterator[dict]:
    """Train a model of the default sizes on a few pieces, and score it on others."""
    seconds = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        (data := Path(folder) / "data").mkdir()
        for number, piece in enumerate(pieces[:N_PIECES]):
            shutil.copy(piece.path, data / f"{number}.mid")
        for _ in range(ROUNDS // 3):
            for way, (python, n_threads) in WAYS.items():
                seconds[way].append(second_epoch(python, n_threads, data))
    yield from rows("training in processes", "epochs a second", 1, seconds, "one process, one thread")


def second_epoch(python: list[str], n_threads: int, data: Path) -> float:
    """Return the seconds that the second epoch takes, with its validation."""
    env = os.environ | {"OMP_NUM_THREADS": str(n_threads), "XDG_CACHE_HOME": str(data.parent / "cache")}
    with tempfile.TemporaryDirectory() as run:
        command = [*python, "-m", "musicgen", "train", str(data), "--out", run, *OPTIONS]
        subprocess.run(command, env=env, check=True, capture_output=True)
        first, second = (float(row["seconds"]) for row in csv.DictReader((Path(run) / "log.csv").open()))
    return second - first
