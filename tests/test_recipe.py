"""The recipe: what the loss counts, and how the optimiser and its learning rate behave."""

import math

import numpy as np
import pytest
import torch

from musicgen.recipe import OPTIMIZERS, SCHEDULES, TrainConfig, next_frame_loss

LENGTHS = np.array([7, 4, 2, 1])  # windows of 7 frames, the last with no frame to predict


def windows(seed=0, n_keys=5):
    return np.random.default_rng(seed).random((4, 7, n_keys)) < 0.4


def test_the_loss_is_summed_over_keys_and_frames_and_tells_how_many_frames(tiny_model):
    model = tiny_model(n_keys=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.output.bias.copy_(torch.tensor([math.log(3), -math.log(4)]))  # P(on) is 3/4 and 1/5, in every frame
    frames = np.array([[[0, 1], [1, 0], [1, 1], [0, 0]], [[1, 1], [0, 1], [1, 1], [1, 1]]], bool)
    loss, n_frames = next_frame_loss(model, frames, np.array([4, 2]))
    first = math.log(3 / 4 * 4 / 5) + math.log(3 / 4 * 1 / 5) + math.log(1 / 4 * 4 / 5)
    second = math.log(1 / 4 * 1 / 5)
    assert n_frames == 4
    assert loss.item() == pytest.approx(-first - second, rel=1e-6)


def test_each_frame_is_predicted_from_those_before_it(tiny_model):
    model, frames = tiny_model(), windows()
    expected = 0.0
    for window, length in zip(frames, LENGTHS):
        for t in range(1, length):
            logits = model(torch.tensor(window[None, :t]).float())[0][0, -1]
            probability = torch.where(torch.tensor(window[t]), logits.sigmoid(), 1 - logits.sigmoid())
            expected -= probability.log().sum().item()
    loss, n_frames = next_frame_loss(model, frames, LENGTHS)
    assert n_frames == 6 + 3 + 1 + 0
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_padding_never_counts(tiny_model):
    def loss_and_gradients(frames):
        model = tiny_model()
        loss, n_frames = next_frame_loss(model, frames, LENGTHS)
        loss.backward()
        return [loss, torch.tensor(n_frames), *(weight.grad for weight in model.parameters())]

    frames, others, padding = windows(), windows(), np.arange(7) >= LENGTHS[:, None]
    others[padding] ^= True
    torch.testing.assert_close(loss_and_gradients(frames), loss_and_gradients(others), rtol=0, atol=0)
    others[~padding] ^= True
    assert loss_and_gradients(frames)[0] != loss_and_gradients(others)[0]


def test_bfloat16_is_nearly_the_same_and_trains(tiny_model):
    model = tiny_model(hidden_size=16)
    exact, n_frames = next_frame_loss(model, windows(), LENGTHS)
    rough, n_rough = next_frame_loss(model, windows(), LENGTHS, "bfloat16")
    assert n_rough == n_frames
    assert rough.dtype == torch.float32
    assert 0 < abs(rough.item() / exact.item() - 1) < 0.02
    rough.backward()
    assert all(torch.isfinite(weight.grad).all() and weight.grad.any() for weight in model.parameters())


def test_the_cosine_warms_up_shortly_and_ends_at_nothing():
    cosine = SCHEDULES["cosine"]
    done = np.linspace(0, 1, 1001)
    rate = np.array([cosine(share) for share in done])
    assert 0 < rate[0] < 0.01
    assert rate[-1] == pytest.approx(0, abs=1e-9)
    assert 0.99 < rate.max() <= 1
    assert 0.01 < done[rate.argmax()] < 0.03
    assert (np.diff(rate[:20]) > 0).all() and (np.diff(rate[21:]) < 0).all()
    assert [cosine(0.25), cosine(0.5)] == pytest.approx([0.5 + 0.125**0.5, 0.5])


def test_the_constant_schedule_is_constant():
    assert {SCHEDULES["constant"](done) for done in (0, 0.001, 0.5, 1)} == {1.0}


def step(gradients, **settings):
    """Where a weight of 2 goes under these gradients."""
    config = TrainConfig(**settings)
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = OPTIMIZERS[config.optimizer]([weight], config)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return weight.item()


def test_sgd_has_the_momentum_and_no_decay():
    assert step([0.5], optimizer="sgd", learning_rate=0.1, momentum=0.25) == pytest.approx(2 - 0.05)
    moved = 0.1 * (0.5 + (0.25 * 0.5 + 1.0))
    assert step([0.5, 1.0], optimizer="sgd", learning_rate=0.1, momentum=0.25) == pytest.approx(2 - moved)


def test_adamw_decays_and_steps_by_the_learning_rate():
    assert step([0.0], optimizer="adamw", learning_rate=0.1, weight_decay=0.3) == pytest.approx(2 * (1 - 0.03))
    assert step([9.0], optimizer="adamw", learning_rate=0.1, weight_decay=0) == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("optimizer", ["sgd", "adamw"], ["adam", "SGD", None]),
        ("schedule", ["constant", "cosine"], ["linear", ""]),
        ("precision", ["float32", "bfloat16"], ["float16", 32]),
        ("learning_rate", [1e-12, 0.01, 1], [0, -0.1, 1.1, math.nan, math.inf]),
        ("momentum", [0, 0.999], [-0.1, 1, math.nan]),
        ("weight_decay", [0, 1], [-0.1, 1.1, math.nan]),
        ("clip_norm", [1e-6, math.inf], [0, -1, math.nan]),
        ("n_epochs", [1, 100_000], [0, -1, 100_001, 2.5]),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, allowed, refused):
    for value in allowed:
        assert getattr(TrainConfig(**{field: value}), field) == value
    for value in refused:
        with pytest.raises(ValueError, match=f"{field} must (lie in|be one of) .+, not {value!r}"):
            TrainConfig(**{field: value})
