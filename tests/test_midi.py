"""MIDI files in and out: which notes are read, dropped and written, and which files are rejected."""

import errno
import gzip
import os
import re
import signal
import tracemalloc
from io import BytesIO
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_midi import (
    ODD_EVENTS,
    any_file,
    chunk_of,
    control,
    midi_bytes,
    note,
    number,
    pedal,
    read_raw,
    release,
    scale,
    strike,
    tempo,
    track_bytes,
)

from musicgen import midi
from musicgen.midi import MidiError, read_midi, read_performance, write_midi
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


def check_refusal(path, **how):
    """The message with which a file is refused: one printable line that names the file."""
    with pytest.raises(MidiError) as caught:
        read_midi(path, **how)
    name, message = f"{str(path)!r}: ", str(caught.value)
    assert message.isprintable() and len(message) <= 300
    assert not re.search("Error|index|NoneType|range", message.removeprefix(name))
    assert message.startswith(name) or (len(name) > 150 and message[:3] == "...")
    assert message.endswith(caught.value.reason)
    return caught.value.reason


def check_survives(path, content):
    """Assert that the bytes give a roll of bounded size or a refusal."""
    path.write_bytes(content)
    try:
        roll = read_midi(path)
    except MidiError:
        assert len(check_refusal(path)) > 5
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


