"""Generation: frames are drawn from the model's probabilities, and the prime stays as it is."""

import gc
import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musicgen.generation.continuation import Continuation
from musicgen.generation.generate import (
    GenerationConfig,
    add_frame,
    continue_beats,
    continue_rolls,
    generate,
    generate_several,
    home_of,
    start_pieces,
    with_beats,
    without_prime,
)
from musicgen.generation.steps import GuidedModel, TorchEngine
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll

BOTH = ("Bach", "Liszt")


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
def features_after(model, frames, composers):
    """What is known after the last of some frames, all of them processed again."""
    features, _ = model(torch.from_numpy(frames / np.float32(127)), composers=torch.tensor(composers))
    return features.map(lambda x: x[:, -1])


def test_a_long_prime_is_heard_in_parts_as_if_at_once(model_of, monkeypatch):
    model, config = model_of(), GenerationConfig(seconds=2, seed=4)
    at_once = generate(model, prime_of(23), config, "Bach")
    monkeypatch.setattr("musicgen.generation.continuation.CHUNK_FRAMES", 9)
    assert generate(model, prime_of(23), config, "Bach") == at_once != generate(model, prime_of(22), config, "Bach")


@pytest.mark.parametrize("n_prime", [9, 1, 0])
@torch.inference_mode()
def test_each_frame_is_drawn_from_what_the_model_knows_of_all_earlier_ones(model_of, n_prime):
    model, primes = model_of(output="independent"), [prime_of(n_prime, seed=seed) for seed in (1, 2)]
    made = continue_rolls(
        model,
        primes,
        25,
        GenerationConfig(temperature=1, onset_temperature=1, top_p=1, release_temperature=1.3, seed=6),
        [2, 0],
    )
    assert [roll[:n_prime] for roll in made] == primes
    frames = np.stack([roll.velocity for roll in made])
    if not n_prime:  # it begins from silence
        frames = np.pad(frames, [(0, 0), (1, 0), (0, 0)])
    random = torch.Generator().manual_seed(6)
    for t in range(frames.shape[1] - 25, frames.shape[1]):
        up = torch.from_numpy(frames[:, t - 1] == 0)
        logits = model.output(features_after(model, frames[:, :t], [2, 0]).hidden)
        probability = torch.sigmoid(logits / torch.where(up, 1.0, 1.3))
        assert np.array_equal(frames[:, t] > 0, (torch.rand(2, 88, generator=random) < probability).numpy())
    assert 0.1 < (frames > 0).mean() < 0.9


@pytest.mark.parametrize("sizes", [{}, {"copy_heads": 0, "beats": False}, {"pedal": False}, {"output": "shared"}])
def test_every_kind_of_model_continues_a_batch(model_of, sizes):
    primes, model = [prime_of(seed=seed) for seed in (1, 2)], model_of(**sizes)
    made = continue_rolls(model, primes, 12, GenerationConfig(temperature=0.8, guidance_scale=1.5), [1, 0])
    for prime, roll in zip(primes, made):
        assert np.array_equal(roll[:14].velocity, prime.velocity)
        assert roll.n_frames == 26 and roll[14:].n_notes
        assert (roll.pedal is None) == (not model.config.pedal)


