"""The rules of sampling one by one, and all of them against an independent reader."""

import csv
import os
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raw_midi import any_track, control, midi_bytes, note, pedal, read_raw, steady, tempo

from musicgen.midi import MidiError, Performance, read_midi, read_performance, write_midi
from musicgen.midi.pairing import RAW_NOTE_DTYPE, pedal_moves
from musicgen.midi.tempo_map import TempoMap
from musicgen.piano_roll import PianoRoll

MAESTRO = os.environ.get("MUSICGEN_MAESTRO")
FRAME = 48  # ticks, at 480 a beat, 120 beats a minute and 20 frames a second


def piece(*notes, tempos=(), pedal=(), metres=()):
    """A performance of (start_tick, end_tick) or (start_tick, end_tick, pitch), and of (tick, value) of its pedal."""
    full = [(*note, 60)[:3] for note in notes]
    notes = np.array([(pitch, 64, 0, start, end) for start, end, pitch in full], RAW_NOTE_DTYPE)
    moves = pedal_moves([(tick, 0xB0, 64, value, 0) for tick, value in pedal])
    clock = TempoMap(480, list(tempos), list(metres))
    return Performance(Path("étude.mid"), notes, moves, clock, {}, beats_known=bool(metres))


def notes_at(roll, pitch=60):
    """The notes at a pitch as (start_frame, end_frame)."""
    return [(start, end) for key, _, start, end in roll.notes.tolist() if key == pitch]


def test_the_time_of_a_tick_is_rounded_half_up():
    ticks = [0, 23, 24, 71, 72, 119, 120, 121]  # 72 and 120 are 1.5 and 2.5 frames
    assert TempoMap(480, []).frames(np.array(ticks), 20).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("changes", "frames"),  # of the ticks 0, 240, 480, 720, 960
    [
        ([], [0, 5, 10, 15, 20]),
        ([(0, 500_000)], [0, 5, 10, 15, 20]),
        ([(0, 1_000_000)], [0, 10, 20, 30, 40]),
        ([(480, 250_000)], [0, 5, 10, 13, 15]),  # 720: 12.5 frames; 120 beats a minute before the first
        ([(240, 1_000_000), (480, 2_000_000), (960, 1)], [0, 5, 15, 35, 55]),
        ([(480, 1), (480, 1_000_000)], [0, 5, 10, 20, 30]),  # the last at a tick counts
        ([(961, 1)], [0, 5, 10, 15, 20]),
    ],
)
def test_each_stretch_of_ticks_has_the_tempo_of_the_last_change_before_it(changes, frames):
    assert TempoMap(480, changes).frames(np.array([0, 240, 480, 720, 960]), 20).tolist() == frames


def test_time_is_counted_exactly_however_many_changes_there_are():
    changes = [(tick, 333_333 + tick % 2) for tick in range(100_000)]  # a float goes astray by frame 333,333
    exact = Fraction(99_999 * 333_333 + 49_999, 10**6) * 10
    assert TempoMap(1, changes).frames(np.array([99_999]), 10).tolist() == [int(exact + Fraction(1, 2))]


ticks = st.integers(0, 2000) | st.integers(0, 2**40)
tempos = st.sampled_from([1, 250_000, 500_001, 2**24 - 1]) | st.integers(1, 2**24 - 1)


@settings(deadline=None)
@given(st.integers(1, 32767), st.lists(st.tuples(ticks, tempos), max_size=5), st.lists(ticks), st.integers(1, 1000))
def test_any_tick_lies_where_fractions_say(ticks_per_beat, changes, at, fps):
    raw = read_raw(midi_bytes([[tempo(*change) for change in changes]], ticks_per_beat))
    found = TempoMap(ticks_per_beat, raw.tempos).frames(np.array(at, np.int64), fps)
    assert found.dtype == np.int64
    assert found.tolist() == [raw.frame(tick, fps) for tick in at]


@pytest.mark.parametrize("fps", [np.int8(100), np.uint8(200), np.int32(1000), np.int64(1000)])
def test_the_rate_may_be_any_kind_of_whole_number(fps):
    sampled = piece((0, 4800), tempos=[(0, 2**24 - 1)]).to_roll(fps)
    assert sampled.n_frames == piece((0, 4800), tempos=[(0, 2**24 - 1)]).to_roll(int(fps)).n_frames > 167 * int(fps)