def test_what_follows_the_end_of_track_is_ignored(path):
    late = b"\0\x90\x48\x40\x60\x48\0\0\xff\x51\3\0\0\1" + b"\xff\xff\xff\xff\xff"
    assert notes_of(read(path, NOTE + late)) == [(0, 96, 60, 64, 0)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_tempo_and_pedal_count_on_whichever_track_they_stand(path, place):
    tracks = [[], note(480, 960, 60, channel=3), []]
    tracks[place] = [*tracks[place], tempo(960, 1_000_000), tempo(480, 250_000), pedal(500, 127, 3), pedal(1440, 0, 3)]
    assert read(path, *tracks).to_roll().notes.tolist() == [(60, 64, 10, 15)]
    assert read_midi(path, sustain=True).notes.tolist() == [(60, 64, 10, 35)]
    assert read_midi(path) == read_performance(path).to_roll()
    assert read_midi(path, 10, False, 0.6).notes.tolist() == [(60, 64, 5, 6)]


SYSEX, LYRIC, NOTE = b"\0\xf0\x03\x01\x02\xf7", b"\0\xff\x05\x03\xe9\x0a\x1b", track_bytes(note(0, 96, 60))
HEADER = midi_bytes([NOTE])[:14]
RARE = {
    "running status": midi_bytes([b"\0\x90\x3c\x40\x60\x3c\0\0\xff\x2f\0"]),
    "other events": midi_bytes([SYSEX + LYRIC + b"\0\xc0\x05\0\xe0\0\x40\0\xd0\x09" + track_bytes(note(0, 96, 60))]),
    "type 0": midi_bytes([note(0, 96, 60)], kind=0),
    "nothing in other tracks": midi_bytes([[], note(0, 96, 60), []]),
    "silence at the end": midi_bytes([[*note(0, 96, 60), (10**7, LYRIC[1:])]]),
    "a long header": midi_bytes([note(0, 96, 60)]).replace(b"\0\0\0\6", b"\0\0\0\7").replace(b"MTrk", b"?MTrk"),
    "inside a RIFF": b"RIFF\x40\0\0\0RMIDdata\x30\0\0\0" + midi_bytes([NOTE]) + b"LIST\4\0\0\0INFO",
    "a RIFF with a title": b"RIFF\x40\0\0\0RMIDdata\x30\0\0\0" + midi_bytes([[(0, b"\xff\3\4MThd"), *note(0, 96, 60)]]),
    "inside gzip": gzip.compress(midi_bytes([NOTE])),
    "bytes behind the last track": midi_bytes([NOTE]) + b"\0\0\0",
    "a broken track behind those that are counted": midi_bytes([NOTE, b"\0\xf4"], n_tracks=1),
    "a track of 4 GiB that ends": HEADER + b"MTrk\xff\xff\xff\xff" + NOTE,
    "65,535 tracks are counted": midi_bytes([NOTE], n_tracks=65_535),
    "0 tracks are counted": midi_bytes([NOTE], n_tracks=0),
    "type 2": midi_bytes([NOTE, []], kind=2),
    "SMPTE frames": midi_bytes([note(0, 100, 60)], ticks_per_beat=0xE728),  # 25 a second, of 40 ticks
    "SMPTE frames and a tempo": midi_bytes([[tempo(0, 9), *note(0, 120, 60)]], ticks_per_beat=0xE228),
    "one tick a beat": midi_bytes([[tempo(0, 100_000), *note(0, 1, 60)]], ticks_per_beat=1),
    "two tempos at once": midi_bytes([[tempo(0, 600_000), tempo(0, 300_000)], [tempo(0, 500_000), *note(0, 96, 60)]]),
    "a tempo before a slower one": midi_bytes([[tempo(0, 900_000), tempo(96, 9), *note(0, 53, 60)]]),
    "four bytes of time": midi_bytes([[*note(0, 96, 60), *note(2**28 - 1, 2**28, 61)]]),
}


@pytest.mark.parametrize("content", RARE.values(), ids=RARE)
def test_rare_but_legal_files_are_read(path, content):
    path.write_bytes(content)
    assert read_midi(path).notes.tolist() == [(60, 64, 0, 2)]


TEMPO_TRACK, TRACK = chunk_of(b"MTrk", track_bytes([tempo(0, 500_000)])), chunk_of(b"MTrk", track_bytes(scale()))
UNKNOWN = chunk_of(b"ZQ01", b"abcdefgh")


def two_tracks(n_tracks=2, before=b"", between=b"", behind=b""):
    return midi_bytes([], n_tracks=n_tracks) + before + TEMPO_TRACK + between + TRACK + behind


@pytest.mark.parametrize("place", [{}, {"before": UNKNOWN}, {"between": UNKNOWN}, {"behind": UNKNOWN + UNKNOWN}])
@pytest.mark.parametrize("n_tracks", [0, 1, 2, 3])
def test_unknown_chunks_are_skipped_and_a_wrong_number_of_tracks_is_reported(path, n_tracks, place):
    path.write_bytes(two_tracks(n_tracks, **place))
    performance, roll = read_performance(path), read_midi(path)
    assert (roll.n_frames, roll.n_notes) == (80, 8)
    warning = f"number of tracks: {n_tracks} by the header, 2 in the file"
    assert performance.warnings == ((warning,) if n_tracks != 2 else ())


@pytest.mark.parametrize("event", [*ODD_EVENTS, "cfff"])
def test_what_cannot_move_a_note_is_skipped_by_its_length(path, event):
    event = (100, bytes.fromhex(event))
    assert notes_of(read(path, [*note(0, 480, 60), event, *note(480, 960, 62)])) == notes_of(
        read(path, [*note(0, 480, 60), *note(480, 960, 62)])
    )


@pytest.mark.parametrize("letter", ["Ж", "愛"])
@pytest.mark.parametrize("kind", [1, 5, 0x7F])
def test_long_lyrics_in_any_language_are_no_endless_number(path, letter, kind):
    text = (letter * 4500).encode()[:4500]
    lyrics = bytes([0, 0xFF, kind]) + number(len(text)) + text
    path.write_bytes(midi_bytes([lyrics + track_bytes(scale())]))
    assert read_midi(path).n_notes == 8


@pytest.mark.parametrize(
    "data", [b"\0\xff\x01\x03abc", b"\0\xf0\x02\x01\xf7", b"\0\xf8", b"\0\xb0\x07\x01\0\x90\x3d\0"]
)
def test_running_status_goes_on_after_other_events(path, data):
    path.write_bytes(midi_bytes([b"\0\x90\x3c\x40" + data + b"\x60\x3c\0" + track_bytes([])]))
    assert notes_of(read_performance(path)) == [(0, 96, 60, 64, 0)]


BROKEN = {
    "empty": (b"", "MThd"),
    "text": (b"No, this is not music.\n", "MThd"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "MThd"),
    "an empty track": (midi_bytes([[]]), "no piano notes$"),
    "a short header": (SOUND.replace(b"\0\0\0\6", b"\0\0\0\5"), "header"),
    "a track of 4 GiB": (SOUND[:18] + b"\xff\xff\xff\xff" + SOUND[22:-4], "broken"),
    "half of gzip data": (gzip.compress(SOUND)[:60], "damaged gzip data$"),
    "wrong gzip data": (b"\x1f\x8b\x08" + SOUND, "damaged gzip data$"),
    "too much in gzip data": (gzip.compress(SOUND + bytes(midi.MAX_FILE_BYTES)), "larger than 4,000,000 bytes"),
    "a long chunk before the track": (SOUND[:14] + b"ABCD\x7f\0\0\0" + SOUND[14:], "broken"),
    "a track too long by one": (SOUND[:21] + bytes([SOUND[21] + 1]) + SOUND[22:], "broken"),
    "a track too short by one": (SOUND[:21] + bytes([SOUND[21] - 1]) + SOUND[22:], "broken"),
    "a data byte above 127": (SOUND.replace(b"\x90\x3c\x40", b"\x90\x3c\xc0"), "broken"),
    "data without a status": (midi_bytes([b"\0\x3c\x40" + NOTE]), "without a status byte"),
    "a status byte of no meaning": (midi_bytes([b"\0\xf4" + NOTE]), "undefined status byte, 0xf4"),
    "31 SMPTE frames": (midi_bytes([note(0, 9, 60)], ticks_per_beat=0xE128), "resolution"),
    "no ticks": (midi_bytes([note(0, 9, 60)], ticks_per_beat=0), "resolution of 0"),
    "no ticks a SMPTE frame": (midi_bytes([note(0, 9, 60)], ticks_per_beat=0xE700), "resolution of 0"),
    "a RIFF of another kind": (b"RIFF\x40\0\0\0WAVEdata" + SOUND, "MThd"),
    "type 3": (midi_bytes([note(0, 9, 60)], kind=3), "type 3"),
    "tempo 0": (midi_bytes([note(0, 9, 60), [tempo(0, 500_000), tempo(99, 0)]]), "tempo"),
    "a tempo of two bytes": (midi_bytes([b"\0\xff\x51\2\7\xa1" + NOTE]), "tempo"),
    "a tempo of four bytes": (midi_bytes([b"\0\xff\x51\4\7\xa1\x20\0" + NOTE]), "tempo"),
    "drums": (midi_bytes([[*note(0, 9, 60, 1, 9), *note(9, 12, 61, 1, 9)]]), "no piano notes .*2 drums"),
    "off the piano": (midi_bytes([note(0, 9, 20)]), "no piano notes .*1 off"),
    "never released": (midi_bytes([[strike(0, 60)]]), "no piano notes .*1 never"),
    "77 hours of silence": (midi_bytes([note(2**28 - 1, 2**28, 60)]), "no piano notes in its first 420 seconds"),
    "a time of five bytes": (midi_bytes([note(0, 2**28, 60)]), "number"),
    "a number without an end": (midi_bytes([b"\xff" * 10**6]), "number"),
    "numbers of 65,000 bytes": (midi_bytes([(b"\xff" * 65_000 + b"\x7f\x90\x3c\x40") * 60]), "number"),
    "a length without an end": (midi_bytes([b"\0\xff\x01" + b"\xff" * 10**6]), "number"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_its_name_and_the_reason(path, content, reason):
    path.write_bytes(content)
    assert re.search(reason, check_refusal(path))


@pytest.mark.parametrize("n_bytes", [5, 8, 9, 10, 5000, 30_000])
@pytest.mark.parametrize("event", ["903c40", "803c00", "ff5103ffffff", "b04040", "ff2f00"])
def test_a_time_of_more_than_the_standards_four_bytes_is_refused(path, n_bytes, event):
    events = b"\xff" * (n_bytes - 1) + b"\x7f" + bytes.fromhex(event) + b"\1\x80\x3c\0" + track_bytes(note(1, 2, 62))
    path.write_bytes(midi_bytes([b"\0\xff\x51\3\xff\xff\xff\0\x90\x3c\x40" + events], ticks_per_beat=1))
    assert check_refusal(path, fps=1000)


def test_a_file_that_unpacks_to_gigabytes_is_refused_without_unpacking_it(path):
    path.write_bytes(gzip.compress(bytes(10**8), 1))
    tracemalloc.start()
    try:
        assert "larger than" in check_refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_track_whose_length_passes_the_end_of_the_file_ends_at_its_end_of_track(path):
    tracks = [b"MTrk\xff\xff\xff\xff" + track_bytes(events) for events in (note(0, 9, 60), note(5, 9, 61))]
    path.write_bytes(midi_bytes([], n_tracks=2) + b"".join(tracks))
    assert notes_of(read_performance(path)) == [(0, 9, 60, 64, 0), (5, 9, 61, 64, 0)]


def test_a_huge_time_is_not_carried_through_all_that_follows_it(path):
    path.write_bytes(midi_bytes([b"\xff" * 30_000 + b"\x7f\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * 4000]))
    tracemalloc.start()
    try:
        assert check_refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_very_many_notes_and_tempo_changes_are_read_in_bounded_time(path):
    changes = b"\1\xff\x51\x03\7\xa1\x20" * 110_000
    check_survives(path, midi_bytes([changes + track_bytes([]), b"\0\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * 110_000]))


def test_what_is_no_file_is_refused(tmp_path):
    assert check_refusal(tmp_path) == check_refusal("/") == "not a file"
    assert check_refusal(tmp_path / "missing.mid") == "no such file"
    assert check_refusal(tmp_path / "a\0b.mid") == "no such file"
    assert check_refusal(tmp_path / ("long" * 100)) == os.strerror(errno.ENAMETOOLONG)


def test_a_file_that_cannot_be_read_is_refused(path, monkeypatch):
    path.write_bytes(SOUND)
    for error, reason in [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(), "it cannot be read"),
    ]:
        monkeypatch.setattr(Path, "open", Mock(side_effect=error))
        assert check_refusal(path) == reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    reasons = []
    reader = Thread(target=lambda: reasons.append(check_refusal(tmp_path / "pipe.mid")), daemon=True)
    reader.start()
    reader.join(60)
    assert reasons == ["not a file"]


@pytest.mark.parametrize(
    "name", ["a\nb.mid", "\x1b[31mred\x1b[0m.mid", "\u202edim.mid", "\x85\u2028.mid", "\udcff" * 60, "x" * 250]
)
def test_a_message_is_one_short_printable_line_whatever_the_name(tmp_path, name):
    for content in (SOUND[:-1], b"text", midi_bytes([[]])):
        (tmp_path / name).write_bytes(content)
        check_refusal(tmp_path / name)


def test_a_huge_file_is_refused_unread(path, monkeypatch):
    path.write_bytes(SOUND)
    monkeypatch.setattr(midi, "MAX_FILE_BYTES", len(SOUND))
    assert read_midi(str(path)).n_notes == 2
    monkeypatch.setattr(midi, "MAX_FILE_BYTES", len(SOUND) - 1)
    assert "larger than" in check_refusal(path)
    path.write_bytes(gzip.compress(SOUND))
    assert "larger than" in check_refusal(path)


def test_a_file_cut_off_at_any_byte_is_survived(path):
    for length in range(len(SOUND)):
        check_survives(path, SOUND[:length])


one_edit = st.tuples(st.integers(0, len(SOUND)), st.integers(0, 6), st.binary(max_size=6))


@settings(max_examples=400, deadline=None)
@given(st.lists(one_edit, min_size=1, max_size=4))
def test_a_sound_file_with_any_bytes_replaced_inserted_or_lost_is_survived(path, edits):
    content = SOUND
    for at, n_lost, put_in in edits:
        content = content[:at] + put_in + content[at + n_lost :]
    check_survives(path, content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_in_a_track_are_survived(path, chunk):
    check_survives(path, midi_bytes([note(0, 9, 60), b"\0\x90\x3c\x40\7\x3c\0" + chunk]))


@settings(max_examples=300, deadline=None)
@given(any_file)
def test_a_complete_file_of_odd_chunks_and_events_is_read_as_by_an_independent_reader(path, content):
    path.write_bytes(content)
    expected = read_raw(content).velocity()
    if len(expected):
        assert np.array_equal(read_midi(path).velocity, expected)
    else:
        assert check_refusal(path).startswith("no piano notes")


@settings(max_examples=300, deadline=None)
@given(any_file)
def test_no_file_is_refused_that_symusic_reads_and_that_contains_piano_notes(path, content):
    symusic = pytest.importorskip("symusic")
    path.write_bytes(content)
    try:
        tracks = symusic.Score(path).tracks
    except RuntimeError:
        return
    if any(21 <= note.pitch <= 108 for track in tracks if not track.is_drum for note in track.notes):
        assert read_midi(path).n_notes


def test_silence_is_kept_before_the_notes_and_not_behind_them(path):
    velocity = np.zeros((8400, 88), np.uint8)
    write_midi(PianoRoll(velocity), path)
    assert check_refusal(path) == "no piano notes"
    velocity[8000:8100, 5] = 77
    write_midi(PianoRoll(velocity), str(path))
    assert read_midi(path) == PianoRoll(velocity[:8100])


def test_the_file_ends_with_the_roll_or_a_tail_behind_it():
    roll = PianoRoll(np.array([[0] * 88, [9] * 88, [0] * 88], np.uint8), fps=10)
    assert midi.midi_bytes(roll)[8:10] == b"\0\0"  # type 0
    lengths = [midi.mido.MidiFile(file=BytesIO(midi.midi_bytes(roll, tail))).length for tail in (0, 2.5)]
    assert lengths == pytest.approx([0.3, 2.8])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def break_off(path, content):
        path.open("wb").write(content[:9])
        raise OSError("No space left on device")

    write_midi(PianoRoll(np.full((3, 88), 5, np.uint8)), tmp_path / "piece.mid")
    monkeypatch.setattr(midi.Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="No space"):
        write_midi(PianoRoll(np.full((9, 88), 9, np.uint8)), tmp_path / "piece.mid")
    assert os.listdir(tmp_path) == ["piece.mid"]
    assert read_midi(tmp_path / "piece.mid").n_frames == 3
