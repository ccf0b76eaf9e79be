"""Make a blind listening test: ``python benchmarks/listening.py [DATA]``.

The test has twelve performances, each beside the shipped model's continuation of its first eight beats, 40 seconds of
both. They are chosen by rule, not by ear, among the pieces with annotated beats that last at least 40 seconds from
their first note: from the test split or, if these are too few, also from the validation and the training split.
Composers take turns, and the pieces of one composer are ordered by the hash of their names. The model plays with the
default settings, is given the composer, and continues the beat; its seed is the number of the piece. Both versions have
the same length, renderer, loudness and fade-out.
"""

import argparse
import hashlib
import json
import random
import sys
import webbrowser
from base64 import b64encode
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from musicgen.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats
from musicgen.corpora.sample import sample_corpus
from musicgen.dataset import Piece, RollCache, prepare
from musicgen.generation import GenerationConfig, generate
from musicgen.lab.audio import Sound, mp3_bytes, render
from musicgen.lab.figures import png_bytes
from musicgen.lab.html import escape
from musicgen.lab.plots import plot_rolls
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.support.files import atomic_write

N_PIECES, SECONDS, FADE_SECONDS = 12, 40, 2
LOUDNESS = 0.05  # root mean square, which both versions of a piece get unless one would be clipped
PAGE = Path(__file__).with_name("listening.html")


def choose_pieces(rolls: RollCache, n_pieces: int = N_PIECES, seconds: float = SECONDS) -> list[int]:
    """Return the indices of the pieces by the rule above."""
    long = [i for i, roll in enumerate(rolls) if roll.beats is not None and _from_first_note(roll, seconds)]
    chosen = []
    for split in ("test", "validation", "train"):
        own = [i for i in long if rolls.pieces[i].split == split]
        composers = sorted({rolls.pieces[i].composer for i in own})
        queues = [sorted((i for i in own if rolls.pieces[i].composer == c), key=_hash(rolls.pieces)) for c in composers]
        chosen += [i for turn in zip_longest(*queues) for i in turn if i is not None]
    return chosen[:n_pieces]


def _hash(pieces: Sequence[Piece]):
    return lambda i: hashlib.sha256(pieces[i].name.encode(errors="surrogateescape")).digest()


def _from_first_note(roll: PianoRoll, seconds: float) -> PianoRoll | None:
    """Return the opening of a roll from its first note on, or None if the roll is too short."""
    first, n_frames = int(roll.notes["start_frame"][0]), round(seconds * roll.fps)
    return roll[first : first + n_frames] if roll.n_frames >= first + n_frames else None


def continue_piece(model: AttentionLSTM, piece: Piece, roll: PianoRoll, seed: int, seconds: float) -> PianoRoll:
    """Continue the first eight beats of a piece with the default settings."""
    composer = piece.composer if piece.composer in model.config.composers else None
    return generate(model, first_annotated_beats(roll), GenerationConfig(seconds=seconds, seed=seed), composer)


def same_loudness(rolls: Sequence[PianoRoll], seconds: float) -> list[Sound]:
    """Play rolls for the same time, equally loud, with the same fade-out."""
    sounds = []
    for roll in rolls:
        sound = render(roll)
        samples = sound.samples[: round(seconds * sound.rate)]
        fade = np.linspace(1, 0, round(FADE_SECONDS * sound.rate), dtype=np.float32)
        samples[-len(fade) :] *= fade
        sounds.append(Sound(samples * np.float32(LOUDNESS / (np.sqrt((samples**2).mean()) + 1e-9)), sound.rate))
    gain = np.float32(min(1.0, 0.89 / max(np.abs(sound.samples).max() for sound in sounds)))
    return [Sound(sound.samples * gain, sound.rate) for sound in sounds]


def make_item(piece: Piece, real: PianoRoll, generated: PianoRoll, prime_frames: int, real_first: bool) -> dict:
    """Return the data of one piece for the page, whose script reads `real` only after the listener has chosen."""
    rolls = [real, generated] if real_first else [generated, real]
    names = ["the pianist", "the model"] if real_first else ["the model", "the pianist"]
    figure = png_bytes(plot_rolls({f"{'AB'[i]}: {names[i]}": roll for i, roll in enumerate(rolls)}, prime_frames), 60)
    return {
        "sounds": [b64encode(mp3_bytes(sound)).decode() for sound in same_loudness(rolls, real.duration_seconds)],
        "title": escape(f"{piece.composer}: {piece.title} ({piece.split} split)"),
        "real": names.index("the pianist"),
        "figure": b64encode(figure).decode(),
    }


def make_page(items: list[dict]) -> str:
    """Return the page; it loads nothing from anywhere."""
    data = json.dumps(items).replace("<", "\\u003c")
    rule = escape(" ".join(__doc__.split("\n\n", 1)[1].split()))
    return PAGE.read_text(encoding="utf-8").replace("/*ITEMS*/", data).replace("<!--RULE-->", rule)


def make_items(model: AttentionLSTM, rolls: RollCache, n_pieces: int, seconds: float, seed: int = 0) -> list[dict]:
    """Make the items of the page, half of them with the pianist first, in random order."""
    chosen, items = choose_pieces(rolls, n_pieces, seconds), []
    order = [i % 2 == 0 for i in range(len(chosen))]
    random.Random(seed).shuffle(order)
    for number, (index, real_first) in enumerate(zip(chosen, order)):
        piece, real = rolls.pieces[index], _from_first_note(rolls[index], seconds)
        print(f"{number + 1}/{len(chosen)} {piece.composer}: {piece.title}", file=sys.stderr)
        generated = continue_piece(model, piece, rolls[index], number, seconds)
        items.append(make_item(piece, real, generated, first_annotated_beats(rolls[index]).n_frames, real_first))
    return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=sample_corpus(), help="by default the bundled sample")
    parser.add_argument("--out", type=Path, default=Path("outputs/listening.html"))
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    rolls, model = prepare(load_corpus(args.data)), load_checkpoint(SHIPPED_CHECKPOINT).model
    page = make_page(make_items(model, rolls, N_PIECES, SECONDS))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(args.out)
    if not args.no_browser:
        webbrowser.open(args.out.resolve().as_uri())


if __name__ == "__main__":
    main()
