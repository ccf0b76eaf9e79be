"""Exercises of notebooks 00 to 02: MIDI files, corpora and piano rolls."""

import numpy as np

from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import Case, FunctionExercise


def _ticks_in_floats(ticks, tempo, ticks_per_beat, fps):
    """A typical wrong answer: compute the frame in floats, where `round` turns 2.5 into 2."""
    return round(ticks * tempo * fps / (ticks_per_beat * 1_000_000))


def _titles_that_come_twice(pieces):
    titles = [title for title, _ in pieces]
    return {title for title in titles if titles.count(title) > 1}


def _starts(row, n_skipped=0):
    return [t for t in range(n_skipped, len(row)) if row[t] and not (t and row[t - 1])]


def _fill(notes, n_frames, after_end=0, velocity=None):
    roll = np.zeros((n_frames, 88), np.uint8)
    for pitch, struck, start, end in notes:
        roll[start : end + after_end, pitch - 21] = velocity or struck
    return roll


def _fill_by_adding(notes, n_frames):
    roll = np.zeros((n_frames, 88), np.uint8)
    for pitch, velocity, start, end in notes:
        roll[start:end, pitch - 21] += velocity
    return roll


def _pad(rolls, at_the_front=False):
    longest = max(len(roll) for roll in rolls)
    rows = []
    for roll in rolls:
        rest = longest - len(roll)
        rows.append(np.pad(roll, ((rest, 0) if at_the_front else (0, rest), (0, 0))))
    return np.stack(rows)


_SMALL_ROLLS = [np.array([[1, 0, 7]]), np.array([[2, 2, 0], [0, 3, 0]]), np.array([[0, 4, 4], [5, 0, 0], [0, 0, 6]])]
_NOTES = [(60, 80, 0, 3), (64, 70, 2, 5), (21, 33, 4, 5), (108, 99, 5, 6)]
_OVERLAP = [(60, 80, 0, 3), (60, 50, 1, 5)]

