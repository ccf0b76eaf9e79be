"""In a folder with every kind of bad file, each is named with its reason, and the rest is sampled as without them."""

import json
import os
import random
import re
import sys

import pytest
from raw_midi import midi_bytes, note, strike, tempo
from test_events import BROKEN, RARE
from test_reading_and_writing import SOUND

from musicgen import dataset
from musicgen.__main__ import main
from musicgen.corpora.folder import CorpusError, load_corpus
from musicgen.dataset import prepare
from musicgen.midi import MidiError, read_midi
from musicgen.utils.limits import bounded

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and odd names are not made here")

MAESTRO, N_REAL = os.environ.get("MUSICGEN_MAESTRO"), 12
REASONS = {name: reason for name, (_, reason) in BROKEN.items()} | {
    "years of silence": "no piano notes in its first 420 seconds|time",
    "a pipe": "^not a file$",
    "a link to nothing": "^no such file$",
    "a link to itself": "^no such file$|symbolic links",
    "a terabyte": "^larger than 4,000,000 bytes",
    "two\nlines": "MThd",
    "\x1b[31mred": "MThd",
    "<img src=x onerror=alert(1)>": "MThd",
    "half a name \udcff": "MThd",
}
YEARS = midi_bytes([b"".join(b"\xff\xff\xff\x7f" + event for _, event in note(0, 0, 60) * 400)], ticks_per_beat=1)
DENSE = midi_bytes([b"\0\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * 299_999 + b"\1\x3c\0"])


def fill(folder):
    """Write all of the bad files, and all of the odd but sound ones."""
    for name, (content, _) in BROKEN.items():
        (folder / f"{name}.mid").write_bytes(content)
    for name in list(REASONS)[-4:]:
        (folder / f"{name}.mid").write_bytes(b"<html>")
    (folder / "years of silence.mid").write_bytes(YEARS)
    (folder / "a folder.mid").mkdir()
    os.mkfifo(folder / "a pipe.mid")
    (folder / "a link to nothing.mid").symlink_to("nothing")
    (folder / "a link to itself.mid").symlink_to("a link to itself.mid")
    (folder / "a terabyte.mid").touch()
    os.truncate(folder / "a terabyte.mid", 10**12)  # it is nothing but a hole
    for name, content in RARE.items():
        (folder / f"{name}.MIDI").write_bytes(content)


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """Prepare the folder by the command line: the exit code, the JSON and what stands on the screen."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()

    def say():
        code = main(["prepare", str(tmp_path / "data"), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return say


def test_every_bad_file_is_named_with_its_reason_and_the_rest_is_sampled_as_without_it(tmp_path, say):
    fill(tmp_path / "data")
    code, said, _ = say()
    assert code == 0
    skipped = {each["file"].removesuffix(".mid"): each["reason"] for each in said["skipped"]}
    assert skipped.keys() == REASONS.keys()
    for name, reason in skipped.items():
        assert re.search(REASONS[name], reason) and reason.isprintable(), name
    assert (said["n_files"], said["n_sampled"]) == (len(REASONS) + len(RARE), len(RARE))
    rolls = prepare(load_corpus(tmp_path / "data"), tmp_path / "other", progress=False)
    alone = [prepare([piece], tmp_path / "alone", progress=False)[0] for piece in rolls.pieces]
    assert [roll.velocity.tobytes() for roll in rolls] == [roll.velocity.tobytes() for roll in alone]
    assert len(rolls) == len(RARE) and all(roll.notes.tolist() == [(60, 64, 0, 2)] for roll in rolls)


def test_a_corpus_of_nothing_but_bad_files_ends_with_code_2_and_one_line(tmp_path, say):
    fill(tmp_path / "data")
    for path in (tmp_path / "data").glob("*.MIDI"):
        path.unlink()
    code, said, err = say()
    assert (code, said) == (2, None)
    assert f"none of the {len(REASONS)} files could be sampled" in err.splitlines()[-1]


def test_a_pipe_or_a_broken_link_with_the_name_of_a_midi_file_is_a_piece(tmp_path):
    (tmp_path / "folder.mid").mkdir()
    with pytest.raises(CorpusError, match="holds no MIDI file"):
        load_corpus(tmp_path)
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "nowhere.mid").symlink_to("missing")
    os.mkfifo(tmp_path / "pieces.csv")
    (tmp_path / "a.mid").write_bytes(SOUND)
    assert [piece.name for piece in load_corpus(tmp_path)] == ["a.mid", "nowhere.mid", "pipe.mid"]
    lines = ["canonical_composer,canonical_title,split,midi_filename"]
    lines += [f"Bach,One,train,{name}.mid" for name in ("a", "folder", "pipe", "nowhere", "missing", "x" * 300)]
    (tmp_path / "maestro-v1.csv").write_text("\n".join(lines))
    assert [piece.name for piece in load_corpus(tmp_path)] == ["a.mid", "folder.mid", "nowhere.mid", "pipe.mid"]


def test_300_000_notes_are_read_or_rejected_within_the_limits(tmp_path):
    (tmp_path / "dense.mid").write_bytes(DENSE)
    (tmp_path / "sound.mid").write_bytes(SOUND)
    rolls = prepare(load_corpus(tmp_path), tmp_path / "cache", progress=False)
    assert len(rolls) + len(rolls.skipped) == 2
    assert rolls.pieces[-1].name == "sound.mid" and rolls[-1] == read_midi(tmp_path / "sound.mid")
    for _, reason in rolls.skipped:
        assert reason.startswith("took ")


@pytest.mark.skipif(not MAESTRO, reason="MUSICGEN_MAESTRO names no folder with MAESTRO's csv and MIDI files")
def test_real_files_with_bytes_replaced_lost_or_swapped_are_read_or_rejected(tmp_path):
    dice = random.Random(11)
    for piece in dice.sample(load_corpus(MAESTRO), N_REAL):
        content = bytearray(piece.path.read_bytes())
        for _ in range(dice.choice([1, 1, 2, 5, 50])):
            at, length = dice.randrange(len(content)), dice.choice([1, 1, 2, 4, 400])
            put_in = dice.choice([b"", dice.randbytes(length), content[-at : length - at], b"\xff" * length])
            content[at : at + length] = put_in
        (tmp_path / "a.mid").write_bytes(content)
        with bounded(dataset.FILE_SECONDS, dataset.FILE_BYTES):
            try:
                roll = read_midi(tmp_path / "a.mid")
            except MidiError as error:
                assert str(error).isprintable()
            else:
                assert 0 < roll.n_frames <= 8400 and roll.n_notes


MANY_CHANNELS = [
    [event for channel in range(16) for event in note(48 * channel, 48 * channel + 96, 40 + channel, 50, channel)],
    [tempo(0, 250_000)],
]
LEGAL = {
    "16 channels, tempo on the last track": (
        midi_bytes(MANY_CHANNELS),
        # at 240 BPM a frame is 96 ticks: two notes a frame, half up, without channel 10
        [(40 + c, 50, (c + 1) // 2, (c + 3) // 2) for c in range(16) if c != 9],
    ),
    "40 tracks": (midi_bytes([note(96 * n, 96 * n + 48, 30 + n) for n in range(40)]),
        [(30 + n, 64, 2 * n, 2 * n + 1) for n in range(40)]),
    "no length": (midi_bytes([note(96, 96, 60)]), [(60, 64, 2, 3)]),
    "struck again while it sounds": (midi_bytes([[*note(0, 480, 60, 50), *note(240, 480, 60, 70)]]),
        [(60, 50, 0, 4), (60, 70, 5, 10)]),
    "released by note_on 0": (midi_bytes([[strike(0, 60), strike(96, 60, 0)]]), [(60, 64, 0, 2)]),
    "nothing behind seven minutes": (midi_bytes([[*note(0, 96, 60), *note(48 * 8400, 48 * 8500, 61)]]),
        [(60, 64, 0, 2)]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "notes"), LEGAL.values(), ids=LEGAL)
def test_rare_but_legal_files_give_the_right_roll(tmp_path, content, notes):
    (tmp_path / "a.mid").write_bytes(content)
    assert read_midi(tmp_path / "a.mid").notes.tolist() == notes
