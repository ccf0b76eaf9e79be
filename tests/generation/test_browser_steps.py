"""The graphs for a browser compute what `generate` computes, with the same random numbers."""

import numpy as np
import pytest
import torch

from musicgen.corpora.primes import shipped_prime
from musicgen.generation import GenerationConfig
from musicgen.generation.browser_steps import History, HomePass, PitchDraw, ProbePass, RepetitionPass, VelocityDraw
from musicgen.generation.engines import TorchEngine, graph_paths
from musicgen.generation.generate import sample_pitches, sample_velocities, start_pieces
from musicgen.generation.repetition import RepetitionPenalty
from musicgen.generation.steering import penalty_of_pitch
from musicgen.generation.steps import GuidedModel, named_tensors
from musicgen.home import Excerpt, home_features
from musicgen.model.heads import N_CHOICES
from musicgen.model.probe import hidden_statistics
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # of the tracer
CONFIG = GenerationConfig(temperature=0.7)
GRAPHS = {
    "home": (HomePass, ["home"]),
    "repetition": (RepetitionPass, ["penalty", "history"]),
    "draw_pitches": (PitchDraw, ["drawn", "pedal", "next_gain", "conditioned"]),
    "draw_velocities": (VelocityDraw, ["drawn"]),
    "probe": (ProbePass, ["log_weight", "statistics"]),
}


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(SHIPPED_CHECKPOINT).model.eval()


@pytest.fixture(scope="module", params=["module", "graph"])
def run(request, model):
    """Run a step in PyTorch, or the graph that was exported from it, by its name: tensors in, a dict of tensors out."""

    def in_torch(name, **inputs):
        module, outputs = GRAPHS[name]
        found = module(model)(*inputs.values())
        return dict(zip(outputs, found if isinstance(found, tuple) else (found,)))

    def in_onnx(name, **inputs):
        path = graph_paths(SHIPPED_CHECKPOINT.with_suffix(".onnx"))[name]
        session = onnxruntime.InferenceSession(path)
        given = {found: x.numpy() for key, value in inputs.items() for found, x in named_tensors(value, key)}
        found = [torch.from_numpy(x) for x in session.run(None, given)]
        outputs = dict(zip(GRAPHS[name][1], found))
        return outputs | ({"history": History(*found[1:])} if name == "repetition" else {})

    if request.param == "module":
        return in_torch
    onnxruntime = pytest.importorskip("onnxruntime", reason="no wheel of ONNX Runtime for this system")
    return in_onnx


def are_graphs(run):
    return run.__name__ == "in_onnx"


def settle(run, name, guess, inputs):
    """Run a graph until its guess no longer changes, as the page does."""
    for _ in range(88):
        found = run(name, **inputs, guess=guess)
        if torch.equal(found["drawn"], guess):
            break
        guess = found["drawn"]
        if "gain" in inputs:
            inputs["gain"] = found["next_gain"]
    return found


@torch.inference_mode()
def test_a_browser_draws_the_frames_that_generate_draws(run, model):
    guided = GuidedModel(TorchEngine(model), 1.0)
    prime = shipped_prime("Liszt")
    pieces = start_pieces(model, [prime] * 3, 99, CONFIG, [0, 1, 2], keep_hidden=True)
    pieces.prefill(guided)
    random = torch.Generator().manual_seed(5)
    n_struck = n_different = 0
    for _ in range(12):
        known = pieces.encode_past(guided)
        before = pieces.velocity[:, pieces.n_known - 1]
        uniform = torch.rand(3, 88, generator=random)
        uniform_pedal = torch.rand(3, generator=random)
        pedal = (uniform_pedal < torch.sigmoid(known.pedal_logit / CONFIG.pedal_temperature)).float()
        on, _, conditioned = sample_pitches(known, pedal.numpy(), pieces, guided, CONFIG, uniform.numpy())
        velocity_random = torch.Generator().manual_seed(pieces.n_known)
        struck = on & (before == 0)
        velocity = before * on + sample_velocities(known, conditioned, struck, guided, velocity_random)

        inputs = {name: getattr(known, name) for name in ("encoded", "skip", "active", "pedal_history", "pedal_logit")}
        inputs["before"] = torch.from_numpy(before).float()
        inputs["penalty"] = torch.tensor(np.broadcast_to(pieces.repetition.penalty(), (3, 88)), dtype=torch.float32)
        inputs |= {"temperature": torch.tensor(0.7), "uniform_pedal": uniform_pedal, "uniform": uniform}
        inputs["gain"] = torch.zeros(3, 88)
        found = settle(run, "draw_pitches", (inputs["before"] > 0).float(), inputs)
        n_different += int((found["drawn"].numpy() != on).sum())
        np.testing.assert_array_equal(found["pedal"], pedal)

        velocity_random.manual_seed(pieces.n_known)
        n = int(struck.sum())
        inputs = {"conditioned": conditioned, "recent": known.recent, "before": inputs["before"]}
        inputs |= {
            "on": torch.from_numpy(on).float(),
            "uniform": torch.zeros(3, 88),
            "uniform_in_bin": torch.zeros(3, 88),
        }
        inputs["uniform"][struck] = torch.rand(n, 1, generator=velocity_random)[:, 0]
        inputs["uniform_in_bin"][struck] = (torch.randint(N_CHOICES, (n,), generator=velocity_random) + 0.5) / N_CHOICES
        found = settle(run, "draw_velocities", inputs["before"] * inputs["on"], inputs)["drawn"].numpy()
        np.testing.assert_array_equal(found, velocity)
        pieces.append(velocity, pedal.numpy())
        n_struck += n
    assert n_struck > 20
    assert n_different <= (4 if are_graphs(run) else 0)  # large weights have 8 bits in graphs


