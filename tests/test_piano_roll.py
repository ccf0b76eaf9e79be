"""The matrix: invalid arrays, its properties, and how notes become cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raw_midi import steady

from musicgen.piano_roll import NOTE_DTYPE, PianoRoll, as_roll, check_fps, pad


def roll_of(keys, fps=20):
    """A roll from the velocities of a few keys: {pitch: [velocity in frame 0, in frame 1, ...]}."""
    velocity = np.zeros((max(map(len, keys.values())), 88), np.uint8)
    for pitch, row in keys.items():
        velocity[: len(row), pitch - 21] = row
    return PianoRoll(velocity, fps)


def notes_of(*notes):
    """(start_frame, end_frame, velocity) or (start_frame, end_frame, velocity, pitch) as a structured array."""
    full = [(*note, 60)[:4] for note in notes]
    return np.array([(pitch, velocity, start, end) for start, end, velocity, pitch in full], NOTE_DTYPE)


SOME = roll_of({21: [70, 70, 0, 71], 60: [0, 50, 55, 0], 108: [0, 0, 0, 127]}, fps=8)


@pytest.mark.parametrize(
    ("velocity", "problem"),
    [
        (np.zeros((4, 88)), "uint8"),
        (np.zeros((4, 88), np.int8), "uint8"),
        ([[0] * 88], "uint8"),
        (np.zeros((4, 87), np.uint8), r"\(n_frames, 88\), not \(4, 87\)"),
        (np.zeros((88, 4), np.uint8), r"\(88, 4\)"),
        (np.zeros(88, np.uint8), r"\(88,\)"),
        (np.zeros((1, 4, 88), np.uint8), r"\(1, 4, 88\)"),
        (np.full((4, 88), 128, np.uint8), "0..127, found 128"),
    ],
)
def test_a_matrix_of_another_type_shape_or_range_is_rejected(velocity, problem):
    with pytest.raises(ValueError, match=problem):
        PianoRoll(velocity)


@pytest.mark.parametrize("fps", [0, -20, 1001, 20.0, True, "20", None, np.float64(20)])
def test_a_rate_that_is_no_whole_number_from_1_to_1000_is_rejected(fps):
    with pytest.raises(ValueError, match="fps must be a whole number from 1 to 1000, not"):
        PianoRoll(SOME.velocity, fps)


def test_the_ends_of_the_ranges_are_accepted():
    for fps in (1, 1000, np.int64(20)):
        check_fps(fps)
    assert PianoRoll(np.full((1, 88), 127, np.uint8)).fps == 20
    assert type(PianoRoll(SOME.velocity, np.int64(7)).fps) is int


@pytest.mark.parametrize("pitch", [20, 109])
def test_a_note_off_the_piano_is_not_painted(pitch):
    with pytest.raises(ValueError, match="pitches must lie in 21..108"):
        PianoRoll.from_notes(np.array([(60, 9, 0, 1), (pitch, 9, 0, 1)], NOTE_DTYPE))


def test_a_note_is_a_run_with_the_velocity_of_its_first_frame_by_time_then_pitch():
    assert SOME.notes.dtype == NOTE_DTYPE
    assert SOME.notes.tolist() == [(21, 70, 0, 2), (60, 50, 1, 3), (21, 71, 3, 4), (108, 127, 3, 4)]
    assert SOME.n_notes == 4


def test_active_and_onsets():
    assert SOME.active.dtype == SOME.onsets.dtype == bool
    assert np.argwhere(SOME.active).tolist() == [[0, 0], [1, 0], [1, 39], [2, 39], [3, 0], [3, 87]]
    assert np.argwhere(SOME.onsets).tolist() == [[0, 0], [1, 39], [3, 0], [3, 87]]


def test_a_slice_is_a_view_that_keeps_the_rate_and_makes_a_cut_run_a_note():
    middle = SOME[1:3]
    assert (middle.n_frames, middle.fps) == (2, 8)
    assert middle.notes.tolist() == [(21, 70, 0, 1), (60, 50, 0, 2)]
    assert np.shares_memory(middle.velocity, SOME.velocity)
    assert SOME[-1:].n_notes == 2
    with pytest.raises(TypeError, match="slice"):
        SOME[1]


def test_two_rolls_are_equal_in_every_cell_and_in_their_rate():
    assert SOME == PianoRoll(SOME.velocity.copy(), 8)
    assert SOME != PianoRoll(SOME.velocity, 9)
    assert SOME != PianoRoll(np.where(SOME.velocity == 55, 56, SOME.velocity).astype(np.uint8), 8)
    assert SOME != SOME[:3]
    assert SOME != "a roll"


def test_a_roll_without_frames_or_without_notes():
    for n_frames in (0, 3):
        silent = PianoRoll(np.zeros((n_frames, 88), np.uint8))
        assert (silent.n_notes, len(silent.notes)) == (0, 0)
        assert PianoRoll.from_notes(silent.notes, n_frames=n_frames) == silent


@pytest.mark.parametrize(
    ("notes", "row"),
    [
        ([(1, 3, 50)], [0, 50, 50]),
        ([(0, 2, 50), (3, 5, 60)], [50, 50, 0, 60, 60]),  # apart already
        ([(0, 3, 50), (3, 5, 60)], [50, 50, 0, 60, 60]),  # struck in the frame of the release
        ([(0, 2, 50), (2, 3, 60)], [50, 0, 60]),  # two frames: one can be given up
        ([(0, 1, 50), (1, 3, 60)], [50, 60, 60]),  # one frame: nothing to give up
        ([(0, 5, 50), (2, 4, 60)], [50, 0, 60, 60, 60]),  # struck while it sounds: it sounds as long as the longer
        ([(0, 5, 50), (1, 3, 60)], [50, 60, 60, 60, 60]),  # one frame before it is struck again
        ([(0, 7, 50), (2, 3, 60), (4, 5, 70)], [50, 0, 60, 0, 70, 70, 70]),  # two short notes within a long one
        ([(0, 5, 50, 61), (0, 2, 40), (3, 4, 60)], [40, 40, 0, 60, 0]),  # a long note of another pitch
        ([(0, 9, 50), (4, 9, 60)], [50, 50, 50, 0, 60, 60, 60, 60, 60]),
        ([(0, 4, 50), (2, 4, 60), (3, 6, 70)], [50, 0, 60, 70, 70, 70]),
        ([(1, 2, 50), (1, 4, 60)], [0, 60, 60, 60]),  # in one frame: the longer
        ([(1, 4, 50), (1, 2, 60)], [0, 50, 50, 50]),
        ([(1, 3, 50), (1, 3, 60)], [0, 60, 60]),  # in one frame and as long: the louder
        ([(0, 3, 50), (3, 4, 60, 61)], [50, 50, 50, 0]),  # another key
        ([(0, 3, 60, 61), (3, 4, 50)], [0, 0, 0, 50]),
    ],
)
def test_a_pitch_sounds_as_long_as_any_note_and_onsets_stay_apart_if_a_frame_is_free(notes, row):
    for given_order in (notes, notes[::-1]):
        assert PianoRoll.from_notes(notes_of(*given_order)).velocity[:, 60 - 21].tolist() == row


def test_painting_leaves_the_given_notes_alone_and_uses_the_whole_keyboard():
    notes = notes_of((0, 4, 9, 21), (2, 3, 8, 21), (0, 1, 7, 108))
    before = notes.copy()
    roll = PianoRoll.from_notes(notes, fps=50)
    assert np.array_equal(notes, before)
    assert roll == roll_of({21: [9, 0, 8, 8], 108: [7, 0, 0, 0]}, fps=50)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(1, 127), st.integers(60, 62)), max_size=6))
def test_a_pitch_is_active_where_a_note_holds_it_but_for_single_frames_before_onsets(notes):
    notes = notes_of(*((start, start + length, velocity, pitch) for start, length, velocity, pitch in notes))
    held = np.zeros((18, 88), bool)
    for pitch, _, start, end in notes.tolist():
        held[start:end, pitch - 21] = True
    roll = PianoRoll.from_notes(notes, n_frames=18)
    frames, columns = np.nonzero(held & ~roll.active)
    assert not (roll.active & ~held).any() and roll.onsets[frames + 1, columns].all()


@pytest.mark.parametrize(("n_frames", "row"), [(None, [0, 5, 5]), (5, [0, 5, 5, 0, 0]), (2, [0, 5]), (0, [])])
def test_the_length_can_be_given(n_frames, row):
    assert PianoRoll.from_notes(notes_of((1, 3, 5)), n_frames=n_frames).velocity[:, 39].tolist() == row


@settings(deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(0, 12), st.just(4)), elements=st.just(0) | st.integers(0, 127)))
def test_the_notes_of_any_roll_paint_it_again(few_keys):
    velocity = np.zeros((len(few_keys), 88), np.uint8)
    velocity[:, [0, 1, 40, 87]] = few_keys
    roll = PianoRoll(velocity)
    again = PianoRoll.from_notes(roll.notes, n_frames=roll.n_frames)
    assert np.array_equal(again.velocity, steady(velocity))
    assert np.array_equal(again.notes, roll.notes)
    assert roll.n_notes == len(roll.notes)


def test_excerpts_are_padded_by_zeros_at_their_ends():
    padded, lengths = pad([SOME.velocity, SOME.velocity[:1]])
    assert (padded.shape, padded.dtype, lengths.tolist()) == ((2, 4, 88), np.uint8, [4, 1])
    assert np.array_equal(padded[0], SOME.velocity)
    assert np.array_equal(padded[1, :1], SOME.velocity[:1]) and not padded[1, 1:].any()


def test_excerpts_can_be_padded_to_a_given_length_of_at_least_the_longest():
    padded, lengths = pad([SOME.active], n_frames=9)
    assert (padded.shape, padded.dtype, lengths.tolist()) == ((1, 9, 88), bool, [4])
    with pytest.raises(ValueError):
        pad([SOME.active], n_frames=3)


DOWN = np.array([True, False, False, True])
BEATS = np.array([[-0.25, 0], [0.125, 1], [0.5, 0]])


@pytest.mark.parametrize("pedal", [DOWN[:3], DOWN.astype(np.uint8), DOWN[None], [True] * 4])
def test_a_pedal_of_another_type_or_length_is_rejected(pedal):
    with pytest.raises(ValueError, match=r"pedal must be a numpy array of bool of shape \(4,\)"):
        PianoRoll(SOME.velocity, 8, pedal)


@pytest.mark.parametrize("beats", [[[0, 2]], [[0, 1], [0, 0]], [[1, 1], [0, 0]], [0, 1], [[0, 1, 2]], [[np.nan, 1]]])
def test_beats_of_another_shape_or_order_are_rejected(beats):
    with pytest.raises(ValueError, match="beats must"):
        PianoRoll(SOME.velocity, 8, None, np.array(beats, float))


def test_a_slice_takes_its_part_of_the_pedal_and_counts_its_beats_from_its_first_frame():
    part = PianoRoll(SOME.velocity, 8, DOWN, BEATS)[1:]
    assert part.pedal.tolist() == [False, False, True]
    assert part.beats.tolist() == [[-0.375, 0], [0, 1], [0.375, 0]]
    assert part == PianoRoll(SOME.velocity[1:], 8, DOWN[1:], part.beats)


def test_rolls_differ_by_their_pedal_and_their_beats():
    rolls = [PianoRoll(SOME.velocity, 8, *rest) for rest in ((), (DOWN,), (~DOWN,), (DOWN, BEATS), (None, BEATS))]
    assert all((one == other) == (one is other) for one in rolls for other in rolls)


def test_the_times_of_beats_are_whole_microseconds():
    assert PianoRoll(SOME.velocity, 8, None, BEATS + [1 / 3, 0]).beats[:, 0].tolist() == [0.083333, 0.458333, 0.833333]


def test_nothing_of_a_roll_can_be_changed():
    velocity, pedal, beats = SOME.velocity.copy(), DOWN.copy(), BEATS.copy()
    roll = PianoRoll(velocity, 8, pedal, beats)
    velocity[:], pedal[:], beats[0, 0] = 1, True, -9  # the roll keeps its own
    assert roll == PianoRoll(SOME.velocity, 8, DOWN, BEATS)
    for part in (roll, roll[1:], roll.transpose(1)):
        arrays = (part.velocity, part.pedal, part.beats, part.active, part.onsets, part.notes)
        assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize(("factor", "row"), [
    (0.5, [0, 0, 50, 50, 0, 60]),
    (2, [0] * 8 + [50] * 6 + [0] * 6 + [60, 60]),
    (1, [0, 0, 0, 0, 50, 50, 50, 0, 0, 0, 60]),
])  # fmt: skip
def test_a_stretched_roll_is_slower_and_the_roll_itself_stays(factor, row):
    roll = roll_of({60: [0, 0, 0, 0, 50, 50, 50, 0, 0, 0, 60]})
    for _ in range(2):
        assert roll.stretch(factor).velocity[:, 39].tolist() == row
    with pytest.raises(ValueError, match="factor must be"):
        roll.stretch(0)


@given(arrays(bool, st.integers(1, 30)), st.floats(0.5, 2))
def test_each_lift_of_the_pedal_is_left_in_a_stretched_roll(pedal, factor):
    roll = PianoRoll(np.zeros((len(pedal), 88), np.uint8), 20, pedal).stretch(factor)
    for lift in 1 + np.flatnonzero(pedal[:-1] & ~pedal[1:]):
        where = int(lift * factor)
        assert not roll.pedal[where : where + 2].all() or where >= roll.n_frames - 1


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_a_matrix_of_ones_own_becomes_a_roll(kind):
    matrix = np.zeros((50, 88), kind)
    matrix[10:20, 60 - 21] = 1
    roll = as_roll(matrix, fps=10, velocity=90)
    assert (roll.fps, roll.notes.tolist()) == (10, [(60, 90, 10, 20)])
    assert as_roll(roll) is roll


def test_a_matrix_of_velocities_keeps_them():
    assert as_roll(SOME.velocity, fps=8) == SOME
    assert as_roll(SOME.velocity.astype(int).tolist(), fps=8) == SOME


@pytest.mark.parametrize(
    ("matrix", "fault"),
    [
        (np.zeros((88, 50)), "transpose"),
        (np.zeros((1, 50, 88)), "shape"),
        (np.full((50, 88), 0.5), "probabilities"),
        (np.full((50, 88), -1), "velocities"),
        (np.full((50, 88), 128), "velocities"),
        (np.full((50, 88), np.nan), "velocities"),
    ],
)
def test_what_is_no_piano_roll_is_refused(matrix, fault):
    with pytest.raises(ValueError, match=fault):
        as_roll(matrix)


def test_an_unknown_pedal_counts_as_up():
    pedal = np.array([True, False, True, True])
    assert PianoRoll(SOME.velocity, pedal=pedal).pedal_down.tolist() == [True, False, True, True]
    assert SOME.pedal is None and SOME.pedal_down.tolist() == [False] * 4
