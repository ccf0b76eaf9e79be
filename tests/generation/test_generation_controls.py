"""The controls of generation: the defaults leave the model unchanged, and each control does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen.generation import GenerationConfig, continue_rolls, generate
from musicgen.generation.continuation import Continuation
from musicgen.home import home_features
from musicgen.piano_roll import PianoRoll

random = np.random.default_rng(0)
PRIME = PianoRoll(np.where(random.random((14, 88)) < 0.1, random.integers(1, 128, (14, 88)), 0).astype(np.uint8))


@pytest.fixture
def model_of(tiny_model):
    """Build models of a piano that are fast, and know two composers."""
    return lambda **sizes: tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4, composers=("Bach", "Liszt"), **sizes)


@pytest.fixture
def steady_model(model_of):
    """A model that gives each key one logit while it is up, and another while it sounds."""

    def build(up, held=0.0, output="independent"):
        model = model_of(output=output)
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
            if output == "independent":
                model.output.bias.copy_(torch.as_tensor(up))
            else:
                model.output.skip.bias.fill_(up)
                model.output.skip.weight[:, 0] = held - up
        return model

    return build


@pytest.mark.parametrize("output", ["independent", "joint"])
def test_a_guidance_scale_of_0_is_as_without_a_composer_and_of_1_as_with_one(model_of, output):
    def piece(composer, scale, **controls):
        config = GenerationConfig(seconds=1.5, guidance_scale=scale, **controls)
        return generate(model_of(output=output), PRIME, config, composer)

    assert piece("Liszt", 1.0) == piece("Liszt", 1 + 1e-9) != piece(None, 1.0)  # the second runs the model twice
    assert piece("Liszt", 0.0) == piece(None, 1.0)
    for control in ({"max_polyphony": 9}, {"top_p": 0.5}):
        assert piece("Liszt", 0.0, **control) == piece(None, 1.0, **control)
    assert piece(None, 7.0) == piece(None, 1.0)


def test_controls_change_nothing_where_they_have_nothing_to_do(model_of):
    for model in (model_of(), model_of(output="independent")):
        config = GenerationConfig(seconds=1.2, seed=5, temperature=1.0)
        default = generate(model, PRIME, config)
        for control in ({"max_polyphony": 87}, {"temperature": 1.0}, {"release_temperature": 1.0}):
            assert generate(model, PRIME, replace(config, **control)) == default
        others = {
            "top_p": 0.5,
            "max_polyphony": 9,
            "temperature": 0.3,
            "release_temperature": 3.0,
            "onset_temperature": 0.5,
        }
        for name, value in others.items():
            assert generate(model, PRIME, replace(config, **{name: value})) != default


def sounding(model, **controls):
    """What a model continues the prime with: bool, the last frame of the prime and 86 more."""
    return generate(model, PRIME, GenerationConfig(seconds=5, **controls)).active[13:]


def many(model, **controls):
    """Forty pieces out of silence, of three seconds each, in one batch."""
    silence = PianoRoll(np.zeros((0, 88), np.uint8))
    return continue_rolls(model, [silence] * 40, 60, GenerationConfig(**controls), [0] * 40)


@pytest.mark.parametrize("temperature", [0.3, 1.3])
def test_temperature_changes_which_pitches_are_struck_and_not_how_many(steady_model, temperature):
    logits = np.linspace(-6, -3, 88)[np.random.default_rng(3).permutation(88)]
    onsets = []
    for value in (1.0, temperature):
        onsets.append(np.sum([piece.onsets.sum(axis=0) for piece in many(steady_model(logits), temperature=value)], 0))
    assert onsets[1].sum() == pytest.approx(onsets[0].sum(), rel=0.1)
    likely = np.argsort(-logits)[:20]
    shares = [each[likely].sum() / each.sum() for each in onsets]
    assert (shares[1] > shares[0]) == (temperature < 1)


@pytest.mark.parametrize("control", [{"top_p": 0.6}, {"onset_temperature": 0.5}, {"onset_temperature": 1.2}])
def test_other_controls_keep_the_number_of_onsets_too(steady_model, control):
    model = steady_model(np.linspace(-6, -3, 88))
    counts = [sum(piece.n_notes for piece in many(model, **controls)) for controls in ({}, control)]
    assert counts[1] == pytest.approx(counts[0], rel=0.1)


def test_a_low_release_temperature_holds_what_is_likely_held_and_leaves_onsets_to_chance(steady_model):
    active = sounding(steady_model(-3.0, held=0.7, output="shared"), release_temperature=0.01)
    assert (active[1:] >= active[:-1]).all()
    counts = active.sum(axis=1)
    assert counts[0] < counts[1] < counts[-1]
    assert not sounding(steady_model(-3.0, held=-0.7, output="shared"), release_temperature=0.01)[1, active[0]].any()


def test_a_tiny_top_p_leaves_but_the_likeliest_new_key(steady_model):
    order = np.random.default_rng(1).permutation(88)
    active = sounding(steady_model(np.linspace(-2, 0, 88)[order]), top_p=1e-6, max_repeat=3600)
    assert (active[1:] & active[:-1]).sum() > 5  # held keys are left to themselves
    for before, after in zip(active[:-1], active[1:]):
        likeliest = max(np.flatnonzero(~before), key=lambda key: order[key])
        assert set(np.flatnonzero(after & ~before)) <= {likeliest}


def test_top_p_keeps_the_keys_that_have_together_this_share(steady_model):
    logits = np.full(88, -30.0)
    logits[[5, 50, 80]] = np.log([12 / 88, 6 / 94, 2 / 98])  # of ten parts they have six, three and one
    for top_p, possible in [(0.5, {5}), (0.7, {5, 50}), (0.85, {5, 50}), (0.95, {5, 50, 80})]:
        first = np.stack([piece.active[0] for piece in many(steady_model(logits), top_p=top_p)])  # out of silence
        assert set(np.flatnonzero(first.any(axis=0))) <= possible
        assert first[:, 5].any()


def test_no_more_keys_sound_than_the_bound_or_those_that_are_held(steady_model):
    logits = np.linspace(-1, 3, 88)[np.random.default_rng(2).permutation(88)]
    active = sounding(steady_model(logits), max_polyphony=6)
    held = active[1:] & active[:-1]
    assert (active[1:].sum(axis=1) <= np.maximum(6, held.sum(axis=1))).all()
    assert (active[1:].sum(axis=1) == 6).any()


def test_held_keys_are_never_left_out(steady_model):
    active = sounding(steady_model(50.0, held=50.0, output="shared"), max_polyphony=3)
    assert active[0].sum() > 3
    assert (active == active[0]).all()


def test_beyond_the_bound_the_unlikeliest_new_keys_are_left_out(steady_model):
    logits = np.linspace(2, 8, 88)[np.random.default_rng(2).permutation(88)]  # all of them want to sound
    active = sounding(steady_model(logits), max_polyphony=20, temperature=0.1, release_temperature=0.1)
    held = set(np.flatnonzero(PRIME.active[-1]))
    assert 0 < len(held) < 20
    new = sorted(set(range(88)) - held, key=lambda key: -logits[key])[: 20 - len(held)]
    assert set(np.flatnonzero(active[1])) == held | set(new)


def test_the_largest_seed_can_be_used(model_of):
    config = GenerationConfig(seconds=1, seed=2**63 - 1)
    assert generate(model_of(), None, config) != generate(model_of(), None, GenerationConfig(seconds=1))


def pieces_after(prime, frames):
    """A piece that goes on from a prime with the given frames, one pitch per frame."""
    pieces = Continuation.of_primes([prime], len(frames), [None], [0], 8.0, False, homes=home_features(prime)[None])
    for pitch in frames:
        frame = np.zeros((1, 88), np.uint8)
        frame[0, pitch - 21] = 100
        pieces.append(frame, np.zeros(1))
    return pieces


def test_the_further_the_pitch_classes_have_drifted_the_more_home_pulls_the_other_way():
    home = home_features(PRIME)
    pieces = pieces_after(PRIME, [81 + t % 12 for t in range(700)])
    pieces.correct_home(0.5)
    n_recent = 600  # one note per frame
    recent = PianoRoll(pieces.velocity[0, -n_recent:], pedal=np.zeros(n_recent, bool))
    profile = home_features(recent, smoothing=0.5 * n_recent / PRIME.n_notes)  # in proportion to the notes
    assert pieces.home[0, :, :2] == pytest.approx((home + 0.5 * (home - profile))[:, :2])
    assert (pieces.home[0, :, 2:] == home[:, 2:]).all()


def test_home_is_compared_with_the_music_after_the_prime_or_with_four_seconds():
    low = [30 + t % 2 for t in range(400)]
    prime = pieces_after(PRIME, low).rolls()[0]
    pieces = pieces_after(prime, [99, 100] * 50)
    pieces.correct_home(1.0)
    high = home_features(PianoRoll(pieces.velocity[0, -100:], pedal=np.zeros(100, bool)), 0.5 * 100 / prime.n_notes)
    assert pieces.home[0, :, :2] == pytest.approx((2 * home_features(prime) - high)[:, :2])
    pieces = pieces_after(prime, [99, 100] * 10)
    pieces.correct_home(1.0)
    mixed = home_features(PianoRoll(pieces.velocity[0, -80:], pedal=np.zeros(80, bool)), 0.5 * 80 / prime.n_notes)
    assert pieces.home[0, :, :2] == pytest.approx((2 * home_features(prime) - mixed)[:, :2])


def test_feedback_tells_nothing_of_pitch_classes_that_neither_the_opening_nor_the_music_has():
    silence = PianoRoll(np.zeros((1, 88), np.uint8))
    prime = pieces_after(silence, [60, 64] * 20).rolls()[0]
    pieces = pieces_after(prime, [60, 67] * 150)
    pieces.correct_home(1.0)
    c_sharp = 61 - 21
    log_share = 0
    assert pieces.home[0, c_sharp, log_share] == pytest.approx(pieces.opening[0, c_sharp, log_share], abs=0.01)


def test_no_home_is_made_up_for_an_opening_without_notes():
    silence = PianoRoll(np.zeros((9, 88), np.uint8))
    pieces = Continuation.of_primes([silence], 9, [None], [0], 8.0, False, homes=home_features(silence)[None])
    pieces.append(np.full((1, 88), 64, np.uint8), np.zeros(1))
    pieces.correct_home(1.0)
    assert not pieces.home.any()