EXERCISES: dict[str, Exercise | FunctionExercise] = {
    "00-1": Exercise(
        2.6,
        ("A second has 20 frames.", "Divide by the number of frames per second.", "52 / 20"),
        (
            (1040, "That is 52 seconds in frames. The question goes the other way."),
            (0.05, "That is one frame. The prime has 52."),
        ),
        tolerance=0.01,
    ),
    "00-2": FunctionExercise(
        '''def n_frames(seconds, fps=20):
    """Return how many frames a piece of this length has, as a whole number."""''',
        (
            Case((1.0, 20), 20, "A second has fps frames."),
            Case((2.6, 10), 26, "The rate is the argument fps, not always 20."),
            Case((0.99, 20), 20, "Round to the nearest whole number."),
            Case((4.02, 20), lambda result: result == 80 and isinstance(result, int), "Return an int: round(...)."),
        ),
        (
            (lambda seconds, fps: seconds / fps, "That divides by the rate. A longer piece has more frames: multiply."),
            (lambda seconds, fps: round(seconds * 20), "That is always 20 frames per second. Use the argument fps."),
            (lambda seconds, fps: int(seconds * fps), "int() cuts off what is behind the point. Use round()."),
        ),
    ),
    "01-1": Exercise(
        62.5,
        ("A minute has 60 seconds.", "At 120 beats per minute, a beat lasts 0.5 s.", "0.5 s / 8, in ms"),
        (
            (0.0625, "That is in seconds. The answer is in milliseconds."),
            (500, "That is a whole beat. Take an eighth of it."),
            (250, "That is half a beat. Take an eighth of it."),
            (125, "That is a quarter of a beat. Take an eighth of it."),
        ),
        tolerance=0.01,
    ),
    "01-2": Exercise(
        {"train", "validation", "test"},
        ("Look at the field `split` of the pieces.", "There are three.", "{piece.split for piece in rolls.pieces}"),
        (
            ({"train", "test"}, "One is missing: settings are chosen on it."),
            ({"train", "validation"}, "One is missing: the final figures come from it."),
        ),
        also=({"training", "validation", "test"},),
    ),
    "01-3": Exercise(
        261.63,
        ("Twelve semitones double the frequency.", "A4 is pitch 69 and 440 Hz.", "440 * 2 ** ((60 - 69) / 12)"),
        (
            (220, "That is A3, a whole octave below A4. Middle C is nine semitones below A4."),
            (740, "That is nine semitones above A4. Middle C is below it."),
            (523.25, "That is an octave too high."),
        ),
        tolerance=0.7,
    ),
    "01-4": FunctionExercise(
        '''def frequency(pitch):
    """Return the frequency of a MIDI pitch in hertz; A4 (69) has 440."""''',
        (
            Case((69,), 440.0, "A4 needs no change: 2 ** 0 is 1."),
            Case((81,), 880.0, "An octave, twelve semitones, doubles the frequency."),
            Case((60,), 440 * 2 ** (-9 / 12), "One semitone is the factor 2 ** (1 / 12)."),
            Case((21,), 27.5, "The lowest pitch of the piano lies four octaves below A4."),
        ),
        (
            (lambda pitch: 440 * 2 ** ((69 - pitch) / 12), "Higher pitches must have higher frequencies: pitch - 69."),
            (lambda pitch: 440 * 2 ** ((pitch - 69) // 12), "// cuts the octave into whole octaves. Use /."),
            (lambda pitch: 440 * 2 ** (pitch - 69), "That doubles at each semitone. An octave has twelve."),
            (lambda pitch: 440 * (1 + (pitch - 69) / 12), "That is a straight line. Each octave doubles: use **."),
        ),
        tolerance=0.01,
    ),
    "01-5": FunctionExercise(
        '''def frame_of_tick(ticks, tempo, ticks_per_beat, fps):
    """Return the frame nearest to a tick, halves rounded up. The tempo is in microseconds per beat.

    Compute in whole numbers: // and no /.
    """''',
        (
            Case((384, 500_000, 384, 20), 10, "A beat of half a second has ten frames at 20 Hz."),
            Case((819, 500_000, 384, 20), 21, "Round to the nearest frame: add half of the divisor before //."),
            Case((96, 500_000, 384, 20), 3, "2.5 is rounded up: add half of the divisor before //."),
            Case((1001, 600_000, 480, 50), 63, "All four arguments count."),
            Case((2**53 + 1, 1, 1, 1_000_000), 2**53 + 1, "A float has 53 bits. Use // instead of /."),
        ),
        (
            (
                lambda ticks, tempo, ticks_per_beat, fps: ticks * tempo * fps // (ticks_per_beat * 1_000_000),
                "// alone rounds down: a note then comes up to a frame too early. Add half of the divisor first.",
            ),
            (
                lambda ticks, tempo, ticks_per_beat, fps: int(ticks * tempo * fps / (ticks_per_beat * 1_000_000) + 0.5),
                "A float has 53 bits, so large ticks land in the wrong frame. Use whole numbers and //.",
            ),
            (_ticks_in_floats, "round() sends 2.5 to 2, and large floats are not exact. Use whole numbers and //."),
            (
                lambda ticks, tempo, ticks_per_beat, fps: ticks * tempo * fps // ticks_per_beat,
                "The tempo is in microseconds: a second has 1_000_000 of them.",
            ),
            (
                lambda ticks, tempo, ticks_per_beat, fps: -(-ticks * tempo * fps // (ticks_per_beat * 1_000_000)),
                "That rounds up. Add only half of the divisor before //.",
            ),
        ),
        tolerance=0,
    ),
    "01-6": FunctionExercise(
        '''def leaks(pieces):
    """Return the set of titles that are in more than one split. Each piece is a pair: title, split."""''',
        (
            Case(([("Prelude", "train"), ("Waltz", "test")],), set(), "These titles are all different."),
            Case(([("Waltz", "train"), ("Waltz", "test")],), {"Waltz"}, "One title, two splits: that is a leak."),
            Case(
                ([("Etude", "train"), ("Etude", "train"), ("Waltz", "test")],),
                set(),
                "Two recordings of one work in the same split do no harm.",
            ),
            Case(
                ([("A", "test"), ("B", "train"), ("A", "validation"), ("B", "train"), ("A", "test")],),
                {"A"},
                "Collect the splits of each title in a set, and count them.",
            ),
        ),
        (
            (
                _titles_that_come_twice,
                "That finds titles that come twice. Two recordings in the same split do no harm.",
            ),
            (lambda pieces: {title for title, _ in pieces}, "That is every title. Keep those in several splits."),
        ),
    ),
    "02-1": Exercise(
        2,
        ("A run of sounding frames is one note.", "Silence separates two runs.", "Count where the sound begins."),
        ((5, "That is the number of sounding frames. A note can last several."), (8, "That is all frames.")),
    ),
    "02-2": Exercise(
        8400,
        ("The poster cuts pieces at seven minutes.", "20 frames per second.", "7 * 60 * 20"),
        (
            (420, "That is in seconds. A second has 20 frames."),
            (140, "A minute has 60 seconds."),
            (6171, "That is the longest of the first four rolls. How long can a roll be at most?"),
        ),
    ),
    "02-3": Exercise(
        0.025,
        ("Times are rounded to the nearest frame.", "A frame lasts 0.05 s.", "half of a frame, in seconds"),
        (
            (0.05, "That is a whole frame. Rounding goes to the nearest one."),
            (0.5, "Half a frame is right, but how many seconds is it?"),
            (50, "That is a whole frame, and in milliseconds."),
            (25, "That is in milliseconds. The answer is in seconds."),
        ),
    ),
    "02-4": FunctionExercise(
        '''def note_starts(row):
    """Return a list of the frames in which a note begins, given the velocities at one pitch."""''',
        (
            Case(([0, 80, 80, 0, 60],), [1, 4], "A note begins where a frame sounds and the one before does not."),
            Case(([70, 70, 0, 70],), [0, 3], "A note may begin in frame 0: before it there is silence."),
            Case(([50, 0],), [0], "A note may begin in frame 0: before it there is silence."),
            Case(([0, 80, 60, 0],), [1], "A run of sounding frames is one note, whatever its velocities."),
            Case(([],), [], "A pitch without frames has no notes."),
        ),
        (
            (
                lambda row: [t for t in range(len(row)) if row[t] and not row[t - 1]],
                "In frame 0, row[t - 1] is row[-1]: the last frame! Before frame 0 there is silence.",
            ),
            (lambda row: _starts(row, 1), "The note in frame 0 is missing. Before frame 0 there is silence."),
            (lambda row: [t - 1 for t in _starts(row)], "Off by one: that is the silent frame before each note."),
            (lambda row: [t for t in range(len(row)) if row[t]], "Those are all sounding frames, not only the first."),
            (
                lambda row: [t for t in range(len(row)) if row[t] and (t == 0 or row[t] != row[t - 1])],
                "Another velocity alone begins no new note. Compare with 0.",
            ),
            (lambda row: len(_starts(row)), "That is the number of notes. Return the list of their frames."),
        ),
        tolerance=0,
    ),
    "02-5": FunctionExercise(
        '''def fill(notes, n_frames):
    """Return a roll, shape (n_frames, 88), from notes: tuples of pitch, velocity, start frame and end frame.

    Column 0 is pitch 21. The end frame no longer sounds. Where notes overlap, the later one in the list counts.
    """''',
        (
            Case(([], 3), np.zeros((3, 88)), "Begin with np.zeros((n_frames, 88), np.uint8)."),
            Case(
                (_NOTES[:1], 4), _fill(_NOTES[:1], 4), "Rows are frames, from start to end; the column is pitch - 21."
            ),
            Case((_NOTES, 6), _fill(_NOTES, 6), "Fill in every note."),
            Case((_OVERLAP, 5), _fill(_OVERLAP, 5), "Where notes overlap, the later one in the list counts."),
        ),
        (
            (lambda notes, n_frames: _fill(notes, n_frames, 1), "Off by one: the end frame no longer sounds."),
            (_fill_by_adding, "Velocities do not add up: a later note replaces an earlier one. Use =, not +=."),
            (lambda notes, n_frames: _fill(notes, n_frames, 0, 1), "A cell holds the velocity, not 1."),
            (lambda notes, n_frames: _fill(notes, n_frames).T, "Wrong axis: rows are frames, columns are pitches."),
            (
                lambda notes, n_frames: np.roll(_fill(notes, n_frames), 1, axis=1),
                "Off by one: pitch 21 belongs into column 0.",
            ),
        ),
        tolerance=0,
    ),
    "02-6": FunctionExercise(
        '''def pad_with_silence(rolls):
    """Return one array, shape (pieces, frames of the longest, pitches): shorter rolls are silent at the end."""''',
        (
            Case(
                (_SMALL_ROLLS[:1],),
                _pad(_SMALL_ROLLS[:1]),
                "One roll needs no padding, but a first axis. Not every roll has 88 pitches: use its shape.",
            ),
            Case((_SMALL_ROLLS[:2],), _pad(_SMALL_ROLLS[:2]), "Zeros go behind the music."),
            Case((_SMALL_ROLLS,), _pad(_SMALL_ROLLS), "The longest roll sets the length, wherever it stands."),
        ),
        (
            (lambda rolls: _pad(rolls, True), "Zeros go behind the music, not before it."),
            (lambda rolls: np.swapaxes(_pad(rolls), 0, 1), "Wrong order of axes: pieces come first, then frames."),
            (
                lambda rolls: np.stack([roll[: min(map(len, rolls))] for roll in rolls]),
                "That cuts all pieces to the shortest. Lengthen them to the longest.",
            ),
        ),
        tolerance=0,
    ),
}
