"""Windows that are cut on the device: excerpts of the music, with the chances that the settings ask for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen.dataset import Piece, RollCache, WindowConfig
from musicgen.piano_roll import PianoRoll
from musicgen.training.device_windows import DeviceWindows

COMPOSERS = ("Haydn", "Ravel")


def corpus(lengths=(70, 31), composers=("Ravel", "nobody")):
    """Make pieces whose velocities tell the piece and the frame, with one pitch that sounds throughout."""
    pieces, rolls = [], []
    for number, (length, composer) in enumerate(zip(lengths, composers)):
        velocity = np.zeros((length, 88), np.uint8)
        velocity[:, 40 + 3 * number] = 1 + np.arange(length)
        beats = np.array([[0.5 * beat, beat % 4 == 0] for beat in range(length // 10 + 1)], float)
        rolls.append(PianoRoll(velocity, pedal=np.arange(length) % 3 == number, beats=beats))
        pieces.append(Piece(Path(str(number)), str(number), composer, "?", "train"))
    return RollCache.from_rolls(pieces, rolls)


def windows(rolls=None, **settings):
    plain = {"window_frames": 12, "batch_size": 5, "tempo_versions": 1, "composer_dropout": 0, "beat_dropout": 0}
    return DeviceWindows(rolls or corpus(), WindowConfig(**plain | settings), COMPOSERS)


def drawn(batches, n_epochs=9):
    """Return the windows of some epochs, one by one, without their homes."""
    return [window for number in range(n_epochs) for batch in batches.epoch(number) for window in zip(*batch[:-1])]


def test_each_window_is_an_excerpt_and_what_lies_beyond_the_end_is_silent():
    rolls, ends = corpus(), 0
    for velocity, pedal, beats, length, composer in drawn(windows(rolls)):
        column = int(velocity[0].nonzero())
        number = {40: 0, 43: 1}[column]
        first = int(velocity[0, column]) - 1
        excerpt = rolls[number][first : first + 13]
        assert length == excerpt.n_frames >= 2
        np.testing.assert_array_equal(velocity[:length].numpy(), excerpt.velocity)
        np.testing.assert_array_equal(pedal[:length].numpy(), excerpt.pedal)
        assert not velocity[length:].any() and not pedal[length:].any() and not beats[length:].any()
        assert beats[: rolls[number].n_frames // 2 - first].any() or first > 0
        assert composer == (2, 0)[number]
        ends += int(length) < 13
    assert ends > 3


def test_the_batches_depend_on_the_seed_and_the_epoch_only_and_are_as_many_as_the_frames_fill():
    first, again = ([batch.velocity for batch in windows().epoch(3)] for _ in range(2))
    assert len(first) == windows().n_batches(3) == 2  # 101 frames in batches of 60
    assert all(torch.equal(*pair) for pair in zip(first, again))
    for other in (windows().epoch(4), windows(seed=1).epoch(3)):
        assert not torch.equal(next(other).velocity, first[0])


def test_the_settings_hide_transpose_and_lengthen():
    columns = {int(velocity[0].nonzero()) for velocity, *_ in drawn(windows(max_transpose=2))}
    assert columns == set(range(38, 46))
    hidden = windows(composer_dropout=1, beat_dropout=1)
    assert not any(batch.home.any() for batch in windows().epoch(0)), "the opening is not told"
    assert all(not beats.any() and not composer for _, _, beats, _, composer in drawn(hidden, 2))
    longer = windows().longer()
    assert next(longer.epoch(0)).velocity.shape == (2, 25, 88) and longer.n_batches(0) == 3


def test_versions_have_other_tempos_and_all_pieces_the_chance_of_their_length():
    batches = windows(tempo_versions=4, max_stretch=0.4)
    assert len(set(batches.lengths.tolist())) == 8 and 70 in batches.lengths
    assert all(0.65 < length / 70 < 1.5 for length in batches.lengths[::2].tolist())
    numbers = [int(composer) for *_, composer in drawn(windows(), 60)]
    assert numbers.count(2) / len(numbers) == pytest.approx(70 / 101, abs=0.06)


def test_pieces_of_one_frame_are_left_out_and_alone_they_are_an_error():
    assert all(window[3] > 1 for window in drawn(windows(corpus((1, 40)))))
    with pytest.raises(ValueError, match="nothing to predict"):
        windows(corpus((1, 1)))
