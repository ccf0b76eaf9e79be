"""The loss of training, the optimizers and the learning rate schedules."""

import math

import numpy as np
import pytest
import torch
from batches import batch_of

from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.heads import ACTIVE_LOGIT, INACTIVE_LOGIT, frame_nlls, teacher_forced_logits
from musicgen.training import TrainConfig, next_frame_loss
from musicgen.training.optim import OPTIMIZERS, WeightAverage, has_bfloat16, parameter_groups, rate_factor

LENGTHS = np.array([7, 4, 2, 1])  # windows of 7 frames, the last with no frame to predict
LABELS = np.array([1, 0, 2, 1])
KINDS = ["independent", "shared", "joint"]


def windows(seed=0, n_pitches=5):
    random = np.random.default_rng(seed)
    shape = (len(LENGTHS), 7, n_pitches)
    return np.where(random.random(shape) < 0.4, random.integers(1, 128, shape), 0).astype(np.uint8)


@pytest.fixture
def small(tiny_model):
    """Build models of five keys that know two composers."""
    return lambda **sizes: tiny_model(**{"pitch_size": 4, "pitch_reach": 2, "composers": ("Bach", "Liszt")} | sizes)


def test_the_loss_is_summed_over_keys_and_frames_and_tells_how_many_frames(small):
    model = small(n_pitches=2, output="independent")
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.output.bias.copy_(torch.tensor([math.log(3), -math.log(4)]))  # P(on) is 3/4 and 1/5, in every frame
    frames = np.array([[[0, 1], [1, 0], [1, 1], [0, 0]], [[1, 1], [0, 1], [1, 1], [1, 1]]], np.uint8) * 55
    scored = next_frame_loss(model, batch_of(frames, np.array([4, 2]), np.array([0, 1])))
    first = math.log(3 / 4 * 4 / 5) + math.log(3 / 4 * 1 / 5) + math.log(1 / 4 * 4 / 5)
    second = math.log(1 / 4 * 1 / 5)
    assert scored.nll.item() == pytest.approx(-first - second, rel=1e-6)
    assert scored.n_frames == 4
    assert scored.total.item() == scored.nll.item()  # no velocities, no pedal


@pytest.mark.parametrize("output", KINDS)
@torch.no_grad()
def test_each_frame_is_predicted_from_those_before_it(small, output):
    model, batch = small(output=output), batch_of(windows(), LENGTHS, LABELS)
    nll = 0.0
    for window, pedal, beats, length, label, _ in zip(*batch):
        for t in range(1, length):
            inputs = (torch.from_numpy(x[None]) for x in (pedal[:t], beats[1 : t + 1]))
            features, _ = model(torch.tensor(window[None, :t] / 127).float(), None, torch.tensor([label]), *inputs)
            features, following = features.map(lambda x: x[:, -1]), torch.tensor(window[None, t] > 0)
            down = torch.tensor(pedal[None, t])
            probability = teacher_forced_logits(model.output, features, following.float(), down)[0].sigmoid()
            nll -= torch.where(following, probability, 1 - probability).log().sum().item()
    scored = next_frame_loss(model, batch)
    assert scored.n_frames == 6 + 3 + 1 + 0
    assert scored.nll.item() == pytest.approx(nll, rel=1e-4)


@pytest.mark.parametrize("output", KINDS)
@torch.no_grad()
def test_the_probabilities_of_all_possible_next_frames_sum_to_1(small, output):
    model = small(output=output, n_pitches=4)
    features, _ = model(torch.from_numpy(windows(n_pitches=4)[:1] / 127).float())
    features = features.map(lambda x: x[:, -1])
    every = [torch.tensor([[number >> pitch & 1 for pitch in range(4)]]) for number in range(16)]
    losses = [frame_nlls(model.output, features, 99 * frame, torch.ones(1)) for frame in every]
    probabilities = [math.exp(-loss.nll) for loss in losses]
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)
    assert len({round(probability, 9) for probability in probabilities}) > 3


@pytest.mark.parametrize("output", ["shared", "joint"])
def test_a_new_model_is_the_markov_chain_of_the_constants(output):
    torch.manual_seed(0)
    model = AttentionLSTM(ModelConfig(n_pitches=2, hidden_size=8, pitch_reach=2, output=output))
    frames = np.array([[[0, 9], [99, 0], [99, 0], [0, 20]]], np.uint8)
    scored = next_frame_loss(model, batch_of(frames, np.array([4]), np.array([0])))
    struck, silent = math.log1p(math.exp(-INACTIVE_LOGIT)), math.log1p(math.exp(INACTIVE_LOGIT))
    held, released = math.log1p(math.exp(-ACTIVE_LOGIT)), math.log1p(math.exp(ACTIVE_LOGIT))
    of_each_frame = [struck + released, held + silent, released + struck]
    assert scored.nll.item() == pytest.approx(sum(of_each_frame), rel=1e-5)


def test_padding_never_counts(small):
    def loss_and_gradients(frames):
        model = small()
        scored = next_frame_loss(model, batch_of(frames, LENGTHS, LABELS))
        scored.total.backward()
        return [*map(torch.as_tensor, scored), *(weight.grad for weight in model.parameters())]

    frames, others, padding = windows(), windows(), np.arange(7) >= LENGTHS[:, None]
    others[padding] = 127 - others[padding]
    torch.testing.assert_close(loss_and_gradients(frames), loss_and_gradients(others), rtol=0, atol=0)
    others[~padding] = 127 - others[~padding]
    assert loss_and_gradients(frames)[0] != loss_and_gradients(others)[0]