@torch.inference_mode()
def test_reordered_pieces_take_their_whole_past_with_them(model_of):
    model, config = model_of(probe=True), GenerationConfig(guidance_scale=1.5, seed=7)
    guided, random = GuidedModel(TorchEngine(model), config.guidance_scale), torch.Generator().manual_seed(7)
    primes = [replace(prime_of(seed=seed), pedal=np.arange(14) % seed > 0) for seed in (2, 3)]
    pieces = Continuation.of_primes(primes, 20, [None, None], [1, 2], config.max_repeat, has_pedal=True)
    pieces.prefill(guided)
    for _ in range(8):
        add_frame(pieces, guided, config, random)
    before = pieces.rolls()
    pieces.select(torch.tensor([1, 0, 1]))
    assert pieces.rolls() == [before[1], before[0], before[1]]
    known = pieces.encode_past(guided)
    velocity = torch.from_numpy(np.stack([roll.velocity for roll in pieces.rolls()])) / 127
    pedal = torch.from_numpy(np.stack([roll.pedal for roll in pieces.rolls()])).float()
    afresh, _ = model(velocity.repeat(2, 1, 1), None, torch.tensor([2, 1, 2, 0, 0, 0]), pedal.repeat(2, 1))
    assert torch.allclose(known.hidden, afresh.all_hidden[:, -1:], atol=1e-5)
    encoded = model.output.encode_past(afresh.map(lambda x: x[:, -1]))
    assert torch.allclose(known.encoded, encoded, atol=1e-5)
    add_frame(pieces, guided, config, random)
    assert [roll.n_frames for roll in pieces.rolls()] == [23, 23, 23]


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
    roll = generate(model_of(fps=fps), prime, GenerationConfig(seconds=2.5))
    assert (roll.fps, roll.n_frames) == (fps, 2.5 * fps)
    assert np.array_equal(roll[:14].velocity, prime.velocity)
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
    roll = generate(model_of(output="independent", fps=10), prime, GenerationConfig(seconds=2.5))
    assert (roll.fps, roll.n_frames) == (10, 25)
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


def test_pitches_are_drawn_independently_with_their_probability(steady_model):
    logits = np.linspace(-4, 2, 88)
    silence = PianoRoll(np.zeros((0, 88), np.uint8))
    pieces = continue_rolls(steady_model(logits), [silence] * 50, 24, GenerationConfig(), [0] * 50)
    active = np.stack([piece.active for piece in pieces])  # (50, 24, 88)
    probability = 1 / (1 + np.exp(-logits))
    deviation = np.sqrt(probability * (1 - probability) / (50 * 24))
    assert (np.abs(active.mean(axis=(0, 1)) - probability) < 5 * deviation).all()
    counts = active.sum(axis=2)  # pitches drawn with one random number would rise and fall together
    assert counts.var() == pytest.approx((probability * (1 - probability)).sum(), rel=0.25)


def test_a_prime_as_long_as_the_piece_is_the_piece_and_a_longer_one_is_refused(model_of):
    prime = prime_of(40)
    assert np.array_equal(generate(model_of(), prime, GenerationConfig(seconds=2)).velocity, prime.velocity)
    with pytest.raises(ValueError, match="the prime lasts 2 s, longer than the piece of 1.95 s"):
        generate(model_of(), prime, GenerationConfig(seconds=1.95))


def test_a_composer_is_told_by_name_and_a_stranger_refused(model_of):
    config, prime = GenerationConfig(seconds=1.5), prime_of()
    pieces = [generate(model_of(), prime, config, composer) for composer in (None, *BOTH)]
    for label, piece in enumerate(pieces):
        assert piece == continue_rolls(model_of(), [prime], 16, config, [label])[0]
    assert pieces[0] != pieces[1] != pieces[2] != pieces[0]
    with pytest.raises(ValueError, match="does not know 'Salieri'; it knows Bach, Liszt"):
        generate(model_of(), prime, config, "Salieri")
    with pytest.raises(ValueError, match="does not know 'Bach'; it knows no composers"):
        generate(model_of(composers=()), prime, config, "Bach")


def test_without_its_prime_a_piece_has_only_the_notes_that_begin_after_it():
    velocity = np.zeros((9, 88), np.uint8)
    velocity[1:6, 40] = 50  # begins in the prime, and is held
    velocity[7:, 40] = 60
    velocity[4:, 41] = 70  # begins with the continuation
    beats = np.array([[0.0, 1], [0.25, 0]])
    roll = without_prime(PianoRoll(velocity, 20, np.arange(9) > 2, beats), 4)
    assert roll.notes[["pitch", "start_frame", "end_frame"]].tolist() == [(62, 0, 5), (61, 3, 5)]
    assert roll.pedal.tolist() == [True] * 5
    assert roll.beats[:, 0].tolist() == [-0.2, 0.05]
    assert without_prime(roll, 0) == roll and without_prime(roll, 5).n_frames == 0


