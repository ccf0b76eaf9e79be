"""Engines: what computes a model frame by frame. PyTorch runs its modules, ONNX Runtime the graphs made of them."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musicgen.generation.graphs import FrameStep, Known, PitchPass, VelocityPass, named_tensors
from musicgen.home import N_HOME_FEATURES
from musicgen.model import AttentionLSTM
from musicgen.model.attention_lstm import ModelState
from musicgen.utils.files import printable

ENGINES = ("torch", "onnx")
INSTALL = "pip install onnxruntime"


class TorchEngine:
    """Runs a model in PyTorch.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode.
    """

    def __init__(self, model: AttentionLSTM):
        self.hear = FrameStep(model)
        self._pitch_pass = PitchPass(model)
        self._velocity_pass = VelocityPass(model)

    def pitch_logits(self, known: Known, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of a `PitchPass`."""
        return self._pitch_pass(known.encoded, known.pitches, known.pedal, next_pedal, next_frame)

    def velocity_logits(self, known: Known, conditioned: Tensor, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES)."""
        return self._velocity_pass(conditioned, known.recent, velocity, struck)


def graph_paths(path: Path | str) -> dict[str, Path]:
    """Return the files of the graphs of a model, by what they compute; `path` is that of the step."""
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
    """Return whether there is a graph; a head without velocities has none for them, the others must exist."""
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


def find_graphs(checkpoint: Path | str, sha256: str, engine: str | None = None) -> Graphs | None:
    """Return the graphs beside a checkpoint, to generate with; None stands for PyTorch.

    Parameters
    ----------
    checkpoint : Path or str
        The graph has the same name, with the suffix ``.onnx``.
    sha256 : str
        That of the checkpoint.
    engine : {"torch", "onnx"}, optional
        By default ONNX Runtime, which is faster, where it is installed and there are graphs that fit.

    Raises
    ------
    ValueError
        With ``engine="onnx"``, if they cannot be used.
    """
    if engine == "torch":
        return None
    try:
        return Graphs(Path(checkpoint).with_suffix(".onnx"), sha256)
    except ValueError:
        if engine == "onnx":
            raise
        return None


class OnnxState:
    """State of an `OnnxEngine`: named tensors whose first axis is the batch."""

    def __init__(self, tensors: dict[str, Any]):
        self.tensors = tensors

    @classmethod
    def from_model(cls, state: ModelState) -> "OnnxState":
        """Continue from the state of a model."""
        return cls({name: _value(tensor) for name, tensor in named_tensors(state.fixed())})

    @property
    def n_rows(self) -> int:
        """Rows of the batch."""
        return next(iter(self.tensors.values())).shape()[0]

    def select(self, indices: Tensor) -> "OnnxState":
        """Return the state of the given rows of the batch, in this order, as `ModelState.select` does."""
        rows = indices.numpy()
        return OnnxState({name: _value(value.numpy()[rows]) for name, value in self.tensors.items()})


class OnnxEngine:
    """Runs the graphs of a model, frame by frame; a prime of several frames is heard in PyTorch.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode, on the CPU.
    graphs : Graphs
    """

    def __init__(self, model: AttentionLSTM, graphs: Graphs):
        self.model = model
        self.sessions = graphs.sessions
        self._hear_several = FrameStep(model)
        self._outputs = {name: [each.name for each in x.get_outputs()] for name, x in self.sessions.items()}

    def hear(
        self,
        velocity: Tensor,
        pedal: Tensor,
        beats: Tensor,
        composer: Tensor,
        home: Tensor | None,
        state: ModelState | OnnxState | None,
    ) -> tuple[Known, ModelState | OnnxState]:
        """Return what `FrameStep` returns; all but the hidden states and the pedal's logit is for this engine only."""
        if velocity.shape[1] > 1:
            if isinstance(state, OnnxState):
                raise ValueError("graphs hear one frame at a time; a prime comes first")
            return self._hear_several(velocity, pedal, beats, composer, home, state)
        if state is None:
            state = self.model.initial_state(velocity.float())
        if isinstance(state, ModelState):
            state = OnnxState.from_model(state)
        inputs = {"velocity": velocity.float(), "pedal": pedal, "beats": beats, "composer": composer}
        if self.model.config.home:
            inputs["home"] = self._unknown_home(len(velocity)) if home is None else home
        results = self._run("step", inputs, state.tensors)
        after = {name.removeprefix("next_"): x for name, x in results.items() if name.startswith("next_")}
        known = {name: results.get(name) for name in Known._fields} | {"pedal": results["pedal_history"]}
        for name in {"hidden", "pedal_logit"} & results.keys():
            known[name] = torch.from_numpy(results[name].numpy())
        return Known(**known), OnnxState(after)

    def pitch_logits(self, known: Known, next_pedal: Tensor, next_frame: Tensor) -> tuple[Tensor, Any]:
        """Return the results of a `PitchPass`; the second one is for this engine only."""
        found = {"encoded": known.encoded, "pitches": known.pitches, "pedal_history": known.pedal}
        results = self._run("pitches", {"next_pedal": next_pedal, "next_frame": next_frame}, found)
        return torch.from_numpy(results["logits"].numpy()), results["conditioned"]

    def velocity_logits(self, known: Known, conditioned: Any, velocity: Tensor, struck: Tensor) -> Tensor:
        """Return the logits of the velocity bins of the struck pitches (n_struck, N_VELOCITIES)."""
        found = {"conditioned": conditioned, "recent": known.recent}
        results = self._run("velocities", {"velocity": velocity.float()}, found)
        return torch.from_numpy(results["velocity_logits"].numpy())[struck]

    def _unknown_home(self, n_rows: int) -> Tensor:
        return torch.zeros(n_rows, self.model.config.n_pitches, N_HOME_FEATURES)

    def _run(self, name: str, inputs: dict[str, Tensor], found: dict[str, Any]) -> dict[str, Any]:
        """Run a graph on tensors and on results of earlier runs, which are not copied."""
        values = {key: _value(tensor) for key, tensor in inputs.items()} | found
        session = self.sessions[name]
        results = session.run_with_ort_values(self._outputs[name], values)
        return dict(zip(self._outputs[name], results))


def _value(array: Tensor | np.ndarray):
    import onnxruntime

    array = array.numpy() if isinstance(array, Tensor) else array
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
