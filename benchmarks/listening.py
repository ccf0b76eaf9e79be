"""Make a blind listening test: ``python benchmarks/listening.py [DATA]``.

The test has twelve performances, each beside the shipped model's continuation of its first eight beats, 40 seconds of
both. They are chosen by rule, not by ear, among the pieces with annotated beats that last at least 40 seconds from
their first note: from the test split or, if these are too few, also from the validation and then the training split.
Composers take turns, and the pieces of one composer are ordered by the hash of their names. Each work comes once: a
piece is left out if three quarters of the pitches in its first eight beats are those of a piece before it. The model
plays with the default settings, is given the composer, and continues the beat; its seed is the number of the piece.
Both versions have the same length, renderer and fade-out. Their openings are equally loud, and so are their
continuations, to which the volume changes over two seconds. A coin decided which of the two comes first.
"""

import argparse
import hashlib
import json
import random
import sys
import webbrowser
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats
from musicgen.corpora.sample import sample_corpus
from musicgen.dataset import Piece, RollCache, prepare
from musicgen.generation import GenerationConfig, generate
from musicgen.lab.figures.html import escape, png_bytes
from musicgen.lab.figures.rolls import plot_rolls
from musicgen.lab.player.sound import Sound, mp3_bytes, render
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write

N_PIECES, SECONDS, FADE_SECONDS = 12, 40, 2
N_BEATS, SAME_WORK = 8, 0.75  # the share of pitches, with octave and number, that two openings have in common
LOUDNESS = 0.05  # root mean square of the continuations, unless one would be clipped
RAMP_SECONDS, MOST_GAIN = 2, 4  # how fast and by how much the volume changes after the opening
N_STEPS = 8  # to find how much it must change
PAGE = Path(__file__).with_name("listening.html")


def choose_pieces(rolls: RollCache, n_pieces: int = N_PIECES, seconds: float = SECONDS) -> list[int]:
    """Return the indices of the pieces by the rule above."""
    chosen, openings = [], []
    for i in _in_turn(rolls, [i for i, roll in enumerate(rolls) if _fits(roll, seconds)]):
        pitches = Counter(first_annotated_beats(rolls[i], N_BEATS).notes["pitch"].tolist())
        if len(chosen) < n_pieces and not any(_in_common(pitches, other) >= SAME_WORK for other in openings):
            chosen.append(i)
            openings.append(pitches)
    return chosen


def _in_turn(rolls: RollCache, indices: list[int]) -> list[int]:
    """Sort the pieces by split; within a split composers take turns."""
    ordered = []
    for split in ("test", "validation", "train"):
        own = sorted((i for i in indices if rolls.pieces[i].split == split), key=lambda i: _hash(rolls.pieces[i]))
        composers = sorted({rolls.pieces[i].composer for i in own})
        queues = [[i for i in own if rolls.pieces[i].composer == composer] for composer in composers]
        ordered += [i for turn in zip_longest(*queues) for i in turn if i is not None]
    return ordered


def _hash(piece: Piece) -> bytes:
    return hashlib.sha256(piece.name.encode(errors="surrogateescape")).digest()


def _in_common(one: Counter, other: Counter) -> float:
    return 2 * (one & other).total() / (one.total() + other.total())


def _fits(roll: PianoRoll, seconds: float) -> bool:
    """Return whether a roll lasts long enough and has more than the beats of the prime in that time."""
    if roll.beats is None or not roll.n_notes or (music := _from_first_note(roll, seconds)) is None:
        return False
    return ((music.beats[:, 0] >= 0) & (music.beats[:, 0] < seconds)).sum() > N_BEATS


def _from_first_note(roll: PianoRoll, seconds: float) -> PianoRoll | None:
    """Return the opening of a roll from its first note on, or None if the roll is too short."""
    first, n_frames = int(roll.notes["start_frame"][0]), round(seconds * roll.fps)
    return roll[first : first + n_frames] if roll.n_frames >= first + n_frames else None


def continue_piece(model: AttentionLSTM, piece: Piece, roll: PianoRoll, seed: int, seconds: float) -> PianoRoll:
    """Continue the first eight beats of a piece with the default settings."""
    composer = piece.composer if piece.composer in model.config.composers else None
    return generate(model, first_annotated_beats(roll, N_BEATS), GenerationConfig(seconds=seconds, seed=seed), composer)