@torch.inference_mode()
def test_a_browser_penalises_repetitions_as_generate_does(run, model):
    random = np.random.default_rng(0)
    repeated = np.tile(random.random((28, 88)) < 0.01, (10, 1))  # for 14 seconds; then there are new notes
    struck = np.concatenate([repeated, random.random((60, 88)) < 0.01])
    penalty = RepetitionPenalty((2, len(struck), 88), CONFIG.max_repeat, 20)
    history = History(*(x.repeat_interleave(2, dim=0) for x in RepetitionPass(model).initial_history()))
    rest = torch.zeros(2, 88)
    n_penalties = 0
    for t in range(len(struck)):
        rows = struck[[t, t // 2]]  # the second piece is slower
        penalty.append(rows)
        expected = np.broadcast_to(penalty.penalty(), (2, 88))
        velocity = 64 * torch.from_numpy(rows).float()
        found, history = run("repetition", velocity=velocity, before=rest, history=history).values()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        n_penalties += expected.any()
    assert 80 < n_penalties < 300
    held = run("repetition", velocity=velocity, before=velocity, history=history)
    assert not held["history"].onsets[:, -2].any()  # nothing was struck


@torch.inference_mode()
def test_a_browser_corrects_the_home_as_a_continuation_does(run, model):
    def excerpt(roll):
        notes = torch.tensor([list(note) for note in roll.notes.tolist()], dtype=torch.float32)
        return Excerpt(notes, torch.tensor(float(roll.n_frames)), torch.tensor(float(roll.pedal_down.sum())))

    prime, music = shipped_prime("Chopin"), shipped_prime("Liszt")
    pieces = start_pieces(model, [prime], 200, CONFIG, [0], keep_hidden=False)
    first = run("home", opening=excerpt(prime), recent=excerpt(prime))["home"]
    expected = model.output.home(torch.from_numpy(home_features(prime))[None])
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-5)
    for velocity, pedal in zip(music.velocity, music.pedal):
        pieces.append(velocity[None], pedal[None])
    assert music.n_frames > 80  # all of it is recent
    pieces.correct_home(GenerationConfig().feedback)
    expected = model.output.home(torch.from_numpy(pieces.home).float())
    found = run("home", opening=excerpt(prime), recent=excerpt(music))["home"]
    assert (expected - first).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_browser_weighs_candidates_as_steering_does(run, model):
    random = torch.Generator().manual_seed(2)
    prime, hidden = (torch.randn(n, model.probe.weight.numel() // 4, generator=random) for n in (30, 40))
    unknown = dict.fromkeys(("recent_pitch", "prime_pitch", "seconds"), torch.zeros(1))
    found = run("probe", hidden=prime, prime=torch.zeros(1, model.probe.weight.numel() // 2), **unknown)
    torch.testing.assert_close(found["statistics"], hidden_statistics(prime[None]), rtol=0, atol=1e-5)

    logit = model.probe(hidden_statistics(hidden[None]), hidden_statistics(prime[None]))
    register = {"recent_pitch": 80.0, "prime_pitch": 55.0, "seconds": 4.0}
    penalty = penalty_of_pitch(80.0, 55.0, 4.0, CONFIG.register)
    register = {name: torch.tensor([value]) for name, value in register.items()}
    weights = run("probe", hidden=hidden, prime=found["statistics"], **register)
    expected = -CONFIG.strength * logit - penalty
    torch.testing.assert_close(weights["log_weight"], expected.float(), rtol=1e-4, atol=1e-4)
