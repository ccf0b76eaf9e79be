"""The history of pitches and pedal: features by hand, and pieces processed in any parts."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musicgen.model import features as history
from musicgen.model.features import PitchHistory, pedal_history, recent_velocities


def random_velocity(n_frames, n_pitches=7, seed=0, share=0.3):
    """Notes of one to three frames, each cell of its own velocity."""
    random = torch.Generator().manual_seed(seed)
    held = (torch.rand(2, n_frames, n_pitches, generator=random) < share).repeat_interleave(3, dim=1)[:, :n_frames]
    return held * (0.1 + 0.9 * torch.rand(2, n_frames, n_pitches, generator=random)).double()


def test_the_features_of_a_roll_made_by_hand():
    velocity = torch.tensor([[[0, 0.75], [0, 0], [0.5, 0], [0.5, 0], [0, 0.25], [0.125, 0.25]]]).double()
    features, _, state = PitchHistory()(velocity, None)
    assert features.shape == (1, 6, 2, history.N_FEATURES)
    on, struck, loud, *averages, held, waited = features[0].unbind(-1)
    assert on.T.tolist() == [[0, 0, 1, 1, 0, 1], [1, 0, 0, 0, 1, 1]]
    assert struck.T.tolist() == [[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0]]
    assert torch.equal(loud, velocity[0])
    ages = {"held": [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], "waited": [[400, 400, 0, 0, 0, 0], [0, 0, 1, 2, 0, 0]]}
    for name, found in (("held", held), ("waited", waited)):
        torch.testing.assert_close(found.T, torch.tensor(ages[name]).double().log1p() / 3)
    for decay, scale, found in zip(history.SOUNDING_DECAYS, history.AVERAGE_SCALES, averages, strict=True):
        average = torch.zeros(2).double()
        for t in range(6):
            average = decay * average + (1 - decay) * on[t]
            torch.testing.assert_close(found[t], scale * average)
    assert (state.active.tolist(), state.age.tolist()) == ([[1, 1]], [[0, 1]])


def test_the_history_has_no_weights():
    assert list(PitchHistory().state_dict()) == []


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
@example([150, 1, 380, 200], 1)  # longer than the oldest age
def test_a_piece_in_any_parts_is_remembered_as_the_whole(parts, seed):
    velocity = random_velocity(sum(parts), seed=seed, share=0.01 * (1 + seed % 30))
    *whole, after_whole = PitchHistory()(velocity, None)
    state, pieces = None, []
    for part in velocity.split(parts, dim=1):
        *features, state = PitchHistory()(part, state)
        pieces.append(features)
    torch.testing.assert_close([torch.cat(each, dim=1) for each in zip(*pieces)], whole)
    torch.testing.assert_close(tuple(state), tuple(after_whole))


def test_what_is_long_ago_is_forgotten_and_not_kept_as_denormal_numbers():
    note = torch.tensor([[[0, 0.5, 0]]])
    _, _, state = PitchHistory()(note)
    for _ in range(600):
        _, _, state = PitchHistory()(torch.zeros(1, 1, 3), state)
    smallest = torch.finfo(torch.float32).tiny
    assert not ((state.averages > 0) & (state.averages < smallest)).any()
    assert (state.averages[0, :, 1] > 0).tolist() == [decay > 0.9 for decay in history.DECAYS]


def test_ages_go_on_beyond_a_part_and_end_at_the_oldest():
    velocity = torch.zeros(1, 700, 2).double()
    velocity[:, 0, 0] = velocity[:, 90:, 1] = 0.5
    state, ages = None, []
    for part in velocity.split(100, dim=1):
        *_, state = PitchHistory()(part, state)
        ages.append(state.age[0].tolist())
    assert ages == [[min(end - 2, history.MAX_AGE), min(end - 91, history.MAX_AGE)] for end in range(100, 701, 100)]


def test_recent_velocities_are_those_of_recent_notes_nearby():
    velocity = torch.zeros(1, 30, 60).double()
    velocity[:, 3:9, 10], velocity[:, 3:9, 50] = 0.25, 0.75
    _, recent, _ = PitchHistory()(velocity, None)
    means = recent[0, 9, :, :2]  # over a short and a long time
    assert (abs(means[10] - 0.25) < 0.02).all() and (abs(means[50] - 0.75) < 0.06).all()
    assert means[10, 1] < means[30, 1] < means[50, 1]
    assert not recent[0, 2].any()
    assert recent_velocities(torch.zeros(1, 4, 2, 9)).shape == (1, 2, 9, 4)


def test_the_pedal_and_its_age_go_on_from_part_to_part():
    pedal = torch.tensor([[0, 1, 1, 0, 0, 0, 1.0]])
    whole, _ = pedal_history(pedal, None)
    assert whole[0, :, 0].tolist() == pedal[0].tolist()
    torch.testing.assert_close(whole[0, :, 1], torch.tensor([0, 0, 1, 0, 0, 0, 0.0]).log1p() / 3)
    torch.testing.assert_close(whole[0, :, 2], torch.tensor([400, 0, 0, 0, 1, 2, 0.0]).log1p() / 3)
    first, state = pedal_history(pedal[:, :4], None)
    second, _ = pedal_history(pedal[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
