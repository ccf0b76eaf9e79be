"""The graphs that are exported from a model compute what its modules compute, and belong to one checkpoint."""

import copy
import sys
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from musicgen.beats import N_BEAT_FEATURES
from musicgen.corpora.primes import shipped_prime
from musicgen.generation import GenerationConfig, continue_rolls, generate
from musicgen.generation.engines import Graphs, OnnxEngine, choose_engine, graph_paths
from musicgen.generation.steps import Frames, GuidedModel, TorchEngine, logits_frame_by_frame
from musicgen.home import N_HOME_FEATURES
from musicgen.model.origin import Origin, checksum
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

pytest.importorskip("onnxruntime", reason="no wheel of ONNX Runtime for this system")
SHA256 = "5e" * 32
SIZES = {
    "n_pitches": 88,
    "n_layers": 1,
    "n_attention_layers": 1,
    "pitch_size": 4,
    "pitch_reach": 2,
    "attention_span": 7,
    "copy_span": 9,
    "probe": True,
    "home": True,
    "composers": ("Bach",),
}


@pytest.fixture(scope="module")
def model(tiny_model):
    """A small model with all its parts, not too excited."""
    model = tiny_model(3, **SIZES)
    with torch.no_grad():
        model.output.last.weight *= 0.1
        model.output.skip.bias.fill_(-4.0)
        model.output.skip.weight[:, 0] = 5.0
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    """The graphs of the model."""
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from musicgen.generation.export import export_graphs

    path = tmp_path_factory.mktemp("graphs") / "small.onnx"
    export_graphs(model, path, SHA256, "float32")
    return path


