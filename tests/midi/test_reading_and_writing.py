"""MIDI files in and out: which notes are read, dropped and written, and which files are rejected."""

import errno
import gzip
import os
import re
import signal
from io import BytesIO
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import numpy as np
import pytest
from raw_midi import (
    control,
    midi_bytes,
    note,
    pedal,
    release,
    strike,
    tempo,
)

from musicgen.midi import MidiError, performance, read_midi, read_performance, write_midi, writing
from musicgen.piano_roll import PianoRoll

SOUND = midi_bytes([[tempo(0, 600_000)], [*note(0, 480, 60), *note(240, 960, 64, 9), pedal(50, 127), pedal(700, 0)]])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("midi") / "piece.mid"


@pytest.fixture(autouse=True)
def never_hangs():
    """Fail a test that has worked for 20 seconds, of the processor's time, where the system can tell."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, lambda *_: pytest.fail("still busy after 20 seconds of work"))
        signal.setitimer(signal.ITIMER_PROF, 20)
    yield
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)


def read(path, *tracks, **header):
    path.write_bytes(midi_bytes(tracks, **header))
    return read_performance(path)


def notes_of(performance):
    """(start_tick, end_tick, pitch, velocity, channel) of each note."""
    return sorted(performance.notes[["start_tick", "end_tick", "pitch", "velocity", "channel"]].tolist())


def check_rejected(path, **how):
    """The message with which a file is rejected: one printable line that names the file."""
    with pytest.raises(MidiError) as caught:
        read_midi(path, **how)
    name, message = f"{str(path)!r}: ", str(caught.value)
    assert message.isprintable() and len(message) <= 300
    assert not re.search("Error|index|NoneType|range", message.removeprefix(name))
    assert message.startswith(name) or (len(name) > 150 and message[:3] == "...")
    assert message.endswith(caught.value.reason)
    return caught.value.reason


def check_survives(path, content):
    """Assert that the bytes give a roll of bounded size or an error."""
    path.write_bytes(content)
    try:
        roll = read_midi(path)
    except MidiError:
        assert len(check_rejected(path)) > 5
    else:
        assert 0 < roll.n_frames <= 8400 and roll.n_notes > 0


@pytest.mark.parametrize(
    ("events", "notes"),
    [
        ([strike(5, 60, 70), strike(9, 60, 0)], [(5, 9, 60, 70, 0)]),  # velocity 0 is a release
        ([strike(0, 60, 1), strike(3, 60, 2), release(5, 60), release(9, 60)], [(0, 5, 60, 1, 0), (3, 9, 60, 2, 0)]),
        (note(0, 9, 60, 1, 2) + note(3, 5, 60, 2, 15), [(0, 9, 60, 1, 2), (3, 5, 60, 2, 15)]),  # per channel
        (note(0, 9, 60, 1) + note(3, 5, 61, 2), [(0, 9, 60, 1, 0), (3, 5, 61, 2, 0)]),  # per pitch
        ([release(0, 60), *note(4, 4, 60), release(8, 60)], [(4, 4, 60, 64, 0)]),  # of no length; releases of nothing
        (note(0, 1, 21) + note(0, 2, 108), [(0, 1, 21, 64, 0), (0, 2, 108, 64, 0)]),
    ],
)
def test_a_release_ends_the_note_first_struck_of_its_channel_and_pitch(path, events, notes):
    performance = read(path, events)
    assert notes_of(performance) == notes
    assert performance.dropped == {"never_released": 0, "drums": 0, "off_the_piano": 0}


@pytest.mark.parametrize(
    "event",
    [
        b"\xff\x60\x02ab",  # a meta event that no standard knows
        b"\xff\x01\x04text",
        b"\xf0\x03\x01\x02\xf7",
        b"\xb3\x07\x66",
        b"\xc0\x05",
        b"\xd0\x05",
        b"\xa0\x3c\x05",
        b"\xe0\x00\x40",
    ],
)
def test_what_is_no_note_takes_its_time(path, event):
    events = [strike(5, 60), (205, event), release(300, 60), (350, event), *note(400, 450, 61)]
    assert notes_of(read(path, events)) == [(5, 300, 60, 64, 0), (400, 450, 61, 64, 0)]


def test_each_track_releases_its_own_notes(path):
    performance = read(path, note(0, 90, 60, 1), note(10, 50, 60, 2), [strike(20, 60, 3)], [release(30, 60)])
    assert notes_of(performance) == [(0, 90, 60, 1, 0), (10, 50, 60, 2, 0)]
    assert performance.dropped["never_released"] == 1


def test_what_is_dropped_is_counted_by_its_reason(path):
    off = [*note(0, 9, 20), *note(0, 9, 109), *note(5, 9, 109)]
    drums = [*note(0, 9, 36, 64, 9), *note(0, 9, 109, 64, 9)]
    held = [strike(2, 72), strike(4, 72), strike(4, 73), strike(5, 36, 64, 9), release(6, 72)]
    performance = read(path, [*off, *drums, *held, *note(0, 9, 60, 64, 10)])
    assert notes_of(performance) == [(0, 9, 60, 64, 10), (2, 6, 72, 64, 0)]
    assert performance.dropped == {"never_released": 3, "drums": 2, "off_the_piano": 3}


@pytest.mark.parametrize("number", [120, 123])
def test_all_notes_off_ends_the_notes_of_its_channel_on_all_tracks(path, number):
    before, after = [strike(100, 62), strike(480, 63)], [strike(100, 64), strike(480, 67)]
    track = [strike(0, 60), control(480, number), strike(480, 60), release(960, 60)]
    performance = read(path, before, track, after, [strike(0, 65, 64, 1)])
    ended = [(0, 480, 60, 64, 0), (100, 480, 62, 64, 0), (100, 480, 64, 64, 0)]
    assert notes_of(performance) == [*ended, (480, 960, 60, 64, 0)]
    assert performance.dropped["never_released"] == 3  # of another channel; struck on other tracks in that tick


def test_each_of_many_notes_can_be_ended_by_all_notes_off(path):
    events = [event for nth in range(4) for event in (strike(480 * nth, 60 + nth), control(480 * nth + 480, 123))]
    assert read(path, events).to_roll().notes.tolist() == [(60 + n, 64, 10 * n, 10 * n + 10) for n in range(4)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_tempo_and_pedal_count_on_any_track(path, place):
    tracks = [[], note(480, 960, 60, channel=3), []]
    tracks[place] = [*tracks[place], tempo(960, 1_000_000), tempo(480, 250_000), pedal(500, 127, 3), pedal(1440, 0, 3)]
    assert read(path, *tracks).to_roll().notes.tolist() == [(60, 64, 10, 15)]
    assert read_midi(path, sustain=True).notes.tolist() == [(60, 64, 10, 35)]
    assert read_midi(path) == read_performance(path).to_roll()
    assert read_midi(path, 10, False, 0.6).notes.tolist() == [(60, 64, 5, 6)]


def test_what_is_not_a_file_is_rejected(tmp_path):
    assert check_rejected(tmp_path) == check_rejected("/") == "not a file"
    assert check_rejected(tmp_path / "missing.mid") == "no such file"
    assert check_rejected(tmp_path / "a\0b.mid") == "no such file"
    assert check_rejected(tmp_path / ("long" * 100)) == os.strerror(errno.ENAMETOOLONG)


def test_a_file_that_cannot_be_read_is_rejected(path, monkeypatch):
    path.write_bytes(SOUND)
    for error, reason in [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(), "it cannot be read"),
    ]:
        monkeypatch.setattr(Path, "open", Mock(side_effect=error))
        assert check_rejected(path) == reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_rejected_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    reasons = []
    reader = Thread(target=lambda: reasons.append(check_rejected(tmp_path / "pipe.mid")), daemon=True)
    reader.start()
    reader.join(60)
    assert reasons == ["not a file"]


@pytest.mark.parametrize(
    "name", ["a\nb.mid", "\x1b[31mred\x1b[0m.mid", "\u202edim.mid", "\x85\u2028.mid", "\udcff" * 60, "x" * 250]
)
def test_a_message_is_one_short_printable_line_whatever_the_name(tmp_path, name):
    for content in (SOUND[:-1], b"text", midi_bytes([[]])):
        (tmp_path / name).write_bytes(content)
        check_rejected(tmp_path / name)


def test_a_huge_file_is_rejected_unread(path, monkeypatch):
    path.write_bytes(SOUND)
    monkeypatch.setattr(performance, "MAX_FILE_BYTES", len(SOUND))
    assert read_midi(str(path)).n_notes == 2
    monkeypatch.setattr(performance, "MAX_FILE_BYTES", len(SOUND) - 1)
    assert "larger than" in check_rejected(path)
    path.write_bytes(gzip.compress(SOUND))
    assert "larger than" in check_rejected(path)


def test_silence_is_kept_before_the_notes_and_not_after_them(path):
    velocity = np.zeros((8400, 88), np.uint8)
    write_midi(PianoRoll(velocity), path)
    assert check_rejected(path) == "no piano notes"
    velocity[8000:8100, 5] = 77
    write_midi(PianoRoll(velocity), str(path))
    assert read_midi(path) == PianoRoll(velocity[:8100])


def test_the_file_ends_with_the_roll_or_with_a_tail():
    roll = PianoRoll(np.array([[0] * 88, [9] * 88, [0] * 88], np.uint8), fps=10)
    assert writing.midi_bytes(roll)[8:10] == b"\0\0"  # type 0
    lengths = [writing.mido.MidiFile(file=BytesIO(writing.midi_bytes(roll, tail))).length for tail in (0, 2.5)]
    assert lengths == pytest.approx([0.3, 2.8])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def break_off(path, content):
        path.open("wb").write(content[:9])
        raise OSError("No space left on device")

    write_midi(PianoRoll(np.full((3, 88), 5, np.uint8)), tmp_path / "piece.mid")
    monkeypatch.setattr(writing.Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="No space"):
        write_midi(PianoRoll(np.full((9, 88), 9, np.uint8)), tmp_path / "piece.mid")
    assert os.listdir(tmp_path) == ["piece.mid"]
    assert read_midi(tmp_path / "piece.mid").n_frames == 3
