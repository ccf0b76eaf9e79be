import sys

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from musicgen.corpora.folder import Piece
from musicgen.lab import corpus_view
from musicgen.lab.player.sound import Sound
from musicgen.midi import write_midi
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """Two pieces by Liszt, one by Bach, and a file that is broken."""
    monkeypatch.setattr(
        sys.modules["musicgen.lab.player.player"], "render", lambda roll: Sound(np.zeros(800, np.float32), 8000)
    )
    made = []
    for pitch, (composer, title) in enumerate([("Franz Liszt", "B"), ("J. S. Bach", "A"), ("Franz Liszt", "C")], 60):
        roll = PianoRoll.from_notes(np.array([(pitch, 70, 0, 100)], NOTE_DTYPE))
        write_midi(roll, tmp_path / f"{title}.mid")
        made.append(Piece(tmp_path / f"{title}.mid", f"{title}.mid", composer, title, "train"))
    (tmp_path / "broken.mid").write_bytes(b"MThd and nothing more")
    return [*made, Piece(tmp_path / "broken.mid", "broken.mid", "unknown", "broken", "test")]


def parts(box):
    (composer, piece, sustain), stage = box.children[0].children, box.children[1]
    return composer, piece, sustain, stage


def test_a_piece_is_shown_with_its_name_as_far_as_asked(pieces):
    shown = corpus_view.show_piece(pieces[0], seconds=2)
    assert {title: roll.n_frames for title, roll in shown.rolls.items()} == {"Franz Liszt: B (train)": 40}


def test_the_pieces_of_the_chosen_composer_are_offered(pieces):
    composer, piece, *_ = parts(corpus_view.browse(pieces))
    assert [label for label, _ in composer.options] == [
        "all composers (4)",
        "J. S. Bach (1)",
        "Franz Liszt (2)",
        "unknown (1)",
    ]
    assert len(piece.options) == 4
    composer.value = "Franz Liszt"
    assert [label for label, _ in piece.options] == ["B (train)", "C (train)"]


def test_a_choice_shows_that_piece_and_a_broken_one_says_why(pieces, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(corpus_view, "display", lambda player: shown.append(*player.rolls))
    composer, piece, sustain, _ = parts(corpus_view.browse(pieces))
    composer.value = "J. S. Bach"
    sustain.value = True
    assert shown == ["Franz Liszt: B (train)", "J. S. Bach: A (train)", "J. S. Bach: A (train)"]
    composer.value = "unknown"
    assert len(shown) == 3
    assert "broken MIDI file" in capsys.readouterr().out
