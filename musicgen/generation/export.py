"""Export of a model's steps as ONNX graphs, for ONNX Runtime in Python or in a browser."""

import importlib.util
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from musicgen.beats import N_BEAT_FEATURES
from musicgen.generation.engines import graph_paths
from musicgen.generation.steps import Frames, FrameStep, Known, PitchPass, VelocityPass, named_tensors
from musicgen.home import N_HOME_FEATURES
from musicgen.model import AttentionLSTM
from musicgen.utils.files import atomic_write

PRECISIONS = ("int8", "float32")
OPSET = 18
LARGE = 50_000  # weights of a matrix product; a smaller one is faster with 32 bits
LIMIT = 10**8  # elements of a tensor that is computed in advance: all
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operations
N_ROWS = 2  # of the example batch; the graphs take any number


def export_graphs(model: AttentionLSTM, path: Path | str, sha256: str, precision: str = "int8") -> dict[str, Path]:
    """Export the steps of a model as ONNX files.

    Parameters
    ----------
    model : AttentionLSTM
    path : Path or str
        Of the step, for example ``model.onnx``; the others lie beside it (see `graph_paths`).
    sha256 : str
        That of the checkpoint. It is stored in the graphs.
    precision : {"int8", "float32"}
        Of the weights of large products, and of the notes that copy attention remembers.

    Returns
    -------
    dict of str to Path
        The files that were written.

    Raises
    ------
    ValueError
        If onnx, onnxscript or ONNX Runtime is not installed.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(f"export needs {' and '.join(missing)}: pip install '.[export]'")
    config = model.config
    about = {
        "checkpoint": sha256,
        "config": json.dumps(asdict(config)),
        "fps": str(config.fps),
        "precision": precision,
    }
    written = {}
    for name, file in graph_paths(path).items():
        if (name == "velocities" and model.output.velocity is None) or (name == "home" and not model.config.home):
            continue
        with tempfile.TemporaryDirectory() as folder, _quiet(), torch.no_grad():
            temporary = Path(folder) / "graph.onnx"
            _export(name, model, temporary)
            if precision == "int8":
                _quantise(temporary)
            content = _with_metadata(temporary, about)
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
        written[name] = file
    return written


def _export(name: str, model: AttentionLSTM, path: Path) -> None:
    """Export one graph by tracing it with example inputs."""
    from onnxscript import optimizer

    parts = {"step": _step, "pitches": _pitches, "velocities": _velocities, "home": _home}
    module, inputs, outputs = parts[name](model)
    names = [found for key, value in inputs.items() for found, _ in named_tensors(value, key)]
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        input_names=names,
        output_names=outputs,
        dynamic_shapes=tuple(_dynamic(value, batch) for value in inputs.values()),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    optimizer.fold_constants_ir(program.model, input_size_limit=LIMIT, output_size_limit=LIMIT)
    optimizer.optimize_ir(program.model)  # removes what is not used any more
    program.save(str(path), external_data=False)


def _step(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    """Return the module that computes one frame, example inputs by name, and the names of its outputs."""
    K = model.config.n_pitches
    state = model.initial_state(torch.zeros(N_ROWS, 1, K)).fixed()
    frames = Frames(
        velocity=torch.zeros(N_ROWS, 1, K),
        pedal=torch.zeros(N_ROWS, 1),
        beats=torch.zeros(N_ROWS, 1, N_BEAT_FEATURES),
        composer=torch.zeros(N_ROWS, dtype=torch.long),
        home=torch.zeros(N_ROWS, K, model.config.pitch_size) if model.config.home else None,
    )
    absent = {"pedal_logit": model.output.pedal is None, "hidden": model.probe is None}
    outputs = [name for name in Known._fields if not absent.get(name)]
    outputs += [f"next_{name}" for name, _ in named_tensors(state)]
    return FrameStep(model), {"": frames, "state": state}, outputs


def _pitches(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    known = _known(model)
    inputs = {
        "encoded": known.encoded,
        "skip": known.skip,
        "active": known.active,
        "pedal_history": known.pedal_history,
        "next_pedal": torch.zeros(N_ROWS),
        "next_frame": torch.zeros(N_ROWS, model.config.n_pitches),
    }
    return PitchPass(model), inputs, ["logits", "conditioned"]


def _velocities(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    known = _known(model)
    inputs = {
        "conditioned": known.encoded,
        "recent": known.recent,
        "velocity": torch.zeros(N_ROWS, model.config.n_pitches),
        "struck": torch.eye(N_ROWS, model.config.n_pitches) > 0,
    }
    return VelocityPass(model), inputs, ["velocity_logits"]


def _home(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    profile = torch.zeros(N_ROWS, model.config.n_pitches, N_HOME_FEATURES)
    return model.output.home, {"profile": profile}, ["home"]


def _known(model: AttentionLSTM) -> Known:
    """Return an example of the encoding that the step returns."""
    inputs = _step(model)[1]
    known, _ = FrameStep(model)(*inputs.values())
    return known


def _dynamic(value, batch):
    """Return the same nested structure with a dynamic first axis for each tensor."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return {0: batch} if value.ndim else {}
    parts = [_dynamic(part, batch) for part in value]
    return parts if isinstance(value, list) else type(value)(*parts)


def _quantise(path: Path) -> None:
    """Store the large weights of matrix products as 8-bit integers, with one scale per output; cached notes, too."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    graph = model.graph
    large = {weight.name for weight in graph.initializer if math.prod(weight.dims) >= LARGE}
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and large & set(node.input)]
    products += [f"{name}_MatMul" for name in products]  # what the tool makes of a Gemm
    if any(value.name == "state.copy.values" for value in graph.input):
        _quantise_notes(graph)
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
        onnx.save(model, path)
    if products:  # an empty list would mean all
        quantize_dynamic(path, path, nodes_to_quantize=products, weight_type=QuantType.QInt8, per_channel=True)


def _quantise_notes(graph) -> None:
    """Store the cached notes of copy attention, which are 0 or 1, as 8-bit integers, and multiply them as such.

    For this product the attention weights get 8 bits, too. With 32 bits, the notes of eight pieces would take 3.6 MB of
    the processor's cache.
    """
    from onnx import TensorProto, helper, numpy_helper

    notes = "state.copy.values"
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.name in (notes, f"next_{notes}"):
            value.type.tensor_type.elem_type = TensorProto.INT8
    graph.initializer.append(numpy_helper.from_array(np.float32(1), "notes_scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "notes_zero"))
    nodes = []
    for node in graph.node:
        if notes in node.input:  # the new frame replaces the oldest one
            nodes.append(helper.make_node("Cast", [node.input[2]], ["new_notes"], to=TensorProto.INT8))
            node.input[2] = "new_notes"
            nodes.append(node)
        elif f"next_{notes}" in node.input:
            inputs = [*node.input, "notes_scale", "notes_zero"]
            nodes.append(helper.make_node("DynamicQuantizeMatMul", inputs, node.output, domain=MICROSOFT))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _with_metadata(path: Path, about: dict[str, str]) -> bytes:
    import onnx

    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, about)
    for node in graph.graph.node:
        del node.metadata_props[:]  # traces of the files of this computer
        node.doc_string = ""
    return graph.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide all warnings and log messages of the exporter during the block."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(disabled)
