"""Windows: nothing missed, nothing across pieces, nothing by chance that the seed does not fix."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from musicgen.beats import beat_features
from musicgen.corpora.folder import Piece
from musicgen.dataset import RollCache, WindowBatches, WindowConfig
from musicgen.home import home_features
from musicgen.piano_roll import PianoRoll

BITS = 2 ** np.arange(10)


def cache_of(matrices, composers=()):
    """A cache of these pieces; those beyond the `composers` named are by nobody known."""
    names = [*composers, *["unknown"] * len(matrices)]
    pieces = [Piece(Path(f"{i}.mid"), f"{i}.mid", name, "", "train") for i, name in zip(range(len(matrices)), names)]
    return RollCache.from_rolls(pieces, [PianoRoll(matrix.astype(np.uint8)) for matrix in matrices], "key")


def marked(lengths, composers=()):
    """Pieces that tell each frame: key 70 + i sounds all through piece i, keys 40 to 49 count its frames."""
    matrices = []
    for piece, length in enumerate(lengths):
        matrix = np.zeros((length, 88))
        matrix[:, 70 + piece] = 64
        matrix[:, 40:50] = 99 * (np.arange(length)[:, None] // BITS % 2)
        matrices.append(matrix)
    return cache_of(matrices, composers)


def transpose(velocity, semitones):
    return PianoRoll(velocity.astype(np.uint8)).transpose(semitones).velocity


def stretch(velocity, factor):
    return PianoRoll(velocity.astype(np.uint8)).stretch(factor).velocity


def windows_of(batches, epoch):
    """Read each window's marks: (piece, its frames)."""
    for frames, _, _, lengths, *_ in batches.epoch(epoch):
        for window, length in zip(frames, lengths):
            (pieces,) = {tuple(row) for row in (window[:length, 70:] > 0).tolist()}  # one piece, in every frame
            assert sum(pieces) == 1
            yield pieces.index(True), ((window[:length, 40:50] > 0) @ BITS).tolist()


lengths_of_pieces = st.lists(st.integers(2, 60), min_size=1, max_size=8)


@settings(max_examples=50)
@given(lengths_of_pieces, st.integers(2, 25), st.integers(0, 99), st.integers(0, 3))
def test_every_frame_but_the_first_of_every_piece_is_predicted_in_every_epoch(lengths, window_frames, seed, epoch):
    batches = WindowBatches(marked(lengths), WindowConfig(window_frames, batch_size=3, seed=seed))
    predicted = [set() for _ in lengths]
    for piece, frames in windows_of(batches, epoch):
        assert frames == list(range(frames[0], frames[0] + min(window_frames + 1, lengths[piece])))
        predicted[piece] |= set(frames[1:])
    assert predicted == [set(range(1, length)) for length in lengths]


@settings(max_examples=50)
@given(lengths_of_pieces, st.integers(2, 25), st.integers(1, 5), st.integers(0, 3))
def test_batches_are_full_but_the_last_and_padded_with_silence(lengths, window_frames, batch_size, epoch):
    rolls = marked(lengths)
    batches = WindowBatches(rolls, WindowConfig(window_frames, batch_size))
    made = list(batches.epoch(epoch))
    assert len(made) == batches.n_batches(epoch)
    assert [len(frames) for frames, *_ in made[:-1]] == [batch_size] * (len(made) - 1)
    assert 1 <= len(made[-1][0]) <= batch_size
    for frames, _, _, music, labels, _ in made:
        assert frames.dtype == np.uint8
        assert labels.shape == music.shape
        assert frames.shape == (len(music), window_frames + 1, 88)
        inside = np.arange(window_frames + 1) < music[:, None]
        assert np.array_equal(frames.any(axis=2), inside)  # each marked frame sounds


def test_no_window_is_without_a_frame_to_predict():
    batches = WindowBatches(marked([1, 1, 9, 1]), WindowConfig(window_frames=4, batch_size=1))
    for epoch in range(5):
        assert min(batch.lengths.min() for batch in batches.epoch(epoch)) >= 2


