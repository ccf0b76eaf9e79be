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
from musicgen.generation.browser_steps import History, HomePass, PitchDraw, ProbePass, RepetitionPass, VelocityDraw
from musicgen.generation.engines import FOR_BROWSER, graph_paths
from musicgen.generation.steps import Frames, FrameStep, Known, PitchPass, VelocityPass, named_tensors
from musicgen.home import Excerpt
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
        if not _is_needed(name, model):
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


def _is_needed(name: str, model: AttentionLSTM) -> bool:
    """Return whether a model needs a graph; the page that composes needs a model with all parts."""
    output = model.output
    if name in FOR_BROWSER:
        return model.config.home and None not in (model.probe, output.pedal, output.velocity)
    return name != "velocities" or output.velocity is not None


def _export(name: str, model: AttentionLSTM, path: Path) -> None:
    """Export one graph by tracing it with example inputs."""
    from onnxscript import optimizer

    parts = {"step": _step, "pitches": _pitches, "velocities": _velocities, "home": _home, "probe": _probe}
    parts |= {"repetition": _repetition, "draw_pitches": _draw_pitches, "draw_velocities": _draw_velocities}
    module, inputs, outputs = parts[name](model)
    module = module.eval()
    names = [found for key, value in inputs.items() for found, _ in named_tensors(value, key)]
    inputs = tuple(inputs.values())
    for_browser = name in FOR_BROWSER
    batch = torch.export.Dim.AUTO if for_browser else torch.export.Dim("batch")
    shapes = tuple(_dynamic(value, batch) for value in inputs)
    if for_browser:  # strict tracing knows NumPy
        module, shapes = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=True), None
    program = torch.onnx.export(
        module,
        inputs,
        input_names=names,
        output_names=outputs,
        dynamic_shapes=shapes,
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
    # The numbers of notes differ, so that the tracer takes them for two dimensions.
    opening, recent = (torch.arange(4.0) + torch.rand(n_notes, 4) for n_notes in (5, 7))
    length = torch.tensor(80.0)
    pedal = torch.tensor(9.0)
    inputs = {"opening": Excerpt(opening, length, pedal), "recent": Excerpt(recent, length.clone(), pedal.clone())}
    return HomePass(model), inputs, ["home"]


def _repetition(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    module = RepetitionPass(model)
    history = History(*(x.repeat_interleave(N_ROWS, dim=0) for x in module.initial_history()))
    outputs = ["penalty", *(f"next_{name}" for name, _ in named_tensors(history, "history"))]
    return module, _cells(model, "velocity", "before") | {"history": history}, outputs


def _draw_pitches(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    known = _known(model)._asdict()
    inputs = {name: known[name] for name in ("encoded", "skip", "active", "pedal_history", "pedal_logit")}
    inputs |= _cells(model, "before", "penalty")
    inputs |= {"temperature": torch.tensor(0.9), "uniform_pedal": torch.rand(N_ROWS)}
    inputs |= _cells(model, "uniform", "gain", "guess")
    return PitchDraw(model), inputs, ["drawn", "pedal", "next_gain", "conditioned"]


def _draw_velocities(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    known = _known(model)
    inputs = {"conditioned": known.encoded, "recent": known.recent}
    inputs |= _cells(model, "before", "on", "uniform", "uniform_in_bin", "guess")
    inputs["before"] = torch.zeros_like(inputs["on"])  # all pitches are struck
    return VelocityDraw(model), inputs, ["drawn"]


def _cells(model: AttentionLSTM, *names: str) -> dict[str, Tensor]:
    """Return a tensor of its own for each name: the tracer would take one tensor for one input."""
    return {name: torch.rand(N_ROWS, model.config.n_pitches) for name in names}


def _probe(model: AttentionLSTM) -> tuple[nn.Module, dict, list[str]]:
    hidden = torch.rand(40, model.config.n_layers * model.config.hidden_size)
    inputs = {"hidden": hidden, "prime": torch.zeros(1, 2 * hidden.shape[1])}
    inputs |= {name: torch.rand(1) for name in ("recent_pitch", "prime_pitch", "seconds")}
    return ProbePass(model), inputs, ["log_weight", "statistics"]


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
