"""Tempo, metre and beats: read from scores, not from recordings, and written so that notation shows the same bars."""

from io import BytesIO

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_midi import metre, midi_bytes, note, scale, tempo

from musicgen import midi
from musicgen.midi import read_midi, read_performance, write_midi
from musicgen.midi.tempo_map import TempoMap, tempo_map_of_beats
from musicgen.piano_roll import PianoRoll

THREE, SIX = (3, 2), (6, 3)  # 3/4 and 6/8, as (numerator, power of two)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "piece.mid"


def score(time=THREE, tempos=((0, 666_667),), n_notes=24, shift=0, start=0):
    events = [metre(start, *time), *(tempo(*change) for change in tempos)]
    return midi_bytes([[*events, *(event for event in scale(n_notes, 240, shift))]])


def read(content, fps=20):
    return read_performance("piece.mid", content).to_roll(fps)


def beats_of(seconds, per_bar):
    return [[round(second, 6), float(nth % per_bar == 0)] for nth, second in enumerate(seconds)]


def time_events(content):
    """(quarter note, tempo in BPM or "3/4") of a file."""
    file = mido.MidiFile(file=BytesIO(content))
    tick, found = 0, []
    for message in file.tracks[0]:
        tick += message.time
        if message.type == "set_tempo":
            found.append((tick / file.ticks_per_beat, round(mido.tempo2bpm(message.tempo), 3)))
        if message.type == "time_signature":
            found.append((tick / file.ticks_per_beat, f"{message.numerator}/{message.denominator}"))
    return found


def test_a_score_has_beats_from_its_first_to_the_first_after_its_last_note():
    assert read(score()).beats.tolist() == beats_of(np.arange(13) * 0.666667, 3)
    assert read(score(n_notes=23)).beats.tolist() == beats_of(np.arange(13) * 0.666667, 3)


@pytest.mark.parametrize(
    ("time", "quarters", "per_bar"),
    [((4, 2), 1, 4), ((2, 1), 2, 2), ((3, 3), 0.5, 3), ((6, 3), 1.5, 2), ((12, 3), 1.5, 4), ((5, 3), 0.5, 5)],
)
def test_the_beat_is_the_denominator_or_three_of_them_in_compound_metres(time, quarters, per_bar):
    beats = read(score(time, ())).beats
    assert beats[:7].tolist() == beats_of(np.arange(7) * quarters / 2, per_bar)


def test_beats_follow_each_change_of_tempo_and_metre():
    content = midi_bytes([scale(12), [metre(0, *THREE), metre(1440, 2, 2), tempo(1440, 250_000)]])
    times = [0, 0.5, 1, 1.5, 1.75, 2, 2.25]
    assert read(content).beats[:7].tolist() == [[t, float(n in (0, 3, 5))] for n, t in enumerate(times)]


def test_beats_are_unknown_before_the_first_time_signature():
    assert read(score(start=480, tempos=())).beats[0].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    "content",
    [
        midi_bytes([scale(24, 240)]),  # without a time signature
        score(n_notes=7),  # too few notes
        score(shift=7),  # off the beat
        midi_bytes([[metre(0, *THREE), *(event for nth in range(40) for event in note(97 * nth, 97 * nth + 9, 60))]]),
        score(tempos=[(0, 16_000_000)]),  # beats of 16 seconds
        score(tempos=[(0, 40_000)]),  # and of 1/25 second
        midi_bytes([[metre(0, 0, 2), *scale()]]),
        midi_bytes([[metre(0, 4, 7), *scale()]]),
    ],
)
def test_beats_of_recordings_and_of_meaningless_metres_are_unknown(content):
    assert read(content).beats is None


def test_a_prime_that_begins_after_silence_counts_its_beats_from_its_first_note():
    silence = 480 * 27
    performance = read_performance("piece.mid", score(shift=silence, tempos=((0, 250_000), (480, 666_667))))
    prime = performance.first_beats(6)
    assert (prime.n_frames, prime.onsets[0].sum()) == (80, 1)
    assert prime.beats[prime.beats[:, 0] > -0.03][:4, 1].tolist() == [1, 0, 0, 1]
    assert np.diff(prime.beats[prime.beats[:, 0] > -0.03][:, 0]) == pytest.approx(0.666667)
    assert time_events(midi.midi_bytes(prime, 0, performance.prime_tempo_map)) == [(0, 90.0), (0, "3/4")]


@pytest.mark.parametrize("time", [THREE, SIX, (2, 1), (7, 3)])
@pytest.mark.parametrize("microseconds", [666_667, 500_000, 1_234_567])
def test_a_generated_file_has_the_tempo_and_metre_of_its_prime(path, time, microseconds):
    performance = read_performance("piece.mid", score(time, [(0, microseconds)]))
    roll = performance.to_roll()
    generated = PianoRoll(np.tile(roll.velocity, (9, 1))[7:], roll.fps)
    write_midi(generated, path, performance.prime_tempo_map)
    expected = [(0, round(6e7 / microseconds, 3)), (0, f"{time[0]}/{2 ** time[1]}")]
    assert time_events(path.read_bytes()) == expected
    assert np.array_equal(read_midi(path).velocity, generated.velocity)


def test_a_roll_with_beats_is_written_in_their_tempo_and_metre_and_read_with_them(path):
    roll = read(score())
    write_midi(roll, path)
    assert time_events(path.read_bytes()) == [(0, 90.0), (0, "3/4")]
    assert read_midi(path) == roll
    assert time_events(midi.midi_bytes(PianoRoll(roll.velocity))) == [(0, 120.0)]


steps = st.integers(300_000, 2_000_000)