@pytest.mark.parametrize(
    ("start", "end", "sounds"),
    [
        (FRAME, 3 * FRAME, (1, 3)),  # the release is excluded
        (FRAME, FRAME, (1, 2)),  # at least one frame
        (23, 24, (0, 1)),
        (24, 71, (1, 2)),  # both in frame 1
        (0, FRAME + 23, (0, 1)),
        (0, FRAME + 24, (0, 2)),
    ],
)
def test_a_note_sounds_from_its_onset_up_to_its_release_and_at_least_one_frame(start, end, sounds):
    roll = piece((start, end)).to_roll()
    assert notes_at(roll) == [sounds]
    assert roll.n_frames == sounds[1]


def test_a_key_struck_again_in_the_frame_of_its_release_stays_two_notes():
    assert notes_at(piece((0, 3 * FRAME), (3 * FRAME + 5, 5 * FRAME)).to_roll()) == [(0, 2), (3, 5)]


@pytest.mark.parametrize(
    ("max_seconds", "notes"),
    [
        (1, [(0, 8), (10, 15)]),
        (0.75, [(0, 8), (10, 15)]),
        (0.74, [(0, 8), (10, 14)]),
        (0.5, [(0, 8)]),
        (0.05, [(0, 1)]),
    ],
)
def test_what_comes_after_the_limit_is_cut_off(max_seconds, notes):
    performance = piece((0, 8 * FRAME), (10 * FRAME, 15 * FRAME))
    roll = performance.to_roll(max_seconds=max_seconds)
    assert notes_at(roll) == notes
    assert roll.n_frames == notes[-1][1]  # the roll ends with its last sounding frame


def test_the_limit_is_seven_minutes_unless_another_is_given():
    performance = piece((8399 * FRAME, 8410 * FRAME), (8400 * FRAME, 8500 * FRAME, 61))
    assert performance.to_roll().notes.tolist() == [(60, 64, 8399, 8400)]
    assert performance.to_roll(max_seconds=500).n_frames == 8500


def test_a_cut_roll_is_the_beginning_of_the_whole_one():
    performance = piece((0, 10 * FRAME), (10 * FRAME, 12 * FRAME))  # struck again right at the limit
    assert notes_at(performance.to_roll(max_seconds=0.5)) == notes_at(performance.to_roll()[:10]) == [(0, 9)]


def test_the_limit_is_counted_in_whole_frames():
    assert piece((0, 480), tempos=[(0, 1_000_000)]).to_roll(fps=100, max_seconds=0.29).n_frames == 29


def test_notes_that_begin_at_the_limit_or_later_are_counted_as_truncated():
    performance = replace(piece(*((960 * nth, 960 * nth + 900) for nth in range(600))), dropped={"drums": 7})
    assert performance.dropped_notes() == {"drums": 7, "truncated": 180}
    assert (performance.to_roll().n_frames, performance.to_roll().n_notes) == (8399, 420)
    assert performance.dropped_notes(fps=10, max_seconds=599) == {"drums": 7, "truncated": 1}


@pytest.mark.parametrize(
    "tracks", [[note(0, 1920, 60), note(960, 1200, 60)], [note(0, 1920, 60) + note(960, 1200, 60, 64, 1)]]
)
def test_a_pitch_sounds_as_long_as_one_of_two_voices_holds_it(scratch, tracks):
    (scratch / "two.mid").write_bytes(midi_bytes(tracks))
    assert notes_at(read_midi(scratch / "two.mid")) == [(0, 19), (20, 40)]


def test_no_note_before_the_limit_is_an_error_that_names_the_file():
    with pytest.raises(MidiError, match=r"^'étude.mid': no piano notes in its first 0.5 seconds$"):
        piece((10 * FRAME, 12 * FRAME)).to_roll(max_seconds=0.5)


@pytest.mark.parametrize("wrong", [("fps", 0), ("fps", 20.0)] + [("max_seconds", s) for s in (0, -1, np.nan, np.inf)])
def test_arguments_out_of_range_are_rejected(wrong):
    with pytest.raises(ValueError, match=f"^{wrong[0]} must be"):
        piece((0, 480)).to_roll(**dict([wrong]))


