"""The cache: each file sampled once, every change noticed, whatever is damaged made anew."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from raw_midi import midi_bytes, note, pedal

from musicgen import dataset
from musicgen.corpora.folder import Piece
from musicgen.dataset import compress, decompress, prepare
from musicgen.midi import read_midi, read_performance
from musicgen.utils.files import read_checked

# At 480 ticks a beat and 120 BPM, 48 ticks are a frame. Lengths and keys differ; the second piece has the pedal down.
CONTENTS = {
    "a.mid": midi_bytes([note(0, 480, 60, 50) + note(96, 480, 64, 80)]),
    "b.mid": midi_bytes([note(48, 96, 21, 127) + [pedal(0, 100), pedal(2400, 0)]]),
    "deep/c.midi": midi_bytes([note(0, 4800, 108, 1) + note(100, 9701, 30, 99)]),
}
SPLITS = {"a.mid": "train", "b.mid": "test", "deep/c.midi": "train"}


def write(folder, contents):
    """Write files, and return them as the pieces of a corpus."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [Piece(folder / name, name, f"by {name[0]}", "a title", SPLITS.get(name, "train")) for name in contents]


def flip(path, at, bits=1):
    content = bytearray(path.read_bytes())
    content[at] ^= bits
    path.write_bytes(content)


@pytest.fixture
def sampled(monkeypatch):
    """The files that are sampled, as it happens."""
    paths = []
    monkeypatch.setattr(dataset, "read_performance", lambda path: paths.append(path) or read_performance(path))
    return paths


@pytest.fixture
def prepared(tmp_path):
    """Prepare three pieces, or others, with one cache folder."""

    def prepare_here(pieces=None, **settings):
        return prepare(
            write(tmp_path / "data", CONTENTS) if pieces is None else pieces,
            tmp_path / "cache",
            progress=False,
            **settings,
        )

    return prepare_here


SETTINGS = [{}, {"fps": 7}, {"sustain": True}, {"max_seconds": 0.45}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_roll_is_what_the_sampler_makes_of_its_file(prepared, settings):
    for _ in range(2):  # made, then read
        rolls = prepared(**settings)
        assert len(rolls) == 3
        assert [piece.name for piece in rolls.pieces] == list(CONTENTS)
        assert list(rolls) == [read_midi(piece.path, **settings) for piece in rolls.pieces]
        assert rolls.skipped == []


@pytest.mark.parametrize(("here", "folder"), [("", "data/"), ("data", "")])
def test_workers_make_the_same_cache_in_any_folder(tmp_path, prepared, monkeypatch, request, here, folder):
    here_made = prepared()
    request.getfixturevalue("two_processes")
    monkeypatch.chdir(tmp_path / here)
    pieces = [replace(piece, path=Path(folder + piece.name)) for piece in here_made.pieces]
    assert list(prepare(pieces, tmp_path / "other", progress=False)) == list(here_made)


def test_processes_that_prepare_the_same_corpus_at_once_all_get_it(tmp_path):
    write(tmp_path / "data", CONTENTS)
    command = [sys.executable, "-m", "musicgen", "prepare", str(tmp_path / "data"), "--json"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "shared")}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert said == [said[0]] * 2 and said[0]["n_sampled"] == 3 and [p.returncode for p in started] == [0, 0]
    entries = list((tmp_path / "shared" / "musicgen").iterdir())
    assert len(entries) == 3 and all(read_checked(path) is not None for path in entries)


def test_samples_from_workers_come_in_order_and_an_error_ends_them(two_processes):
    from musicgen.utils.processes import run_parallel

    assert list(run_parallel(divmod, [(number, 7) for number in range(40)])) == [divmod(n, 7) for n in range(40)]
    with pytest.raises(ZeroDivisionError):
        list(run_parallel(divmod, [(number, 20 - number) for number in range(40)]))


def test_the_same_files_are_not_sampled_again_wherever_they_lie(tmp_path, prepared, sampled):
    first = list(prepared())
    assert sorted(sampled) == sorted(tmp_path / "data" / name for name in CONTENTS)
    sampled.clear()
    moved = [replace(piece, composer="X") for piece in write(tmp_path / "moved", CONTENTS)]
    assert list(prepared()) == list(prepared(moved)) == first
    assert prepared(moved).pieces == moved
    assert sampled == []


def test_other_settings_or_another_sampler_make_another_cache_and_the_old_one_stays(prepared, sampled, monkeypatch):
    keys = [prepared(**settings).key for settings in SETTINGS]
    with monkeypatch.context() as another:
        another.setattr(dataset, "SAMPLER_VERSION", dataset.SAMPLER_VERSION + 1)
        keys.append(prepared().key)
    assert len(set(keys)) == 5
    assert len(sampled) == 5 * 3
    assert [prepared(**settings).key for settings in SETTINGS] == keys[:4]
    assert len(sampled) == 5 * 3