def same_loudness(rolls: Sequence[PianoRoll], seconds: float, prime_seconds: float) -> list[Sound]:
    """Play rolls for the same time, equally loud in the opening and again after it, with the same fade-out."""
    sounds = [_faded(render(roll), seconds) for roll in rolls]
    rate = sounds[0].rate
    first = round(prime_seconds * rate)
    samples = [sound.samples / _rms(sound.samples[:first]) for sound in sounds]
    ramp = np.clip((np.arange(len(samples[0])) - first) / (RAMP_SECONDS * rate), 0, 1)
    changes, played = np.ones(len(samples)), samples
    for _ in range(N_STEPS):
        levels = np.array([_rms(each[first:]) for each in played])
        changes = np.clip(changes * np.exp(np.log(levels).mean()) / levels, 1 / MOST_GAIN, MOST_GAIN)
        played = [each * change**ramp for each, change in zip(samples, changes)]
    loudest, largest = max(_rms(each[first:]) for each in played), max(np.abs(each).max() for each in played)
    gain = min(LOUDNESS / loudest, 0.89 / max(largest, 1e-9))
    return [Sound((each * gain).astype(np.float32), rate) for each in played]


def _faded(sound: Sound, seconds: float) -> Sound:
    samples = sound.samples[: round(seconds * sound.rate)].copy()
    n_fading = round(FADE_SECONDS * sound.rate)
    samples[-n_fading:] *= np.linspace(1, 0, n_fading, dtype=np.float32)
    return Sound(samples, sound.rate)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples**2).mean())) + 1e-9


def make_item(piece: Piece, real: PianoRoll, generated: PianoRoll, prime_frames: int, real_first: bool) -> dict:
    """Return the data of one piece for the page, whose script reads `real` only after the listener has chosen."""
    rolls = [real, generated] if real_first else [generated, real]
    names = ["the pianist", "the model"] if real_first else ["the model", "the pianist"]
    sounds = same_loudness(rolls, real.duration_seconds, prime_frames / real.fps)
    figure = png_bytes(plot_rolls({f"{'AB'[i]}: {names[i]}": roll for i, roll in enumerate(rolls)}, prime_frames), 60)
    return {
        "sounds": [b64encode(mp3_bytes(sound)).decode() for sound in sounds],
        "title": escape(f"{piece.composer}: {piece.title} ({piece.split} split)"),
        "split": piece.split,
        "real": names.index("the pianist"),
        "figure": b64encode(figure).decode(),
    }


def make_page(items: list[dict]) -> str:
    """Return the page; it loads nothing from anywhere."""
    data = json.dumps(items).replace("<", "\\u003c")
    rule = escape(" ".join(__doc__.split("\n\n", 1)[1].split()))
    page = PAGE.read_text(encoding="utf-8").replace("<!--RULE-->", rule).replace("<!--SPLITS-->", splits(items))
    return page.replace("/*ITEMS*/", data)


def splits(items: list[dict]) -> str:
    """Say how many pieces come from which split, and which of them the model was trained on."""
    counts = Counter(item["split"] for item in items)
    text = ", ".join(f"{n} from the {split} split" for split, n in counts.items())
    told = " The model was trained on the recordings of the training split." if counts["train"] else ""
    return f"The pieces: {text.replace('train split', 'training split')}.{told}"


def make_items(model: AttentionLSTM, rolls: RollCache, n_pieces: int, seconds: float, seed: int = 0) -> list[dict]:
    """Make the items of the page. The coins are independent, so that the answers so far tell nothing about the next."""
    chosen, items, coins = choose_pieces(rolls, n_pieces, seconds), [], random.Random(seed)
    for number, index in enumerate(chosen):
        piece, real = rolls.pieces[index], _from_first_note(rolls[index], seconds)
        print(f"{number + 1}/{len(chosen)} {piece.composer}: {piece.title}", file=sys.stderr)
        generated = continue_piece(model, piece, rolls[index], number, seconds)
        prime_frames = first_annotated_beats(rolls[index], N_BEATS).n_frames
        items.append(make_item(piece, real, generated, prime_frames, coins.random() < 0.5))
    return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=sample_corpus(), help="by default the bundled sample")
    parser.add_argument("--out", type=Path, default=Path("outputs/listening/index.html"))
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    rolls, model = prepare(load_corpus(args.data)), load_checkpoint(SHIPPED_CHECKPOINT).model
    items = make_items(model, rolls, N_PIECES, SECONDS)
    if not items:
        raise SystemExit(f"{args.data} has no piece with annotated beats that lasts {SECONDS} s from its first note")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as temporary:
        temporary.write_text(make_page(items), encoding="utf-8")
    opened = not args.no_browser and webbrowser.open(args.out.resolve().as_uri())
    print(args.out if opened else f"Open this file in a browser: {args.out.resolve()}")


if __name__ == "__main__":
    main()