@pytest.mark.parametrize(
    ("events", "end"),  # of a note that is released in tick 480; the last release of the piece is in tick 1440
    [
        ([(100, 64), (960, 63)], 960),  # 64 is down, 63 is up
        ([(100, 63), (960, 0)], 480),
        ([(100, 127), (960, 0), (1200, 0)], 960),  # the first time it comes up
        ([(100, 127), (600, 64), (960, 0)], 960),  # half of the way up
        ([(100, 127), (300, 0), (400, 127), (720, 0)], 720),
        ([(100, 127), (300, 0)], 480),
        ([(480, 127), (960, 0)], 480 + 480),  # down in the tick of the release
        ([(100, 127), (480, 0)], 480),  # up in the tick of the release
        ([(481, 127)], 480),  # down after the release
        ([(100, 127)], 1440),  # never up: it rings to the last release
        ([(100, 127), (1920, 0)], 1920),  # up after the last release
    ],
)
def test_the_pedal_holds_what_is_released_while_it_is_down(events, end):
    performance = piece((0, 480), (0, 1440, 72), pedal=events)
    assert notes_at(performance.to_roll(sustain=True)) == [(0, end // FRAME)]
    assert notes_at(performance.to_roll()) == [(0, 10)]


def test_a_key_struck_again_under_the_pedal_stays_two_notes():
    performance = piece((0, 100), (480, 600), pedal=[(50, 127), (960, 0)])
    assert notes_at(performance.to_roll(sustain=True)) == [(0, 9), (10, 20)]


@pytest.mark.parametrize(("n_beats", "frame"), [(0, 0), (0.5, 5), (1, 10), (1.5, 13), (4, 25), (8, 45)])
def test_beats_are_counted_by_the_files_own_tempo(n_beats, frame):
    assert piece((0, 9), tempos=[(480, 250_000)]).frame_of_beat(n_beats) == frame


def test_the_first_beats_are_the_beginning_of_the_roll():
    performance = piece((0, 100), (480, 9600, 72), tempos=[(480, 250_000)])
    assert performance.first_beats(1.5) == performance.to_roll()[:13]
    assert performance.first_beats(1.5, fps=40).notes.tolist() == [(60, 64, 0, 4), (72, 64, 20, 25)]
    with pytest.raises(ValueError, match="n_beats must be above 0"):
        performance.first_beats(0)
    with pytest.raises(MidiError, match="less than a frame"):
        performance.first_beats(0.001)


@pytest.mark.parametrize("silence", [0, 480 * 32 + 13, 480 * 2000])  # the last is longer than seven minutes
def test_the_first_beats_are_counted_from_the_first_note(silence):
    performance = piece((silence, silence + 100), (silence + 480, silence + 9600, 72), pedal=[(60, 99)])
    prime = performance.first_beats(8)
    assert prime.notes.tolist() == [(60, 64, 0, 2), (72, 64, 10, 80)]
    assert prime.pedal.all() == (silence > 0)
    assert performance.frame_of_beat(8) == 80
    assert performance.frame_of_beat(8, fps=50) == 200


def test_a_prime_that_is_shorter_than_requested_shows_it():
    performance = piece((480, 960), (960, 1200))
    assert performance.first_beats(8).n_frames == 15 < performance.frame_of_beat(8)
    assert performance.first_beats(1).n_frames == 10 == performance.frame_of_beat(1)
    rests = piece((0, 480), (9600, 9700))
    assert rests.first_beats(8).n_frames == 80  # a rest is no end


@pytest.mark.parametrize(
    ("events", "frames"),  # of the ticks 0..479, in which the pedal is down
    [
        ([(0, 127)], range(10)),
        ([(48, 64), (96, 63)], [1]),
        ([(24, 100), (71, 0)], []),  # both in frame 1
        ([(48, 100), (100, 0), (110, 100), (192, 0)], [1, 3]),  # up and down again within frame 2
        ([(48, 100), (100, 0), (100, 100), (192, 0)], [1, 3]),  # in one tick
        ([(48, 100), (144, 0), (150, 90), (160, 0), (165, 90), (288, 0)], [1, 2, 4, 5]),  # twice within frame 3
        ([(0, 90), (0, 0), (0, 100), (48, 30)], [0]),  # the first position is no lift
        ([(0, 0)], []),
    ],
)
def test_the_pedal_of_a_frame_is_that_of_its_end_and_each_lift_leaves_a_frame_up(events, frames):
    roll = piece((0, 480), pedal=events).to_roll()
    assert np.flatnonzero(roll.pedal).tolist() == list(frames)
    assert np.array_equal(roll.velocity, piece((0, 480)).to_roll().velocity)
    assert piece((0, 480)).to_roll().pedal is None


@pytest.mark.parametrize(
    ("events", "moves"),
    [
        ([pedal(0, 0, 2)], [(0, False)]),  # on a channel without notes
        ([pedal(5, 99, 2), pedal(70, 9, 2)], [(5, True), (70, False)]),
        ([pedal(5, 99, 0), pedal(8, 99, 1), pedal(70, 9, 0), pedal(90, 9, 1)], [(5, True), (90, False)]),
        ([pedal(5, 99, 0), pedal(70, 9, 0), pedal(70, 99, 1)], [(5, True)]),  # handed over without a break
        (
            [pedal(5, 99, 0), pedal(5, 99, 1), pedal(70, 9, 0), pedal(70, 99, 0), pedal(70, 9, 1), pedal(70, 99, 1)],
            [(5, True), (70, False), (70, True)],  # both are lifted in one tick
        ),
        ([pedal(5, 99, 9)], []),  # of the drums
        ([pedal(5, 99, 0), control(70, 121, 0, 0)], [(5, True), (70, False)]),  # all controllers are reset
        ([control(0, 121, 0, 0), pedal(5, 99, 1), control(70, 121, 0, 0)], [(0, False), (5, True)]),
        ([control(0, 121, 0, 0)], []),  # that alone is no pedal
    ],
)
def test_a_piano_on_several_channels_has_one_pedal(scratch, events, moves):
    (scratch / "hands.mid").write_bytes(midi_bytes([note(0, 9, 60, channel=0) + note(0, 9, 40, channel=1), events]))
    assert read_performance(scratch / "hands.mid").pedal == tuple(moves)


def test_a_pedal_on_a_channel_of_its_own_holds_the_notes_of_all_channels(scratch):
    hands = note(0, 240, 60, channel=0) + note(0, 480, 40, channel=1)
    (scratch / "hands.mid").write_bytes(midi_bytes([hands, [pedal(0, 127, 2), pedal(912, 0, 2)]]))
    assert read_midi(scratch / "hands.mid", sustain=True).notes.tolist() == [(40, 64, 0, 19), (60, 64, 0, 19)]


def test_other_pedals_that_hold_notes_are_told(scratch):
    moves = [control(0, 66, 127, 0), control(5, 66, 0, 0), control(6, 69, 64, 3), control(7, 67, 127, 0)]
    (scratch / "three.mid").write_bytes(midi_bytes([note(0, 480, 60), moves, [control(0, 66, 90, 0)]]))
    told = read_performance(scratch / "three.mid").warnings
    assert told == ("the sostenuto pedal is left out", "the second hold pedal is left out"), "the soft one holds none"
    (scratch / "up.mid").write_bytes(midi_bytes([note(0, 480, 60), [control(0, 66, 63, 0)]]))
    assert read_performance(scratch / "up.mid").warnings == ()


def program(tick, number, channel=0):
    return tick, bytes([0xC0 | channel, number])


@pytest.mark.parametrize(
    ("events", "warnings"),
    [
        ([program(0, 7)], []),  # the piano's family ends here
        ([program(0, 40, 1)], []),  # on a channel without notes
        ([program(481, 40)], []),  # behind the notes
        ([program(0, 40), program(0, 3)], []),
        ([program(0, 40)], ["notes of other instruments are read as piano: 2 (strings)"]),
        (
            [program(480, 127), program(0, 19)],
            ["notes of other instruments are read as piano: 2 (organ, sound effects)"],
        ),
    ],
)
def test_other_instruments_are_read_as_piano_with_a_warning(scratch, events, warnings):
    (scratch / "band.mid").write_bytes(midi_bytes([note(0, 9, 60) + note(480, 489, 60), events]))
    performance = read_performance(scratch / "band.mid")
    assert (performance.to_roll().n_notes, list(performance.warnings)) == (2, warnings)


def test_the_notes_of_a_performance_are_read_only(scratch):
    with pytest.raises(ValueError, match="read-only"):
        piece((0, 9)).notes["pitch"] += 1


def test_the_error_is_one_printable_line_and_survives_another_process():
    error = MidiError("a\nb\x1b[31m\u202e.mid", "no piano notes")
    assert str(error).isprintable() and len(str(MidiError("\udcff" * 4000, "no notes"))) <= 300
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.reason) == (str(error), Path("a\nb\x1b[31m\u202e.mid"), "no piano notes")


sampling = st.tuples(st.sampled_from([1, 7, 20, 50]), st.booleans(), st.sampled_from([1, 2, 60]))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("sampling")


def check_against_the_bytes(path, scratch, fps=20, sustain=False, max_seconds=420):
    """Compare every cell of the roll, and of what is read from it when it has been written again."""
    raw = read_raw(path.read_bytes())
    expected = raw.velocity(fps, sustain, max_seconds)
    if not len(expected):
        with pytest.raises(MidiError, match="no piano notes"):
            read_midi(path, fps, sustain, max_seconds)
        return 0
    performance = read_performance(path)
    n_dropped = len(raw.notes) - len(raw.piano_notes()) + raw.never_released
    assert (len(performance.notes), sum(performance.dropped.values())) == (len(raw.piano_notes()), n_dropped)
    roll = performance.to_roll(fps, sustain, max_seconds)
    assert roll == PianoRoll(expected, fps, raw.pedal_down(len(expected), fps)), path.name
    write_midi(roll, scratch / "again.mid")
    assert read_midi(scratch / "again.mid", fps) == PianoRoll(steady(expected), fps, roll.pedal), path.name
    return roll.n_frames


@settings(max_examples=200, deadline=None)
@given(st.lists(any_track, min_size=1, max_size=3), st.sampled_from([1, 24, 96]), sampling)
def test_any_file_equals_an_independent_reading_of_its_bytes(scratch, tracks, ticks_per_beat, how):
    (scratch / "any.mid").write_bytes(midi_bytes(tracks, ticks_per_beat))
    check_against_the_bytes(scratch / "any.mid", scratch, *how)


cells = arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(4)), elements=st.just(0) | st.integers(0, 127))
rates = st.sampled_from([1, 7, 20, 50, 1000, np.uint8(200)])