def test_several_pieces_differ_and_begin_alike_and_a_prime_of_another_rate_is_refused(model_of):
    prime, config = prime_of(fps=10), GenerationConfig(seconds=2)
    pieces = generate_several(model_of(fps=10), prime, config, 3, "Liszt")
    assert all(np.array_equal(piece.velocity[:14], prime.velocity) for piece in pieces)
    assert pieces[0] != pieces[1] != pieces[2] != pieces[0]
    silent = generate(model_of(fps=8), None, config)
    assert (silent.n_frames, silent.fps) == (16, 8)
    with pytest.raises(ValueError, match="the prime has 10 frames per second, the model was trained with 20"):
        generate(model_of(), prime, config)
    with pytest.raises(ValueError, match="the prime has 40 frames per second"):  # not: it is too long
        generate(model_of(), prime_of(60, fps=40), config)


def test_a_callback_hears_of_each_frame_and_can_end_the_piece(model_of):
    heard = []
    whole = generate(model_of(), prime_of(), GenerationConfig(seconds=2), callback=heard.append)
    assert heard == list(range(1, 27))
    part = generate(model_of(), prime_of(), GenerationConfig(seconds=2), callback=lambda n_new: n_new == 9)
    assert part == whole[:23]


def test_a_model_of_another_keyboard_is_refused(tiny_model):
    with pytest.raises(ValueError, match="the model has 5 pitches, a piano has 88"):
        generate(tiny_model(n_pitches=5), None, GenerationConfig(seconds=1))


def test_a_piece_leaves_no_tensors_behind_as_it_grows(model_of, monkeypatch):
    forward, frames, alive = AttentionLSTM.forward, itertools.count(), {}

    def count(*arguments):
        if (frame := next(frames)) in (10, 60):
            alive[frame] = sum(type(each) is torch.Tensor for each in gc.get_objects())
        return forward(*arguments)

    monkeypatch.setattr(AttentionLSTM, "forward", count)
    generate(model_of(), prime_of(), GenerationConfig(seconds=4, seed=3))
    assert alive[10] == alive[60]


def test_the_pedal_goes_on_after_the_prime_and_can_be_switched_off(model_of):
    prime = replace(prime_of(), pedal=np.arange(14) % 5 > 1)
    roll = generate(model_of(), prime, GenerationConfig(seconds=3))
    assert roll.pedal[:14].tolist() == prime.pedal.tolist()
    assert 0 < roll.pedal[14:].mean() < 1
    assert generate(model_of(), prime, GenerationConfig(seconds=3, pedal=False)).pedal is None
    changes = []
    for temperature in (0.3, 3):
        config = GenerationConfig(pedal_temperature=temperature)
        pieces = continue_rolls(model_of(), [prime] * 20, 30, config, [0] * 20)
        changes.append(sum(np.diff(piece.pedal[14:]).sum() for piece in pieces))
    assert changes[0] < changes[1]
    assert generate(model_of(pedal=False), prime, GenerationConfig(seconds=3)).pedal is None


WALTZ = np.array([[0.1, 1], [0.7, 0], [1.3, 0], [1.9, 1], [2.5, 0]])


def test_the_beats_of_the_prime_go_on_at_its_median_tempo():
    prime = PianoRoll(np.zeros((60, 88), np.uint8), 20, None, WALTZ)
    beats = continue_beats(prime, 200, GenerationConfig(beats_per_bar=7, rubato=0.0))
    assert np.array_equal(beats[:5], WALTZ)
    assert np.allclose(np.diff(beats[:, 0]), 0.6)
    assert beats[:, 1].tolist() == [n % 3 == 0 for n in range(len(beats))]
    assert beats[-1, 0] >= 200 / 20