def prime_of(n_frames, seed=0):
    random = np.random.default_rng(seed)
    struck = np.repeat(random.random((n_frames // 3 + 1, 88)) < 0.03, 3, axis=0)[:n_frames]
    return PianoRoll((struck * random.integers(1, 128, 88)).astype(np.uint8), 20, random.random(n_frames) < 0.5)


def inputs_of(n_frames, seed=1):
    """Three rows of frames, and what is given with them."""
    velocity = torch.from_numpy(np.stack([prime_of(n_frames, seed + row).velocity for row in range(3)]))
    random = torch.Generator().manual_seed(seed)
    pedal = (torch.rand(3, n_frames, generator=random) > 0.5).float()
    beats = torch.randn(3, n_frames, 15, generator=random)
    return velocity, pedal, beats


@torch.inference_mode()
def test_both_engines_compute_the_same(model, path):
    engines = TorchEngine(model), OnnxEngine(model, Graphs(path, SHA256))
    velocity, pedal, beats = inputs_of(120)
    composers, states = torch.tensor([1, 0, 1]), [None, None]
    parts = [5, 12, *[1] * 103]  # the long parts of a prime run in PyTorch in both
    rows = torch.arange(3)
    for number, frames in enumerate(torch.arange(120).split(parts)):
        if number == 7:  # rows are reordered and copied
            rows = torch.tensor([2, 0, 2])
            states = [state.select(rows) for state in states]
        found = []
        for i, engine in enumerate(engines):
            given = velocity[rows][:, frames], pedal[rows][:, frames], beats[rows][:, frames], composers[rows]
            known, states[i] = engine.step(Frames(*given), states[i])
            found.append([known.hidden])
            if len(frames) > 1:
                continue
            guess = (velocity[:, 7] > 0).float()
            logits, conditioned = engine.pitch_logits(known, torch.tensor([0.0, 1, 1]), guess)
            struck = torch.zeros(3, 88, dtype=torch.bool)
            struck[[0, 2, 2], [30, 40, 47]] = True
            found[-1] += [known.pedal_logit, logits]
            found[-1].append(engine.velocity_logits(known, conditioned, 64 * struck.to(torch.uint8), struck))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="one frame at a time"):
        engines[1].step(Frames(velocity[:, :2], pedal[:, :2], beats[:, :2], composers), states[1])


def test_the_logits_of_a_whole_piece_agree(model, path):
    piece = prime_of(400)
    found = [
        logits_frame_by_frame(engine, piece) for engine in (TorchEngine(model), OnnxEngine(model, Graphs(path, SHA256)))
    ]
    assert found[0].shape == (399, 88) and found[0].std() > 0.5
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


def test_with_8_bits_the_cached_notes_are_exact_and_the_logits_close(model, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from musicgen.generation.export import export_graphs

    export_graphs(model, tmp_path / "small.onnx", SHA256, "int8")
    graphs = Graphs(tmp_path / "small.onnx", SHA256)
    types = {node.name: node.type for node in graphs.sessions["step"].get_inputs()}
    assert types["state.copy.values"] == "tensor(int8)" and types["state.copy.keys"] == "tensor(float)"
    engine, piece = OnnxEngine(model, graphs), prime_of(60)
    exact, close = (logits_frame_by_frame(each, piece) for each in (TorchEngine(model), engine))
    difference = (exact - close).abs()
    assert 0 < difference.max() < 0.1 and difference.mean() < 0.003
    (roll,) = continue_rolls(model, [piece], 12, GenerationConfig(candidates=3), [1], engine=engine)  # from a prime
    assert roll.n_frames == 72


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("n_prime", [0, 25])
def test_both_engines_play_the_same_notes(model, path, scale, n_prime):
    primes = [prime_of(n_prime, seed) for seed in (4, 5)]
    config = GenerationConfig(guidance_scale=scale, seed=2, max_repeat=0.5)
    rolls = [
        continue_rolls(model, primes, 30, config, [1, 1], engine=engine) for engine in ("torch", Graphs(path, SHA256))
    ]
    for one, other in zip(*rolls):
        assert one.n_notes and np.array_equal(one.velocity, other.velocity)
        assert np.array_equal(one.pedal, other.pedal)


@torch.inference_mode()
def test_a_home_is_embedded_when_it_changes(model):
    changed = copy.deepcopy(model)
    torch.nn.init.normal_(changed.output.home.network[-1].weight)
    guided = GuidedModel(TorchEngine(changed), 2.0)
    home = np.random.default_rng(0).random((1, 88, N_HOME_FEATURES), np.float32)
    frames = Frames(*(x[:1, :1].numpy() for x in inputs_of(1)), np.array([1]), home)
    off = np.zeros(1, np.float32), np.zeros((1, 88), bool)
    logits = []
    for each in (home, None, home):
        known, _ = guided.encode(frames._replace(home=each), None)
        logits.append(guided.pitch_logits(known, *off)[0])
    assert np.array_equal(logits[0], logits[2]) and np.abs(logits[0] - logits[1]).max() > 0.01
    with patch.object(changed.output.home, "forward", side_effect=AssertionError):
        guided.encode(frames, None)  # the same home again
        with pytest.raises(AssertionError):
            guided.encode(frames._replace(home=home + 1), None)


def test_a_model_with_all_parts_has_graphs_for_a_browser(path):
    import onnxruntime

    inputs = {
        name: {node.name for node in onnxruntime.InferenceSession(file).get_inputs()}
        for name, file in graph_paths(path).items()
    }
    assert {"opening.notes", "recent.n_pedal"} < inputs["home"]
    assert {"velocity", "before", "history.sum_before"} < inputs["repetition"]
    assert {"encoded", "penalty", "uniform", "gain", "guess"} < inputs["draw_pitches"]
    assert {"conditioned", "on", "uniform_in_bin", "guess"} < inputs["draw_velocities"]
    assert inputs["probe"] == {"hidden", "prime", "recent_pitch", "prime_pitch", "seconds"}


def test_a_model_with_the_head_of_the_poster_is_exported_with_8_bits(tiny_model, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed")
    from musicgen.generation import export

    monkeypatch.setattr(export, "LARGE", 1000)
    model = tiny_model(n_pitches=88, n_layers=1, n_attention_layers=0, beats=False, output="independent", fps=10)
    with torch.no_grad():
        model.output.bias -= 3.0
    files = export.export_graphs(model, tmp_path / "poster.onnx", SHA256)
    assert list(files) == ["step", "pitches"]
    kinds = {weight.data_type for weight in onnx.load(files["step"]).graph.initializer if len(weight.dims) == 2}
    assert kinds == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}  # large weights and small ones
    prime = PianoRoll(prime_of(40).velocity, 10)
    graphs = Graphs(files["step"], SHA256)
    found = [logits_frame_by_frame(engine, prime) for engine in (TorchEngine(model), OnnxEngine(model, graphs))]
    assert 0 < (found[0] - found[1]).abs().max() < 0.5 < found[0].std()
    roll = generate(model, prime, GenerationConfig(seconds=6), engine=graphs)
    assert (roll.fps, roll.pedal) == (10, None) and roll[40:].n_notes


def test_an_export_without_its_libraries_says_what_to_install(model, tmp_path):
    from musicgen.generation.export import export_graphs

    with patch("importlib.util.find_spec", return_value=None), pytest.raises(ValueError, match="'.\\[export\\]'"):
        export_graphs(model, tmp_path / "model.onnx", SHA256)
    assert not list(tmp_path.iterdir())


def test_the_shipped_graphs_belong_to_the_shipped_checkpoint_and_play():
    checkpoint = load_checkpoint(SHIPPED_CHECKPOINT)
    config = GenerationConfig(seed=1, candidates=2)
    assert choose_engine(checkpoint.model).name == "onnx"
    (roll,) = continue_rolls(checkpoint.model, [shipped_prime("Chopin", 8)], 20, config, [3], engine="onnx")
    assert roll[-20:].n_notes


def read_from(path, model, sha256=SHA256):
    """A copy of a model, as if it had been read from the checkpoint beside a graph."""
    model = copy.deepcopy(model)
    model.origin = Origin(path.with_suffix(".safetensors"), sha256, checksum(model))
    return model


def test_the_engine_is_onnx_where_there_are_graphs_of_this_very_model(model, path):
    found = read_from(path, model)
    engine = choose_engine(found)
    assert isinstance(engine, OnnxEngine) and choose_engine(found, engine) is engine
    measuring = SimpleNamespace(model=found, step=engine.step)  # the notebook measures an engine with one of its own
    assert choose_engine(found, measuring) is measuring
    with pytest.raises(ValueError, match="engine runs another model"):
        choose_engine(model, engine)
    graphs = Graphs(path, SHA256)
    assert isinstance(choose_engine(found, graphs), OnnxEngine)
    assert isinstance(choose_engine(found, "torch"), TorchEngine)
    with torch.no_grad():
        found.output.last.bias += 1e-3  # as training does
    assert isinstance(choose_engine(found), TorchEngine)
    with pytest.raises(ValueError, match="the model has changed since .*small.safetensors"):
        choose_engine(found, "onnx")
    with pytest.raises(ValueError, match="the model has changed since .*small.safetensors"):
        choose_engine(found, graphs)
    with pytest.raises(ValueError, match="does not come from a checkpoint"):
        choose_engine(model, "onnx")
    with pytest.raises(ValueError, match="one of torch, onnx, not 'numpy'"):
        choose_engine(model, "numpy")
    with pytest.raises(ValueError, match="computes on the CPU, not on 'meta'"):
        choose_engine(model, "onnx", "meta")


def test_graphs_of_another_checkpoint_are_refused(model, path):
    other = read_from(path, model, "00" * 32)
    assert isinstance(choose_engine(other), TorchEngine)
    with pytest.raises(ValueError, match="small.onnx': it was exported from another checkpoint"):
        choose_engine(other, "onnx")
    with pytest.raises(ValueError, match="from another checkpoint than that of the model"):
        choose_engine(other, Graphs(path, SHA256))


@pytest.mark.parametrize("home_size, skip", [(N_HOME_FEATURES, "skip"), (SIZES["pitch_size"], "pitches")])
def test_graphs_of_former_versions_are_refused(model, home_size, skip):
    """In the first the step embeds home, in the second a pass computes what goes past the network."""
    inputs = {"step": SimpleNamespace(name="home", shape=["batch", 88, home_size])}
    inputs |= {"pitches": SimpleNamespace(name=skip, shape=["batch", 88])}
    sessions = {name: SimpleNamespace(get_inputs=lambda node=node: [node]) for name, node in inputs.items()}
    with pytest.raises(ValueError, match="former version: export the checkpoint again"):
        OnnxEngine(model, SimpleNamespace(sessions=sessions))


@torch.inference_mode()
def test_one_engine_serves_two_pieces_and_says_when_a_state_has_moved_on(model, path):
    engine = OnnxEngine(model, Graphs(path, SHA256))
    low = frames_of([20, 24], torch.full((1, 88, SIZES["pitch_size"]), 0.3))
    known, state = engine.step(low, None)
    first, _ = engine.pitch_logits(known, torch.zeros(1), torch.zeros(1, 88))
    other, _ = engine.step(frames_of([60, 64], None), None)
    elsewhere, _ = engine.pitch_logits(other, torch.zeros(1), torch.zeros(1, 88))
    again, _ = engine.pitch_logits(known, torch.zeros(1), torch.zeros(1, 88))
    assert again.equal(first) and not elsewhere.equal(first)
    then, _ = engine.step(frames_of([20, 24], None), state)  # the home of the step before is forgotten
    in_torch = TorchEngine(model)
    _, state = in_torch.step(low, None)
    expected, _ = in_torch.step(frames_of([20, 24], None), state)
    wanted, _ = in_torch.pitch_logits(expected, torch.zeros(1), torch.zeros(1, 88))
    found, _ = engine.pitch_logits(then, torch.zeros(1), torch.zeros(1, 88))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="another step"):
        engine.pitch_logits(known, torch.zeros(1), torch.zeros(1, 88))


def frames_of(columns, home):
    """Return one frame in which some pitches sound."""
    velocity = torch.zeros(1, 1, 88)
    velocity[..., columns] = 60
    beats = torch.zeros(1, 1, N_BEAT_FEATURES)
    return Frames(velocity, torch.zeros(1, 1), beats, torch.zeros(1, dtype=torch.long), home)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"<html>not found</html>"])
def test_what_is_not_a_graph_is_refused(tmp_path, content):
    for file in graph_paths(tmp_path / "bad.onnx").values():
        file.write_bytes(content)
    with pytest.raises(ValueError, match="bad.onnx': not a graph"):
        Graphs(tmp_path / "bad.onnx", SHA256)


def test_without_a_graph_or_onnx_runtime_pytorch_plays_and_the_message_says_what_is_missing(model, tmp_path, path):
    alone = read_from(tmp_path / "alone.onnx", model)
    assert isinstance(choose_engine(alone), TorchEngine)
    with pytest.raises(ValueError, match="alone.onnx': no such graph; python -m musicgen export makes one"):
        choose_engine(alone, "onnx")
    found = read_from(path, model, "11" * 32)  # not opened before
    with patch.dict(sys.modules, {"onnxruntime": None}), patch("importlib.util.find_spec", return_value=None):
        assert isinstance(choose_engine(found), TorchEngine)
        with pytest.raises(ValueError, match="pip install onnxruntime"):
            choose_engine(found, "onnx")
