"""MIDI files from strangers: what is skipped, what is repaired with a warning, and what is rejected."""

import gzip
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_midi import (
    ODD_EVENTS,
    any_file,
    chunk_of,
    midi_bytes,
    note,
    number,
    read_raw,
    scale,
    strike,
    tempo,
    track_bytes,
)
from test_reading_and_writing import SOUND, check_rejected, check_survives, never_hangs, notes_of, read  # noqa: F401

from musicgen.midi import read_midi, read_performance
from musicgen.midi.performance import MAX_FILE_BYTES


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("events") / "piece.mid"


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
    "bytes after the last track": midi_bytes([NOTE]) + b"\0\0\0",
    "a broken track after those that are counted": midi_bytes([NOTE, b"\0\xf4"], n_tracks=1),
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


def two_tracks(n_tracks=2, before=b"", between=b"", after=b""):
    return midi_bytes([], n_tracks=n_tracks) + before + TEMPO_TRACK + between + TRACK + after


@pytest.mark.parametrize("place", [{}, {"before": UNKNOWN}, {"between": UNKNOWN}, {"after": UNKNOWN + UNKNOWN}])
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


@pytest.mark.parametrize(
    ("tempo_bytes", "n_frames"),  # of a note of two beats
    [
        ("07a120", 20),
        ("0f4240", 40),
        ("0f42", 40),  # 999,936 microseconds: what is missing is 0
        ("0f424000", 40),  # the first three bytes count, as for mido
        ("000f4240", 40),  # but these are 32 bits
        ("0f42400000", 40),
        ("", 20),  # nothing is said: 120 BPM
    ],
)
def test_a_tempo_of_another_length_than_three_bytes_is_read_with_a_warning(path, tempo_bytes, n_frames):
    content = bytes.fromhex(tempo_bytes)
    performance = read(path, [(0, bytes([0xFF, 0x51, len(content)]) + content), *note(0, 960, 60)])
    assert performance.to_roll().n_frames == n_frames
    assert performance.warnings == (() if len(content) == 3 else (f"a tempo event of {len(content)} bytes, not 3",))


@pytest.mark.parametrize("letter", ["Ж", "愛"])
@pytest.mark.parametrize("kind", [1, 5, 0x7F])
def test_long_lyrics_in_any_language_are_not_an_endless_number(path, letter, kind):
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


def test_what_follows_the_end_of_track_is_ignored(path):
    late = b"\0\x90\x48\x40\x60\x48\0\0\xff\x51\3\0\0\1" + b"\xff\xff\xff\xff\xff"
    assert notes_of(read(path, NOTE + late)) == [(0, 96, 60, 64, 0)]


BROKEN = {
    "empty": (b"", "MThd"),
    "text": (b"No, this is not music.\n", "MThd"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "MThd"),
    "an empty track": (midi_bytes([[]]), "no piano notes$"),
    "a short header": (SOUND.replace(b"\0\0\0\6", b"\0\0\0\5"), "header"),
    "a track of 4 GiB": (SOUND[:18] + b"\xff\xff\xff\xff" + SOUND[22:-4], "broken"),
    "half of gzip data": (gzip.compress(SOUND)[:60], "damaged gzip data$"),
    "wrong gzip data": (b"\x1f\x8b\x08" + SOUND, "damaged gzip data$"),
    "too much in gzip data": (gzip.compress(SOUND + bytes(MAX_FILE_BYTES)), "larger than 4,000,000 bytes"),
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
def test_a_broken_file_is_rejected_with_its_name_and_the_reason(path, content, reason):
    path.write_bytes(content)
    assert re.search(reason, check_rejected(path))


@pytest.mark.parametrize("n_bytes", [5, 10, 30_000])
@pytest.mark.parametrize("event", ["903c40", "803c00", "ff5103ffffff", "b04040", "ff2f00"])
def test_a_time_of_more_than_the_standards_four_bytes_is_rejected(path, n_bytes, event):
    events = b"\xff" * (n_bytes - 1) + b"\x7f" + bytes.fromhex(event) + b"\1\x80\x3c\0" + track_bytes(note(1, 2, 62))
    path.write_bytes(midi_bytes([b"\0\xff\x51\3\xff\xff\xff\0\x90\x3c\x40" + events], ticks_per_beat=1))
    assert check_rejected(path, fps=1000)


def test_a_file_that_unpacks_to_gigabytes_is_rejected_without_unpacking_it(path):
    path.write_bytes(gzip.compress(bytes(4 * 10**7), 1))
    tracemalloc.start()
    try:
        assert "larger than" in check_rejected(path)
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
        assert check_rejected(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_very_many_notes_and_tempo_changes_are_read_in_bounded_time(path):
    changes = b"\1\xff\x51\x03\7\xa1\x20" * 30_000
    check_survives(path, midi_bytes([changes + track_bytes([]), b"\0\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * 30_000]))


def test_a_file_cut_off_at_any_byte_is_survived(path):
    for length in range(len(SOUND)):
        check_survives(path, SOUND[:length])


one_edit = st.tuples(st.integers(0, len(SOUND)), st.integers(0, 6), st.binary(max_size=6))


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
@given(any_file)
def test_any_complete_file_is_read_as_by_an_independent_reader_and_if_symusic_reads_it(path, content):
    path.write_bytes(content)
    expected = read_raw(content).velocity()
    if len(expected):
        assert np.array_equal(read_midi(path).velocity, expected)
    else:
        assert check_rejected(path).startswith("no piano notes")
        assert not pitches_by_symusic(path)


def pitches_by_symusic(path):
    symusic = pytest.importorskip("symusic")
    try:
        tracks = symusic.Score(path).tracks
    except RuntimeError:
        return []
    return [note.pitch for track in tracks if not track.is_drum for note in track.notes if 21 <= note.pitch <= 108]
