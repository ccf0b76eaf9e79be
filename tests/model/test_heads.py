"""Output heads: weights shared by all pitches, each pitch given the lower ones only, and the likelihood of a frame."""

import math

import pytest
import torch
from torch.nn import functional as F

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model import ModelConfig, heads
from musicgen.model.features import N_NEAR, PitchHistory, pedal_history
from musicgen.model.heads import FrameFeatures, IndependentOutput, PitchConv, PitchOutput, decode_frame, frame_loss

KINDS = ["independent", "shared", "joint"]


def random_loudness(n_frames, n_pitches=7, seed=0, share=0.3):
    """Notes of one to three frames, each cell of its own loudness."""
    random = torch.Generator().manual_seed(seed)
    held = (torch.rand(2, n_frames, n_pitches, generator=random) < share).repeat_interleave(3, dim=1)[:, :n_frames]
    return held * (0.1 + 0.9 * torch.rand(2, n_frames, n_pitches, generator=random)).double()


def output_of(kind, n_pitches=7, reach=2, seed=0, **sizes):
    """An output with random weights everywhere."""
    sizes = {"hidden_size": 5, "n_pitches": n_pitches, "pitch_size": 4, "pitch_reach": reach, "copy_heads": 1} | sizes
    config = ModelConfig(n_attention_layers=0, output=kind, **sizes)
    output = IndependentOutput(5, n_pitches) if kind == "independent" else PitchOutput(config)
    random = torch.Generator().manual_seed(seed)
    for weight in output.parameters():
        torch.nn.init.normal_(weight, std=0.35, generator=random)
    return output.double().eval()