def epochs(config, *numbers):
    batches = WindowBatches(marked([57, 30, 44], ["Bach", "Liszt"]), config, ["Liszt", "Bach"])
    return [[b"".join(array.tobytes() for array in batch) for batch in batches.epoch(n)] for n in numbers]


def test_the_seed_and_the_epoch_alone_fix_the_batches():
    config = WindowConfig(window_frames=8, batch_size=4, max_transpose=2, seed=3)
    assert epochs(config, 0, 1, 2) == epochs(config, 2, 0, 1)[1:] + epochs(config, 2)
    assert len({b"".join(epoch) for epoch in epochs(config, 0, 1, 2)}) == 3
    assert epochs(config, 1) != epochs(WindowConfig(window_frames=8, batch_size=4, max_transpose=2, seed=4), 1)


def test_velocities_come_as_they_were_played():
    matrix = np.zeros((20, 88))
    matrix[:, 30] = np.arange(20) * 6 + 1
    for frames, _, _, lengths, *_ in WindowBatches(cache_of([matrix]), WindowConfig(window_frames=7)).epoch(0):
        for window, length in zip(frames, lengths):
            played = window[:length, 30].astype(int)
            assert (np.diff(played) == 6).all() and played[0] % 6 == 1


def labels_of(composer_dropout, composers=("Liszt", "Nobody", "Bach"), epoch=0):
    """The label of each window beside its piece; pieces 0 to 3 are by Bach, Liszt, Bach and Salieri."""
    rolls = marked([90, 70, 80, 60], ["Bach", "Liszt", "Bach", "Salieri"])
    config = WindowConfig(window_frames=4, batch_size=6, composer_dropout=composer_dropout)
    batches = WindowBatches(rolls, config, composers)
    labels = np.concatenate([batch.composers for batch in batches.epoch(epoch)])
    return np.column_stack([[piece for piece, _ in windows_of(batches, epoch)], labels])


def test_a_window_is_labelled_with_the_place_of_its_composer():
    pairs = labels_of(composer_dropout=0)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 3), (1, 1), (2, 3), (3, 0)}
    assert not labels_of(composer_dropout=0, composers=())[:, 1].any()


def test_a_share_of_the_composers_is_hidden_window_by_window():
    assert not labels_of(composer_dropout=1)[:, 1].any()
    epochs = [labels_of(composer_dropout=0.3, epoch=epoch) for epoch in range(10)]
    of_first_batches = [first[:6][first[:6, 0] < 3, 1] > 0 for first in epochs]
    assert any(0 < told.mean() < 1 for told in of_first_batches)
    pairs = np.concatenate(epochs)
    for piece, label in [(0, 3), (1, 1), (2, 3)]:
        labels = pairs[pairs[:, 0] == piece, 1]
        assert set(labels) == {0, label}
        assert 0.2 < (labels == 0).mean() < 0.4


def test_cuts_and_order_differ_from_epoch_to_epoch():
    batches = WindowBatches(marked([200, 200]), WindowConfig(window_frames=10, batch_size=4))
    made = [list(windows_of(batches, epoch)) for epoch in range(12)]
    phases = [
        [min(frames[0] for p, frames in windows if p == piece and frames[0]) for piece in (0, 1)] for windows in made
    ]
    assert len({first for first, _ in phases}) >= 5
    assert any(first != second for first, second in phases)
    for windows in made:
        pieces = [piece for piece, _ in windows]
        starts = [frames[0] for piece, frames in windows if piece == 0]
        assert pieces != sorted(pieces)
        assert starts != sorted(starts)


@settings(max_examples=50)
@given(
    arrays(bool, (3, 88), elements=st.integers(0, 9).map(lambda n: n == 0)),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(-12, 12),
)
@example(np.zeros((3, 88), bool), 0, 0, 5)
def test_transposing_moves_all_notes_alike_and_loses_none(active, low, high, semitones):
    active[:, :low] = active[:, 88 - high :] = False
    before, after = np.argwhere(active), np.argwhere(transpose(active, semitones))
    assert len(before) == len(after)
    if len(before):
        highest_up, lowest_down = 87 - before[:, 1].max(), -before[:, 1].min()
        shift = max(min(semitones, highest_up), lowest_down)
        assert np.array_equal(after, before + [0, shift])


