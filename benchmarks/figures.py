"""Draw the figures of the README and of docs/results.md: ``python benchmarks/figures.py [DATA [BLIND.png]]``.

notebooks/figures/copied.png shows what copy attention found at one moment of a bundled recording. With DATA, the folder
of MAESTRO with annotated beats, notebooks/figures/real_and_generated.png shows a recording above the continuation of
its first eight beats, with the default settings, the composer and seed 0. docs/before_and_after.png shows six pieces of
the validation split, which are evenly spread over its list, and two continuations of the first four seconds of each:
with one candidate and without beats and home, and with the default settings; both with seed 0. BLIND.png shows the same
without titles and beats, in an order that is printed: can a reader name the pianist?
"""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats, prime_recording
from musicgen.dataset import prepare
from musicgen.generation import GenerationConfig, continue_rolls, generate
from musicgen.lab import copy_at, plot_comparison, plot_copied, plot_roll
from musicgen.lab.figures.html import png_bytes
from musicgen.lab.figures.style import save_figure, subplots
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write

FIGURES = Path(__file__).parents[1] / "notebooks" / "figures"
PIECE, SECONDS = "Waldesrauschen", 30.0
COMPOSER, MOMENT = "Bach", 22.0  # seconds
BEFORE_AND_AFTER = Path(__file__).parents[1] / "docs" / "before_and_after.png"
N_PIECES, PRIME_FRAMES, N_NEW = 6, 80, 600
PIANIST = "the pianist"


def draw_copied(model: AttentionLSTM) -> None:
    """Draw what copy attention found at one moment of a recording."""
    roll = prime_recording(COMPOSER)[: round((MOMENT + 15) * 20)]
    save_figure(plot_copied(roll, copy_at(model, roll, MOMENT)), FIGURES / "copied.png")


def draw_real_and_generated(model: AttentionLSTM, data: str) -> None:
    """Draw a recording above its continuation."""
    pieces = [piece for piece in load_corpus(data) if PIECE in piece.title and piece.split == "test"]
    [roll], piece = prepare(pieces[-1:], progress=False), pieces[-1]
    prime, first = first_annotated_beats(roll), int(roll.notes["start_frame"][0])
    new = generate(model, prime, GenerationConfig(seconds=SECONDS), piece.composer)
    title = f"{piece.composer}: {piece.title}"
    save_figure(plot_comparison(roll[first:], new, prime.n_frames, title), FIGURES / "real_and_generated.png")


def before_and_after(model: AttentionLSTM, data: str) -> tuple[list[str], dict[str, list[PianoRoll]]]:
    """Return the names of six recordings, and these and two continuations of each by the titles of their columns."""
    rolls = prepare(load_corpus(data), progress=False).select(split="validation")
    long = [number for number, roll in enumerate(rolls) if roll.n_frames >= PRIME_FRAMES + N_NEW]
    chosen = long[:: len(long) // N_PIECES][:N_PIECES]
    real = [rolls[number][: PRIME_FRAMES + N_NEW] for number in chosen]
    primes = [PianoRoll(roll.velocity, roll.fps, roll.pedal)[:PRIME_FRAMES] for roll in real]
    before = GenerationConfig(candidates=1, beat=False, home=False)
    columns = {PIANIST: real}
    for title, config in (("one candidate, no beats, no home", before), ("the defaults", GenerationConfig())):
        columns[title] = continue_rolls(model, primes, N_NEW, config, [0] * N_PIECES)
    names = [f"{rolls.pieces[number].composer}: {rolls.pieces[number].title[:36]}" for number in chosen]
    return names, columns


def draw_before_and_after(names: list[str], columns: dict[str, list[PianoRoll]]) -> None:
    """Draw a row per piece, and its three versions beside each other; the pianist's has the name of the piece."""
    rows = []
    for row, name in enumerate(names):
        rows.append([(name if title == PIANIST else title, rolls[row]) for title, rolls in columns.items()])
    save_grid(rows, BEFORE_AND_AFTER)


def draw_blind(columns: dict[str, list[PianoRoll]], path: Path) -> None:
    """Draw the same without titles and beats, the versions of each piece in random order, and print the orders."""
    random = np.random.default_rng()
    rows = []
    for row in range(N_PIECES):
        titles = random.permutation(list(columns))
        print(f"row {row + 1}: {', '.join(titles)}")
        versions = [replace(columns[title][row], beats=None) for title in titles]
        rows.append([(letter, roll) for letter, roll in zip("ABC", versions)])
    save_grid(rows, path)


def save_grid(rows: list[list[tuple[str, PianoRoll]]], path: Path) -> None:
    """Draw rows of titled rolls that begin with the same prime."""
    _, axes = subplots(len(rows), len(rows[0]), size=(18, 2.6 * len(rows)), sharex=True, sharey="row")
    for ax, (title, roll) in zip(axes.flat, itertools.chain(*rows)):
        plot_roll(roll, ax, title, PRIME_FRAMES, rest="", velocity_bar=False).label_outer()
    with atomic_write(path) as temporary:
        temporary.write_bytes(png_bytes(axes[0, 0], 80))


if __name__ == "__main__":
    shipped = load_checkpoint(SHIPPED_CHECKPOINT).model
    draw_copied(shipped)
    if len(sys.argv) > 1:
        draw_real_and_generated(shipped, sys.argv[1])
        names, versions = before_and_after(shipped, sys.argv[1])
        draw_before_and_after(names, versions)
        if len(sys.argv) > 2:
            draw_blind(versions, Path(sys.argv[2]))
