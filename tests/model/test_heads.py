"""Output heads: weights shared by all pitches, each pitch given the lower ones only, and the likelihood of a frame."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model import ModelConfig, heads
from musicgen.model.features import ACTIVE, N_NEAR, PitchHistory, pedal_history
from musicgen.model.heads import FrameFeatures, PitchConv, conditional_logits, decode_frame, frame_nlls

KINDS = ["independent", "shared", "joint"]


def random_velocity(n_frames, n_pitches=7, seed=0, share=0.3):
    """Notes of one to three frames, each cell with its own velocity from 0 to 1."""
    random = torch.Generator().manual_seed(seed)
    held = (torch.rand(2, n_frames, n_pitches, generator=random) < share).repeat_interleave(3, dim=1)[:, :n_frames]
    return held * (0.1 + 0.9 * torch.rand(2, n_frames, n_pitches, generator=random)).double()


def output_of(kind, n_pitches=7, radius=2, seed=0, **sizes):
    """An output with random weights everywhere."""
    sizes = {"hidden_size": 5, "n_pitches": n_pitches, "pitch_size": 4, "pitch_reach": radius, "copy_heads": 1} | sizes
    config = ModelConfig(n_attention_layers=0, output=kind, **sizes)
    output = heads.HEADS[kind](config)
    random = torch.Generator().manual_seed(seed)
    for weight in output.parameters():
        torch.nn.init.normal_(weight, std=0.35, generator=random)
    return output.double().eval()


def features_of(n_frames=9, n_pitches=7, seed=0):
    """What is known before each of some frames of two pieces."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(2, n_frames, *shape, generator=random).double()  # noqa: E731
    pitches, recent, _ = PitchHistory()(random_velocity(n_frames, n_pitches, seed), None)
    pedal, _ = pedal_history((normal() > 0).double(), None)
    return FrameFeatures(normal(5), pitches, recent, pedal, normal(N_BEAT_FEATURES), normal(n_pitches, 3))


def logits_of(output, features, next_frame, pedal=None):
    pedal = torch.zeros_like(features.pedal[..., 0]) if pedal is None else pedal
    return heads.teacher_forced_logits(output, features, next_frame, pedal)[0]


@pytest.mark.parametrize("n_pitches", [7, 2, 1])
def test_in_a_joint_output_a_pitch_sees_all_lower_pitches_of_its_frame_and_no_other(n_pitches):
    output, features = output_of("joint", n_pitches), features_of(n_pitches=n_pitches)
    next_frame = random_velocity(9, n_pitches, seed=3).clamp(0.4, 0.6).requires_grad_()
    logits = logits_of(output, features, next_frame)
    for pitch in range(n_pitches):
        (gradient,) = torch.autograd.grad(logits[..., pitch].sum(), next_frame, retain_graph=True)
        assert not gradient[..., pitch:].any()
        assert gradient[..., :pitch].flatten(0, 1).any(dim=0).all()  # those beyond its radius are counted


@torch.no_grad()
def test_far_below_a_pitch_onsets_releases_and_active_pitches_are_counted():
    output, features = output_of("joint", radius=2), features_of(1).map(lambda x: x[:1, 0])
    silent = features.pitches.clone()
    silent[..., ACTIVE] = 0
    now = silent.clone()
    now[..., ACTIVE] = torch.tensor([1, 1, 0, 0, 0, 0, 0.0])
    next_frame = torch.tensor([[0, 1, 1, 1, 0, 0, 0.0]]).double()  # a release, a held note and two onsets
    without = output.encode_past(features._replace(pitches=silent))[0, 6]  # of the highest pitch
    features = features._replace(pitches=now)
    found = output.condition(output.encode_past(features), features.active, next_frame)[0, 6]
    counts = torch.tensor([2, 1, 3]).double()  # onsets, releases, active pitches
    torch.testing.assert_close(found, without + output.lower_counts(counts) + output.lower.convolution.bias)


@pytest.mark.parametrize("kind", ["independent", "shared"])
def test_other_outputs_do_not_see_their_own_frame(kind):
    output, features = output_of(kind), features_of()
    nothing, everything = torch.zeros(2, 9, 7).double(), torch.ones(2, 9, 7).double()
    assert torch.equal(logits_of(output, features, nothing), logits_of(output, features, everything))