def velocity_losses(model, velocities):
    """The velocity losses of notes that are struck in the last of three frames, above one that is held."""
    frames = np.array([[[80, 0, 0, 0, 7], [80, 0, 0, 0, 0], [80, *velocities]]], np.uint8)
    with torch.no_grad():
        features, _ = model(torch.from_numpy(frames[:, :2] / np.float32(127)))
        features = features.map(lambda x: x[:, -1])
        return frame_nlls(model.output, features, torch.from_numpy(frames[:, 2]), torch.zeros(1)).velocity_nll


def test_a_velocity_costs_the_log_of_all_bins_and_of_the_width_of_its_own(small):
    model = small()
    with torch.no_grad():
        model.output.velocity[-1].weight.zero_()
        model.output.velocity[-1].bias.fill_(0.3)
    wanted = [math.log(32 * width) for width in (3, 4, 4)]
    assert velocity_losses(model, [1, 0, 127, 64]).tolist() == pytest.approx(wanted)


def test_the_probabilities_of_all_velocities_sum_to_1(small):
    alone = {velocity: velocity_losses(small(), [0, velocity, 0, 0]) for velocity in range(1, 128)}
    probability = {velocity: math.exp(-loss) for velocity, loss in alone.items()}
    assert sum(probability.values()) == pytest.approx(1, rel=1e-5)
    assert all(probability[v] == pytest.approx(probability[4 * (v // 4) + 1]) for v in probability)


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="this processor has no bfloat16")
@pytest.mark.parametrize("output", KINDS)
def test_bfloat16_is_nearly_the_same_and_reaches_every_weight(small, output):
    model = small(hidden_size=16, output=output)
    batch = batch_of(windows(), LENGTHS, LABELS)
    exact, rough = (next_frame_loss(model, batch, precision=name) for name in ("float32", "bfloat16"))
    assert rough.n_frames == exact.n_frames
    assert rough.nll.dtype == torch.float32
    assert 0 < abs(rough.nll.item() / exact.nll.item() - 1) < 0.05
    rough.total.backward()
    assert all(torch.isfinite(weight.grad).all() and weight.grad.any() for weight in model.parameters())


def test_the_cosine_warms_up_shortly_and_ends_at_nothing():
    done = np.linspace(0, 1, 1001)
    rate = np.array([rate_factor("cosine", share, 0) for share in done])
    assert 0 < rate[0] < 0.01 and 0.99 < rate.max() <= 1 and rate[-1] == pytest.approx(0, abs=1e-9)
    assert 0.01 < done[rate.argmax()] < 0.03
    assert rate[250] == pytest.approx(0.5 + 0.125**0.5)
    assert {rate_factor("constant", share, 0) for share in (0, 0.001, 0.5, 1)} == {1.0}


def test_a_warm_up_counts_updates_and_the_end_may_lie_above_nothing():
    assert [rate_factor("constant", 0.5, n, warm_up=4) for n in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]
    assert [rate_factor("cosine", done, 100, 10, final_rate=0.2) for done in (0, 0.5, 1)] == pytest.approx(
        [1, 0.6, 0.2]
    )


def step(gradients, optimizer, **settings):
    """Where a weight of 2 goes under these gradients."""
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    made = OPTIMIZERS[optimizer]([weight], TrainConfig(**settings))
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        made.step()
    return weight.item()


def test_sgd_has_the_momentum_and_no_decay():
    assert step([0.5], "sgd", learning_rate=0.1, momentum=0.25) == pytest.approx(2 - 0.05)
    moved = 0.1 * (0.5 + (0.25 * 0.5 + 1.0))
    assert step([0.5, 1.0], "sgd", learning_rate=0.1, momentum=0.25) == pytest.approx(2 - moved)


def test_adamw_decays_and_steps_by_the_learning_rate():
    assert step([0.0], "adamw", learning_rate=0.1, weight_decay=0.3) == pytest.approx(2 * (1 - 0.03))
    assert step([9.0], "adamw", learning_rate=0.1, weight_decay=0) == pytest.approx(1.9)
    means = [(1 - 0.5) * 4 / (1 - 0.5), (0.5 * 2 + 0.5 * 1) / (1 - 0.25)]  # of 4, then of 4 and 1, without bias
    squares = [16, (0.25 * 0.75 * 16 + 0.25 * 1) / (1 - 0.75**2)]
    moved = sum(0.1 * mean / square**0.5 for mean, square in zip(means, squares))
    weight = step([4.0, 1.0], "adamw", learning_rate=0.1, weight_decay=0, beta1=0.5, beta2=0.75)
    assert weight == pytest.approx(2 - moved)


def test_parts_of_a_model_have_rates_of_their_own(small):
    model = small()
    rates = {}
    for group in parameter_groups(model, "all=0,output=10,output.last.bias=0.5"):
        rates |= dict.fromkeys(group["params"], group["factor"])
    assert rates[model.output.last.weight] == 10 and rates[model.output.last.bias] == 0.5
    assert set(rates) == set(model.output.parameters())  # the others are frozen
    assert len(parameter_groups(model)) == 1
    for wrong, said in [("head=2", "no part 'head'"), ("all=0", "freezes all"), ("output", "must look like")]:
        with pytest.raises(ValueError, match=f"part_rates.*{said}"):
            parameter_groups(model, wrong)


def test_the_average_of_the_weights_is_exponential_and_forgets_faster_at_first():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = WeightAverage(model, 0.4)
    model.weight.data.fill_(4.0)
    average.update(1)  # decay 2 / 11
    expected = 2 / 11 * 1 + 9 / 11 * 4
    model.weight.data.fill_(5.0)
    average.update(99)  # decay 0.4
    expected = 0.4 * expected + 0.6 * 5
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 5
