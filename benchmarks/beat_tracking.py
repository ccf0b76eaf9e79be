"""Compare found beats with ASAP's annotated ones: ``python benchmarks/beat_tracking.py DATA --seconds 30``.

Each piece of a split, or an excerpt of it, is searched by `musicgen.evaluation.beat_tracking`, and by classical
trackers that hear only the onsets: librosa's dynamic programming (Ellis 2007, ``pip install -e ".[bench]"``) with its
default tightness and with one that allows more rubato, and our candidates without the model. All know the onsets to
10 ms. ``benchmarks/results/beat_tracking.csv`` receives a row for each: the mean F-measure with a tolerance of 70 ms
(Davies, Degara and Plumbley 2009), as it is and at the best metrical level (the annotated beats, half or twice their
tempo, or between them), that of the bars, and the processor time per minute of music. The pieces come in a random order
that is always the same; Ctrl-C ends early.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tables import append_row

from musicgen.beat_candidates import onset_strength
from musicgen.commands import FINER
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.evaluation.beat_tracking import Onsets, beat_f_measure, metrical_levels, propose_tracks, track_beats
from musicgen.midi import read_midi
from musicgen.model.given_beats import nll_given_beats
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

RESULTS = Path(__file__).parent / "results" / "beat_tracking.csv"
TIGHTNESSES = (100, 30)  # of librosa; 100 is its default
FEWEST = 6  # annotated beats in a piece that counts
OURS = "the model's path"


def librosa_beats(fine: PianoRoll, tightness: float) -> np.ndarray:
    """Track beats with librosa on the onset envelope that also proposes our candidates."""
    from librosa.beat import beat_track

    options = {"sr": fine.fps, "hop_length": 1, "units": "time", "trim": False, "tightness": tightness}
    _, times = beat_track(onset_envelope=onset_strength(fine), **options)
    return np.column_stack([times, np.zeros(len(times))])


def candidate_with_most_onsets(roll: PianoRoll, fine: PianoRoll) -> np.ndarray:
    """Return the candidate that meets most onsets, as a search without a model would."""
    onsets = Onsets(roll, fine)

    def met(track: np.ndarray) -> float:
        frames = np.rint(inside(track[:, 0], roll) * roll.fps).astype(int).clip(max=roll.n_frames - 1)
        return onsets.strength[frames].sum() / np.sqrt(max(1, len(frames)))

    return max(propose_tracks(onsets), key=met)


def inside(times: np.ndarray, roll: PianoRoll) -> np.ndarray:
    """Return the times that lie in a roll."""
    return times[(times >= 0) & (times < roll.duration_seconds)]


def measure(found: np.ndarray | None, roll: PianoRoll) -> tuple[float, float, float]:
    """Return the F-measure of the beats as they are, at the best level, and of the bars."""
    found = np.zeros((0, 2)) if found is None else found
    beats = inside(found[:, 0], roll)
    annotated = inside(roll.beats[:, 0], roll)
    bars = inside(found[found[:, 1] > 0, 0], roll)
    annotated_bars = inside(roll.beats[roll.beats[:, 1] > 0, 0], roll)
    best = max(beat_f_measure(beats, level) for level in metrical_levels(annotated))
    return beat_f_measure(beats, annotated), best, beat_f_measure(bars, annotated_bars)


def excerpts(args: argparse.Namespace) -> Iterator[tuple[str, PianoRoll, PianoRoll]]:
    """Yield the name, the roll and the finer roll of each excerpt with enough beats."""
    rolls = prepare(load_corpus(args.data)).select(split=args.split)
    for index in np.random.default_rng(0).permutation(len(rolls)):
        piece, roll = rolls.pieces[index], rolls[index]
        length = min(round(args.seconds * roll.fps), roll.n_frames)
        start = min(round(args.start * roll.fps), roll.n_frames - length)
        fine = read_midi(piece.path, FINER * roll.fps)[FINER * start : FINER * (start + length)]
        roll = roll[start : start + length]
        if roll.beats is not None and len(inside(roll.beats[:, 0], roll)) >= FEWEST:
            yield piece.name, roll, fine


def main() -> None:
    """Measure all methods on the same excerpts, print each, and append a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--start", type=float, default=20.0, help="first second of the excerpts")
    parser.add_argument("--seconds", type=float, default=1e9, help="of each excerpt; by default whole pieces")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_checkpoint(SHIPPED_CHECKPOINT).model
    methods = {f"librosa, tightness {n}": lambda roll, fine, n=n: librosa_beats(fine, n) for n in TIGHTNESSES}
    methods |= {
        "the candidate that meets most onsets": candidate_with_most_onsets,
        OURS: lambda roll, fine: track_beats(model, roll, fine),
    }
    measured = []  # of each piece: the values of each method
    gains = []
    music = []
    try:
        for name, roll, fine in excerpts(args):
            values = []
            for track in methods.values():
                started = time.process_time()
                found = track(roll, fine)
                values.append([time.process_time() - started, *measure(found, roll)])
            beats = [each if each is None else each * [1, 0] for each in (None, found, roll.beats)]  # without bars
            free, ours, annotated = nll_given_beats(model, roll, beats)
            measured.append(values)
            gains.append([free - ours, free - annotated])
            music.append(roll.duration_seconds)
            print(name, *(f"{f:.2f} {best:.2f}" for _, f, best, _ in values), *np.round(gains[-1]), flush=True)
    except KeyboardInterrupt:
        pass
    for method, values in zip(methods, np.mean(measured, axis=0)):
        seconds, f, best, bars = values.tolist()
        row = {
            "method": method,
            "split": args.split,
            "n_pieces": len(measured),
            "minutes": round(sum(music) / 60, 1),
            "f_measure": round(f, 4),
            "f_at_best_level": round(best, 4),
            "bars_f_measure": round(bars, 4) if method == OURS else "",
            "seconds_per_minute": round(60 * seconds / float(np.mean(music)), 2),
            "command": " ".join(["python", *sys.argv]),
        }
        append_row(RESULTS, row)
        print(row)
    ours, annotated = np.sum(gains, axis=0) / sum(music)
    print(f"gain in nats per second: found beats {ours:.2f}, annotated beats {annotated:.2f}")


if __name__ == "__main__":
    main()
