"""The numbers: each against a slow count, or one made by hand."""

import math

import numpy as np
import pytest
import torch

from musicgen import metrics
from musicgen.metrics import Baselines, evaluate, fit_baselines, statistics
from musicgen.piano_roll import PianoRoll


def roll_of(keys, fps=20):
    """A roll from the frames of a few keys: {key: "0110"}."""
    velocity = np.zeros((max(map(len, keys.values())), 88), np.uint8)
    for key, frames in keys.items():
        velocity[: len(frames), key] = [90 * int(frame) for frame in frames]
    return PianoRoll(velocity, fps)


def random_roll(n_frames, seed):
    random = np.random.default_rng(seed)
    held = np.repeat(random.random((n_frames, 88)) < random.random() * 0.3, 3, axis=0)[:n_frames]
    return PianoRoll((held * random.integers(1, 128, held.shape)).astype(np.uint8))


ROLLS = [random_roll(2 + seed * 7 % 23, seed) for seed in range(19)]  # 2 to 24 frames, in no order


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_keys=88)


@pytest.fixture
def stubborn(tiny_model):
    """A model that always claims key 0 and never another."""
    model = tiny_model(n_keys=88)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.output.bias.copy_(torch.where(torch.arange(88) == 0, 2.0, -3.0))
    return model


def test_baselines_count_each_key_after_each_of_its_states():
    rolls = [roll_of({0: "011110", 3: "100100"}), roll_of({0: "1"}), roll_of({0: "1100", 3: "0001"})]
    marginal, markov = fit_baselines(rolls)
    # Key 0: of 8 frames that follow another 5 are on; after a frame off 1 of 2, after one on 4 of 6.
    assert markov[:, 0].tolist() == pytest.approx([(1 + 1) / (2 + 2), (4 + 1) / (6 + 2)])
    assert marginal[0].item() == pytest.approx((5 + 1) / (8 + 2))
    # Key 3: 2 of 8; after a frame off 2 of 6, after one on none of 2.
    assert markov[:, 3].tolist() == pytest.approx([(2 + 1) / (6 + 2), (0 + 1) / (2 + 2)])
    assert marginal[3].item() == pytest.approx((2 + 1) / (8 + 2))
    # A key that is never touched can still be.
    assert markov[:, 50].tolist() == pytest.approx([1 / 10, 1 / 2])
    assert (marginal.shape, markov.shape) == ((88,), (2, 88))


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
    for name in baselines.as_tensors():
        with pytest.raises(ValueError, match="no baselines"):
            Baselines.from_tensors({name: baselines.as_tensors()[name]})


def slow_evaluation(model, rolls, baselines):
    """Piece by piece, frame by frame, key by key."""
    sums, n_frames = dict.fromkeys(["nll", "markov_nll", "marginal_nll", "changed_nll", "changed_markov_nll"], 0.0), 0
    hits, claims = {"frame": 0, "onset": 0}, {"frame": 0, "onset": 0}
    for roll in rolls:
        frames = roll.active.astype(int)
        for t in range(1, len(frames)):
            n_frames += 1
            with torch.no_grad():
                logits = model(torch.tensor(frames[None, :t]).float())[0][0, -1].tolist()
            for key in range(88):
                before, after = frames[t - 1, key], frames[t, key]
                on = {
                    "nll": 1 / (1 + math.exp(-logits[key])),
                    "markov_nll": baselines.markov[before, key].item(),
                    "marginal_nll": baselines.marginal[key].item(),
                }
                for name, probability in on.items():
                    nll = -math.log(probability if after else 1 - probability)
                    sums[name] += nll
                    if f"changed_{name}" in sums and before != after:
                        sums[f"changed_{name}"] += nll
                claimed = on["nll"] > 0.5
                hits["frame"] += claimed and after
                claims["frame"] += claimed + after
                hits["onset"] += claimed and after and not before
                claims["onset"] += (claimed and not before) + (after and not before)
    f1 = {f"{kind}_f1": 2 * hits[kind] / claims[kind] for kind in hits}
    return {"n_pieces": len(rolls), "n_frames": n_frames, **{name: x / n_frames for name, x in sums.items()}, **f1}