@settings(deadline=None)
@given(st.lists(steps, min_size=4, max_size=8), st.integers(2, 4), st.sampled_from([7, 20, 1000]), st.data())
def test_beats_of_any_lengths_are_written_and_read_exactly(tmp_path_factory, lengths, per_bar, fps, draw):
    path = tmp_path_factory.mktemp("beats") / "any.mid"
    times = np.cumsum([0, *lengths]) / 10**6
    beats = np.array(beats_of(times, per_bar))
    n_frames = draw.draw(st.integers(int(times[-2] * fps) + 1, int(times[-1] * fps)))
    velocity = np.zeros((n_frames, 88), np.uint8)
    velocity[draw.draw(st.lists(st.integers(0, n_frames - 1), max_size=9)), 40] = 50
    velocity[-1, 50] = 60
    roll = PianoRoll(velocity, fps, None, beats)
    write_midi(roll, path)
    if beats[:, 1].sum() >= 2:
        assert read_midi(path, fps) == roll
    assert np.array_equal(read_midi(path, fps).velocity, velocity)


def test_an_excerpt_that_begins_within_a_bar_is_written_with_a_shorter_first_bar(path):
    roll = read(score())[20:]
    write_midi(roll, path)
    assert time_events(path.read_bytes())[1:] == [(0.5, 90.0), (0.5, "1/4"), (1.5, "3/4")]
    assert np.array_equal(read_midi(path).velocity, roll.velocity)
    assert read_midi(path).beats[:, 0] == pytest.approx(roll.beats[2:, 0], abs=1e-5)


@pytest.mark.parametrize("microseconds", [500_000, 600_000])
@pytest.mark.parametrize("time", [(4, 2), THREE, SIX, (9, 3), (12, 3), (7, 3), (2, 1)])
@pytest.mark.parametrize("late", [240, 720, 1680])  # whole frames
def test_a_prime_that_begins_off_the_beat_is_written_with_its_beats_at_the_same_times(time, late, microseconds):
    performance = read_performance("piece.mid", score(time, [(0, microseconds)], n_notes=32, shift=late))
    prime = performance.first_beats(14)
    written = read(midi.midi_bytes(prime, 0, performance.prime_tempo_map)).beats
    beats = prime.beats[prime.beats[:, 0] >= 0]
    assert written[:, 0] == pytest.approx(beats[:, 0], abs=1e-5)
    assert written[1:, 1].tolist() == beats[1:, 1].tolist()  # what is left of a bar is a bar


def test_half_a_beat_late_leaves_the_file_without_a_metre_until_the_first_beat():
    performance = read_performance("piece.mid", score((4, 2), [(0, 500_000)], n_notes=32, shift=240))
    prime = performance.first_beats(8)
    assert prime.beats[:5].tolist() == [[-0.25, 1], [0.25, 0], [0.75, 0], [1.25, 0], [1.75, 1]]
    content = midi.midi_bytes(prime, 0, performance.prime_tempo_map)
    assert time_events(content) == [(0, 120), (0.5, "3/4"), (3.5, "4/4")]
    assert read(content).beats[:5].tolist() == [[0.25, 1], [0.75, 0], [1.25, 0], [1.75, 1], [2.25, 0]]


def test_a_short_first_bar_is_followed_by_whole_ones():
    upbeat = midi_bytes([[metre(0, 1, 2), metre(480, *THREE), *scale(24, 240)]])
    performance = read_performance("piece.mid", upbeat)
    downbeats = [True, True, False, False, True, False, False, True]
    assert performance.to_roll().beats[:8, 1].tolist() == downbeats
    assert TempoMap(480, [], [(0, 4, 4), (480, 3, 4)]).since(240).metres == [(240, 3, 4)]
    for n_beats in (4, 8):  # also where no whole bar is known
        written = midi.midi_bytes(performance.first_beats(n_beats))
        assert read(written).beats[:n_beats, 1].tolist() == downbeats[:n_beats]


@pytest.mark.parametrize(
    ("tick", "metres"),
    [
        (0, [(0, 3, 4), (2880, 4, 4)]),
        (1440, [(0, 3, 4), (1440, 4, 4)]),
        (480, [(0, 2, 4), (960, 3, 4), (2400, 4, 4)]),
        (2400, [(0, 1, 4), (480, 4, 4)]),
        (2880, [(0, 4, 4)]),
    ],
)
def test_a_later_start_keeps_the_bars(tick, metres):
    tempo_map = TempoMap(480, [(0, 9), (100, 8), (3000, 7)], [(0, 3, 4), (2880, 4, 4)]).since(tick)
    assert tempo_map.metres == metres
    assert tempo_map.changes == [
        change for change in [(0, 9 if tick < 100 else 8), (100, 8), (3000 - tick, 7)] if change[0] != 100 or not tick
    ]


@pytest.mark.parametrize("beats", [None, [], [[1.0, 1]], [[-2, 1], [-1, 0]], [[0, 1], [17, 0]]])
def test_beats_that_a_file_cannot_hold_leave_120_bpm(beats):
    beats = None if beats is None else np.array(beats, float).reshape(-1, 2)
    assert tempo_map_of_beats(beats) is None
    assert time_events(midi.midi_bytes(PianoRoll(np.full((9, 88), 5, np.uint8), 20, None, beats))) == [(0, 120.0)]


def test_a_tempo_too_fast_for_the_times_of_a_file_becomes_120_bpm(path):
    roll = PianoRoll(np.full((3, 88), 60, np.uint8), 1)
    write_midi(roll, path, TempoMap(480, [(0, 1)]))  # 480 million ticks per frame
    assert read_midi(path, 1) == roll