def test_windows_are_transposed_one_by_one_within_the_limit_and_the_piano():
    def shifts(key):
        matrix = np.zeros((300, 88))
        matrix[:, [key, key + 2]] = 64
        batches = WindowBatches(cache_of([matrix]), WindowConfig(window_frames=5, batch_size=7, max_transpose=3))
        windows = np.concatenate([batch.velocity[batch.lengths == 6] for batch in batches.epoch(0)])
        assert np.array_equal(np.unique((windows > 0).sum(axis=2)), [2])  # both keys, in every frame
        return set((windows.argmax(axis=2) - key).ravel().tolist())

    assert shifts(40) == {-3, -2, -1, 0, 1, 2, 3}
    assert shifts(1) == {-1, 0, 1, 2, 3}
    assert shifts(85) == {-3, -2, -1, 0}


def test_stretching_a_roll_made_by_hand():
    roll = np.zeros((8, 88), np.uint8)
    roll[1:4, 9], roll[4:6, 9], roll[7, 30] = 60, 99, 20  # the second note has a velocity of its own, no onset
    slower, faster = stretch(roll, 1.5), stretch(roll, 0.5)
    assert (slower.shape, faster.shape) == ((12, 88), (4, 88))
    assert slower[:, 9].tolist() == [0, 0, *[60] * 7, 0, 0, 0]  # from 1.5 to 9, halves to the even frame
    assert slower[:, 30].tolist() == [0] * 10 + [20, 20]
    assert faster[:, 9].tolist() == [60, 60, 60, 0]
    assert faster[:, 30].tolist() == [0, 0, 0, 20]


@settings(max_examples=40)
@given(arrays(np.uint8, (13, 3), elements=st.sampled_from([0, 0, 20, 127])), st.floats(0.5, 1.5))
def test_stretching_keeps_every_key_and_slower_every_note(cells, factor):
    velocity = np.zeros((13, 88), np.uint8)
    velocity[:, [0, 44, 87]] = cells
    stretched = stretch(velocity, factor)
    assert stretched.shape == (round(13 * factor), 88)
    assert np.array_equal(stretched.any(axis=0), velocity.any(axis=0))
    assert factor < 1 or PianoRoll(stretched).n_notes == PianoRoll(velocity).n_notes
    assert np.array_equal(stretch(velocity, 1.0) > 0, velocity > 0)


def test_windows_are_stretched_one_by_one_up_to_the_limit():
    matrix = np.zeros((600, 88))
    matrix[np.arange(600) % 10 < 5, 40] = 64  # an onset every ten frames
    config = WindowConfig(window_frames=100, batch_size=7, max_stretch=0.3)
    batches = WindowBatches(cache_of([matrix]), config)
    periods = []
    for frames, _, _, lengths, *_ in (batch for epoch in range(5) for batch in batches.epoch(epoch)):
        assert frames.shape[1:] == (101, 88)
        for window, length in zip(frames, lengths):
            onsets = np.flatnonzero(PianoRoll(window[:length]).onsets[1:, 40])
            periods.append(np.diff(onsets).mean())
    assert 6.9 < min(periods) < 8 and 12 < max(periods) < 13.1
    assert 9 < np.mean(periods) < 11


def test_by_default_nothing_is_transposed():
    windows = {piece for piece, _ in windows_of(WindowBatches(marked([99, 99]), WindowConfig(9)), 0)}
    assert windows == {0, 1}


@pytest.mark.parametrize(
    ("field", "lowest", "highest"), [("window_frames", 2, 8192), ("batch_size", 1, 1024), ("max_transpose", 0, 12)]
)
def test_settings_out_of_range_are_refused_by_name(field, lowest, highest):
    for value in (lowest, highest):
        assert getattr(WindowConfig(**{field: value}), field) == value
    for value in (lowest - 1, highest + 1, 2.5, "8", None):
        with pytest.raises(ValueError, match=f"{field} must be a whole .* {lowest} to {highest}, not {value!r}"):
            WindowConfig(**{field: value})


