"""A corpus sampled shard by shard: the same bytes as at once, and what was killed goes on where it was."""

import hashlib
import json
import os
import threading

import joblib
import numpy as np
import pytest
from raw_midi import midi_bytes, note

from musicgen import dataset
from musicgen.corpora.folder import Piece
from musicgen.dataset import prepare
from musicgen.midi import read_midi
from musicgen.shards import growing

BROKEN = {2, 5}


@pytest.fixture(autouse=True)
def shards_of_two(monkeypatch):
    monkeypatch.setattr(dataset, "SHARD_FILES", 2)
    with joblib.parallel_config("sequential"):
        yield


@pytest.fixture
def pieces(tmp_path):
    """Nine files of unequal lengths, two of them broken."""
    paths = [tmp_path / f"{index}.mid" for index in range(9)]
    for index, path in enumerate(paths):
        path.write_bytes(b"no" if index in BROKEN else midi_bytes([note(0, 96 + 48 * index, 60 + index, 7 + index)]))
    return [Piece(path, path.name, "X", "Y", "train") for path in paths]


@pytest.fixture
def sampled(monkeypatch):
    """The files that are sampled, as it happens; the process stops before one that is told."""
    names, stops = [], set()

    def read(path, *rest):
        if path.name in stops:
            raise KeyboardInterrupt
        names.append(path.name)
        return read_midi(path, *rest)

    monkeypatch.setattr(dataset, "read_midi", read)
    return names, stops


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stopped(pieces, folder, stops, name):
    stops.add(name)
    with pytest.raises(KeyboardInterrupt):
        prepare(pieces, folder, progress=False)
    stops.clear()


def test_the_rolls_are_byte_for_byte_those_that_are_made_at_once(tmp_path, pieces, monkeypatch):
    rolls = prepare(pieces, tmp_path / "shards", progress=False)
    monkeypatch.setattr(dataset, "SHARD_FILES", 500)
    assert prepare(pieces, tmp_path / "once", progress=False).skipped == rolls.skipped
    assert prepare(pieces, tmp_path / "once", progress=False).pieces == rolls.pieces
    assert contents(tmp_path / "once").keys() == contents(tmp_path / "shards").keys()
    whole = [read_midi(piece.path).velocity for index, piece in enumerate(pieces) if index not in BROKEN]
    for way in ("once", "shards"):
        assert (tmp_path / way / f"{rolls.key}.u8").read_bytes() == np.concatenate(whole).tobytes()
    assert [name for name, _ in rolls.skipped] == ["2.mid", "5.mid"]


def test_the_key_is_that_of_the_whole_list(tmp_path, pieces):
    settings = {"version": dataset.SAMPLER_VERSION, "fps": 20, "sustain": False, "max_seconds": 420}
    sources = [[piece.name, hashlib.sha256(piece.path.read_bytes()).hexdigest()] for piece in pieces]
    for n_pieces in (9, 1):
        key = hashlib.sha256(json.dumps([settings, sources[:n_pieces]]).encode()).hexdigest()[:16]
        assert prepare(pieces[:n_pieces], tmp_path / "cache", progress=False, max_seconds=420).key == key


@pytest.mark.parametrize(("stop", "kept"), [("0.mid", 0), ("3.mid", 2), ("6.mid", 6), ("8.mid", 8)])
def test_a_preparation_that_was_stopped_goes_on_behind_its_last_whole_shard(tmp_path, pieces, sampled, stop, kept):
    names, stops = sampled
    prepare(pieces, tmp_path / "whole", progress=False)
    stopped(pieces, tmp_path / "cache", stops, stop)
    names.clear()
    prepare(pieces, tmp_path / "cache", progress=False)
    assert names == [piece.name for piece in pieces[kept:]]
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


DAMAGES = {  # what happens meanwhile, and how many of six files are still counted on
    "half a shard more": (lambda data, journal: data.write_bytes(data.read_bytes() + b"half"), 6),
    "half a line more": (lambda data, journal: journal.write_text(journal.read_text() + '1f {"n_by'), 6),
    "a flipped bit in the last shard": (lambda data, journal: flip(data, -5), 4),
    "a cut last shard": (lambda data, journal: os.truncate(data, data.stat().st_size - 1), 4),
    "a flipped bit in the last line": (lambda data, journal: flip(journal, -5), 4),
    "a line cut at its end": (lambda data, journal: os.truncate(journal, journal.stat().st_size - 1), 4),
    "a flipped bit in the first shard": (lambda data, journal: flip(data, 3), 0),
    "a journal that is no text": (lambda data, journal: journal.write_bytes(b"\xff\xfe\x00"), 0),
    "no journal": (lambda data, journal: journal.unlink(), 0),
    "no data": (lambda data, journal: data.unlink(), 0),
}


@pytest.mark.parametrize(("damage", "kept"), DAMAGES.values(), ids=DAMAGES)
def test_only_shards_that_are_whole_are_kept(tmp_path, pieces, sampled, damage, kept):
    names, stops = sampled
    prepare(pieces, tmp_path / "whole", progress=False)
    stopped(pieces, tmp_path / "cache", stops, "6.mid")
    damage(*(next((tmp_path / "cache").glob(f"*.unfinished.{kind}")) for kind in ("u8", "journal")))
    names.clear()
    prepare(pieces, tmp_path / "cache", progress=False)
    assert names == [piece.name for piece in pieces[kept:]]
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")


def test_a_second_process_waits_and_finds_the_file_made(tmp_path, pieces, sampled):
    names, _ = sampled
    made = []
    key = prepare(pieces, tmp_path / "whole", progress=False).key
    names.clear()
    with growing(tmp_path / "cache" / f"{key}.u8"):
        second = threading.Thread(target=lambda: made.append(prepare(pieces, tmp_path / "cache", progress=False)))
        second.start()
        second.join(0.2)
        assert second.is_alive() and names == []
        for path in (tmp_path / "whole").iterdir():
            (tmp_path / "cache" / path.name).write_bytes(path.read_bytes())
    second.join(60)
    assert len(made[0]) == 7 and names == []


def test_a_full_disk_names_the_file_and_leaves_nothing_before_the_first_shard(tmp_path):
    def chunks():
        yield np.zeros(5, np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"x\.unfinished\.u8"), growing(tmp_path / "x.u8") as shards:
        shards.append(chunks(), {})
    assert contents(tmp_path) == {}
