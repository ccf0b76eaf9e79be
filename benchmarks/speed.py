"""Compare the speed of musicgen with its alternatives: ``make bench``, or ``make bench DATA=data/maestro-v2.0.0``.

The contenders take turns within one run, after a warm-up round that does not count. The table gives the median and the
quartiles over the rounds, and the ratio to the reference of its section. It is written to
``benchmarks/results/speed.csv`` and drawn into ``speed.png`` beside it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import mido
import numpy as np
import pretty_midi
import pypianoroll
import symusic
import torch
from processes import processes
from steps import training, windows
from turns import ROUNDS, Timed, rows, show, take_turns, write

from musicgen.corpora.chorales import make_chorales
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import shipped_prime
from musicgen.dataset import prepare
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.generation.engines import ENGINES
from musicgen.midi import read_midi
from musicgen.model import AttentionLSTM
from musicgen.model.heads import conditional_logits, decode_frame
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

ROOT = Path(__file__).parents[1]
N_FILES = 40
RERUN_WINDOW, N_LONG = 512, 5


def sampling(pieces: list) -> Iterator[dict]:
    """Sample the same files with several packages; mido alone only parses them."""
    random = np.random.default_rng(0)
    paths = [str(pieces[i].path) for i in random.permutation(len(pieces))[:N_FILES]]

    def quietly(read: Callable) -> Callable:
        def read_all() -> None:
            with warnings.catch_warnings(action="ignore"):
                for path in paths:
                    read(path)

        return read_all

    contenders = {
        "mido, parse alone": mido.MidiFile,
        "musicgen": read_midi,
        "pretty_midi": lambda path: pretty_midi.PrettyMIDI(path).get_piano_roll(fs=20),
        "pypianoroll": lambda path: pypianoroll.read(path).stack(),
        "symusic (C++)": lambda path: symusic.Score(path).resample(tpq=10, min_dur=1).pianoroll(modes=["frame"]),
    }
    seconds = take_turns({name: quietly(read) for name, read in contenders.items()})
    yield from rows("sampling", "files/s", len(paths), seconds, "mido, parse alone")


def corpus(pieces: list) -> Iterator[dict]:
    """Prepare all pieces: without a cache on one core and on two, including the start of the workers, and with a cache.

    With one core, the process that collects the rolls runs on this core, too.
    """
    warm, cores = tempfile.mkdtemp(), sorted(os.sched_getaffinity(0))

    def cold(n_cores: int) -> None:
        os.sched_setaffinity(0, cores[:n_cores])
        with tempfile.TemporaryDirectory() as folder, patch("musicgen.utils.processes.cpu_count", return_value=n_cores):
            prepare(pieces, folder, progress=False)
        os.sched_setaffinity(0, cores)

    contenders = {
        "cold, one core": lambda: cold(1),
        "cold, two cores": lambda: cold(2),
        "warm": lambda: prepare(pieces, warm, progress=False),
    }
    seconds = take_turns(contenders)
    yield from rows("corpus", "pieces/s", len(pieces), seconds, "cold, one core")


@torch.inference_mode()
def rerun(model: AttentionLSTM, n_frames: int) -> None:
    """Generate as many tutorials do: run the model on a whole window for each new frame."""
    window = torch.tensor(shipped_prime("Bach", 8).velocity).repeat(7, 1)[None, :RERUN_WINDOW] / 127
    for _ in range(n_frames):
        features, _ = model(window)
        last, uniform = features.map(lambda x: x[:, -1]), torch.rand(1, 88)
        encoded = model.output.encode(last, torch.zeros(1))
        logits_of = partial(conditional_logits, model.output, encoded, last)
        following, _, _ = decode_frame(logits_of, last.active, lambda x, u=uniform: (u < x.sigmoid()).float())
        window = torch.cat([window[:, 1:], following[:, None] / 2], dim=1)


def generation(pieces: list) -> Iterator[dict]:
    """Generate on one core with the shipped model and each engine: short and long, many at once, window by window."""
    model, n_threads = load_checkpoint(SHIPPED_CHECKPOINT).model, torch.get_num_threads()
    prime = shipped_prime("Bach", 8)
    torch.set_num_threads(1)

    def go_on(n_pieces: int, n_frames: int, engine: str, candidates: int = 1, seed: int = 0) -> Callable:
        config = GenerationConfig(seed=seed, candidates=candidates)
        return lambda callback=None: continue_rolls(
            model, [prime] * n_pieces, n_frames, config, [1] * n_pieces, callback, engine=engine
        )

    contenders = {"a window of 512 frames run again": lambda: rerun(model, 10)}
    frames = {"a window of 512 frames run again": 10}
    for engine in ENGINES:
        contenders |= {
            f"{engine}, one piece": go_on(1, 200, engine),
            f"{engine}, one piece of 4 candidates": go_on(1, 200, engine, candidates=4),
            f"{engine}, 8 pieces at once": go_on(8, 200, engine),
        }
        frames |= {f"{engine}, one piece": 200, f"{engine}, one piece of 4 candidates": 200}
        frames[f"{engine}, 8 pieces at once"] = 8 * 200
    yield from rows("generation, one core", "frames/s", frames, take_turns(contenders), "torch, one piece")
    for engine in ENGINES:
        pieces = [go_on(1, 12_000, engine, seed=seed) for seed in range(N_LONG)]
        yield from rows(f"ten minutes, one core, {engine}", "frames/s", 1200, ten_minutes(pieces), "first minute")
    torch.set_num_threads(n_threads)


def ten_minutes(pieces: list[Callable]) -> Timed:
    """Return the seconds that the first and the last minute of some pieces take to generate."""
    seconds = {"first minute": [], "last minute": []}
    for make in pieces:
        times = []
        make(lambda _n_frames, times=times: times.append(time.perf_counter()))
        seconds["first minute"].append(times[1200] - times[0])
        seconds["last minute"].append(times[-1] - times[-1201])
    return seconds


FIRST_SOUND = """
import time; times = [time.perf_counter()]
def lap(): times.append(time.perf_counter())
import torch; lap()
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.generation import GenerationConfig, generate
from musicgen.lab.player.sound import render
from musicgen.corpora.primes import shipped_prime; lap()
model = load_checkpoint(SHIPPED_CHECKPOINT).model; lap()
roll = generate(model, shipped_prime("Bach", 8), GenerationConfig(seconds=14), "Johann Sebastian Bach"); lap()
render(roll); lap()
print(*(after - before for before, after in zip(times, times[1:])))
"""


def first_sound(pieces: list) -> Iterator[dict]:
    """Start a new process that generates ten seconds of music and renders the sound."""
    names = ("import torch", "import musicgen", "load the checkpoint", "generate 10 s", "render")
    laps = np.array(
        [
            [float(word) for word in subprocess.check_output([sys.executable, "-c", FIRST_SOUND]).split()]
            for _ in range(ROUNDS + 1)
        ][1:]
    )
    seconds = dict(zip(names, laps.T)) | {"all but torch": laps[:, 1:].sum(1), "all": laps.sum(1)}
    inverse = {name: 1 / taken for name, taken in seconds.items()}  # `rows` inverts them back into seconds
    yield from rows("fresh process to first sound", "seconds", 1, inverse, "all")


SECTIONS = {each.__name__: each for each in (sampling, corpus, training, windows, processes, generation, first_sound)}


def main() -> None:
    """Run the sections one after the other, and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", metavar="DATA", help="a folder of MIDI files (default: Bach's chorales)")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=SECTIONS, help="some of the sections")
    args = parser.parse_args()
    pieces = load_corpus(args.data or make_chorales(ROOT / "data" / "chorales"))
    for name in args.only:
        found = list(SECTIONS[name](pieces))
        show(found)
        write(found)


if __name__ == "__main__":
    main()