def test_a_pitch_sees_the_past_of_its_neighbours_within_its_radius():
    output, features = output_of("shared", radius=2), features_of()
    features.pitches.requires_grad_()
    logits = logits_of(output, features, None)
    for pitch in range(7):
        (gradient,) = torch.autograd.grad(logits[..., pitch].square().sum(), features.pitches, retain_graph=True)
        seen = torch.nonzero(gradient.flatten(0, 1).any(dim=-1).any(dim=0)).ravel().tolist()
        assert seen == [other for other in range(7) if abs(other - pitch) <= 2]
        of_each_feature = gradient.flatten(0, 1).any(dim=0)
        assert of_each_feature[pitch].all()
        assert not of_each_feature[torch.arange(7) != pitch, N_NEAR:].any()


@pytest.mark.parametrize("name", ["hidden", "recent", "pedal", "beats", "copied_notes"])
def test_every_input_reaches_the_loss(name):
    output, features = output_of("joint"), features_of().map(lambda x: x.flatten(0, 1))
    getattr(features, name).requires_grad_()
    velocity = (random_velocity(9, seed=4) * 127).flatten(0, 1)
    loss = frame_nlls(output, features, velocity, torch.ones(18).double())
    total = loss.nll.sum() + loss.pedal_nll.sum() + loss.velocity_nll.sum()
    assert torch.autograd.grad(total, getattr(features, name))[0].any()


@pytest.mark.parametrize("kind", ["shared", "joint"])
@torch.no_grad()
def test_the_rules_are_the_same_for_transposed_music(kind):
    output = output_of(kind, n_pitches=12)
    output.hidden.weight.zero_()
    output.hidden.bias.zero_()
    low, base = torch.zeros(2, 15, 12).double(), features_of(14, 12)
    low[..., 1:8] = random_velocity(15)
    logits = []
    for velocity in (low, low.roll(3, dims=-1)):
        pitches, recent, _ = PitchHistory()(velocity[:, :-1])
        features = base._replace(pitches=pitches, recent=recent, copied_notes=torch.zeros(2, 14, 12, 3).double())
        logits.append(logits_of(output, features, (velocity[:, 1:] > 0).double()))
    torch.testing.assert_close(logits[1][..., 3:], logits[0][..., :-3])
    assert logits[0][..., 1:8].std(dim=-1).min() > 0.01


@pytest.mark.parametrize("above", [True, False])
@torch.no_grad()
def test_the_banded_matrix_is_a_convolution_along_the_pitches(above):
    layer = PitchConv(3, 4, 2, above).double()
    features = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)).double() * (torch.rand(5, 7, 3) > 0.5)
    padded = F.pad(features.mT[:, :, None], (2, 2 if above else -1))
    wanted = layer.convolution(padded)[:, :, 0].mT
    torch.testing.assert_close(layer(features), wanted)
    with torch.enable_grad():
        torch.testing.assert_close(layer(features), wanted)


@torch.no_grad()
def test_changed_weights_count_at_once():
    layer, features = PitchConv(1, 1, 1, True).eval(), torch.ones(1, 3, 1)
    before = layer(features)
    layer.load_state_dict({name: weight + 0.5 for name, weight in layer.state_dict().items()})
    torch.testing.assert_close(
        layer(features), before + torch.tensor([1.5, 2.0, 1.5])[:, None]
    )  # 2 or 3 taps, the bias
    assert layer.double()(features.double()).dtype == torch.float64


@pytest.mark.parametrize("kind", ["shared", "joint"])
def test_a_new_output_is_a_markov_chain(kind):
    sizes = {"hidden_size": 5, "n_pitches": 7, "pitch_size": 4, "pitch_reach": 2, "copy_heads": 1}
    output, features = heads.HEADS[kind](ModelConfig(output=kind, **sizes)).double(), features_of()
    chances = torch.sigmoid(logits_of(output, features, random_velocity(9, seed=5)))
    torch.testing.assert_close(chances, torch.where(features.active > 0, 1 - 0.23, 0.007).double(), rtol=0, atol=0.005)


def pitch_by_pitch(output, features, pedal, decide):
    next_frame = torch.full_like(features.active, 0.5)
    for pitch in range(next_frame.shape[-1]):
        next_frame[..., pitch] = decide(logits_of(output, features, next_frame, pedal))[..., pitch]
    return next_frame


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_fixed_point_is_deciding_pitch_by_pitch(kind):
    most_calls, pedal = 0, torch.ones(2, 30).double()
    for seed in range(5):
        output, features = output_of(kind, seed=seed), features_of(n_frames=30, seed=seed)
        uniform = torch.rand(2, 30, 7, generator=torch.Generator().manual_seed(seed)).double()
        for decide in (lambda x: (x > 0).double(), lambda x, u=uniform: (u < torch.sigmoid(x)).double()):
            calls, encoded = [], output.encode(features, pedal)
            next_frame, logits, conditioned = decode_frame(
                partial(conditional_logits, output, encoded, features),
                features.active,
                lambda x, decide=decide, to=calls: to.append(1) or decide(x),
            )
            assert torch.equal(decide(logits), next_frame)
            assert torch.equal(next_frame, pitch_by_pitch(output, features, pedal, decide))
            torch.testing.assert_close(conditioned, output.condition(encoded, features.active, next_frame))
            most_calls = max(most_calls, len(calls))
    assert (3 if kind == "joint" else 2) <= most_calls <= 7 + 1


