"""Generation: it is what the model says, frame by frame, and the prime stays what it was."""

import numpy as np
import pytest
import torch

from musicgen.generation import GenerationConfig, continue_frames, generate
from musicgen.piano_roll import PianoRoll


def prime_of(n_frames=14, fps=20, seed=0):
    random = np.random.default_rng(seed)
    velocity = np.where(random.random((n_frames, 88)) < 0.1, random.integers(1, 128, (n_frames, 88)), 0)
    return PianoRoll(velocity.astype(np.uint8), fps)


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_keys=88)


@pytest.fixture
def steady_model(tiny_model):
    """A model that gives each key one logit, whatever was before."""

    def build(logits):
        model = tiny_model(n_keys=88)
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
            model.output.bias.copy_(torch.as_tensor(logits))
        return model

    return build


def test_state_kept_is_the_same_as_hearing_everything_again_for_each_frame(model):
    for n_prime, temperature in [(9, 0.7), (1, 1.0), (0, 1.4)]:
        primes = np.stack([prime_of(n_prime, seed=seed).active for seed in (1, 2)])
        made = continue_frames(model, primes, 25, temperature, torch.Generator().manual_seed(6))
        random, frames = torch.Generator().manual_seed(6), torch.from_numpy(primes).float()
        for _ in range(25):
            heard = frames if n_prime else torch.cat([torch.zeros(2, 1, 88), frames], dim=1)  # out of silence
            with torch.no_grad():
                probability = 1 / (1 + (-model(heard)[0][:, -1] / temperature).exp())
            frames = torch.cat([frames, (torch.rand(2, 88, generator=random) < probability)[:, None]], dim=1)
        assert made.dtype == bool
        assert made.shape == (2, n_prime + 25, 88)
        assert np.array_equal(made, frames.numpy())
        assert 0.1 < made.mean() < 0.9
    assert np.array_equal(continue_frames(model, primes, 0, 1.0, random), primes)


def test_the_seed_and_nothing_else_decides(model):
    def piece(seed, prime=None):
        return generate(model, prime or prime_of(), GenerationConfig(seconds=3, seed=seed))

    first = piece(3)
    torch.manual_seed(12)
    torch.rand(5)
    assert piece(3) == first
    assert piece(4) != first
    assert piece(3, prime_of(seed=1))[14:] != first[14:]


def test_dropout_is_off(tiny_model):
    pieces = []
    for dropout in (0.0, 0.5):
        model = tiny_model(n_keys=88, dropout=dropout).train()
        pieces.append(generate(model, prime_of(), GenerationConfig(seconds=3)))
    assert pieces[0] == pieces[1]


@pytest.mark.parametrize("fps", [20, 8])
def test_the_prime_stays_and_the_length_is_that_of_the_whole_piece(model, fps):
    prime = prime_of(fps=fps)
    roll = generate(model, prime, GenerationConfig(seconds=4.5))
    assert (roll.fps, roll.n_frames) == (fps, 4.5 * fps)
    assert roll[:14] == prime
    assert roll[14:].n_notes > 0


def test_a_note_keeps_its_velocity_and_new_notes_have_the_primes_median(steady_model):
    velocity = np.zeros((5, 88), np.uint8)
    velocity[0, 10] = 100  # released before the prime ends
    velocity[2:, 20] = 30  # reaches out of it, and is held
    velocity[3:, 40] = 71  # reaches out of it, and is released
    velocity[4, 41] = 50
    logits = np.full(88, -50.0)
    logits[[10, 20, 30]] = 50
    roll = generate(steady_model(logits), PianoRoll(velocity), GenerationConfig(seconds=0.5))
    assert np.array_equal(roll.velocity[:5], velocity)
    assert {key: roll.velocity[5:, key].tolist() for key in np.flatnonzero(roll.velocity[5:].any(axis=0))} == {
        10: [50] * 5, 20: [30] * 5, 30: [50] * 5
    }  # fmt: skip


@pytest.mark.parametrize("n_frames", [None, 0, 3])
def test_without_a_note_to_go_by_all_are_of_one_middling_velocity(model, n_frames):
    prime = None if n_frames is None else PianoRoll(np.zeros((n_frames, 88), np.uint8), 10)
    roll = generate(model, prime, GenerationConfig(seconds=2.5))
    fps = prime.fps if prime else 20
    assert (roll.fps, roll.n_frames) == (fps, 2.5 * fps)
    assert set(np.unique(roll.velocity)) == {0, 64}


def test_what_falls_silent_stays_silent_and_what_is_held_is_held(steady_model):
    config = GenerationConfig(seconds=2)
    assert not generate(steady_model([-50.0] * 88), prime_of(), config).active[14:].any()
    assert generate(steady_model([50.0] * 88), prime_of(), config).active[14:].all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_keys_are_drawn_independently_by_their_tempered_probability(steady_model, temperature):
    logits = np.linspace(-4, 2, 88)
    active = generate(steady_model(logits), None, GenerationConfig(seconds=100, temperature=temperature)).active
    probability = 1 / (1 + np.exp(-logits / temperature))
    deviation = np.sqrt(probability * (1 - probability) / len(active))
    assert (np.abs(active.mean(axis=0) - probability) < 5 * deviation).all()
    counts = active.sum(axis=1)  # keys drawn with one random number would rise and fall together
    assert counts.var() == pytest.approx((probability * (1 - probability)).sum(), rel=0.2)


def test_a_lower_temperature_takes_fewer_risks(steady_model):
    configs = [GenerationConfig(seconds=20, temperature=temperature) for temperature in (0.3, 0.6, 1.0, 1.7)]
    onsets = [generate(steady_model([-3.0] * 88), prime_of(), config)[14:].n_notes for config in configs]
    assert onsets[0] < onsets[1] / 3 < onsets[2] / 9 < onsets[3] / 18


def test_a_prime_as_long_as_the_piece_is_the_piece_and_a_longer_one_is_refused(model):
    prime = prime_of(40)
    assert generate(model, prime, GenerationConfig(seconds=2)) == prime
    with pytest.raises(ValueError, match="the prime lasts 2 s, longer than the piece of 1.95 s"):
        generate(model, prime, GenerationConfig(seconds=1.95))


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("seconds", [0.1, 3600], [0, -1, 3601, float("nan"), float("inf")]),
        ("temperature", [0.01, 10], [0, -1, 0.009, 10.1, float("nan"), float("inf")]),
        ("seed", [0, 2**63 - 1], [-1, 2**63, 0.5]),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, allowed, refused):
    for value in allowed:
        assert getattr(GenerationConfig(**{field: value}), field) == value
    for value in refused:
        with pytest.raises(ValueError, match=f"{field} must .+, not {value!r}"):
            GenerationConfig(**{field: value})


def test_the_largest_seed_can_be_used(model):
    config = GenerationConfig(seconds=1, seed=2**63 - 1)
    assert generate(model, None, config) != generate(model, None, GenerationConfig(seconds=1))


def test_a_model_of_another_keyboard_is_refused(tiny_model):
    with pytest.raises(ValueError, match="88"):
        generate(tiny_model(n_keys=5), None, GenerationConfig(seconds=1))
