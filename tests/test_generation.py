"""Generation: it is what the model says, frame by frame, and the prime stays what it was."""

import gc
import itertools

import numpy as np
import pytest
import torch

from musicgen.generation import GenerationConfig, continue_frames, generate
from musicgen.keys import FrameFeatures
from musicgen.piano_roll import PianoRoll
from musicgen.stepping import Stepper

BOTH = ("Bach", "Liszt")
COLD = {"temperature": 0.01, "release_temperature": 0.01}


def prime_of(n_frames=14, fps=20, seed=0):
    random = np.random.default_rng(seed)
    velocity = np.where(random.random((n_frames, 88)) < 0.1, random.integers(1, 128, (n_frames, 88)), 0)
    return PianoRoll(velocity.astype(np.uint8), fps)


@pytest.fixture
def model_of(tiny_model):
    """Build models of a piano that are fast, and know two composers."""
    return lambda **sizes: tiny_model(n_pitches=88, **{"pitch_reach": 3, "pitch_size": 4, "composers": BOTH} | sizes)


@pytest.fixture
def steady_model(model_of):
    """A model that gives each key one logit, whatever was before."""

    def build(logits, output="independent"):
        model = model_of(output=output)
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
            bias = model.output.bias if output == "independent" else model.output.last.bias
            bias.copy_(torch.as_tensor(logits))
        return model

    return build


@torch.inference_mode()
def heard_by(model, frames, composers):
    """What is known after the last of some frames, all heard again from the first."""
    heard, _ = model(torch.from_numpy(frames / np.float32(127)), composers=torch.tensor(composers))
    return FrameFeatures(*(known[:, -1] for known in heard))


def test_a_long_prime_is_heard_in_parts_as_if_at_once(model_of, monkeypatch):
    model, config = model_of(), GenerationConfig(seconds=2, seed=4)
    at_once = generate(model, prime_of(23), config, "Bach")
    monkeypatch.setattr("musicgen.generation.CHUNK_FRAMES", 9)
    assert generate(model, prime_of(23), config, "Bach") == at_once != generate(model, prime_of(22), config, "Bach")


@pytest.mark.parametrize(("n_prime", "temperature", "release"), [(9, 0.7, 1.3), (1, 1.0, 1.0), (0, 1.4, 0.5)])
@torch.inference_mode()
def test_each_frame_is_drawn_by_what_was_heard_from_the_first_on(model_of, n_prime, temperature, release):
    model, primes = model_of(output="independent"), np.stack([prime_of(n_prime, seed=s).velocity for s in (1, 2)])
    config = GenerationConfig(temperature=temperature, release_temperature=release, seed=6)
    made = continue_frames(model, primes, 25, config, [2, 0])
    assert (made.dtype, made.shape) == (np.uint8, (2, n_prime + 25, 88))
    assert np.array_equal(made[:, :n_prime], primes)
    if not n_prime:  # it begins out of silence
        made = np.pad(made, [(0, 0), (1, 0), (0, 0)])
    random = torch.Generator().manual_seed(6)
    for t in range(made.shape[1] - 25, made.shape[1]):
        up = torch.from_numpy(made[:, t - 1] == 0)
        logits = model.output(heard_by(model, made[:, :t], [2, 0]).hidden)
        probability = torch.sigmoid(logits / torch.where(up, temperature, release))
        assert np.array_equal(made[:, t] > 0, (torch.rand(2, 88, generator=random) < probability).numpy())
    assert 0.1 < (made > 0).mean() < 0.9


@pytest.mark.parametrize("output", ["independent", "shared", "joint"])
@pytest.mark.parametrize("style", [0.0, 1.0, 2.5])
@torch.inference_mode()
def test_in_the_cold_each_frame_is_the_likeliest_with_the_composer_as_far_as_style_goes(model_of, output, style):
    model, primes = model_of(output=output, seed=18), np.stack([prime_of(seed=seed).velocity for seed in (1, 2)])
    made = continue_frames(model, primes, 12, GenerationConfig(style=style, **COLD), [1, 0])
    for t in range(14, 26):
        following, logits = torch.from_numpy(made[:, t] > 0).float(), []
        for composers in ([0, 0], [1, 0]):
            heard = heard_by(model, made[:, :t], composers)
            within = model.output.within(model.output.before(heard), heard, following)
            logits.append(model.output.logits(within, heard))
        styled = logits[0] + style * (logits[1] - logits[0])
        sure = styled.abs() > 0.2
        assert torch.equal((styled > 0)[sure], (following > 0)[sure])
        assert sure.float().mean() > 0.3
    assert 0 < (made[:, 14:] > 0).mean() < 1


def test_the_seed_and_nothing_else_decides(model_of):
    def piece(seed, prime=None):
        return generate(model_of(), prime or prime_of(), GenerationConfig(seconds=2, seed=seed))

    first = piece(3)
    torch.manual_seed(12)
    torch.rand(5)
    assert piece(3) == first
    assert piece(4) != first
    assert piece(3, prime_of(seed=1))[14:] != first[14:]


def test_dropout_is_off(model_of):
    models = model_of(dropout=0.0), model_of(dropout=0.5).train()
    first, second = (generate(model, prime_of(), GenerationConfig(seconds=2)) for model in models)
    assert first == second


