"""Engines run a model frame by frame: PyTorch runs its modules, ONNX Runtime the graphs exported from them."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musicgen.generation.steps import Engine, Frames, FrameStep, Known, TorchEngine, named_tensors
from musicgen.model import AttentionLSTM
from musicgen.model.attention_lstm import ModelState
from musicgen.model.origin import checksum
from musicgen.utils.files import printable

ENGINES = ("torch", "onnx")
PASSES = ("pitches", "velocities")
FOR_BROWSER = ("home", "repetition", "draw_pitches", "draw_velocities", "probe")  # see `browser_steps`
INSTALL = "pip install onnxruntime"
DTYPES = {"float": np.float32, "int64": np.int64, "int8": np.int8, "bool": np.bool_}  # by the names in graphs
# A step only adds one frame to the ring buffers of keys and values: their inputs and outputs share memory.
IN_PLACE = (".keys", ".values")


def graph_paths(path: Path | str) -> dict[str, Path]:
    """Return the paths of a model's graphs by name; `path` is that of the step, and the others lie beside it."""
    path = Path(path)
    return {"step": path} | {name: path.with_suffix(f".{name}{path.suffix}") for name in (*PASSES, *FOR_BROWSER)}


class Graphs:
    """The exported graphs of a model, opened with ONNX Runtime.

    Parameters
    ----------
    path : Path or str
        The graph of the step; the others lie beside it.
    sha256 : str
        That of the checkpoint.

    Raises
    ------
    ValueError
        If a file is missing or no graph, belongs to another checkpoint, or ONNX Runtime is not installed.
    """

    def __init__(self, path: Path | str, sha256: str):
        if not importlib.util.find_spec("onnxruntime"):
            raise ValueError(f"ONNX Runtime is not installed: {INSTALL}")
        self.sha256 = sha256
        paths = graph_paths(path)
        self.sessions = {name: _open(paths[name], sha256) for name in ("step", *PASSES) if _exists(name, paths[name])}


def _exists(name: str, path: Path) -> bool:
    """Return whether a graph exists; raise ValueError if it is missing and every model must have it."""
    if path.is_file():
        return True
    if name == "velocities":
        return False
    raise ValueError(f"{str(path)!r}: no such graph; python -m musicgen export makes one")


