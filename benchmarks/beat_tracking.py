"""Compare found beats with ASAP's annotated ones: ``python benchmarks/beat_tracking.py DATA [--seconds 30] [...]``.

Each piece of a split is searched by `musicgen.evaluation.beat_tracking`, by parts of it, and by two classical trackers
that hear only the onsets: librosa's dynamic programming (Ellis 2007, ``pip install -e ".[bench]"``) with its default
tightness and with the best one for rubato that we found. ``benchmarks/results/beat_tracking.csv`` receives one row for
each method: the mean F-measure with a tolerance of 70 ms (Davies, Degara and Plumbley 2009), as it is and at the best
metrical level (the annotated beats, half or twice their tempo, or between them), that of the bars, and the processor
time per minute of music. Rolls have 20 frames per second: a found beat may be 25 ms off for this alone.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tables import append_row

from musicgen.beat_candidates import onset_strength
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.evaluation.beat_tracking import beat_f_measure, metrical_levels, propose_tracks, track_beats
from musicgen.model.given_beats import nll_given_beats
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.progress import progress_bar

RESULTS = Path(__file__).parent / "results" / "beat_tracking.csv"
TIGHTNESSES = (100, 30)  # of librosa; 100 is its default
FEWEST = 6  # annotated beats in a piece that counts


def librosa_beats(roll: PianoRoll, tightness: float) -> np.ndarray:
    """Track beats with librosa on the onset envelope that also proposes our candidates."""
    from librosa.beat import beat_track

    envelope = onset_strength(roll)
    options = {"sr": roll.fps, "hop_length": 1, "units": "time", "trim": False, "tightness": tightness}
    _, times = beat_track(onset_envelope=envelope, **options)
    return np.column_stack([times, np.zeros(len(times))])


def candidate_with_most_onsets(roll: PianoRoll) -> np.ndarray:
    """Return the candidate that meets most onsets, as a search without a model would."""
    strength = onset_strength(roll)

    def met(track: np.ndarray) -> float:
        frames = np.rint(track[:, 0] * roll.fps).astype(int)
        frames = frames[(frames >= 0) & (frames < roll.n_frames)]
        return strength[frames].sum() / np.sqrt(max(1, len(frames)))

    return max(propose_tracks(roll), key=met)


def inside(times: np.ndarray, roll: PianoRoll) -> np.ndarray:
    """Return the times that lie in a roll."""
    return times[(times >= 0) & (times < roll.duration_seconds)]


def measure(found: np.ndarray | None, roll: PianoRoll) -> list[float]:
    """Return the F-measure of the beats, at the best level, and of the bars (NaN if none are known)."""
    found = np.zeros((0, 2)) if found is None else found
    beats = inside(found[:, 0], roll)
    annotated = inside(roll.beats[:, 0], roll)
    bars = inside(found[found[:, 1] > 0, 0], roll)
    annotated_bars = inside(roll.beats[roll.beats[:, 1] > 0, 0], roll)
    best = max(beat_f_measure(beats, level) for level in metrical_levels(annotated))
    return [beat_f_measure(beats, annotated), best, beat_f_measure(bars, annotated_bars)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--start", type=float, default=20.0, help="first second of the excerpts")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each excerpt; 0 for whole pieces")
    parser.add_argument("--checkpoint", default=SHIPPED_CHECKPOINT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_checkpoint(args.checkpoint).model
    methods = {f"librosa, tightness {each}": lambda roll, each=each: librosa_beats(roll, each) for each in TIGHTNESSES}
    methods |= {
        "candidate that meets most onsets": candidate_with_most_onsets,
        "path of the model, no new tracks": lambda roll: track_beats(model, roll, n_rounds=0, with_bars=False),
        "path of the model": lambda roll: track_beats(model, roll),
    }
    scores = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    gains = []
    music = 0.0
    rolls = [roll for roll in prepare(load_corpus(args.data)).select(split=args.split) if roll.beats is not None]
    for roll in progress_bar_over(rolls):
        if args.seconds:
            start = min(round(args.start * roll.fps), max(0, roll.n_frames - round(args.seconds * roll.fps)))
            roll = roll[start : start + round(args.seconds * roll.fps)]
        if len(inside(roll.beats[:, 0], roll)) < FEWEST:
            continue
        music += roll.duration_seconds
        for name, track in methods.items():
            started = time.process_time()
            found = track(roll)
            seconds[name] += time.process_time() - started
            scores[name].append(measure(found, roll))
        beats = [each if each is None else each * [1, 0] for each in (None, found, roll.beats)]  # without bars
        free, ours, annotated = nll_given_beats(model, roll, beats)
        gains.append([free - ours, free - annotated])
    for name, rows in scores.items():
        f, best, bars = np.mean(rows, axis=0)
        row = {
            "method": name,
            "split": args.split,
            "n_pieces": len(rows),
            "minutes": round(music / 60, 1),
            "f_measure": round(f, 4),
            "f_at_best_level": round(best, 4),
            "bars_f_measure": round(bars, 4) if name == "path of the model" else "",
            "seconds_per_minute": round(60 * seconds[name] / music, 2),
            "command": " ".join(["python", *sys.argv]),
        }
        append_row(RESULTS, row)
        print(row)
    ours, annotated = np.sum(gains, axis=0) / music
    print(f"nats per second gained by the found beats {ours:.2f}, by the annotated ones {annotated:.2f}")


def progress_bar_over(rolls: list[PianoRoll]):
    """Yield rolls, with a progress bar."""
    with progress_bar("tracking", len(rolls), "piece") as bar:
        for roll in rolls:
            yield roll
            bar.update()


if __name__ == "__main__":
    main()