@pytest.mark.parametrize("chunk_frames", [5, 512])
def test_evaluation_is_what_a_slow_count_gives(model, monkeypatch, chunk_frames):
    monkeypatch.setattr(metrics, "CHUNK_FRAMES", chunk_frames)
    baselines = fit_baselines(ROLLS[3:])
    expected = slow_evaluation(model, ROLLS, baselines)
    assert evaluate(model, ROLLS, baselines) == pytest.approx(expected, rel=1e-4)
    assert list(evaluate(model, ROLLS, baselines)) == list(expected)
    assert expected["frame_f1"] != pytest.approx(expected["onset_f1"], rel=0.1)


def test_a_long_piece_counts_by_its_frames(model):
    short, long = random_roll(4, 1), random_roll(40, 2)
    baselines = fit_baselines([short, long])
    one, other, both = (evaluate(model, rolls, baselines) for rolls in ([short], [long], [short, long]))
    for name in ("nll", "markov_nll", "marginal_nll"):
        assert both[name] == pytest.approx((3 * one[name] + 39 * other[name]) / 42)


def test_dropout_is_off_and_the_order_of_pieces_is_nothing(tiny_model):
    baselines = fit_baselines(ROLLS)
    scores = evaluate(tiny_model(n_keys=88), ROLLS, baselines)
    others = evaluate(tiny_model(n_keys=88, dropout=0.5).train(), ROLLS[::-1], baselines)
    assert others == pytest.approx(scores, rel=1e-5)


def test_f1_of_frames_and_onsets_by_hand(stubborn):
    roll = roll_of({0: "011001", 1: "001100"})
    scores = evaluate(stubborn, [roll], fit_baselines([roll]))
    # Of frames 1 to 5: key 0 claimed in 5 and on in 3, key 1 on in 2.
    assert scores["frame_f1"] == pytest.approx(2 * 3 / (5 + 3 + 2))
    # Key 0 off before frames 1, 4 and 5 and struck in 1 and 5; key 1 struck in 2.
    assert scores["onset_f1"] == pytest.approx(2 * 2 / (3 + 2 + 1))
    # Key 0 changes to on twice, to off once; key 1 once each.
    on, off = [math.log1p(math.exp(-x)) for x in (2, -3)], [math.log1p(math.exp(x)) for x in (2, -3)]
    assert scores["changed_nll"] == pytest.approx((2 * on[0] + off[0] + on[1] + off[1]) / 5)


def test_silence_is_scored_without_a_division_by_zero(stubborn):
    silence = roll_of({5: "0000"})
    stubborn.output.bias.data[0] = -1.0
    scores = evaluate(stubborn, [silence], fit_baselines([silence]))
    assert (scores["frame_f1"], scores["onset_f1"], scores["changed_nll"]) == (0, 0, 0)


def test_the_statistics_of_a_piece_made_by_hand():
    # Keys 39, 51 and 40 are C4, C5 and C sharp 4: pitches 60, 72, 61.
    roll = roll_of({39: "0011111000000110", 51: "0001000000000000", 40: "0000000000000111"}, fps=4)
    assert statistics(roll) == pytest.approx(
        {
            "notes_per_second": 4 / 4,
            "polyphony": 11 / 8,
            "note_seconds": 2.5 / 4,
            "mean_pitch": (60 + 60 + 72 + 61) / 4,
            "pitch_classes": 0.75 * math.log2(4 / 3) + 0.25 * 2,
            "longest_silence_seconds": 6 / 4,
            "longest_note_seconds": 5 / 4,
        }
    )


@pytest.mark.parametrize("frames", ["", "000"])
def test_the_statistics_of_nothing_are_zeros_and_its_silence(frames):
    expected = dict.fromkeys(statistics(ROLLS[0]), 0.0) | {"longest_silence_seconds": len(frames) / 20}
    assert statistics(roll_of({0: frames})) == expected


def test_silence_at_the_ends_counts():
    assert statistics(roll_of({9: "0001100"}))["longest_silence_seconds"] == 3 / 20
    assert statistics(roll_of({9: "0110000"}))["longest_silence_seconds"] == 4 / 20
    assert statistics(roll_of({9: "1"}))["longest_silence_seconds"] == 0