def test_other_content_another_name_or_another_order_is_another_cache(tmp_path, prepared, sampled):
    pieces = prepared().pieces
    renamed = [replace(pieces[0], name="z.mid"), *pieces[1:]]
    assert [piece.name for piece in prepared(renamed).pieces] == ["z.mid", "b.mid", "deep/c.midi"]
    assert list(prepared(pieces[::-1])) == [read_midi(piece.path) for piece in pieces[::-1]]
    pieces[1].path.write_bytes(CONTENTS["a.mid"])
    assert prepared(pieces)[1] == read_midi(pieces[0].path)
    assert len(sampled) == 3


DAMAGES = {
    "a flipped bit": lambda path: flip(path, 45),
    "a flipped bit of the checksum": lambda path: flip(path, 3),
    "a cut tail": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(8)),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_recreated_and_no_other(tmp_path, prepared, sampled, damage):
    pieces = prepared().pieces
    first = list(prepared(pieces))
    damage(sorted((tmp_path / "cache").glob("*.roll"))[1])
    assert list(prepared(pieces)) == first
    assert len(sampled) == 3 + 1
    assert list(prepared(pieces)) == first
    assert len(sampled) == 3 + 1


def test_a_flipped_bit_anywhere_in_an_entry_is_noticed(tmp_path, prepared):
    first, path = list(prepared()), next((tmp_path / "cache").glob("*.roll"))
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 25)):
        flip(path, at, 1 << at % 8)
        assert list(prepared()) == first
        assert path.read_bytes() == whole, at


def test_one_more_file_samples_one_file(tmp_path, prepared, sampled):
    pieces = prepared().pieces
    more = write(tmp_path / "data", {"new.mid": midi_bytes([note(0, 960, 70, 33)])})
    assert len(prepared(pieces + more)) == 4
    assert len(sampled) == 4
    prepared(more)
    assert len(sampled) == 4


