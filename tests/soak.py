"""Check that memory does not grow in hours of work: ``make soak``, or ``python tests/soak.py --minutes 5``."""

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

import torch
from raw_midi import midi_bytes, note

from musicgen.corpora.chorales import make_chorales
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.dataset import WindowBatches, WindowConfig, prepare
from musicgen.evaluation.likelihood import mean_nll
from musicgen.generation import GenerationConfig, generate
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import SHIPPED_CHECKPOINT, TrainConfig, Trainer, load_checkpoint
from musicgen.utils.limits import resident_bytes

ROOT = Path(__file__).parent.parent
SOAKED = ROOT / "benchmarks" / "results" / "soak.csv"
COLUMNS = ["work", "minutes", "cpu_minutes", "done", "resident_mb"]
MAY_GROW = 1.1  # the allocator's variation; a leak of 2 MB a minute would be more


class Log:
    """Writes a row of the table at most once per minute, or as often as requested."""

    def __init__(self, path: Path, work: str, every_seconds: float = 60):
        self.path, self.work, self.every_seconds = path, work, every_seconds
        self.started = self.last = time.monotonic()
        self.worked = time.process_time()
        self.rows, self.done = [], 0

    def add(self, done: float = 1) -> None:
        """Count what is done."""
        self.done, now = self.done + done, time.monotonic()
        if now - self.last >= self.every_seconds:
            self.last = now
            resident = resident_bytes() / 1e6
            minutes = [round(seconds / 60, 2) for seconds in (now - self.started, time.process_time() - self.worked)]
            self.rows.append([self.work, *minutes, self.done, round(resident, 1)])
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerow(self.rows[-1])

    def growth(self) -> float:
        """Compare the memory in the last quarter of the time with the second; the first includes the set-up."""
        resident = [row[-1] for row in self.rows] or [1.0]  # too short to tell
        quarter = max(1, len(resident) // 4)
        return statistics.median(resident[-quarter:]) / statistics.median(resident[quarter : 2 * quarter] or resident)


def compose(path: Path, minutes: float) -> Log:
    """Generate pieces of a minute from each prime in turn; count the minutes of music."""
    log, model = Log(path, "generation"), load_checkpoint(SHIPPED_CHECKPOINT).model
    for seed, prime in enumerate(itertools.cycle(PRIMES)):
        generate(model, shipped_prime(prime), GenerationConfig(60, seed=seed, top_p=0.97))
        log.add()
        if time.monotonic() - log.started > 60 * minutes:
            return log


def compose_ten_minutes(path: Path, minutes: float) -> Log:
    """Generate one piece of ten minutes, with a row for each minute of music."""
    log, model = Log(path, "ten minutes of music", 0), load_checkpoint(SHIPPED_CHECKPOINT).model

    def count(n_frames: int) -> None:
        if n_frames % 1200 == 0:
            log.add()

    generate(model, None, GenerationConfig(600, seed=1, top_p=0.97), callback=count)
    return log


def train(path: Path, minutes: float) -> Log:
    """Train a small model on the chorales until the time is over; count the epochs."""
    rolls = prepare(load_corpus(make_chorales(ROOT / "data" / "chorales")), progress=False)
    validation = rolls.select(split="validation")
    log = Log(path, "training")

    def validate(model: AttentionLSTM) -> float:
        log.add()
        return mean_nll(model, validation)

    model = AttentionLSTM(ModelConfig(hidden_size=48, n_layers=1, n_attention_layers=1))
    batches = WindowBatches(validation, WindowConfig(batch_size=16, max_transpose=3, max_stretch=0.1))
    config = TrainConfig(optimizer="adamw", learning_rate=0.001, n_epochs=100_000)
    threading.Timer(60 * minutes, os.kill, [os.getpid(), signal.SIGINT]).start()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, batches, validate, config, folder, progress=False).run()
    return log


def sample_densest(path: Path, minutes: float) -> Log:
    """Prepare the two files of 4 MB that take the most memory and time; print what is skipped."""
    log = Log(path, "densest files", 0)
    struck = b"".join(b"\1%c\1\0%c\0" % (pitch, pitch) for pitch in range(21, 109)) * 7_500
    contents = {"pressure.mid": b"\0\xd0\x09" + b"\0\x09" * 1_999_000, "notes.mid": b"\0\x90\x3c\0" + struck}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_bytes(midi_bytes([content]))
            (Path(folder) / "sound.mid").write_bytes(midi_bytes([note(0, 480, 60)]))
            rolls = prepare(load_corpus(folder), Path(folder) / "cache", progress=False)
            print(name, rolls.skipped, f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
            log.add()
            (Path(folder) / name).unlink()
    return log


WORKS = {"densest": sample_densest, "generation": compose, "ten": compose_ten_minutes, "training": train}


def main() -> int:
    """Run one test or all; the exit code is 1 if memory grew in one."""
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
        log = WORKS[name](args.out, args.minutes)
        grown |= log.growth() > MAY_GROW
        print(f"{name}: {len(log.rows)} lines, {log.done} done, memory times {log.growth():.3f}", flush=True)
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
