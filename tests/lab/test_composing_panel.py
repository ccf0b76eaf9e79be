"""The generation panel without a browser: primes from everywhere, bad ones told, pieces kept."""

from datetime import datetime

import numpy as np
import pytest
import raw_midi

from musicgen.corpora.folder import Piece
from musicgen.lab.panels.composing import ComposePanel, GenerationPanel, thumbnail
from musicgen.midi import MidiError, midi_bytes, read_performance, write_midi
from musicgen.piano_roll import PianoRoll


@pytest.fixture(scope="module")
def music():
    velocity = np.zeros((120, 88), np.uint8)
    velocity[0:50, 30], velocity[50:120, 35] = 80, 60
    return PianoRoll(velocity)


@pytest.fixture
def panel(tiny_model, tmp_path, music, quick_sound):
    write_midi(music, tmp_path / "piece.mid")
    piece = Piece(tmp_path / "piece.mid", "piece.mid", "Somebody", "Two notes", "test")
    return GenerationPanel(tiny_model(n_pitches=88, composers=("Bach",)), [piece], tmp_path / "made", seconds=6)


def upload(panel, name, content):
    file = {
        "name": name,
        "type": "audio/midi",
        "size": len(content),
        "content": content,
        "last_modified": datetime.now(),
    }
    panel.prime.upload.value = (file,)


def test_every_way_to_begin_gives_a_prime(panel, music):
    panel.prime.beats.value = 4
    panel.prime.keyboard.notes = [[60, 80, 0.0, 1.0]]
    upload(panel, "mine.mid", midi_bytes(music))
    ways = {}
    for way in panel.prime.way.options:
        panel.prime.way.value = way
        prime, name = panel.prime.opening()
        ways[way] = (prime and prime.n_frames, name)
    assert ways == {
        "a shipped opening": (26, "Chopin: Étude in C sharp minor, op. 10 no. 4"),
        "a piece of the corpus": (40, "Somebody: Two notes"),
        "a MIDI file of mine": (40, "mine.mid"),
        "what I play": (20, "What was played"),
        "nothing": (None, "Out of silence"),
    }


def test_a_piece_is_composed_shown_kept_saved_and_taken_out(panel, tmp_path):
    panel.prime.beats.value = 4
    assert panel.composer.label == "nobody"
    panel.composer.value = "Bach"
    panel.go.click()
    assert "6 s of music" in panel.message.value
    assert "in the style of Bach, seed 0" in panel.shown.value and "<iframe" in panel.shown.value
    panel.keep.click()
    panel.another.click()
    panel.keep.click()
    first, second = panel.gallery.children
    assert (first.take.config.seed, second.take.config.seed) == (0, 1)
    panel.show(first.take)
    assert panel.take is first.take
    assert '"frames": 120' in panel.shown.value.replace("&quot;", '"')
    panel.only_new.value = True
    assert '"frames": 94' in panel.shown.value.replace("&quot;", '"'), "the prime of 26 frames is left out"
    first._save()
    assert "saved" in first.message.value and len(list((tmp_path / "made").iterdir())) == 3
    first._remove()
    assert panel.gallery.children == (second,)


@pytest.mark.parametrize(
    ("name", "content"),
    [("<script>.mid", b"no music"), ("../../etc/bad.mid", b"MThd and no more"), ("empty.mid", b"")],
)
def test_a_bad_upload_is_told_by_its_name_alone(panel, name, content):
    upload(panel, name, content)
    assert "musicgen-error" in panel.prime.message.value
    assert "<script>" not in panel.prime.message.value and "upload.mid" not in panel.prime.message.value
    assert panel.prime.uploaded is None
    with pytest.raises(MidiError) as error:
        read_performance(name, content)
    assert str(error.value.path) == name


@pytest.mark.parametrize("way", ["a MIDI file of mine", "a piece of the corpus"])
def test_what_was_passed_over_in_the_file_of_an_opening_is_told(panel, tmp_path, way):
    violin = raw_midi.midi_bytes([[(0, b"\xc0\x28"), *raw_midi.note(0, 1440, 60)]], n_tracks=2)
    (tmp_path / "piece.mid").write_bytes(violin)
    upload(panel, "violin.mid", violin)
    told = ("notes of other instruments are read as piano: 1 (strings)", "number of tracks: 2 by the header")
    assert all(warning in panel.prime.message.value for warning in told)
    panel.prime.way.value = way
    panel.go.click()
    assert all(warning in panel.message.value for warning in (*told, "shorter than 8 beats: the prime is 1.5 s"))


def test_each_of_two_performances_of_one_piece_can_be_chosen(tiny_model, music, tmp_path):
    write_midi(music, tmp_path / "piece.mid")
    pieces = [Piece(tmp_path / "piece.mid", name, "Somebody", "Two notes", "test") for name in ("one", "two")]
    options = GenerationPanel(tiny_model(n_pitches=88), pieces).prime.piece.options
    assert [piece.name for _, piece in options] == ["one", "two"]


def test_openings_have_the_frame_rate_of_the_model(tiny_model, music, tmp_path):
    write_midi(music, tmp_path / "piece.mid")
    piece = Piece(tmp_path / "piece.mid", "piece.mid", "Somebody", "Two notes", "test")
    panel = GenerationPanel(tiny_model(n_pitches=88, fps=10), [piece])
    panel.prime.keyboard.notes = [[60, 80, 0.0, 1.0]]
    upload(panel, "mine.mid", midi_bytes(music))
    openings = [opening()[0] for opening in panel.prime.openings[:-1]]
    assert [(prime.fps, prime.n_frames) for prime in openings][1:] == [(10, 40), (10, 40), (10, 10)]
    assert openings[0].fps == 10


def test_what_cannot_be_made_is_told(panel):
    panel.keep.click()
    assert "compose something first" in panel.message.value
    panel.prime.way.value = "what I play"
    panel.go.click()
    assert "nothing has been played" in panel.message.value
    panel.prime.way.value = "a MIDI file of mine"
    panel.go.click()
    assert "choose a MIDI file first" in panel.message.value


def test_where_widgets_are_dead_it_still_tells_what_it_is(panel):
    assert "temperature" in panel._repr_mimebundle_()["text/html"]


def test_the_small_panel_begins_with_any_style(tiny_model):
    panel = ComposePanel(tiny_model(n_pitches=88, composers=("Bach",)))
    assert panel.composer.label == "any"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("no sound font"), MemoryError()]
)
def test_a_piece_whose_sound_fails_is_not_lost(panel, tiny_model, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("musicgen.lab.player.web_player.render_mp3", fail)
    small = ComposePanel(tiny_model(n_pitches=88))
    small.seconds.value = 10
    small._compose()
    panel.go.click()
    for each in (small, panel):
        assert "no sound here" in each.shown.value and "download" in each.shown.value and "<svg" in each.shown.value
        assert "notes" in each.message.value and "Traceback" not in each.message.value
        assert each.take.roll.n_notes > 0


def test_a_computer_with_too_little_memory_gets_one_line(panel, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("musicgen.lab.panels.composing.compose", fail)
    panel.go.click()
    assert "not enough memory" in panel.message.value and "Traceback" not in panel.message.value


def test_a_thumbnail_has_a_line_for_each_note(music):
    assert thumbnail(music, 20, "<b>").count("M") == music.n_notes == 2
