"""A take: what it says of itself, and what it leaves in a folder."""

import json
import signal

import numpy as np
import pytest

from musicgen.generation import GenerationConfig
from musicgen.lab.panels.takes import Take, compose
from musicgen.midi import read_midi
from musicgen.piano_roll import PianoRoll


@pytest.fixture
def take():
    velocity = np.zeros((40, 88), np.uint8)
    velocity[3:20, 39], velocity[20:40, 43] = 70, 90
    return Take(PianoRoll(velocity), 20, "../Étude: <b>", "Frédéric Chopin", GenerationConfig(seconds=2, seed=7))


def test_its_title_tells_what_it_takes_to_make_it_again(take):
    assert take.title == "../Étude: <b>, in the style of Frédéric Chopin, seed 7"


def test_it_is_saved_under_a_plain_name_and_never_over_another(take, tmp_path, quick_sound):
    first, second = take.save(tmp_path / "new"), take.save(tmp_path / "new")
    assert [path.name for path in first] == [f"etude-b-frederic-chopin-1{end}" for end in (".mid", ".json", ".wav")]
    assert [path.name for path in second] == [f"etude-b-frederic-chopin-2{end}" for end in (".mid", ".json", ".wav")]
    assert np.array_equal(read_midi(first[0]).velocity, take.roll.velocity)
    about = json.loads(first[1].read_text("utf-8"))
    assert (about["begun_with"], about["prime_frames"], about["seed"]) == ("../Étude: <b>", 20, 7)


def test_a_piece_whose_sound_fails_is_saved_and_not_written_over(take, tmp_path, quick_sound, monkeypatch):
    def full(roll, path):
        raise OSError(28, "No space left on device")

    (tmp_path / "etude-b-frederic-chopin-1.wav").write_bytes(b"of another")
    with monkeypatch.context() as patch:
        patch.setattr("musicgen.lab.panels.takes.render_wav", full)
        with pytest.raises(OSError, match=r"saved etude-b-frederic-chopin-2\.mid and .*2\.json, but not the sound"):
            take.save(tmp_path)
    before = (tmp_path / "etude-b-frederic-chopin-2.mid").read_bytes()
    third = take.continuation.save(tmp_path)
    assert third[0].name == "etude-b-frederic-chopin-3.mid"
    assert (tmp_path / "etude-b-frederic-chopin-2.mid").read_bytes() == before
    assert (tmp_path / "etude-b-frederic-chopin-1.wav").read_bytes() == b"of another"


def test_composing_tells_its_progress_and_can_be_stopped(tiny_model, take):
    told = []

    def tell(text):
        told.append(text)
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)  # the notebook's stop button

    made = compose(tiny_model(n_pitches=88), take.roll, "mine", GenerationConfig(seconds=30), None, tell)
    assert told == ["composing ... 5 s of new music so far", "composing ... 10 s of new music so far"]
    assert made.roll.duration_seconds == 12, "2 s of prime, and what was composed until then"


def test_a_piece_is_composed_with_or_without_a_prime(tiny_model, take):
    model = tiny_model(n_pitches=88)
    made = compose(model, take.roll, "mine", GenerationConfig(seconds=3), None)
    assert (made.prime_frames, made.roll.n_frames, made.title) == (40, 60, "mine, seed 0")
    assert np.array_equal(made.roll[:40].velocity, take.roll.velocity)
    assert compose(model, None, "silence", GenerationConfig(seconds=1), None).prime_frames == 0


def test_only_what_is_new_is_the_rest_of_the_piece(take):
    rest = take.continuation
    assert (rest.prime_frames, rest.roll.n_frames, rest.roll.notes.tolist()) == (0, 20, [(64, 90, 0, 20)])


def test_a_name_that_is_not_utf8_is_saved(tmp_path, quick_sound):
    roll = PianoRoll(np.full((20, 88), 0, np.uint8))
    files = Take(roll, 0, "half \udcff\u202e", None, GenerationConfig(seconds=1)).save(tmp_path)
    assert json.loads(files[1].read_text("utf-8"))["begun_with"] == "half \ufffd\\u202e"