def _open(path: Path, sha256: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # fastest for single frames
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map.get("checkpoint", "")
    except Exception as error:  # its exceptions have no common class
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise ValueError(f"{str(path)!r}: not a graph that ONNX Runtime can read ({reason})") from error
    if found != sha256:
        raise ValueError(f"{str(path)!r}: it was exported from another checkpoint; export it again")
    return session


@lru_cache(maxsize=4)
def _open_once(path: Path, sha256: str, modified: int) -> Graphs:
    """Return graphs that stay open, since opening takes a tenth of a second; `modified` is the time of the files."""
    return Graphs(path, sha256)


def find_graphs(model: AttentionLSTM) -> Graphs:
    """Return the graphs beside the checkpoint that a model was read from, with the same name and suffix ``.onnx``.

    Raises
    ------
    ValueError
        If there are none, they cannot be used, or the model has changed since it was read.
    """
    if model.origin is None:
        raise ValueError("the model does not come from a checkpoint, so there are no graphs of it")
    _check_unchanged(model)
    path = model.origin.path.with_suffix(".onnx")
    modified = max((file.stat().st_mtime_ns for file in graph_paths(path).values() if file.is_file()), default=0)
    return _open_once(path, model.origin.sha256, modified)


def _check_unchanged(model: AttentionLSTM) -> None:
    """Raise ValueError if the weights of a model are not those of the checkpoint that it was read from."""
    if checksum(model) != model.origin.checksum:
        raise ValueError(f"the model has changed since {str(model.origin.path)!r} was read; its graphs do not fit")


def _check_version(model: AttentionLSTM, sessions: dict) -> None:
    """Raise ValueError if graphs have other inputs than those of this version."""
    shapes = {name: {node.name: node.shape for node in each.get_inputs()} for name, each in sessions.items()}
    takes_profile = "home" in shapes["step"] and shapes["step"]["home"][-1] != model.config.pitch_size
    if takes_profile or "skip" not in shapes["pitches"]:
        raise ValueError("the graphs were exported by a former version: export the checkpoint again")


def choose_engine(
    model: AttentionLSTM, engine: str | Graphs | Engine | None = None, device: torch.device | str = "cpu"
) -> Engine:
    """Return the engine that computes a model.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode, on the device.
    engine : {"torch", "onnx"}, Graphs or Engine, optional
        By default ONNX Runtime, which is faster, where it is installed and there are graphs of the model. Given graphs
        are compared with the checkpoint of the model, if it comes from one.
    device : torch.device or str

    Raises
    ------
    ValueError
        If the engine is unknown, or of another model; with "onnx", if there are no graphs that fit, or the device is
        not the CPU.
    """
    if engine == "torch":
        return TorchEngine(model)
    if hasattr(engine, "step"):
        if engine.model is not model:
            raise ValueError("the engine runs another model")
        return engine
    if isinstance(engine, Graphs):
        if model.origin is not None:
            if model.origin.sha256 != engine.sha256:
                raise ValueError("the graphs were exported from another checkpoint than that of the model")
            _check_unchanged(model)
        return OnnxEngine(model, engine)
    if engine not in (None, *ENGINES):
        raise ValueError(f"the engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    try:
        if torch.device(device).type != "cpu":
            raise ValueError(f"ONNX Runtime computes on the CPU, not on {str(device)!r}")
        return OnnxEngine(model, find_graphs(model))
    except ValueError:
        if engine == "onnx":
            raise
        return TorchEngine(model)


class OnnxState:
    """State of an `OnnxEngine`: its graphs for a fixed number of rows, bound to arrays for all inputs and outputs.

    The graphs are wired together by names. An input of a graph is an earlier graph's output of that name, or an array
    of its own. The step reads the frames and ``state.*``, and writes ``next_state.*`` and what the passes need of the
    past; the passes write ``logits``, ``conditioned`` and ``velocity_logits`` (`export` has all names). A step changes
    the state; to continue twice from one state, copy it with `select`.

    Parameters
    ----------
    sessions : dict
        See `Graphs`.
    tensors : dict of str to numpy.ndarray
        The named tensors of a fixed `ModelState`.
    """

    def __init__(self, sessions: dict, tensors: dict[str, np.ndarray]):
        self.sessions = sessions
        self.n_rows = len(next(array for array in tensors.values() if array.ndim))
        self.n_steps = 0
        self.inputs = {name: {} for name in sessions}  # arrays by name, for each graph
        self.outputs = {}
        self._bindings = {name: session.io_binding() for name, session in sessions.items()}
        values = {}  # of all outputs so far
        for name, session in sessions.items():
            for node in session.get_inputs():
                if node.name not in values:
                    array = self._zeros(node)
                    if node.name.startswith("state."):
                        array[...] = tensors[node.name]
                    self.inputs[name][node.name] = array
                value = values.get(node.name) or _value(self.inputs[name][node.name])
                self._bindings[name].bind_ortvalue_input(node.name, value)
                if node.name.endswith(IN_PLACE):
                    values[f"next_{node.name}"] = value
            for node in session.get_outputs():
                if node.name == "velocity_logits":  # its shape depends on the number of struck pitches
                    continue
                if node.name not in values:
                    self.outputs[node.name] = self._zeros(node)
                    values[node.name] = _value(self.outputs[node.name])
                self._bindings[name].bind_ortvalue_output(node.name, values[node.name])
        # Pairs of arrays: an input of the step, and the output that becomes this input.
        new = {name.removeprefix("next_"): array for name, array in self.outputs.items()}
        self._carried = [(array, new[name]) for name, array in self.inputs["step"].items() if name in new]

    def run(self, graph: str, **inputs: Tensor | None) -> None:
        """Run a graph, and store its results in `outputs`. An input that is None is 0, if the graph has it."""
        for name, tensor in inputs.items():
            if tensor is not None:
                self.inputs[graph][name][...] = tensor.numpy()
            elif name in self.inputs[graph]:
                self.inputs[graph][name][...] = 0
        self.sessions[graph].run_with_iobinding(self._bindings[graph])

    def end_step(self) -> None:
        """Copy the new state to the inputs of the next step."""
        self.n_steps += 1
        for array, new in self._carried:
            array[...] = new

    def select(self, indices: Tensor) -> "OnnxState":
        """Return a copy of the state with the given rows of the batch, in this order, as `ModelState.select` does."""
        rows = indices.numpy()
        state = {name: array for name, array in self.inputs["step"].items() if name.startswith("state.")}
        return OnnxState(self.sessions, {name: array[rows] if array.ndim else array for name, array in state.items()})

    def velocity_logits(self, velocity: Tensor, struck: Tensor) -> np.ndarray:
        """Run the graph of the velocities, and return its logits, shape (n_struck, N_VELOCITIES)."""
        binding = self._bindings["velocities"]
        binding.bind_output("velocity_logits")  # a new array, whose shape depends on the number of struck pitches
        self.run("velocities", velocity=velocity, struck=struck)
        return binding.get_outputs()[0].numpy()

    def _zeros(self, node) -> np.ndarray:
        """Return an array for an input or output of a graph."""
        shape = [n if isinstance(n, int) else self.n_rows for n in node.shape]
        return np.zeros(shape, DTYPES[node.type.removeprefix("tensor(").removesuffix(")")])


class OnnxKnown(NamedTuple):
    """The fields of `Known` that an `OnnxEngine` returns; the other fields stay in the state, until its next step."""

    hidden: Tensor | None
    pedal_logit: Tensor | None
    state: OnnxState
    n_steps: int  # of the state when this was known


class OnnxEngine:
    """Runs the graphs of a model frame by frame, but a prime of several frames in PyTorch.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode, on the CPU.
    graphs : Graphs
    """

    name = "onnx"

    def __init__(self, model: AttentionLSTM, graphs: Graphs):
        _check_version(model, graphs.sessions)
        self.model = model
        self.sessions = graphs.sessions
        self._step_in_torch = FrameStep(model)

    def step(
        self, frames: Frames, state: ModelState | OnnxState | None
    ) -> tuple[Known | OnnxKnown, ModelState | OnnxState]:
        """Run a `FrameStep`; return the encoding of the past and the new state."""
        if frames.velocity.shape[1] > 1:
            if isinstance(state, OnnxState):
                raise ValueError("graphs hear one frame at a time; a prime comes first")
            return self._step_in_torch(frames, state)
        if state is None:
            state = self.model.initial_state(frames.velocity.float())
        if isinstance(state, ModelState):
            tensors = {name: tensor.numpy() for name, tensor in named_tensors(state.fixed())}
            state = OnnxState(self.sessions, tensors)
        state.run("step", **frames._asdict())
        state.end_step()
        hidden, pedal_logit = (state.outputs.get(name) for name in ("hidden", "pedal_logit"))
        return OnnxKnown(_copied(hidden), _copied(pedal_logit), state, state.n_steps), state

    def pitch_logits(self, known: OnnxKnown, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, None]:
        """Run a `PitchPass`, and return its logits and None. The state must not have taken another step."""
        if known.n_steps != known.state.n_steps:
            raise ValueError("the state has taken another step since this was known: the arrays hold newer values")
        known.state.run("pitches", next_pedal=next_pedal, next_frame=next_frame)
        return _copied(known.state.outputs["logits"]), None

    def velocity_logits(self, known: OnnxKnown, conditioned: None, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES).

        `known` and the pitches are those of the last `pitch_logits`.
        """
        return torch.from_numpy(known.state.velocity_logits(velocity, struck))


def _copied(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.copy())


def _value(array: np.ndarray):
    """Return an ONNX Runtime value that shares the memory of an array."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
