"""Reading a file is limited in time and memory, and no file name controls the terminal that shows it."""

import signal
import sys
import threading
import time

import pytest
from raw_midi import midi_bytes, note

from musicgen import __main__, dataset
from musicgen.corpora.folder import Piece
from musicgen.dataset import prepare
from musicgen.midi import read_midi
from musicgen.utils import limits
from musicgen.utils.limits import OverLimit, bounded, system_bounded

HUGE = midi_bytes([b"\0\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * 400_000 + b"\0\xff\x2f\0"])  # takes a second, and 80 MB
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the system bounds memory on Linux only")


@pytest.fixture
def pieces(tmp_path):
    contents = {"a.mid": midi_bytes([note(0, 480, 60)]), "b.mid": HUGE, "c.mid": midi_bytes([note(96, 200, 72)])}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [Piece(tmp_path / name, name, "X", name, "train") for name in contents]


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("FILE_SECONDS", 0.4, "took longer than 0.4 seconds"),
        ("FILE_BYTES", 20_000_000, "took more than 0.02 GB of memory"),
    ],
)
def test_a_file_that_takes_too_much_is_named_and_skipped_and_the_rest_is_sampled(
    pieces, tmp_path, monkeypatch, request, workers, limit, value, reason
):
    def sample_within(*job, sample=dataset._sample_file):
        setattr(dataset, limit, value)  # in the worker
        return sample(*job)

    monkeypatch.setattr(dataset, limit, value)
    monkeypatch.setattr(dataset, "_sample_file", sample_within)
    if workers:
        request.getfixturevalue("two_processes")
    rolls = prepare(pieces, tmp_path / "cache", progress=False)
    assert rolls.skipped == [("b.mid", reason)]
    assert list(rolls) == [read_midi(pieces[0].path), read_midi(pieces[2].path)]


def test_a_reader_that_hangs_and_catches_errors_is_stopped_too(pieces, tmp_path, monkeypatch):
    def hang(path):
        while path.name == "b.mid":
            try:
                sum(range(1000))
            except Exception:
                pass
        return read_performance(path)

    pieces[1].path.write_bytes(midi_bytes([note(0, 480, 50)]))
    read_performance = dataset.read_performance
    monkeypatch.setattr(dataset, "read_performance", hang)
    monkeypatch.setattr(dataset, "FILE_SECONDS", 0.2)
    rolls = prepare(pieces, tmp_path / "cache", progress=False)
    assert rolls.skipped == [("b.mid", "took longer than 0.2 seconds")]
    monkeypatch.undo()
    assert not prepare(pieces, tmp_path / "cache", progress=False).skipped, "it is tried again"


def test_the_time_of_others_does_not_count_but_nobody_waits_for_ever():
    with bounded(0.1, 10**9):
        time.sleep(0.3)
    with pytest.raises(OverLimit, match="took longer than 0.01 seconds"), bounded(0.01, 10**9):
        time.sleep(5)


def test_without_proc_the_limits_are_those_of_other_systems(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "STATM", tmp_path / "statm")
    with bounded(60, 10**9), system_bounded(10**9):
        assert limits.resident_bytes() > 10**6
    with pytest.raises(OverLimit), bounded(0.01, 10**9):
        time.sleep(5)


def test_the_limits_of_a_file():
    assert (dataset.FILE_SECONDS, dataset.FILE_BYTES) == (20, 10**9)


def timer_now():
    return signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)


def test_the_limits_end_with_their_block():
    before = timer_now()
    for error in (OverLimit, MemoryError, ValueError):
        with pytest.raises(error), bounded(60, 10**8):
            assert timer_now() != before
            raise error
        assert timer_now() == before
    with bounded(60, 10**9):
        assert len(b"x" * 10**8) == 10**8
    assert timer_now() == before


def test_memory_that_grows_in_steps_is_noticed():
    grown = []
    with pytest.raises(OverLimit, match=r"^took more than 0.1 GB of memory$"), bounded(60, 10**8):
        while True:
            grown.append(b"x" * 10**6)
            time.sleep(0.001)
    assert 80 < len(grown) < 300


def test_the_error_is_repeated_when_it_is_caught():
    met = 0
    with pytest.raises(OverLimit), bounded(0.01, 10**9):
        while True:
            try:
                time.sleep(5)
            except OverLimit:
                met += 1
                if met == 3:
                    raise
    assert met == 3


@ON_LINUX
def test_the_limit_of_the_system_ends_with_its_block():
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), system_bounded(10**8):
        bytearray(10**9)
    with system_bounded(2 * 10**9):
        assert len(bytearray(10**9)) == 10**9
        assert resource.getrlimit(resource.RLIMIT_AS) != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_another_thread_is_not_limited():
    before, inside = signal.getsignal(signal.SIGALRM), []

    def look():
        with bounded(60, 10**8):
            inside.append(signal.getsignal(signal.SIGALRM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert inside == [before]


NAMES = ["two\nlines.mid", "\x1b[31mred\x1b[0m.mid", "\x1b]0;title\x07.mid", "\u202edim.mid", "\x9b2J.mid", "\r.mid"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_escaped(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / f"data{name}"
    folder.mkdir()
    (folder / "good.mid").write_bytes(midi_bytes([note(0, 480, 60)]))
    (folder / name).write_bytes(b"<html>")
    assert __main__.main(["prepare", str(folder), "--json"]) == 0
    (folder / "good.mid").unlink()
    assert __main__.main(["prepare", str(folder)]) == 2
    assert __main__.main(["prepare", str(folder / "missing")]) == 2
    monkeypatch.setitem(__main__.COMMANDS, "prepare", (lambda args: {"composer": name}, __main__.add_data_dir))
    assert __main__.main(["prepare", "x"]) == 0  # a name that a command returns as it is
    with pytest.raises(SystemExit):
        __main__.main(["prepare", "x", name])
    said = capsys.readouterr()
    assert all(line.isprintable() for text in said for line in text.replace("\r", "\n").split("\n") if "%" not in line)
    shown = name.encode("unicode_escape").decode()
    assert sum(f"{shown}" in line for line in said.err.split("\n")) >= 3


def test_dollars_in_a_name_are_not_a_formula(tmp_path):
    from musicgen.lab.figures.rolls import plot_roll
    from musicgen.lab.figures.style import save_figure
    from musicgen.piano_roll import PianoRoll

    ax = plot_roll(PianoRoll.from_notes(read_notes(tmp_path)), title=r"for $\undefined{5 and $6")
    save_figure(ax, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def read_notes(tmp_path):
    (tmp_path / "a.mid").write_bytes(midi_bytes([note(0, 480, 60)]))
    return read_midi(tmp_path / "a.mid").notes
