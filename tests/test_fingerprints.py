"""What is read again, and what is not: see also test_dataset.py for the cache that relies on it."""

import os
import time

import pytest

from musicgen import fingerprints
from musicgen.fingerprints import Status, read_sealed, recall, remember


@pytest.fixture
def files(tmp_path):
    """Two files that nobody has touched for ten minutes, but for the clock that no one can set back: see `at_once`."""
    paths = {"b": tmp_path / "b.mid", "a": tmp_path / "a.mid"}
    for name, path in paths.items():
        path.write_bytes(name.encode() * 5)
        os.utime(path, (time.time() - 600,) * 2)
    return paths


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(fingerprints, "SETTLED_SECONDS", -1.0)


def look(files, **settings):
    return Status.of(settings, files.items())


def test_files_that_nobody_touched_look_the_same_in_the_same_order_and_with_the_same_settings(files):
    assert look(files, fps=20).key == look(files, fps=20).key
    assert look(files, fps=20).key != look(files, fps=10).key
    assert look(files).key != look(dict(reversed(files.items()))).key
    assert look(files).key != look({"c": files["b"], "a": files["a"]}).key


def write_the_same_length(path):
    path.write_bytes(b"c" * 5)


def flip_a_bit_and_set_the_clock_back(path):
    before = path.stat()
    with path.open("rb+") as stream:
        stream.write(b"c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


@pytest.mark.parametrize("touch", [write_the_same_length, flip_a_bit_and_set_the_clock_back, put_another_in_its_place])
def test_a_file_that_was_touched_looks_different(files, touch):
    before = look(files).key
    time.sleep(0.02)  # a tick of the coarsest clock
    touch(files["a"])
    assert look(files).key != before


def test_files_just_written_are_not_relied_on_and_settle_after_a_while(files, monkeypatch):
    assert not look(files).settled  # what no one can set back tells that they were just made
    later = time.time() + 3
    monkeypatch.setattr(time, "time", lambda: later)
    assert look(files).settled


def test_a_file_that_is_not_there_is_never_settled(files, at_once):
    assert look(files).settled
    files["a"].unlink()
    assert not look(files).settled


def test_a_note_is_recalled_for_a_day(tmp_path):
    path = tmp_path / "note"
    assert recall(path) == {}
    remember(path, {"key": "7"})
    assert recall(path) == {"key": "7"}
    os.utime(path, (time.time() - 25 * 3600,) * 2)
    assert recall(path) == {}


def test_a_flipped_bit_anywhere_in_a_note_is_noticed(tmp_path):
    path = tmp_path / "note"
    remember(path, {"key": "7"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert read_sealed(path) == {}


def test_where_no_note_can_be_kept_none_is(tmp_path):
    (tmp_path / "file").write_text("no folder")
    remember(tmp_path / "file" / "note", {"key": "7"})
    assert recall(tmp_path / "file" / "note") == {}