def features_of(n_frames=9, n_pitches=7, seed=0):
    """What is known before each of some frames of two pieces."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(2, n_frames, *shape, generator=random).double()  # noqa: E731
    pitches, recent, _ = PitchHistory()(random_loudness(n_frames, n_pitches, seed), None)
    pedal, _ = pedal_history((normal() > 0).double(), None)
    return FrameFeatures(normal(5), pitches, recent, pedal, normal(N_BEAT_FEATURES), normal(n_pitches, 3))


def logits_of(output, features, following, pedal=None):
    pedal = torch.zeros_like(features.pedal[..., 0]) if pedal is None else pedal
    return heads.teacher_forced_logits(output, features, following, pedal)[0]


@pytest.mark.parametrize("n_pitches", [7, 2])
def test_in_a_joint_output_a_pitch_sees_all_lower_pitches_of_its_frame_and_no_other(n_pitches):
    output, features = output_of("joint", n_pitches), features_of(n_pitches=n_pitches)
    following = random_loudness(9, n_pitches, seed=3).clamp(0.4, 0.6).requires_grad_()
    logits = logits_of(output, features, following)
    for pitch in range(n_pitches):
        (gradient,) = torch.autograd.grad(logits[..., pitch].sum(), following, retain_graph=True)
        assert not gradient[..., pitch:].any()
        assert gradient[..., :pitch].flatten(0, 1).any(dim=0).all()  # those beyond its reach are counted


@pytest.mark.parametrize("kind", ["independent", "shared"])
def test_other_outputs_do_not_see_their_own_frame(kind):
    output, features = output_of(kind), features_of()
    nothing, everything = torch.zeros(2, 9, 7).double(), torch.ones(2, 9, 7).double()
    assert torch.equal(logits_of(output, features, nothing), logits_of(output, features, everything))


def test_a_pitch_sees_the_past_of_its_neighbours_within_reach():
    output, features = output_of("shared", reach=2), features_of()
    features.pitches.requires_grad_()
    logits = logits_of(output, features, None)
    for pitch in range(7):
        (gradient,) = torch.autograd.grad(logits[..., pitch].square().sum(), features.pitches, retain_graph=True)
        seen = torch.nonzero(gradient.flatten(0, 1).any(dim=-1).any(dim=0)).ravel().tolist()
        assert seen == [other for other in range(7) if abs(other - pitch) <= 2]
        of_each_feature = gradient.flatten(0, 1).any(dim=0)
        assert of_each_feature[pitch].all()
        assert not of_each_feature[torch.arange(7) != pitch, N_NEAR:].any()


@pytest.mark.parametrize("name", ["hidden", "recent", "pedal", "beats", "copied"])
def test_every_input_reaches_the_loss(name):
    output, features = output_of("joint"), features_of().map(lambda x: x.flatten(0, 1))
    getattr(features, name).requires_grad_()
    velocity = (random_loudness(9, seed=4) * 127).flatten(0, 1)
    loss = frame_loss(output, features, velocity, torch.ones(18).double())
    total = loss.nll.sum() + loss.pedal_nll.sum() + loss.velocity_nll.sum()
    assert torch.autograd.grad(total, getattr(features, name))[0].any()


@pytest.mark.parametrize("kind", ["shared", "joint"])
@torch.no_grad()
def test_the_rules_are_the_same_for_transposed_music(kind):
    output = output_of(kind, n_pitches=12)
    output.hidden.weight.zero_()
    output.hidden.bias.zero_()
    low, base = torch.zeros(2, 15, 12).double(), features_of(14, 12)
    low[..., 1:8] = random_loudness(15)
    logits = []
    for loudness in (low, low.roll(3, dims=-1)):
        pitches, recent, _ = PitchHistory()(loudness[:, :-1], None)
        features = base._replace(pitches=pitches, recent=recent, copied=torch.zeros(2, 14, 12, 3).double())
        logits.append(logits_of(output, features, (loudness[:, 1:] > 0).double()))
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
def test_a_kept_matrix_is_dropped_by_eval():
    layer, features = PitchConv(1, 1, 1, True).eval(), torch.ones(1, 3, 1)
    before = layer(features)
    layer.convolution.weight += 1
    assert torch.equal(layer(features), before)
    assert not torch.equal(layer.eval()(features), before)


@pytest.mark.parametrize("kind", ["shared", "joint"])
def test_a_new_output_is_a_markov_chain(kind):
    sizes = {"hidden_size": 5, "n_pitches": 7, "pitch_size": 4, "pitch_reach": 2, "copy_heads": 1}
    output, features = PitchOutput(ModelConfig(output=kind, **sizes)).double(), features_of()
    logits = logits_of(output, features, random_loudness(9, seed=5))
    torch.testing.assert_close(logits, heads.UP + heads.HELD * features.on, rtol=0, atol=1e-6)
    assert 1 / (1 + math.exp(-heads.UP)) == pytest.approx(0.007, abs=0.0005)
    assert 1 / (1 + math.exp(heads.UP + heads.HELD)) == pytest.approx(0.23, abs=0.005)


def pitch_by_pitch(output, features, pedal, decide):
    following = torch.full_like(features.on, 0.5)
    for pitch in range(following.shape[-1]):
        following[..., pitch] = decide(logits_of(output, features, following, pedal))[..., pitch]
    return following


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_fixed_point_is_deciding_pitch_by_pitch(kind):
    most_calls, pedal = 0, torch.ones(2, 30).double()
    for seed in range(5):
        output, features = output_of(kind, seed=seed), features_of(n_frames=30, seed=seed)
        uniform = torch.rand(2, 30, 7, generator=torch.Generator().manual_seed(seed)).double()
        for decide in (lambda x: (x > 0).double(), lambda x, u=uniform: (u < torch.sigmoid(x)).double()):
            calls, encoded = [], output.encode(features, pedal)
            following, conditioned = decode_frame(
                output, encoded, features, lambda x, decide=decide, to=calls: to.append(1) or decide(x)
            )
            assert torch.equal(following, pitch_by_pitch(output, features, pedal, decide))
            torch.testing.assert_close(conditioned, output.condition(encoded, features, following))
            most_calls = max(most_calls, len(calls))
    assert (3 if kind == "joint" else 2) <= most_calls <= 7 + 1


def test_the_loss_is_the_likelihood_of_pitches_pedal_and_velocities():
    output, features = output_of("joint"), features_of().map(lambda x: x.flatten(0, 1))
    velocity = torch.zeros(18, 7).double()
    velocity[3, [1, 4]] = torch.tensor([40.0, 90.0]).double()
    pedal = (torch.arange(18) % 3 == 0).double()
    loss = frame_loss(output, features, velocity, pedal)
    p = torch.sigmoid(logits_of(output, features, (velocity > 0).double(), pedal))
    wanted = -torch.where(velocity > 0, p, 1 - p).log()
    torch.testing.assert_close(loss.cell_nll, wanted.float())
    torch.testing.assert_close(loss.nll, loss.cell_nll.sum(-1))
    down = torch.sigmoid(output.pedal.logits(features))
    torch.testing.assert_close(loss.pedal_nll, -torch.where(pedal > 0, down, 1 - down).log().float())
    assert len(loss.velocity_nll) == int(((velocity > 0) & (features.on == 0)).sum())
    assert len(frame_loss(output_of("independent"), features, velocity, pedal).velocity_nll) == 0


def test_a_velocity_sees_those_below_it_and_not_those_above():
    output, features = output_of("joint"), features_of(1).map(lambda x: x[:1, 0])
    velocity = torch.tensor([[0, 30, 0, 60, 0, 90, 0.0]]).double().requires_grad_()
    at = velocity > 0
    conditioned = output.condition(output.encode(features, torch.zeros(1).double()), features, at.double())
    logits = output.velocity_logits(conditioned, features, velocity, at)
    assert logits.shape == (3, heads.N_VELOCITIES)
    for note, pitch in enumerate([1, 3, 5]):
        (gradient,) = torch.autograd.grad(logits[note, 3], velocity, retain_graph=True)
        assert not gradient[0, pitch:].any()
        assert gradient[0, [below for below in (1, 3, 5) if below < pitch]].all()
