"""Engines run a model frame by frame: PyTorch runs its modules, ONNX Runtime the graphs exported from them."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musicgen.generation.steps import Frames, FrameStep, Known, TorchEngine, named_tensors
from musicgen.model import AttentionLSTM
from musicgen.model.attention_lstm import ModelState
from musicgen.model.origin import checksum
from musicgen.utils.files import printable

ENGINES = ("torch", "onnx")
INSTALL = "pip install onnxruntime"
# A step only adds one frame to the ring buffers of keys and values: their inputs and outputs share memory.
IN_PLACE = (".keys", ".values")


def graph_paths(path: Path | str) -> dict[str, Path]:
    """Return the paths of a model's graphs by name; `path` is that of the step, and the others lie beside it."""
    path = Path(path)
    return {
        "step": path,
        "pitches": path.with_suffix(f".pitches{path.suffix}"),
        "velocities": path.with_suffix(f".velocities{path.suffix}"),
    }


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
        self.sessions = {name: _open(file, sha256) for name, file in graph_paths(path).items() if _exists(name, file)}


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


_open_once = lru_cache(maxsize=4)(Graphs)  # opening the shipped graphs takes a tenth of a second


def find_graphs(model: AttentionLSTM) -> Graphs:
    """Return the graphs beside the checkpoint that a model was read from, with the same name and suffix ``.onnx``.

    Raises
    ------
    ValueError
        If there are none, they cannot be used, or the model has changed since it was read.
    """
    if model.origin is None:
        raise ValueError("the model does not come from a checkpoint, so there are no graphs of it")
    if checksum(model) != model.origin.checksum:
        raise ValueError(f"the model has changed since {str(model.origin.path)!r} was read; its graphs do not fit")
    return _open_once(model.origin.path.with_suffix(".onnx"), model.origin.sha256)


def choose_engine(
    model: AttentionLSTM, engine: "str | Graphs | Engine | None" = None, device: torch.device | str = "cpu"
) -> "Engine":
    """Return the engine that computes a model.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode, on the device.
    engine : {"torch", "onnx"}, Graphs or an engine, optional
        By default ONNX Runtime, which is faster, where it is installed and there are graphs of the model.
    device : torch.device or str

    Raises
    ------
    ValueError
        If the engine is unknown; with "onnx", if there are no graphs that fit, or the device is not the CPU.
    """
    if engine == "torch":
        return TorchEngine(model)
    if isinstance(engine, Graphs):
        return OnnxEngine(model, engine)
    if hasattr(engine, "step"):
        return engine
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

    The graphs are wired together: what one writes, the next one reads. A step changes the state; to continue twice from
    one state, copy it with `select`.

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
        self.inputs = {name: {} for name in sessions}  # arrays by name, for each graph
        self.outputs = {}
        self._bindings = {name: session.io_binding() for name, session in sessions.items()}
        values = {}  # of all outputs so far
        for name, session in sessions.items():
            for node in session.get_inputs():
                if node.name not in values:
                    array = np.zeros(self._shape(node), np.int64 if "int64" in node.type else np.float32)
                    array[...] = tensors.get(node.name, 0)
                    self.inputs[name][node.name] = array
                value = values.get(node.name) or _value(self.inputs[name][node.name])
                self._bindings[name].bind_ortvalue_input(node.name, value)
                if node.name.endswith(IN_PLACE):
                    values[f"next_{node.name}"] = value
            for node in session.get_outputs():
                if node.name not in values:
                    self.outputs[node.name] = np.zeros(self._shape(node), np.float32)
                    values[node.name] = _value(self.outputs[node.name])
                self._bindings[name].bind_ortvalue_output(node.name, values[node.name])

    def run(self, graph: str, **inputs: Tensor) -> None:
        """Run a graph, and store its results in `outputs`."""
        for name, tensor in inputs.items():
            self.inputs[graph][name][...] = tensor.numpy()
        self.sessions[graph].run_with_iobinding(self._bindings[graph])

    def end_step(self) -> None:
        """Copy the new state to the inputs of the next step."""
        for name, array in self.inputs["step"].items():
            if f"next_{name}" in self.outputs:
                array[...] = self.outputs[f"next_{name}"]

    def select(self, indices: Tensor) -> "OnnxState":
        """Return a copy of the state with the given rows of the batch, in this order, as `ModelState.select` does."""
        rows = indices.numpy()
        state = {name: array for name, array in self.inputs["step"].items() if name.startswith("state.")}
        return OnnxState(self.sessions, {name: array[rows] if array.ndim else array for name, array in state.items()})

    def _shape(self, node) -> list[int]:
        return [n if isinstance(n, int) else self.n_rows for n in node.shape]


class OnnxKnown(NamedTuple):
    """The fields of `Known` that an `OnnxEngine` returns; the other fields stay in the `OnnxState`."""

    hidden: Tensor | None
    pedal_logit: Tensor | None


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
        self.model = model
        self.sessions = graphs.sessions
        self._step_in_torch = FrameStep(model)
        self._state = None  # of the last step

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
        state.run("step", **{name: value for name, value in frames._asdict().items() if value is not None})
        state.end_step()
        self._state = state
        found = [state.outputs.get(name) for name in OnnxKnown._fields]
        return OnnxKnown(*(None if each is None else torch.from_numpy(each.copy()) for each in found)), state

    def pitch_logits(self, known: OnnxKnown, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, None]:
        """Run a `PitchPass` after the last step, and return its logits and None."""
        self._state.run("pitches", next_pedal=next_pedal, next_frame=next_frame)
        return torch.from_numpy(self._state.outputs["logits"].copy()), None

    def velocity_logits(self, known: OnnxKnown, conditioned: None, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES)."""
        self._state.run("velocities", velocity=velocity)
        return torch.from_numpy(self._state.outputs["velocity_logits"][struck.numpy()])


Engine = TorchEngine | OnnxEngine


def _value(array: np.ndarray):
    """Return an ONNX Runtime value that shares the memory of an array."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