def test_an_interrupted_preparation_continues(tmp_path, prepared, monkeypatch):
    done = []

    def stop_after_two(path):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path)
        return read_performance(path)

    monkeypatch.setattr(dataset, "read_performance", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        prepared()
    monkeypatch.setattr(dataset, "read_performance", lambda path: done.append(path) or read_performance(path))
    assert len(prepared()) == 3
    assert len(done) == 3


def test_annotated_beats_and_the_pedal_belong_to_the_roll(prepared):
    pieces = prepared().pieces
    beats = np.array([[0.0, 1], [0.4, 0], [0.8, 0]])
    rolls = prepared([replace(pieces[1], beats=beats), pieces[0]])
    assert np.array_equal(rolls[0].beats, beats)
    assert rolls[0].pedal is not None and rolls[1].pedal is None
    assert decompress(compress(rolls[0])) == rolls[0]


def test_what_was_passed_over_in_a_file_is_told(tmp_path, prepared):
    violin = midi_bytes([[(0, b"\xc0\x28"), *note(0, 480, 60)]], n_tracks=2)
    pieces = write(tmp_path / "data", {"violin.mid": violin, "piano.mid": CONTENTS["a.mid"]})
    for _ in range(2):
        assert prepared(pieces).warnings == [
            ("violin.mid", "number of tracks: 2 by the header, 1 in the file"),
            ("violin.mid", "notes of other instruments are read as piano: 1 (strings)"),
        ]


def test_broken_files_are_named_and_skipped_and_the_rest_is_as_without_them(tmp_path, prepared, sampled):
    whole = prepared()
    pieces = write(tmp_path / "data", {"0.mid": b"<html>", "a.mid": CONTENTS["a.mid"], "b2.mid": midi_bytes([[]])})
    gone = replace(pieces[0], path=tmp_path / "gone.mid", name="gone.mid")
    pieces = [*pieces[:2], whole.pieces[1], pieces[2], gone, whole.pieces[2]]
    for _ in range(2):
        rolls = prepared(pieces)
        assert rolls.pieces == [pieces[1], pieces[2], pieces[5]]
        assert list(rolls) == list(whole)
        assert [name for name, _ in rolls.skipped] == ["0.mid", "b2.mid", "gone.mid"]
        assert [reason for _, reason in rolls.skipped] == [
            "not a MIDI file: it does not begin with MThd", "no piano notes", "no such file"
        ]  # fmt: skip
    assert len(sampled) == 3 + 2 + 2  # only what cannot be opened is tried again
    gone.path.write_bytes(CONTENTS["b.mid"])  # it comes back
    assert len(prepared(pieces)) == 4


def test_nothing_but_broken_files_is_an_error_that_names_one_and_remembers_it(tmp_path, prepared):
    pieces = write(tmp_path / "data", {"x.mid": b"MThd", "y.mid": b""})
    with pytest.raises(ValueError, match=r"none of the 2 files could be sampled; the first, 'x.mid': "):
        prepared(pieces)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # also a failure is remembered


def test_pieces_are_selected_by_their_fields(prepared):
    rolls = prepared()
    assert list(rolls.select(split="train")) == [rolls[0], rolls[2]]
    assert [piece.name for piece in rolls.select(split="train", composer="by d").pieces] == ["deep/c.midi"]
    assert list(rolls.select(split="train").select(composer="by d")) == [rolls[2]]
    with pytest.raises(ValueError, match="no piece .*validation.*3 pieces"):
        rolls.select(split="validation")


def test_what_several_readers_share_cannot_be_changed(prepared):
    pieces = prepared().pieces
    beats = np.array([[0.0, 1], [0.4, 0]])
    rolls = prepared([replace(pieces[1], beats=beats), pieces[0]])
    shared = (
        rolls.lengths,
        rolls[:1].lengths,
        rolls.pieces[0].beats,
        rolls[0].beats,
        rolls[0].pedal,
        rolls[1].velocity,
    )
    assert not any(array.flags.writeable for array in shared)
    before = rolls[0].notes.tolist()
    rolls[0].stretch(0.5)
    assert rolls[0].notes.tolist() == before and beats.flags.writeable


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the system knows each user's folders")
def test_without_a_home_folder_the_cache_lies_with_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError("uid not found")))
    monkeypatch.setattr(dataset.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    assert len(prepare(write(tmp_path / "data", CONTENTS), progress=False)) == 3
    assert len(list((tmp_path / "temporary" / "musicgen").iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_told_and_the_rolls_are_not_lost(tmp_path, capsys):
    (tmp_path / "cache").write_text("no folder")
    for _ in range(2):
        assert len(prepare(write(tmp_path / "data", CONTENTS), tmp_path / "cache", progress=False)) == 3
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and str(tmp_path / "cache") in told and "XDG_CACHE_HOME" in told


def test_a_file_that_is_replaced_while_it_is_read_leaves_no_wrong_entry(tmp_path, monkeypatch):
    one, other = list(CONTENTS.values())[:2]
    pieces = write(tmp_path / "data", {"a.mid": one})
    path = pieces[0].path
    read = dataset.read_performance

    def replaced(source):
        path.write_bytes(other)
        return read(source)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "read_performance", replaced)
        prepare(pieces, tmp_path / "cache", progress=False)
    path.write_bytes(one)
    assert prepare(pieces, tmp_path / "cache", progress=False)[0] == read_midi(path)


def test_a_slice_is_a_cache_of_those_pieces(prepared):
    rolls = prepared()
    for part in (slice(1, None), slice(None, None, -1), slice(-1, -9, -2), slice(5, 9)):
        assert list(rolls[part]) == list(rolls)[part]
        assert rolls[part].pieces == rolls.pieces[part]
    assert rolls[1:].key not in (rolls[:1].key, rolls.key)
    assert rolls[-1] == rolls[2] and rolls.index(rolls[2]) == 2 and rolls[0] in rolls
    with pytest.raises(IndexError):
        rolls[3]


def test_the_summary_counts_what_is_there_and_changes_with_it(prepared):
    rolls = prepared()
    long = replace(rolls, lengths=np.array([72_000, 36_000, 18_000]))  # at 20 frames a second
    assert long.summary() == {"n_pieces": 3, "hours": 1.75, "fps": 20, "key": rolls.key}
    assert prepared(fps=7).summary()["fps"] == 7
    rolls.pieces[2].path.write_bytes(CONTENTS["b.mid"])
    assert prepared(rolls.pieces).summary()["key"] != rolls.key
    assert json.loads(json.dumps(long.summary())) == long.summary()


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode here")


@pytest.mark.parametrize(
    "name", ["two\nlines\t.mid", "[é 音]{0}%s.mid", '"quoted".mid', pytest.param("\udcff.mid", marks=ON_LINUX)]
)
def test_names_with_odd_characters(tmp_path, prepared, name):
    pieces = write(tmp_path / "data", {name: CONTENTS["a.mid"], "b" + name: b"broken", "c.mid": CONTENTS["b.mid"]})
    for _ in range(2):
        rolls = prepared(pieces)
        assert rolls.pieces == [pieces[0], pieces[2]]
        assert [skipped for skipped, _ in rolls.skipped] == ["b" + name]


def test_pieces_of_one_name_from_two_folders_stay_apart(tmp_path):
    pieces = write(tmp_path / "one", CONTENTS) + write(
        tmp_path / "two", dict(zip(CONTENTS, reversed(CONTENTS.values())))
    )
    rolls = prepare(pieces, tmp_path / "cache", progress=False)
    assert [rolls[index] for index in range(6)] == [read_midi(piece.path) for piece in pieces]
