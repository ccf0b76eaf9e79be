"""Tables and figures that compare pieces, and the times of a notebook."""

import time
from pathlib import Path

import numpy as np

from musicgen.corpora.folder import Piece
from musicgen.dataset import RollCache
from musicgen.lab.course.comparisons import compare, plot_splits
from musicgen.lab.course.timing import Times
from musicgen.piano_roll import PianoRoll


def test_each_row_shows_the_chosen_measures():
    rows = {"<b>real</b>": {"acf_std": 0.125, "memory": 0.5}, 0.85: {"acf_std": 1.0, "memory": 0.25}}
    text = compare(rows, ["memory"]).data
    assert "&lt;b&gt;real" in text and "0.50" in text and "0.85" in text and "0.25" in text
    assert "0.12" not in text and "acf std" not in text
    assert "acf std" in compare(rows).data


def test_the_minutes_of_each_composer_and_split_are_drawn(pyplot_keeps_nothing):
    about = [("Liszt", "train", 2400), ("Liszt", "test", 1200), ("Bach", "train", 600)]
    pieces = [Piece(Path("x"), str(n), composer, "", split) for n, (composer, split, _) in enumerate(about)]
    rolls = [PianoRoll(np.ones((n_frames, 88), np.uint8)) for *_, n_frames in about]
    ax = plot_splits(RollCache.from_rolls(pieces, rolls))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Bach", "Liszt"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths == {"train": [0.5, 2.0], "validation": [0, 0], "test": [0, 1.0]}


def test_times_are_kept_for_each_repetition():
    times = Times()
    with times.measure("sleep", 4):
        time.sleep(0.08)
    assert list(times) == ["sleep"] and 0.02 <= times["sleep"] < 1  # a busy machine sleeps longer