@pytest.mark.parametrize("fps", [20, 8])
def test_the_prime_stays_and_the_length_is_that_of_the_whole_piece(model_of, fps):
    prime = prime_of(fps=fps)
    roll = generate(model_of(), prime, GenerationConfig(seconds=2.5))
    assert (roll.fps, roll.n_frames) == (fps, 2.5 * fps)
    assert roll[:14] == prime
    assert roll[14:].n_notes > 0


def test_without_dynamics_a_note_keeps_its_velocity_and_new_notes_have_the_primes_median(steady_model):
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
def test_without_dynamics_or_a_note_to_go_by_all_are_of_one_middling_velocity(model_of, n_frames):
    prime = None if n_frames is None else PianoRoll(np.zeros((n_frames, 88), np.uint8), 10)
    roll = generate(model_of(output="independent"), prime, GenerationConfig(seconds=2.5))
    fps = prime.fps if prime else 20
    assert (roll.fps, roll.n_frames) == (fps, 2.5 * fps)
    assert set(np.unique(roll.velocity)) == {0, 64}


def test_held_notes_keep_their_velocity_and_new_ones_get_one_of_their_own(model_of):
    roll = generate(model_of(), prime_of(), GenerationConfig(seconds=3))
    before, after = roll.velocity[13:-1], roll.velocity[14:]
    held, struck = (before > 0) & (after > 0), (before == 0) & (after > 0)
    assert held.any() and struck.any()
    assert np.array_equal(before[held], after[held])
    assert len(np.unique(after[struck])) > 9


@pytest.mark.parametrize(("place", "velocities"), [(0, {1, 2, 3}), (9, {36, 37, 38, 39}), (31, {124, 125, 126, 127})])
def test_velocities_are_drawn_from_the_models_bins_of_four(steady_model, place, velocities):
    model = steady_model([0.0], "joint")
    model.output.velocity[-1].bias.data[place] = 99.0
    assert set(np.unique(generate(model, None, GenerationConfig(seconds=1)).velocity)) == {0} | velocities


def test_what_falls_silent_stays_silent_and_what_is_held_is_held(steady_model):
    config = GenerationConfig(seconds=2)
    for output, n_logits in [("independent", 88), ("joint", 1)]:
        assert not generate(steady_model([-50.0] * n_logits, output), prime_of(), config).active[14:].any()
        assert generate(steady_model([50.0] * n_logits, output), prime_of(), config).active[14:].all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_keys_are_drawn_independently_by_their_tempered_probability(steady_model, temperature):
    logits = np.linspace(-4, 2, 88)
    config = GenerationConfig(seconds=60, temperature=temperature, release_temperature=temperature)
    active = generate(steady_model(logits), None, config).active
    probability = 1 / (1 + np.exp(-logits / temperature))
    deviation = np.sqrt(probability * (1 - probability) / len(active))
    assert (np.abs(active.mean(axis=0) - probability) < 5 * deviation).all()
    counts = active.sum(axis=1)  # keys drawn with one random number would rise and fall together
    assert counts.var() == pytest.approx((probability * (1 - probability)).sum(), rel=0.25)


def test_a_prime_as_long_as_the_piece_is_the_piece_and_a_longer_one_is_refused(model_of):
    prime = prime_of(40)
    assert generate(model_of(), prime, GenerationConfig(seconds=2)) == prime
    with pytest.raises(ValueError, match="the prime lasts 2 s, longer than the piece of 1.95 s"):
        generate(model_of(), prime, GenerationConfig(seconds=1.95))


def test_a_composer_is_told_by_name_and_a_stranger_refused(model_of):
    config, prime = GenerationConfig(seconds=1.5), prime_of()
    pieces = [generate(model_of(), prime, config, composer) for composer in (None, *BOTH)]
    for label, piece in enumerate(pieces):
        made = continue_frames(model_of(), prime.velocity[None], 16, config, [label])
        assert np.array_equal(piece.velocity, made[0])
    assert pieces[0] != pieces[1] != pieces[2] != pieces[0]
    with pytest.raises(ValueError, match="does not know 'Salieri', only Bach, Liszt"):
        generate(model_of(), prime, config, "Salieri")
    with pytest.raises(ValueError, match="does not know 'Bach', only nobody"):
        generate(model_of(composers=()), prime, config, "Bach")


def test_a_model_of_another_keyboard_is_refused(tiny_model):
    with pytest.raises(ValueError, match="the model has 5 keys, a piano 88"):
        generate(tiny_model(n_pitches=5), None, GenerationConfig(seconds=1))


def test_a_piece_leaves_nothing_behind_as_it_grows_but_its_frames(model_of, monkeypatch):
    hear, frames, alive = Stepper.hear, itertools.count(), {}

    def count(*arguments):
        if (frame := next(frames)) in (10, 60):
            alive[frame] = sum(type(each) is torch.Tensor for each in gc.get_objects())
        return hear(*arguments)

    monkeypatch.setattr(Stepper, "hear", count)
    generate(model_of(), prime_of(), GenerationConfig(seconds=4, seed=3))
    assert alive[10] == alive[60]  # tensors that are kept, however small, scatter the memory between them