def roll_of(few_keys, fps, draw=None):
    """A roll of four rows, that ends with a sounding frame, with a pedal if it can be drawn."""
    few_keys[-1, 1] = 99
    velocity = np.zeros((len(few_keys), 88), np.uint8)
    velocity[:, [0, 39, 40, 87]] = steady(few_keys)
    pedal = draw and draw.draw(st.none() | arrays(bool, len(velocity)))
    return PianoRoll(velocity, fps, pedal)


@settings(deadline=None)
@given(cells, rates, st.data())
def test_a_written_roll_is_read_as_the_same_roll_and_the_file_ends_with_the_pedal_up(scratch, few_keys, fps, draw):
    roll, path = roll_of(few_keys, fps, draw), scratch / "written.mid"
    write_midi(roll, path)
    written = path.read_bytes()
    assert read_midi(path, fps) == roll
    assert not any(is_down for _, is_down in read_performance(path).pedal[-1:])
    assert np.array_equal(read_raw(written).velocity(int(fps), max_seconds=60), roll.velocity)
    write_midi(read_midi(path, fps), path)
    assert path.read_bytes() == written


@settings(deadline=None)
@given(st.lists(any_track, min_size=1, max_size=2), cells, rates, st.sampled_from([1, 24, 96, 480, 10080]))
def test_a_roll_is_the_same_in_any_tempo(scratch, tracks, few_keys, fps, ticks_per_beat):
    roll, raw = roll_of(few_keys, fps), read_raw(midi_bytes(tracks, ticks_per_beat))
    for tempo_map in (TempoMap(ticks_per_beat, raw.tempos), TempoMap(ticks_per_beat, raw.tempos).since(99)):
        write_midi(roll, scratch / "written.mid", tempo_map)
        assert read_midi(scratch / "written.mid", fps) == roll


@pytest.mark.skipif(not MAESTRO, reason="MUSICGEN_MAESTRO names no folder with MAESTRO's csv and MIDI files")
def test_forty_real_performances_equal_an_independent_reading_of_their_bytes(scratch):
    with next(Path(MAESTRO).glob("maestro*.csv")).open(encoding="utf-8") as stream:
        names = sorted(row["midi_filename"] for row in csv.DictReader(stream))
    chosen = [Path(MAESTRO) / names[nth * len(names) // 40] for nth in range(40)]
    lengths = [check_against_the_bytes(path, scratch) for path in chosen]
    assert max(lengths) == 8400  # some met the limit of seven minutes
    for path in chosen[::8]:
        check_against_the_bytes(path, scratch, fps=50, sustain=True)