def test_rubato_varies_the_tempo_around_the_one_asked_for_and_keeps_the_bars():
    prime = PianoRoll(np.zeros((30, 88), np.uint8))
    config = GenerationConfig(bpm=150, beats_per_bar=3, rubato=0.1, seed=4)
    beats = continue_beats(prime, 6000, config)
    tempo = np.log(0.4 / np.diff(beats[:, 0]))
    assert abs(tempo.mean()) < 0.03 and 0.08 < tempo.std() < 0.12
    assert np.corrcoef(tempo[1:], tempo[:-1])[0, 1] > 0.6  # it drifts, it does not jump
    assert beats[-1, 0] > 300 and (beats[::3, 1] == 1).all() and beats[:, 1].sum() == len(beats[::3])
    assert np.array_equal(beats, continue_beats(prime, 6000, config))
    assert not np.array_equal(beats[:9], continue_beats(prime, 6000, config, 1)[:9])  # another piece of a batch


def test_strict_time_goes_on_in_strict_time_unless_a_tempo_is_asked_for():
    beats = np.column_stack([np.arange(5) * 0.4, [1, 0, 0, 1, 0]])
    prime = PianoRoll(np.zeros((40, 88), np.uint8), beats=beats)
    assert np.allclose(np.diff(continue_beats(prime, 400, GenerationConfig())[:, 0]), 0.4)
    assert np.diff(continue_beats(prime, 400, GenerationConfig(bpm=90))[5:, 0]).std() > 0.01
    played = replace(prime, beats=beats * [[1.0, 1]] + [[0, 0], [0.03, 0], [0, 0], [0, 0], [0.02, 0]])
    assert np.diff(continue_beats(played, 400, GenerationConfig())[5:, 0]).std() > 0.01


def test_a_tempo_that_is_asked_for_is_kept_and_without_beats_there_are_none():
    prime = PianoRoll(np.zeros((30, 88), np.uint8))
    assert continue_beats(prime, 200, GenerationConfig()) is None
    beats = continue_beats(prime, 200, GenerationConfig(bpm=150, beats_per_bar=3, rubato=0.0))
    assert np.allclose(beats[0], [1.5, 1])
    assert np.allclose(np.diff(beats[:, 0]), 0.4)
    assert beats[:7, 1].tolist() == [1, 0, 0, 1, 0, 0, 1]


def test_the_model_plays_to_the_beat_it_is_given(model_of):
    prime = replace(prime_of(), beats=np.array([[0, 1], [0.2, 0], [0.4, 1], [0.6, 0]]))
    free = generate(model_of(), prime_of(), GenerationConfig(seconds=2))
    guided = generate(model_of(), prime, GenerationConfig(seconds=2))
    assert free.beats is None and guided.beats is not None
    assert not np.array_equal(free.velocity, guided.velocity)


def test_the_beats_of_a_prime_are_searched_for_once_however_often_it_is_continued(model_of, monkeypatch):
    asked = []

    def find_beats(model, prime):
        asked.append(prime)
        return SimpleNamespace(beats=None)

    monkeypatch.setattr(sys.modules["musicgen.generation.generate"], "find_beats", find_beats)
    generate_several(model_of(), prime_of(), GenerationConfig(seconds=1), 3)
    assert len(asked) == 1


def test_without_a_beat_no_tempo_is_kept_and_two_beats_are_not_enough_to_continue(model_of):
    two_beats = replace(prime_of(), beats=np.array([[0.1, 1.0], [0.5, 0.0]]))
    free = GenerationConfig(seconds=2, beat=False, bpm=120)
    assert continue_beats(two_beats, 40, free) is None
    assert with_beats(model_of(beats=False), two_beats, GenerationConfig()).beats is two_beats.beats


def test_a_model_that_plays_no_pedal_is_told_a_home_without_it(model_of):
    model = model_of(home=True, pedal=False)
    held = replace(prime_of(), pedal=np.ones(14, bool))
    pieces = start_pieces(model, [held], 10, GenerationConfig(), [0], keep_hidden=False)
    np.testing.assert_array_equal(pieces.home[0], home_of(held, with_pedal=False))


def test_a_piece_without_pedal_has_a_home_without_pedal():
    held = replace(prime_of(), pedal=np.ones(14, bool))
    assert not np.array_equal(home_of(held), home_of(held, with_pedal=False))
    np.testing.assert_array_equal(home_of(held, with_pedal=False), home_of(replace(held, pedal=np.zeros(14, bool))))
