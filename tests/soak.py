"""Hours of work in one process, whose memory must not grow: ``make soak``, or ``python tests/soak.py --minutes 5``."""

import csv
import itertools
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from unittest import mock

import joblib
import psutil
import torch
from musicgen.recipe import TrainConfig
from musicgen.stepping import Stepper
from raw_midi import midi_bytes, note

from musicgen.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.corpora.chorales import make_chorales
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.dataset import WindowBatches, WindowConfig, prepare
from musicgen.evaluation.likelihood import mean_nll
from musicgen.generation import GenerationConfig, generate
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import Trainer

ROOT = Path(__file__).parent.parent
SOAKED = ROOT / "benchmarks" / "results" / "soak.csv"
COLUMNS = ["work", "minutes", "cpu_minutes", "done", "resident_mb"]
MAY_GROW = 1.1  # the allocator's own ups and downs; a leak of 2 MB a minute would be more


class Diary:
    """Writes a line of the table at most once in a minute, or as often as it is told to."""

    def __init__(self, path: Path, work: str, every_seconds: float = 60):
        self.path, self.work, self.every_seconds = path, work, every_seconds
        self.started = self.last = time.monotonic()
        self.worked = time.process_time()
        self.rows, self.done = [], 0

    def tell(self, done: float = 1) -> None:
        """Note that more is done."""
        self.done, now = self.done + done, time.monotonic()
        if now - self.last >= self.every_seconds:
            self.last = now
            resident = psutil.Process().memory_info().rss / 1e6
            minutes = [round(seconds / 60, 2) for seconds in (now - self.started, time.process_time() - self.worked)]
            self.rows.append([self.work, *minutes, self.done, round(resident, 1)])
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerow(self.rows[-1])

    def growth(self) -> float:
        """Compare the last quarter of the time with the second: the first is for what is set up once."""
        resident = [row[-1] for row in self.rows]
        quarter = max(1, len(resident) // 4)
        return statistics.median(resident[-quarter:]) / statistics.median(resident[quarter : 2 * quarter] or resident)


def compose(path: Path, minutes: float) -> Diary:
    """Generate pieces of a minute, of one composer after the other; what is counted is minutes of music."""
    diary, model = Diary(path, "generation"), load_checkpoint(SHIPPED_CHECKPOINT).model
    for seed, prime in enumerate(itertools.cycle(PRIMES)):
        generate(model, shipped_prime(prime), GenerationConfig(60, seed=seed, top_p=0.97))
        diary.tell()
        if time.monotonic() - diary.started > 60 * minutes:
            return diary


def compose_ten_minutes(path: Path, minutes: float) -> Diary:
    """Generate one piece of ten minutes; a line for each minute of music tells how long that took."""
    diary, model = Diary(path, "ten minutes of music", 0), load_checkpoint(SHIPPED_CHECKPOINT).model
    frames, hear = itertools.count(1), Stepper.hear

    def count(*arguments):
        if next(frames) % 1200 == 0:
            diary.tell()
        return hear(*arguments)

    with mock.patch.object(Stepper, "hear", count):
        generate(model, None, GenerationConfig(600, seed=1, top_p=0.97))
    return diary


def train(path: Path, minutes: float) -> Diary:
    """Train a small model on the chorales until the time is over; what is counted is epochs."""
    rolls = prepare(load_corpus(make_chorales(ROOT / "data" / "chorales")), progress=False)
    validation = rolls.select(split="validation")
    diary = Diary(path, "training")

    def validate(model: AttentionLSTM) -> float:
        diary.tell()
        return mean_nll(model, validation)

    model = AttentionLSTM(ModelConfig(hidden_size=48, n_layers=1, n_attention_layers=1))
    batches = WindowBatches(validation, WindowConfig(batch_size=16, max_transpose=3, max_stretch=0.1))
    config = TrainConfig(optimizer="adamw", learning_rate=0.001, n_epochs=100_000)
    threading.Timer(60 * minutes, os.kill, [os.getpid(), signal.SIGINT]).start()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, batches, validate, config, folder, progress=False).run()
    return diary


def sample_densest(path: Path, minutes: float) -> Diary:
    """Prepare the two files of 4 MB that take most memory and most time, one after the other; see what is skipped."""
    diary = Diary(path, "densest files", 0)
    struck = b"".join(b"\1%c\1\0%c\0" % (key, key) for key in range(21, 109)) * 7_500
    contents = {"pressure.mid": b"\0\xd0\x09" + b"\0\x09" * 1_999_000, "notes.mid": b"\0\x90\x3c\0" + struck}
    with tempfile.TemporaryDirectory() as folder, joblib.parallel_config("sequential"):
        for name, content in contents.items():
            (Path(folder) / name).write_bytes(midi_bytes([content]))
            (Path(folder) / "sound.mid").write_bytes(midi_bytes([note(0, 480, 60)]))
            rolls = prepare(load_corpus(folder), Path(folder) / "cache", progress=False)
            print(name, rolls.skipped, f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
            diary.tell()
            (Path(folder) / name).unlink()
    return diary


WORKS = {"densest": sample_densest, "generation": compose, "ten": compose_ten_minutes, "training": train}


def main() -> int:
    """Do one work or all; the exit code is 1 if the memory of one has grown."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", default=list(WORKS), help=f"of {', '.join(WORKS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=60, help="of generation, and of training (default: 60)")
    parser.add_argument("--out", type=Path, default=SOAKED, help="the table (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with args.out.open("w", newline="") as stream:
        csv.writer(stream).writerow(COLUMNS)
    grown = False
    for name in args.works:
        diary = WORKS[name](args.out, args.minutes)
        grown |= diary.growth() > MAY_GROW
        print(f"{name}: {len(diary.rows)} lines, {diary.done} done, memory times {diary.growth():.3f}", flush=True)
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
