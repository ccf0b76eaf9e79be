"""The listening test: both versions are alike but for the music, and the page does not tell which is which."""

import json
import re
from pathlib import Path

import listening
import numpy as np
import pytest

from musicgen.corpora.folder import Piece
from musicgen.dataset import RollCache
from musicgen.piano_roll import PianoRoll

SECONDS = 6.0


@pytest.fixture(scope="module")
def rolls():
    """Five pieces of ten seconds with a beat every half second; the first three are tested, one has no beats."""
    random, beats = np.random.default_rng(3), np.column_stack([np.arange(22) * 0.5, np.arange(22) % 4 == 0])
    made, pieces = [], []
    for number, (composer, split) in enumerate(
        [("Bach", "test"), ("<b>Liszt", "test"), ("Bach", "test"), ("Bach", "validation"), ("Chopin", "test")]
    ):
        velocity = np.zeros((200, 88), np.uint8)
        velocity[:, 40 + number] = 60 * (random.random(200) < 0.6)
        velocity[[0, -1], 30] = 70
        pieces.append(Piece(Path("x"), f"{number}.mid", composer, "Étude", split, None if number == 4 else beats))
        made.append(PianoRoll(velocity))
    return RollCache.from_rolls(pieces, made)


@pytest.fixture(scope="module")
def items(rolls, tiny_model):
    return listening.make_items(tiny_model(n_pitches=88), rolls, 3, SECONDS)


def test_composers_take_turns_and_the_test_split_comes_first(rolls):
    chosen = listening.choose_pieces(rolls, 9, SECONDS)
    assert chosen[0] == 1 and sorted(chosen[1:3]) == [0, 2] and chosen[3:] == [3]  # "<" comes before "B"
    assert listening.choose_pieces(rolls, 2, SECONDS) == chosen[:2]
    assert listening.choose_pieces(rolls, 9, 10.5) == []


def test_both_versions_are_equally_long_and_loud_and_fade_out():
    quiet, loud = np.zeros((2, 120, 88), np.uint8)
    quiet[::7, 20], loud[::3, 50] = 20, 120
    one, other = listening.same_loudness([PianoRoll(quiet), PianoRoll(loud)], SECONDS)
    assert len(one.samples) == len(other.samples) == round(SECONDS * one.rate)
    assert np.sqrt((one.samples**2).mean()) == pytest.approx(np.sqrt((other.samples**2).mean()), rel=0.01)
    assert abs(one.samples[-20:]).max() < 1e-3 and abs(one.samples).max() <= 0.9


def test_the_order_is_random_and_depends_on_the_seed_only(items, rolls, tiny_model):
    again = listening.make_items(tiny_model(n_pitches=88), rolls, 3, SECONDS)
    assert items == again and {item["real"] for item in items} == {0, 1}


def test_the_page_loads_nothing_tells_nothing_and_shows_text_as_text(items):
    page = listening.make_page(items)
    data = json.loads(re.search(r"const items = (\[.*\]);", page)[1])
    assert data == items and "&lt;b&gt;Liszt" in items[0]["title"] and "<b>Liszt" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|fetch\(", page)
    visible = re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)
    assert "Liszt" not in visible and "data:" not in visible
