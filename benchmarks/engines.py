"""What the exported graphs change: the likelihood of real pieces, logits, continuations, and the time of a frame.

``python benchmarks/engines.py DATA_DIR [--graphs FILE.onnx] [--checkpoint C] [--split validation] [--pieces N]``

Prints a table in JSON. The likelihood is teacher-forced on whole pieces without composers, beats and home, as in
``python -m musicgen evaluate``; both engines run frame by frame. ``--only-likelihood onnx`` measures that of one engine
and nothing else.
"""

import argparse
import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.dataset import prepare
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.generation.engines import ENGINES, Graphs, OnnxEngine
from musicgen.generation.steps import TorchEngine, logits_frame_by_frame
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.inference import single_thread

TWO_SECONDS = 40  # frames
ROUNDS = 6


def likelihood(engines: dict, rolls: list[PianoRoll]) -> dict[str, float]:
    """Return the nll of whole rolls with each engine, in nats per frame, and how much the logits differ at most."""
    sums = dict.fromkeys(engines, 0.0)
    largest = difference = 0.0
    for roll in rolls:
        target = torch.from_numpy(roll.active[1:].astype(np.float32))
        logits = {name: logits_frame_by_frame(engine, replace(roll, beats=None)) for name, engine in engines.items()}
        for name, each in logits.items():
            sums[name] += float(F.binary_cross_entropy_with_logits(each, target, reduction="sum"))
        of_pieces = list(logits.values())
        difference = max(difference, float((of_pieces[0] - of_pieces[-1]).abs().max()))
        largest = max(largest, float(of_pieces[0].abs().max()))
    n_frames = sum(roll.n_frames - 1 for roll in rolls)
    nll = {f"nll, {name}": total / n_frames for name, total in sums.items()}
    return nll | {"largest difference of two logits": difference, "largest logit": largest, "n_frames": n_frames}


def same_continuations(model, graphs: Graphs, n_pieces: int) -> float:
    """Return the share of two-second continuations that are the same notes with both engines."""
    same = []
    for seed in range(n_pieces):
        name = list(PRIMES)[seed % len(PRIMES)]
        prime, config = shipped_prime(name, 8), GenerationConfig(seed=seed)
        pieces = [
            continue_rolls(model, [prime], TWO_SECONDS, config, [1], engine=each)[0] for each in ("torch", graphs)
        ]
        same.append(np.array_equal(pieces[0].velocity, pieces[1].velocity))
    return float(np.mean(same))


def ms_per_frame(model, engine: str | Graphs, n_pieces: int, n_candidates: int, n_frames: int = 60) -> float:
    """Return the milliseconds of CPU time per frame of some pieces at once."""
    prime = shipped_prime("Bach", 8)
    config = GenerationConfig(seed=1, candidates=n_candidates)
    times = []  # after each frame

    def after_frame(n_new: int) -> None:
        times.append(time.process_time())

    continue_rolls(model, [prime] * n_pieces, n_frames + 1, config, [1] * n_pieces, after_frame, engine=engine)
    return 1000 * (times[-1] - times[0]) / n_frames


def compare_times(model, graphs: Graphs) -> dict[str, dict[str, float]]:
    """Return the time of a frame with each engine, in turns: the least of several rounds, which is the least disturbed.

    All on one core: one piece with one, four and eight candidates, and eight pieces at once.
    """
    found = {}
    for n_pieces, n_candidates in ((1, 1), (1, 4), (1, 8), (8, 1)):
        times = {"torch": [], "onnx": []}
        for _ in range(ROUNDS):
            times["torch"].append(ms_per_frame(model, "torch", n_pieces, n_candidates))
            times["onnx"].append(ms_per_frame(model, graphs, n_pieces, n_candidates))
        least = {name: min(each) for name, each in times.items()}
        found[f"{n_pieces} pieces, {n_candidates} candidates"] = least | {"ratio": least["torch"] / least["onnx"]}
    return found


def last_and_first_minute(model, engine: str | Graphs) -> dict[str, float]:
    """Return the CPU time of the last of ten minutes and of a first minute, which take turns second by second.

    Two threads play, one at a time, on one core.
    """
    minute = 60 * model.config.fps
    turns = {"last": threading.Semaphore(1), "first": threading.Semaphore(0)}
    seconds = dict.fromkeys(turns, 0.0)

    def play(name: str, other: str, n_before: int) -> None:
        turns[name].acquire()
        times = []

        def after_frame(n_new: int) -> None:
            if n_new < n_before:
                return
            times.append(time.thread_time())
            if len(times) > model.config.fps:
                seconds[name] += times[-1] - times[0]
                turns[other].release()
                turns[name].acquire()
                times[:] = [time.thread_time()]

        prime, config = shipped_prime("Bach", 8), GenerationConfig(candidates=1)
        continue_rolls(model, [prime], n_before + minute, config, [1], after_frame, engine=engine)
        turns[other].release()

    threads = [
        threading.Thread(target=play, args=("last", "first", 9 * minute)),
        threading.Thread(target=play, args=("first", "last", 1)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds | {"ratio": seconds["last"] / seconds["first"]}


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", metavar="DATA_DIR")
    parser.add_argument("--checkpoint", default=str(SHIPPED_CHECKPOINT))
    parser.add_argument("--graphs", default=str(SHIPPED_CHECKPOINT.with_suffix(".onnx")))
    parser.add_argument("--split", default="validation")
    parser.add_argument("--pieces", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--continuations", type=int, default=100)
    parser.add_argument("--only-likelihood", choices=ENGINES, help="of one engine")
    parser.add_argument("--long", action="store_true", help="compare the last minute of ten with the first")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    model, graphs = checkpoint.model, Graphs(args.graphs, checkpoint.sha256)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # threads that take turns meet the same other work
    result = {}
    with single_thread():
        if args.pieces:
            pieces = [piece for piece in load_corpus(args.data_dir) if piece.split == args.split][: args.pieces]
            rolls = [roll[: round(args.seconds * roll.fps)] for roll in prepare(pieces, progress=False)]
            engines = {"torch": TorchEngine(model), "onnx": OnnxEngine(model, graphs)}
            if args.only_likelihood:
                engines = {args.only_likelihood: engines[args.only_likelihood]}
            result |= likelihood(engines, rolls)
            print(json.dumps(result), flush=True)
        if args.only_likelihood:
            return
        if args.continuations:
            result["same"] = same_continuations(model, graphs, args.continuations)
        result["ms per frame"] = compare_times(model, graphs)
        if args.long:
            result["CPU seconds of a minute"] = last_and_first_minute(model, graphs)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
