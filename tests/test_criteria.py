"""The criteria of a hundred pieces: what is compared with which limit."""

from pathlib import Path

import criteria
import numpy as np
import pytest

from musicgen.corpora.folder import Piece
from musicgen.dataset import RollCache
from musicgen.piano_roll import PianoRoll


@pytest.fixture
def rolls(monkeypatch):
    """Two pieces of 13 and 21 seconds, whose openings are four seconds; a minute has three."""
    monkeypatch.setattr(criteria, "SECONDS", 3)
    monkeypatch.setattr("pieces.SECONDS", 3)
    velocity = np.where(np.random.default_rng(0).random((420, 88)) < 0.05, 60, 0).astype(np.uint8)
    pieces = [Piece(Path("x"), f"{number}.mid", "Bach", "Fugue", "test") for number in range(2)]
    return RollCache.from_rolls(pieces, [PianoRoll(velocity[:260]), PianoRoll(velocity)])


def test_every_opening_is_continued_about_equally_often_and_kept(rolls, tiny_model, tmp_path, monkeypatch):
    model = tiny_model(n_pitches=88)
    made = list(criteria.generated(model, rolls, 5, tmp_path))
    assert [each.about["part"] for each in made] == [0, 1, 2, 0, 1]
    assert all(each.roll.n_frames == 80 + 60 and each.roll[:80] == each.prime for each in made)
    assert made[0].roll != made[1].roll and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(criteria, "continue_rolls", None)
    assert [each.roll for each in criteria.generated(model, rolls, 5, tmp_path)] == [each.roll for each in made]
    with pytest.raises(TypeError):  # another model plays anew
        list(criteria.generated(tiny_model(1, n_pitches=88), rolls, 5, tmp_path))


def test_real_music_is_cut_into_minutes_the_first_of_each_piece_first(rolls):
    made = criteria.real_minutes(rolls, 7)
    assert [(each.about["prime"], each.about["part"]) for each in made] == [
        ("0.mid", 0), ("1.mid", 0), ("0.mid", 1), ("1.mid", 1), ("0.mid", 2), ("1.mid", 2), ("1.mid", 3),
    ]  # fmt: skip
    assert criteria.described(made[5]).velocity.tolist() == rolls[1].velocity[200:260].tolist()


def test_only_the_limit_of_real_music_may_be_reached():
    low = {
        "longest_silence_seconds": 1.0,
        "longest_note_seconds": 2.0,
        "longest_repeat_seconds": 3.0,
        "shared_notes": 9,
    }
    high = {"longest_silence_seconds": 8.0, "longest_note_seconds": 14.9, "longest_repeat_seconds": 20.5}
    rows = [{"source": "generated"} | low, {"source": "generated"} | high | {"shared_notes": 12}]
    judged = criteria.judge([*rows, {"source": "real"} | low | {"shared_notes": 12}], "the command")
    assert [row["n_beyond"] for row in judged] == [1, 0, 1, 0] and {row["n_pieces"] for row in judged} == {2}
    assert [row["limit"] for row in judged] == [8, 15, 20, 12] and judged[1]["value"] == 14.9
    assert {row["n_real_beyond"] for row in judged} == {0} and judged[0]["command"] == "the command"
