"""The keys: what is remembered of each, the same rules for all, and each in the light of the lower ones alone."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musicgen import keys
from musicgen.keys import FrameFeatures, IndependentOutput, PitchHistory, PitchOutput, decode_frame

KINDS = ["independent", "shared", "joint"]


def random_loudness(n_frames, n_pitches=7, seed=0, share=0.3):
    """Notes of one to three frames, each cell of its own loudness."""
    random = torch.Generator().manual_seed(seed)
    held = (torch.rand(2, n_frames, n_pitches, generator=random) < share).repeat_interleave(3, dim=1)[:, :n_frames]
    return held * (0.1 + 0.9 * torch.rand(2, n_frames, n_pitches, generator=random)).double()


def output_of(kind, n_pitches=7, reach=2, seed=0):
    """An output of random weights, all of them."""
    joint = kind == "joint"
    output = IndependentOutput(5, n_pitches) if kind == "independent" else PitchOutput(5, n_pitches, 4, reach, joint)
    random = torch.Generator().manual_seed(seed)
    for weight in output.parameters():
        torch.nn.init.normal_(weight, std=0.7, generator=random)
    return output.double()


def heard_of(n_frames=9, n_pitches=7, seed=0):
    """What is known before each of some frames, two pieces of them."""
    features, _ = PitchHistory()(random_loudness(n_frames, n_pitches, seed), None)
    random = torch.Generator().manual_seed(seed)
    return FrameFeatures(torch.randn(2, n_frames, 5, generator=random).double(), features)


def logits_of(output, heard, following):
    return output.logits(output.within(output.before(heard), heard, following), heard)


def test_the_features_of_a_roll_made_by_hand():
    loudness = torch.tensor([[[0, 0.75], [0, 0], [0.5, 0], [0.5, 0], [0, 0.25], [0.125, 0.25]]]).double()
    features, state = PitchHistory()(loudness, None)
    assert features.shape == (1, 6, 2, keys.N_FEATURES)
    on, struck, loud, *averages, held, waited = features[0].unbind(-1)
    assert on.T.tolist() == [[0, 0, 1, 1, 0, 1], [1, 0, 0, 0, 1, 1]]
    assert struck.T.tolist() == [[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0]]
    assert torch.equal(loud, loudness[0])
    ages = {"held": [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], "waited": [[400, 400, 0, 0, 0, 0], [0, 0, 1, 2, 0, 0]]}
    for name, found in (("held", held), ("waited", waited)):
        torch.testing.assert_close(found.T, torch.tensor(ages[name]).double().log1p() / 3)
    for decay, scale, found in zip(keys.DECAYS, keys.AVERAGE_SCALES, averages, strict=True):
        average = torch.zeros(2).double()
        for t in range(6):
            average = decay * average + (1 - decay) * on[t]
            torch.testing.assert_close(found[t], scale * average)
    assert (state.on.tolist(), state.age.tolist()) == ([[1, 1]], [[0, 1]])


def test_nothing_in_the_memory_is_learned():
    assert list(PitchHistory().state_dict()) == []


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
@example([150, 1, 380, 200], 1)  # longer than the oldest age
def test_a_piece_in_any_parts_is_remembered_as_the_whole(parts, seed):
    loudness = random_loudness(sum(parts), seed=seed, share=0.01 * (1 + seed % 30))
    whole, after_whole = PitchHistory()(loudness, None)
    state, pieces = None, []
    for part in loudness.split(parts, dim=1):
        features, state = PitchHistory()(part, state)
        pieces.append(features)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(tuple(state), tuple(after_whole))


def test_ages_go_on_beyond_a_part_and_end_at_the_oldest():
    loudness = torch.zeros(1, 700, 2).double()
    loudness[:, 0, 0] = loudness[:, 90:, 1] = 0.5
    state, ages = None, []
    for part in loudness.split(100, dim=1):
        _, state = PitchHistory()(part, state)
        ages.append(state.age[0].tolist())
    assert ages == [[min(end - 2, keys.OLDEST), min(end - 91, keys.OLDEST)] for end in range(100, 701, 100)]


@pytest.mark.parametrize("n_pitches", [7, 2])
def test_in_a_joint_output_a_key_knows_all_lower_keys_of_its_frame_and_no_other(n_pitches):
    output, heard = output_of("joint", n_pitches), heard_of(n_pitches=n_pitches)
    following = random_loudness(9, n_pitches, seed=3).clamp(0.4, 0.6).requires_grad_()
    logits = logits_of(output, heard, following)
    for key in range(n_pitches):
        (gradient,) = torch.autograd.grad(logits[..., key].sum(), following, retain_graph=True)
        assert not gradient[..., key:].any()
        assert gradient[..., :key].flatten(0, 1).any(dim=0).all()  # those beyond its reach are counted


@pytest.mark.parametrize("kind", ["independent", "shared"])
def test_other_outputs_know_nothing_of_their_own_frame(kind):
    output, heard = output_of(kind), heard_of()
    nothing, all_keys = torch.zeros(2, 9, 7).double(), torch.ones(2, 9, 7).double()
    assert torch.equal(logits_of(output, heard, nothing), logits_of(output, heard, all_keys))


def test_a_key_looks_at_the_past_of_its_neighbours_within_reach():
    output, heard = output_of("shared", reach=2), heard_of()
    heard.keys.requires_grad_()
    logits = logits_of(output, heard, None)
    for key in range(7):
        (gradient,) = torch.autograd.grad(logits[..., key].square().sum(), heard.keys, retain_graph=True)
        seen = torch.nonzero(gradient.flatten(0, 1).any(dim=-1).any(dim=0)).ravel().tolist()
        assert seen == [other for other in range(7) if abs(other - key) <= 2]
        of_each_feature = gradient.flatten(0, 1).any(dim=0)
        assert of_each_feature[key].all()
        assert not of_each_feature[torch.arange(7) != key, keys.N_NEAR :].any()


@pytest.mark.parametrize("kind", ["shared", "joint"])
@torch.no_grad()
def test_what_is_shared_is_the_same_for_music_that_is_transposed(kind):
    output = output_of(kind, n_pitches=12)
    output.hidden.weight.zero_()
    output.hidden.bias.zero_()
    low = torch.zeros(2, 15, 12).double()
    low[..., 1:8] = random_loudness(15)
    high = low.roll(3, dims=-1)
    logits = []
    for loudness in (low, high):
        heard = FrameFeatures(torch.zeros(2, 14, 5).double(), PitchHistory()(loudness[:, :-1], None)[0])
        logits.append(logits_of(output, heard, (loudness[:, 1:] > 0).double()))
    torch.testing.assert_close(logits[1][..., 3:], logits[0][..., :-3])
    assert logits[0][..., 1:8].std(dim=-1).min() > 0.01


@pytest.mark.parametrize("joint", [False, True])
def test_a_new_output_is_a_markov_chain(joint):
    heard = heard_of()
    logits = logits_of(PitchOutput(5, 7, 4, 2, joint).double(), heard, random_loudness(9, seed=5))
    torch.testing.assert_close(logits, keys.UP + keys.HELD * heard.keys[..., 0], rtol=0, atol=1e-6)
    assert 1 / (1 + math.exp(-keys.UP)) == pytest.approx(0.007, abs=0.0005)
    assert 1 / (1 + math.exp(keys.UP + keys.HELD)) == pytest.approx(0.23, abs=0.005)


def key_after_key(output, heard, decide):
    following = torch.full_like(heard.keys[..., 0], 0.5)
    for key in range(following.shape[-1]):
        following[..., key] = decide(logits_of(output, heard, following))[..., key]
    return following


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_settling_is_deciding_key_after_key(kind):
    shares, most_calls = [], 0
    for seed in range(5):
        output, heard = output_of(kind, seed=seed), heard_of(n_frames=30, seed=seed)
        uniform = torch.rand(2, 30, 7, generator=torch.Generator().manual_seed(seed)).double()
        for decide in (lambda x: (x > 0).double(), lambda x, uniform=uniform: (uniform < torch.sigmoid(x)).double()):
            calls = []
            following, within = decode_frame(output, heard, lambda x, decide=decide, to=calls: to.append(1) or decide(x))
            assert torch.equal(following, key_after_key(output, heard, decide))
            torch.testing.assert_close(within, output.within(output.before(heard), heard, following))
            shares.append(following.mean().item())
            most_calls = max(most_calls, len(calls))
    assert 0.2 < sum(shares) / len(shares) < 0.8
    assert (3 if kind == "joint" else 2) <= most_calls <= 7 + 1


def test_the_velocities_of_an_output_are_a_distribution_over_the_bins():
    output, heard = output_of("joint"), heard_of()
    logits = output.velocity(output.within(output.before(heard), heard, torch.ones(2, 9, 7).double()))
    assert logits.shape == (2, 9, 7, keys.N_VELOCITIES)
    assert logits.std(dim=-1).min() > 0
    assert output_of("independent").velocity is None
