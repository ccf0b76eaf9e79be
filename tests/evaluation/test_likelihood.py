"""The numbers: each against a slow count, or one made by hand."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from musicgen.beats import N_BEAT_FEATURES
from musicgen.dataset import Batch
from musicgen.evaluation import likelihood as metrics
from musicgen.evaluation.likelihood import Baselines, evaluate, fit_baselines, mean_nll, piece_nlls
from musicgen.home import N_HOME_FEATURES
from musicgen.model.heads import conditional_logits, decode_frame, frame_nlls, teacher_forced_logits
from musicgen.piano_roll import PianoRoll
from musicgen.training import next_frame_loss

COMPOSERS = ("Bach", "Chopin", "Liszt")


def roll_of(keys, velocity=90):
    """A roll from the frames of a few keys: {key: "0110"}."""
    frames = np.zeros((max(map(len, keys.values())), 88), np.uint8)
    for key, cells in keys.items():
        frames[: len(cells), key] = [velocity * int(cell) for cell in cells]
    return PianoRoll(frames)


def random_roll(n_frames, seed):
    random = np.random.default_rng(seed)
    held = np.repeat(random.random((n_frames, 88)) < random.random() * 0.3, 3, axis=0)[:n_frames]
    return PianoRoll((held * random.integers(1, 128, held.shape)).astype(np.uint8))


ROLLS = [random_roll(2 + seed * 7 % 23, seed) for seed in range(19)]  # 2 to 24 frames, in no order


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_pitches=88, pitch_reach=4, composers=COMPOSERS)


@pytest.fixture
def stubborn(tiny_model):
    """A model that always claims key 0 and never another."""
    model = tiny_model(n_pitches=88, output="independent")
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.output.bias.copy_(torch.where(torch.arange(88) == 0, 2.0, -3.0))
    return model


def test_baselines_count_each_key_after_each_of_its_states():
    rolls = [roll_of({0: "011110", 3: "100100"}), roll_of({0: "1"}), roll_of({0: "1100", 3: "0001"})]
    marginal, markov, *_ = fit_baselines(rolls)
    # Key 0: of 8 frames that follow another 5 are on; after a frame off 1 of 2, after one on 4 of 6.
    assert markov[:, 0].tolist() == pytest.approx([(1 + 1) / (2 + 2), (4 + 1) / (6 + 2)])
    assert marginal[0].item() == pytest.approx((5 + 1) / (8 + 2))
    # Key 3: 2 of 8; after a frame off 2 of 6, after one on none of 2.
    assert markov[:, 3].tolist() == pytest.approx([(2 + 1) / (6 + 2), (0 + 1) / (2 + 2)])
    assert marginal[3].item() == pytest.approx((2 + 1) / (8 + 2))
    # A key that is never touched can still be.
    assert markov[:, 50].tolist() == pytest.approx([1 / 10, 1 / 2])
    assert (marginal.shape, markov.shape) == ((88,), (2, 88))


def test_baselines_count_each_struck_key_by_its_velocity():
    rolls = [roll_of({0: "011110", 3: "100100"}, 7), roll_of({5: "1", 9: "1"}, 127), roll_of({0: "0"})]
    counts = torch.ones(32)
    counts[7 // 4] += 3
    counts[127 // 4] += 2
    torch.testing.assert_close(fit_baselines(rolls).velocity, counts / (32 + 5))


def test_baselines_travel_as_tensors():
    baselines = fit_baselines(ROLLS)
    again = Baselines.from_tensors({**baselines.as_tensors(), "more": torch.zeros(3)})
    torch.testing.assert_close(tuple(again), tuple(baselines), rtol=0, atol=0)
    for shape in [(87,), (2, 88), (1,)]:
        with pytest.raises(ValueError, match="no baselines"):
            Baselines.from_tensors(baselines.as_tensors() | {"baseline.marginal": torch.full(shape, 0.5)})
    for value in (-0.5, 1.5):  # no probabilities
        with pytest.raises(ValueError, match="baselines"):
            Baselines.from_tensors(baselines.as_tensors() | {"baseline.marginal": torch.full((88,), value)})
    with pytest.raises(ValueError, match="no baselines"):
        Baselines.from_tensors(baselines.as_tensors() | {"baseline.velocity": torch.full((128,), 1 / 128)})
    for name in ("baseline.marginal", "baseline.markov", "baseline.velocity"):
        with pytest.raises(ValueError, match="no baselines"):
            Baselines.from_tensors({name: baselines.as_tensors()[name]})


def frame_by_frame(model, roll):
    """What is known before each frame of a piece but the first, each time from the beginning; and the frames."""
    for t in range(1, roll.n_frames):
        with torch.no_grad():
            features, _ = model(torch.tensor(roll.velocity[None, :t] / np.float32(127)))
        yield features.map(lambda x: x[:, -1]), roll.velocity[t - 1], roll.velocity[t]


def predictions(model, features, following):
    """The probability of each pitch, the pitches of the likeliest frame, and the loss of the velocities."""
    output, up = model.output, torch.zeros(1)
    with torch.no_grad():
        logits, _ = teacher_forced_logits(output, features, torch.tensor(following[None] > 0).float(), up)
        logits_of = partial(conditional_logits, output, output.encode(features, up), features)
        likeliest, _, _ = decode_frame(logits_of, features.active, lambda x: (x > 0).float())
        velocity_nll = frame_nlls(output, features, torch.tensor(following[None]), up).velocity_nll
        return logits[0].sigmoid().tolist(), likeliest[0].tolist(), velocity_nll.sum().item()


def slow_evaluation(model, rolls, baselines):
    """Piece by piece, frame by frame, key by key."""
    sums, n_frames, n_struck = {}, 0, 0
    hits, claims = {"frame": 0, "onset": 0}, {"frame": 0, "onset": 0}

    def add(name, value):
        sums[name] = sums.get(name, 0.0) + value

    for features, earlier, later in (step for roll in rolls for step in frame_by_frame(model, roll)):
        n_frames += 1
        probability, likeliest, velocity_nll = predictions(model, features, later)
        add("velocity_nll", velocity_nll)
        for key in range(88):
            before, after, claimed = bool(earlier[key]), bool(later[key]), bool(likeliest[key])
            markov, marginal = baselines.markov[int(before), key].item(), baselines.marginal[key].item()
            for name, on in [("nll", probability[key]), ("markov_nll", markov), ("marginal_nll", marginal)]:
                nll = -math.log(on if after else 1 - on)
                add(name, nll)
                add(f"changed_{name}", nll * (before != after))
            if after and not before:
                n_struck += 1
                width = 3 if later[key] < 4 else 4  # velocity 0 is no note
                add("velocity_marginal_nll", -math.log(baselines.velocity[later[key] // 4] / width))
            hits["frame"] += claimed and after
            claims["frame"] += claimed + after
            hits["onset"] += claimed and after and not before
            claims["onset"] += (claimed and not before) + (after and not before)
    means = {name: x / (n_struck if name.startswith("velocity") else n_frames) for name, x in sums.items()}
    del means["changed_marginal_nll"]
    f1 = {f"{kind}_f1": 2 * hits[kind] / claims[kind] for kind in hits}
    counts = {"n_pieces": len(rolls), "n_frames": n_frames, "n_struck": n_struck}
    return counts | means | f1 | {"accuracy": hits["frame"] / (claims["frame"] - hits["frame"])}


@pytest.mark.parametrize(("chunk_frames", "output"), [(5, "joint"), (512, "joint"), (7, "shared")])
def test_evaluation_is_what_a_slow_count_gives(tiny_model, monkeypatch, chunk_frames, output):
    monkeypatch.setattr(metrics, "CHUNK_FRAMES", chunk_frames)
    model = tiny_model(3, n_pitches=88, pitch_reach=4, pitch_size=4, output=output, composers=COMPOSERS)
    for weight in model.output.parameters():
        weight.data *= 0.5  # so that no probability comes near 0 or 1
    rolls, baselines = ROLLS[:7], fit_baselines(ROLLS[3:])
    expected = slow_evaluation(model, rolls, baselines)
    found = evaluate(model, rolls, baselines)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["pedal_nll"] > 0 and found["pedal_markov_nll"] > 0
    assert expected["frame_f1"] != pytest.approx(expected["onset_f1"], rel=0.1)


def scored(model, roll, label=0):
    """The training loss of one whole piece."""
    zeros = np.zeros((1, roll.n_frames), np.float32)
    beats = np.zeros((1, roll.n_frames, N_BEAT_FEATURES), np.float32)
    home = np.zeros((1, 88, N_HOME_FEATURES), np.float32)
    batch = Batch(roll.velocity[None].copy(), zeros, beats, np.array([roll.n_frames]), np.array([label]), home)
    with torch.no_grad():
        return next_frame_loss(model, batch, velocity_weight=1.0, pedal_weight=1.0)


@pytest.mark.parametrize("chunk_frames", [6, 512])
def test_evaluation_is_the_loss_of_training_on_whole_pieces(model, monkeypatch, chunk_frames):
    monkeypatch.setattr(metrics, "CHUNK_FRAMES", chunk_frames)
    parts, scores = [scored(model, roll) for roll in ROLLS], evaluate(model, ROLLS, fit_baselines(ROLLS))
    assert scores["n_frames"] == sum(part.n_frames for part in parts) == sum(roll.n_frames - 1 for roll in ROLLS)
    assert scores["nll"] == pytest.approx(sum(part.nll.item() for part in parts) / scores["n_frames"], rel=1e-5)
    rest = scores["velocity_nll"] * scores["n_struck"] + scores["pedal_nll"] * scores["n_frames"]
    assert rest == pytest.approx(sum(part.total.item() - part.nll.item() for part in parts), rel=1e-4)
    assert mean_nll(model, ROLLS) == pytest.approx(scores["nll"], rel=1e-6)


@pytest.mark.parametrize("chunk_frames", [6, 512])
def test_the_pieces_are_scored_one_by_one_each_with_its_composer(model, monkeypatch, chunk_frames):
    monkeypatch.setattr(metrics, "CHUNK_FRAMES", chunk_frames)
    rolls, labels = [roll_of({3: "1"}), *ROLLS], [number % 4 for number in range(20)]
    nll, n_frames = piece_nlls(model, rolls, labels)
    assert n_frames.tolist() == [roll.n_frames - 1 for roll in rolls]
    expected = [scored(model, *pair).nll.item() for pair in zip(rolls[1:], labels[1:])]
    assert nll.tolist() == pytest.approx([0, *expected], rel=1e-5)
    untold, _ = piece_nlls(model, rolls)
    assert (np.abs(untold - nll) > 0.01).tolist() == [label > 0 for label in labels]
    assert untold.sum() / n_frames.sum() == pytest.approx(evaluate(model, rolls, fit_baselines(rolls))["nll"], rel=1e-6)


def test_pieces_of_single_frames_are_refused_since_there_is_nothing_to_predict(model):
    for score in (mean_nll, piece_nlls, lambda model, rolls: evaluate(model, rolls, fit_baselines(rolls))):
        with pytest.raises(ValueError, match="nothing to predict"):
            score(model, [roll_of({3: "1"}), roll_of({4: ""})])


def test_a_long_piece_counts_by_its_frames(model):
    short, long = random_roll(4, 1), random_roll(40, 2)
    baselines = fit_baselines([short, long])
    one, other, both = (evaluate(model, rolls, baselines) for rolls in ([short], [long], [short, long]))
    for name in ("nll", "markov_nll", "marginal_nll"):
        assert both[name] == pytest.approx((3 * one[name] + 39 * other[name]) / 42)


def test_dropout_is_off_and_the_order_of_pieces_is_nothing(tiny_model):
    baselines = fit_baselines(ROLLS)
    scores = evaluate(tiny_model(n_pitches=88, pitch_reach=4), ROLLS, baselines)
    others = evaluate(tiny_model(n_pitches=88, pitch_reach=4, dropout=0.5).train(), ROLLS[::-1], baselines)
    assert others == pytest.approx(scores, rel=1e-5)


def test_f1_and_accuracy_by_hand(stubborn):
    roll = roll_of({0: "011001", 1: "001100"})
    scores = evaluate(stubborn, [roll], fit_baselines([roll]))
    # Of frames 1 to 5: key 0 claimed in 5 and on in 3, key 1 on in 2.
    assert scores["frame_f1"] == pytest.approx(2 * 3 / (5 + 3 + 2))
    assert scores["accuracy"] == pytest.approx(3 / (5 + 2))
    # Key 0 off before frames 1, 4 and 5 and struck in 1 and 5; key 1 struck in 2.
    assert scores["onset_f1"] == pytest.approx(2 * 2 / (3 + 2 + 1))
    # Key 0 changes to on twice, to off once; key 1 once each.
    on, off = [math.log1p(math.exp(-x)) for x in (2, -3)], [math.log1p(math.exp(x)) for x in (2, -3)]
    assert scores["changed_nll"] == pytest.approx((2 * on[0] + off[0] + on[1] + off[1]) / 5)


def test_a_model_without_dynamics_has_no_likelihood_of_velocities(stubborn):
    roll = roll_of({0: "0110", 7: "1011"}, velocity=50)
    scores = evaluate(stubborn, [roll], fit_baselines([roll]))
    assert scores["n_struck"] == 2
    assert scores["velocity_marginal_nll"] == pytest.approx(-math.log((1 + 3) / (32 + 3) / 4))
    assert "velocity_nll" not in scores


def test_silence_is_scored_without_a_division_by_zero(stubborn):
    silence = roll_of({5: "0000"})
    stubborn.output.bias.data[0] = -1.0
    scores = evaluate(stubborn, [silence], fit_baselines([silence]))
    assert [scores[name] for name in ("frame_f1", "onset_f1", "accuracy", "changed_nll", "n_struck")] == [0] * 5


def test_the_pedal_is_scored_beside_its_markov_chain(model):
    pedal = np.arange(24) % 8 > 3
    roll = PianoRoll(random_roll(24, 5).velocity, 20, pedal)
    baselines = fit_baselines([roll])
    assert baselines.pedal.tolist() == pytest.approx([(3 + 1) / (12 + 2), (9 + 1) / (11 + 2)], abs=0.01)
    found = evaluate(model, [roll], baselines)
    p = np.where(pedal[:-1], baselines.pedal[1], baselines.pedal[0])
    assert found["pedal_markov_nll"] == pytest.approx(-np.log(np.where(pedal[1:], p, 1 - p)).mean(), rel=1e-4)


def test_the_likelihood_given_beats_is_reported_only_where_beats_are_known(model):
    beats = np.column_stack([np.arange(0, 1.3, 0.2), np.arange(7) % 2 == 0]).astype(float)
    roll = random_roll(24, 5)
    with_beats = evaluate(model, [PianoRoll(roll.velocity, 20, None, beats)], fit_baselines([roll]))
    without = evaluate(model, [roll], fit_baselines([roll]))
    assert with_beats["nll"] == without["nll"] != with_beats["nll_given_beats"]
    assert "nll_given_beats" not in without
