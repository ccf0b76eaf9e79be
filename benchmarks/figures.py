"""Draw the two figures of the README: ``python benchmarks/figures.py [DATA]``.

notebooks/figures/copied.png shows what copy attention found at one moment of a bundled recording. With DATA, the folder
of MAESTRO with annotated beats, notebooks/figures/real_and_generated.png shows a recording above the continuation of
its first eight beats, with the default settings, the composer and seed 0.
"""

import sys
from pathlib import Path

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats, prime_recording
from musicgen.dataset import prepare
from musicgen.generation import GenerationConfig, generate
from musicgen.lab import copy_at, plot_comparison, plot_copied
from musicgen.lab.figures.style import save_figure
from musicgen.model import AttentionLSTM
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

FIGURES = Path(__file__).parents[1] / "notebooks" / "figures"
PIECE, SECONDS = "Waldesrauschen", 30.0
COMPOSER, MOMENT = "Bach", 22.0  # seconds


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


if __name__ == "__main__":
    shipped = load_checkpoint(SHIPPED_CHECKPOINT).model
    draw_copied(shipped)
    if len(sys.argv) > 1:
        draw_real_and_generated(shipped, sys.argv[1])