@torch.no_grad()
def test_without_a_pedal_the_next_frame_has_it_up():
    output, features = output_of("joint"), features_of()
    assert torch.equal(output.encode(features), output.encode(features, torch.zeros(2, 9).double()))


@torch.no_grad()
def test_decisions_that_oscillate_come_to_an_end():
    output, features = output_of("joint"), features_of()
    encoded = output.encode(features, torch.ones(2, 9).double())
    passes = []

    def logits_of(guess):
        passes.append(guess)
        return conditional_logits(output, encoded, features, guess)

    decode_frame(logits_of, features.active, lambda logits: 1 - passes[-1])  # the contrary of each guess
    assert len(passes) == 7 + 1  # the pitches, and the first guess


def test_all_velocities_of_a_bin_are_equally_likely_and_scored_so():
    bins = torch.arange(heads.N_VELOCITIES)
    numbers = torch.arange(heads.N_CHOICES)
    drawn = heads.velocity_in_bin(bins[:, None], numbers)
    assert sorted(drawn.unique().tolist()) == list(range(1, 128))
    assert torch.equal(heads.velocity_bins(drawn), bins[:, None].expand_as(drawn))
    for number, row in enumerate(drawn):
        velocities, counts = row.unique(return_counts=True)
        assert len(velocities) == heads.bin_widths(bins)[number] == (3 if number == 0 else 4)
        assert len(set(counts.tolist())) == 1


def test_the_loss_is_the_likelihood_of_pitches_pedal_and_velocities():
    output, features = output_of("joint"), features_of().map(lambda x: x.flatten(0, 1))
    velocity = torch.zeros(18, 7).double()
    velocity[3, [1, 4]] = torch.tensor([40.0, 90.0]).double()
    pedal = (torch.arange(18) % 3 == 0).double()
    loss = frame_nlls(output, features, velocity, pedal)
    p = torch.sigmoid(logits_of(output, features, (velocity > 0).double(), pedal))
    wanted = -torch.where(velocity > 0, p, 1 - p).log()
    torch.testing.assert_close(loss.cell_nll, wanted.float())
    torch.testing.assert_close(loss.nll, loss.cell_nll.sum(-1))
    down = torch.sigmoid(output.pedal.logits(features))
    torch.testing.assert_close(loss.pedal_nll, -torch.where(pedal > 0, down, 1 - down).log().float())
    assert len(loss.velocity_nll) == int(((velocity > 0) & (features.active == 0)).sum())
    assert len(frame_nlls(output_of("independent"), features, velocity, pedal).velocity_nll) == 0


def test_a_velocity_sees_those_below_it_and_not_those_above():
    output, features = output_of("joint"), features_of(1).map(lambda x: x[:1, 0])
    velocity = torch.tensor([[0, 30, 0, 60, 0, 90, 0.0]]).double().requires_grad_()
    struck = velocity > 0
    conditioned = output.condition(output.encode(features, torch.zeros(1).double()), features.active, struck.double())
    logits = output.velocity_logits(conditioned, features, velocity, struck)
    assert logits.shape == (3, heads.N_VELOCITIES)
    for note, pitch in enumerate([1, 3, 5]):
        (gradient,) = torch.autograd.grad(logits[note, 3], velocity, retain_graph=True)
        assert not gradient[0, pitch:].any()
        assert gradient[0, [below for below in (1, 3, 5) if below < pitch]].all()


def test_lower_velocities_are_the_nearest_and_the_mean_of_the_notes_below():
    velocity = torch.tensor([[0, 0.5, 0, 0.25, 0, 1.0], [0.75, 0, 0, 0, 0, 0]])
    struck = torch.tensor([[1, 1, 1, 1, 0, 1], [1, 0, 0, 0, 1, 0]]) > 0
    found = heads.velocities_below(velocity, struck)
    assert found[:, 0].tolist() == [0, 0, 0.5, 0.5, 0.25, 0, 0.75]
    torch.testing.assert_close(found[:, 1], torch.tensor([0, 0, 0.5, 0.5, 0.375, 0, 0.75]))
    assert found[:, 2].tolist() == [0, 0, 1, 1, 1, 0, 1]
