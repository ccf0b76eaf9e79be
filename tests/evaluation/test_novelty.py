"""What two pieces share: excerpts that were hidden on purpose, and a slow search beside the fast one."""

import numpy as np
import pytest

from musicgen.evaluation.novelty import NoveltyIndex, SharedRun
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll


def piece_of(pitches, frames, fps=20):
    rows = [(pitch, 64, frame, frame + 1) for pitch, frame in zip(pitches, frames)]
    return PianoRoll.from_notes(np.array(rows, NOTE_DTYPE), fps)


def random_notes(n_notes, seed, span=24):
    """Pitches and frames of a piece without two notes at once."""
    random = np.random.default_rng(seed)
    return random.integers(50, 50 + span, n_notes), np.cumsum(random.choice([3, 4, 6, 9], n_notes))


def random_piece(n_notes, seed):
    return piece_of(*random_notes(n_notes, seed))


def hide(pitches, frames, seed, n_before=30, n_after=20):
    """Put an excerpt between notes of another piece; return the roll and the frame where it begins."""
    (before, when), (after, then) = random_notes(n_before, seed), random_notes(n_after, seed + 1)
    start = when[-1] + 5
    frames = np.asarray(frames) - frames[0] + start
    end = frames[-1] + 5
    return piece_of([*before, *pitches, *after], [*when, *frames, *(then + end)]), start


PIECES = [random_notes(n_notes, seed) for seed, n_notes in enumerate([150, 90, 200])]
INDEX = NoveltyIndex([piece_of(*notes) for notes in PIECES])