def test_a_seed_below_zero_is_refused_before_the_work_begins():
    with pytest.raises(ValueError, match="seed"):
        WindowConfig(seed=-1)


@pytest.mark.parametrize(("field", "highest"), [("composer_dropout", 1), ("beat_dropout", 1), ("max_stretch", 0.5)])
def test_shares_out_of_range_are_refused_by_name(field, highest):
    for share in (0, highest / 3, highest):
        assert getattr(WindowConfig(**{field: share}), field) == share
    for share in (-0.1, highest + 0.01, float("nan")):
        with pytest.raises(ValueError, match=f"{field} must lie in 0..{highest}, not {share!r}"):
            WindowConfig(**{field: share})


def beat_cache(n_frames=200):
    """One piece with a beat every half second, and the pedal down in every third frame."""
    beats = np.column_stack([np.arange(0.1, 11, 0.5), np.arange(22) % 4 == 0]).astype(float)
    velocity = np.zeros((n_frames, 88), np.uint8)
    velocity[:, 40:50] = 99 * (np.arange(n_frames)[:, None] // BITS % 2)
    roll = PianoRoll(velocity, 20, np.arange(n_frames) % 3 == 0, beats)
    return roll, RollCache.from_rolls([Piece(Path("a.mid"), "a.mid", "Bach", "", "train")], [roll])


def test_windows_carry_the_pedal_and_the_beats_of_their_frames():
    roll, cache = beat_cache()
    wanted = beat_features(roll.beats, 200)
    for batch in WindowBatches(cache, WindowConfig(window_frames=20, batch_size=3, beat_dropout=0.0)).epoch(0):
        for velocity, pedal, beats, length in zip(batch.velocity, batch.pedal, batch.beats, batch.lengths):
            first = int((velocity[0, 40:50] > 0) @ BITS)
            assert pedal[:length].tolist() == roll.pedal[first : first + length].tolist()
            np.testing.assert_allclose(beats[:length], wanted[first : first + length], atol=1e-4)


def test_a_share_of_the_windows_has_no_beats():
    config = WindowConfig(window_frames=4, batch_size=2, beat_dropout=0.4)
    batches = [batch for epoch in range(9) for batch in WindowBatches(beat_cache()[1], config).epoch(epoch)]
    known = np.concatenate([batch.beats.any(axis=(1, 2)) for batch in batches])
    assert 0.5 < known.mean() < 0.7


def test_stretching_moves_pedal_and_beats_too():
    roll = beat_cache()[0].stretch(1.5)
    assert roll.n_frames == 300
    np.testing.assert_allclose(np.diff(roll.beats[:, 0]), 0.75)
    assert abs(roll.pedal.mean() - 1 / 3) < 0.02


def test_windows_are_told_the_opening_of_their_piece_moved_as_they_are():
    """Three pitches in the opening, then one far from them, so that a window tells by how much it was moved."""
    matrix = np.zeros((300, 88))
    matrix[3::20, 20] = matrix[9::20, 27] = 70
    matrix[110:300:4, 40] = 90
    cache = cache_of([matrix])
    config = WindowConfig(window_frames=40, batch_size=2, max_transpose=5, home_dropout=0.3)
    told, hidden = set(), 0
    for number in range(12):
        for batch in WindowBatches(cache, config, home=True).epoch(number):
            for window, home in zip(batch.velocity, batch.home):
                if not home.any():
                    hidden += 1
                    continue
                shift = int(np.flatnonzero(window.any(axis=0))[0]) - 20
                openings = [cache[0][3 : 3 + 20 * seconds].transpose(shift) for seconds in (4, 6, 10, 20)]
                told |= {i for i, each in enumerate(openings) if np.array_equal(home_features(each), home)}
                assert window[:, 40 + shift].any()  # no window that overlaps the opening
    assert {0, 1} <= told
    assert hidden > 20
    plain = next(WindowBatches(cache, config).epoch(0))
    assert not plain.home.any()
