"""What the exported graphs change: the likelihood of real pieces, the continuations, and the time of a frame.

``python benchmarks/engines.py DATA_DIR [--graphs FILE.onnx] [--checkpoint C] [--split validation] [--pieces N]``

Prints a table in JSON. The likelihood is teacher-forced on whole pieces without composers, beats and home, as in
``python -m musicgen evaluate``; the graphs run frame by frame.
"""

import argparse
import json
import time

import numpy as np
import torch
from torch.nn import functional as F

from musicgen.beats import N_BEAT_FEATURES
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.dataset import pad, prepare
from musicgen.evaluation.likelihood import mean_nll
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.generation.engines import Graphs, OnnxEngine
from musicgen.generation.steps import Frames
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.inference import single_thread

BATCH = 16  # pieces at once
TWO_SECONDS = 40  # frames


@torch.inference_mode()
def nll_of_graphs(engine: OnnxEngine, rolls: list[PianoRoll]) -> float:
    """Return the negative log-likelihood of whole rolls, in nats per frame, as `mean_nll` of a model."""
    total = 0.0
    n_frames = 0
    rolls = sorted(rolls, key=lambda roll: roll.n_frames)
    for start in range(0, len(rolls), BATCH):
        some = rolls[start : start + BATCH]
        velocity, lengths = pad([roll.velocity for roll in some])
        pedal = np.zeros(velocity.shape[:2], np.float32)
        for row, roll in zip(pedal, some):
            row[: roll.n_frames] = 0 if roll.pedal is None else roll.pedal
        velocity, pedal = torch.from_numpy(velocity), torch.from_numpy(pedal)
        composers = torch.zeros(len(some), dtype=torch.long)
        beats = torch.zeros(len(some), 1, N_BEAT_FEATURES)
        state = None
        for t in range(velocity.shape[1] - 1):
            frames = Frames(velocity[:, t : t + 1], pedal[:, t : t + 1], beats, composers)
            known, state = engine.step(frames, state)
            target = (velocity[:, t + 1] > 0).float()
            logits, _ = engine.pitch_logits(known, pedal[:, t + 1], target)
            nll = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
            counts = torch.from_numpy(lengths > t + 1)
            total += float(nll[counts].sum())
            n_frames += int(counts.sum())
    return total / n_frames


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


def ms_per_frame(model, engine: str | Graphs, n_pieces: int, n_frames: int) -> float:
    """Return the milliseconds of CPU time per frame of some pieces at once."""
    prime, config = shipped_prime("Bach", 8), GenerationConfig(seed=1)
    times = []
    for n in (1, n_frames + 1):  # without the start
        started = time.thread_time()
        continue_rolls(model, [prime] * n_pieces, n, config, [1] * n_pieces, engine=engine)
        times.append(time.thread_time() - started)
    return 1000 * (times[1] - times[0]) / n_frames


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
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    model, graphs = checkpoint.model, Graphs(args.graphs, checkpoint.sha256)
    torch.set_num_threads(1)
    result = {}
    with single_thread():
        if args.pieces:
            pieces = [piece for piece in load_corpus(args.data_dir) if piece.split == args.split][: args.pieces]
            rolls = [roll[: round(args.seconds * roll.fps)] for roll in prepare(pieces, progress=False)]
            result["nll"] = {"torch": mean_nll(model, rolls), "onnx": nll_of_graphs(OnnxEngine(model, graphs), rolls)}
            print(json.dumps(result), flush=True)
        if args.continuations:
            result["same"] = same_continuations(model, graphs, args.continuations)
        for n_pieces in (1, 8):
            for name, each in {"torch": "torch", "onnx": graphs}.items():
                result[f"ms per frame, {n_pieces} pieces, {name}"] = ms_per_frame(model, each, n_pieces, 100)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
