"""Home: the profile of an opening, and what the model makes of it."""

import numpy as np
import pytest
import torch

from musicgen.home import N_HOME_FEATURES, home_features
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.home import Home
from musicgen.piano_roll import LOWEST_PITCH, PianoRoll


def roll_of(*notes, n_frames=60, pedal=None):
    """A roll of notes (pitch, velocity, first frame, end frame)."""
    velocity = np.zeros((n_frames, 88), np.uint8)
    for pitch, loudness, start, end in notes:
        velocity[start:end, pitch - LOWEST_PITCH] = loudness
    return PianoRoll(velocity, pedal=pedal)


C_MAJOR = roll_of((48, 50, 0, 20), (64, 70, 0, 9), (67, 90, 10, 30), (60, 100, 33, 58))


def test_the_pitch_classes_and_the_register_of_the_opening_stand_out():
    features = home_features(C_MAJOR)
    share, octaves, near = (dict(zip(range(21, 109), features[:, i])) for i in (1, 2, 5))
    assert share[84] == share[36] > share[55] > share[61] == share[73]  # two notes of class C, one G, no C sharp
    assert octaves[60] == pytest.approx((60 - (48 + 64 + 67 + 60) / 4) / 12)
    assert near[64] > near[84] > near[108]


def test_the_profile_moves_with_a_transposition_and_tells_the_touch():
    higher = home_features(C_MAJOR.transpose(5))
    np.testing.assert_allclose(higher[5:], home_features(C_MAJOR)[:-5], atol=1e-6)
    louder = home_features(PianoRoll(C_MAJOR.velocity // 2 * 3 // 2, pedal=np.ones(60, bool)))
    changed = np.flatnonzero((louder != home_features(C_MAJOR)).any(axis=0))
    assert changed.tolist() == [7, 8, 13]  # mean and spread of the velocities, pedal


def test_an_opening_without_notes_is_unknown_and_has_no_effect():
    features = home_features(roll_of())
    assert features.shape == (88, N_HOME_FEATURES)
    assert not features.any()
    home = Home(pitch_size=4)
    torch.nn.init.ones_(home.network[-1].bias)
    assert not home(torch.from_numpy(features)).any()
    assert home(torch.from_numpy(home_features(C_MAJOR))).any()


@torch.no_grad()
def test_every_frame_is_told_the_opening_and_a_model_without_it_plays_as_before():
    model = AttentionLSTM(ModelConfig(hidden_size=8, attention_size=4, pitch_size=4, copy_heads=1, home=True)).eval()
    torch.nn.init.normal_(model.output.home.network[-1].weight)
    frames = torch.tensor(C_MAJOR.velocity)[None] / 127
    home = torch.from_numpy(home_features(C_MAJOR))[None]
    told, _ = model(frames, home=home)
    untold, _ = model(frames)
    hidden, _ = model(frames, home=0 * home)
    pedal = torch.zeros(frames.shape[:2])
    effect = model.output.encode(told, pedal) - model.output.encode(untold, pedal)
    assert effect[0].abs().sum(dim=(1, 2)).min() > 0
    torch.testing.assert_close(effect, effect[:, :1].expand_as(effect))  # the same in every frame
    torch.testing.assert_close(model.output.encode(hidden, pedal), model.output.encode(untold, pedal), rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [{"n_pitches": 12}, {"output": "independent"}])
def test_home_is_for_a_piano_and_a_head_that_can_read_it(sizes):
    with pytest.raises(ValueError, match="home needs 88 pitches"):
        ModelConfig(home=True, **sizes)