@pytest.mark.parametrize("fps", [20, 60])
def test_a_hidden_excerpt_is_found_where_it_is(fps):
    pitches, frames = (values[40:75] for values in PIECES[1])
    roll, start = hide(pitches - 5, frames, seed=10)
    roll = PianoRoll(np.repeat(roll.velocity, fps // 20, axis=0), fps)
    assert INDEX.longest_shared_run(roll) == SharedRun(
        n_notes=35,
        seconds=pytest.approx((frames[-1] - frames[0]) / 20),
        start_seconds=pytest.approx(start / 20),
        piece=1,
        piece_start_seconds=pytest.approx(frames[0] / 20),
        semitones=5,
    )


def test_of_several_the_longest_counts():
    parts = [PIECES[0][0][:20], PIECES[2][0][60:90], PIECES[1][0][:25]]
    times = [PIECES[0][1][:20], PIECES[2][1][60:90], PIECES[1][1][:25]]
    rolls = [hide(pitches, frames, seed)[0].velocity for seed, (pitches, frames) in enumerate(zip(parts, times), 20)]
    run = INDEX.longest_shared_run(PianoRoll(np.concatenate(rolls)))
    assert (run.n_notes, run.piece, run.semitones) == (30, 2, 0)


@pytest.mark.parametrize(("tempo", "found"), [(1.0, True), (1.4, True), (0.7, True), (2.5, False), (0.4, False)])
def test_the_tempo_may_be_another_but_not_by_far(tempo, found):
    pitches, frames = (values[40:80] for values in PIECES[0])
    roll, _ = hide(pitches, np.round(4 * frames * tempo).astype(int), seed=30)  # four times as slow: no rounding
    slow = NoveltyIndex([piece_of(pitches, 4 * frames)])
    assert slow.longest_shared_run(roll).n_notes == (40 if found else 0)


def test_a_human_touch_is_no_difference_and_another_rhythm_is_one():
    random = np.random.default_rng(4)
    pitches, frames = (values[40:80] for values in PIECES[0])
    touched, _ = hide(pitches, 2 * frames + random.integers(0, 2, 40), seed=40)
    changed, _ = hide(pitches, np.cumsum(random.permutation(np.repeat([2, 16], 20))), seed=40)
    index = NoveltyIndex([piece_of(pitches, 2 * frames)])
    assert index.longest_shared_run(touched).n_notes == 40
    assert index.longest_shared_run(changed).n_notes < 12


def test_the_notes_of_a_chord_may_come_in_any_order():
    random = np.random.default_rng(5)
    chords = [50 + random.choice(30, 3, replace=False) for _ in range(15)]
    rolls = [
        piece_of(np.concatenate(chords), np.concatenate([12 * n + random.permutation(3) for n in range(15)]))
        for _ in range(2)
    ]
    assert NoveltyIndex(rolls[:1]).longest_shared_run(rolls[1]).n_notes == 45


@pytest.mark.parametrize("change", ["wrong", "left out", "added"])
def test_a_single_difference_ends_the_run(change):
    pitches, frames = (values[:60] for values in PIECES[2])
    if change == "wrong":
        pitches = np.where(np.arange(60) == 25, pitches + 1, pitches)
    elif change == "left out":
        pitches, frames = np.delete(pitches, 25), np.delete(frames, 25)
    else:
        pitches, frames = np.insert(pitches, 25, 85), np.insert(frames, 25, frames[25] - 1)
    run = INDEX.longest_shared_run(piece_of(pitches, frames))
    assert (run.n_notes, run.piece_start_seconds) == (
        (34, PIECES[2][1][26] / 20) if change != "added" else (35, PIECES[2][1][25] / 20)
    )


def test_no_run_goes_on_from_one_piece_of_the_index_into_the_next():
    pitches, frames = PIECES[0]
    whole = piece_of(pitches, frames)
    halves = [piece_of(pitches[:80], frames[:80]), piece_of(pitches[80:], frames[80:])]  # the second begins with a rest
    assert INDEX.longest_shared_run(whole).n_notes == 150
    run = NoveltyIndex(halves).longest_shared_run(whole)
    assert (run.n_notes, run.piece, run.start_seconds) == (80, 0, whole.notes["start_frame"][0] / 20)


def test_all_of_a_run_is_in_one_transposition():
    mine = piece_of([60, 62, 64, 65, 67, 69, 66, 71, 73, 75, 78], [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    # The first six are the same, 69 earlier and 64 later; the last six, from 67 on, are one semitone higher.
    theirs = piece_of([60, 62, 69, 64, 65, 67, 70, 72, 74, 76, 79], [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    run = NoveltyIndex([theirs]).longest_shared_run(mine)
    assert (run.n_notes, run.semitones) in [(6, 0), (6, 1)]


@pytest.mark.parametrize("n_notes", [0, 5])
def test_too_few_notes_share_nothing(n_notes):
    short = PianoRoll(piece_of(*PIECES[0]).velocity[: PIECES[0][1][n_notes]])
    assert INDEX.longest_shared_run(short) == SharedRun()
    assert NoveltyIndex([short, short]).longest_shared_run(piece_of(*PIECES[0])) == SharedRun()
    assert NoveltyIndex([]).longest_shared_run(piece_of(*PIECES[0])) == SharedRun()


def slow_longest_run(one, other):
    """Compare every group of six with every other, and extend each run by up to five notes at a time."""
    groups = []
    for roll in (one, other):
        notes = [(int(note["pitch"]), note["start_frame"] / roll.fps) for note in roll.notes]
        groups.append([sorted(notes[first : first + 6]) for first in range(len(notes) - 5)])
    longest, runs = 0, {}
    for i, mine in enumerate(groups[0]):
        for j, theirs in enumerate(groups[1]):
            semitones = {b[0] - a[0] for a, b in zip(mine, theirs)}
            starts, ends = zip(*((min(t for _, t in group), max(t for _, t in group)) for group in (mine, theirs)))
            tempo = (ends[1] - starts[1]) / max(ends[0] - starts[0], 1e-9)
            tempo = min(max(tempo, 1 / 1.5), 1.5)
            apart = [abs((a[1] - starts[0]) * tempo - (b[1] - starts[1])) for a, b in zip(mine, theirs)]
            if len(semitones) == 1 and max(apart) <= 0.1 + 1e-5:
                earlier = [runs.get((i - step, j - step, *semitones), 0) + step for step in range(1, 6)]
                linked = [n for n, step in zip(earlier, range(1, 6)) if n > step]
                runs[i, j, *semitones] = max([6, *linked])
                longest = max(longest, runs[i, j, *semitones])
    return longest


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n_pitches", "steps"), [(3, [2, 3]), (5, [0, 0, 1])])
def test_the_longest_run_is_that_of_a_slow_search(seed, n_pitches, steps):
    random = np.random.default_rng(seed)
    # Few pitches and hardly any rhythm, so that there is much to find by chance.
    rolls = [
        piece_of(60 + 2 * random.integers(0, n_pitches, 90), np.cumsum(2 * random.choice(steps, 90))) for _ in range(2)
    ]
    expected = slow_longest_run(*rolls)
    assert 6 <= expected < 60
    assert NoveltyIndex(rolls[1:]).longest_shared_run(rolls[0]).n_notes == expected
