"""A trained model as one file: tensors as safetensors, and what made them as JSON in its header."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.support.files import atomic_write

SHIPPED_CHECKPOINT = Path(__file__).parent / "pretrained" / "maestro.safetensors"
OLD_NAMES = {"n_keys": "n_pitches", "key_size": "pitch_size", "key_reach": "pitch_reach"}  # in older checkpoints
# What a config of an older checkpoint leaves out, it did not have.
LEGACY = {"copy_heads": 0, "pedal": False, "beats": False, "velocity_context": False}
DTYPES = {"F32", "F64", "F16", "I64", "I32", "U8", "BOOL"}
MORE_BYTES = 2**26
HEADER_BYTES = 2**24  # JSON takes some twenty times as much memory as its text


class CheckpointError(ValueError):
    """A file that is no whole, sound checkpoint of ours; the message names the file and the reason."""


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Parameters
    ----------
    model : AttentionLSTM
        The trained model, ready to be evaluated.
    tensors : dict of str to Tensor
        What came along beside the weights, by name: the baselines, and the optimiser's state in a latest one.
    record : dict
        Plain JSON: how it was trained, on what, and how that went.
    """

    model: AttentionLSTM
    tensors: dict[str, Tensor]
    record: dict


def save_checkpoint(
    path: Path | str, model: AttentionLSTM, tensors: Mapping[str, Tensor], record: dict, previous: Path | None = None
) -> None:
    """Write a checkpoint, whole or not at all, with a checksum over all that it holds.

    Parameters
    ----------
    path : Path or str
        Conventionally ``*.safetensors``.
    model : AttentionLSTM
        Its weights and its config are kept.
    tensors : mapping of str to Tensor
        More to keep; no name may begin with ``model.``.
    record : dict
        More to keep, as JSON; not under the name ``model``.
    previous : Path, optional
        The name that an old checkpoint at `path` goes on under.

    Raises
    ------
    ValueError
        If a name is taken, or a value is not finite.
    """
    if taken := [name for name in tensors if name.startswith("model.")] + [name for name in record if name == "model"]:
        raise ValueError(f"{str(path)!r}: the name {taken[0]!r} is the model's own")
    everything = {f"model.{name}": weight for name, weight in model.state_dict().items()} | dict(tensors)
    everything = {name: tensor.detach().cpu().contiguous() for name, tensor in everything.items()}
    if name := _not_finite(everything):
        raise ValueError(f"{str(path)!r}: not written, since {name} holds values that are not finite")
    text = json.dumps({"model": asdict(model.config), **record})
    with atomic_write(path, previous) as temporary:
        temporary.write_bytes(save(everything, {"record": text, "sha256": _digest(everything, text)}))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint. Nothing in it is ever run, and nothing is taken from it that was not checked.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a checkpoint of ours, or its tensors do not fit its config.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{str(path)!r}: no such checkpoint")
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            record = json.loads(metadata["record"])
            sizes = {OLD_NAMES.get(name, name): value for name, value in record.pop("model").items()}
            model = _empty_model(ModelConfig(**LEGACY | sizes))
            _check_tensors(file, model, path.stat().st_size)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(f"{str(path)!r}: not a musicgen checkpoint ({reason})") from error
    if metadata.get("sha256") != _digest(tensors, metadata["record"]):
        raise CheckpointError(f"{str(path)!r}: damaged, its checksum does not fit")
    if name := _not_finite(tensors):
        raise CheckpointError(f"{str(path)!r}: {name} holds values that are not finite")
    model.load_state_dict({name: tensors.pop(f"model.{name}") for name in model.state_dict()}, assign=True)
    return Checkpoint(model.eval(), tensors, record)


def _empty_model(config: ModelConfig) -> AttentionLSTM:
    """Build a model that has shapes but no memory yet."""
    with torch.device("meta"), _NoDraws():
        return AttentionLSTM(config)


class _NoDraws(TorchFunctionMode):
    """Draws no weights: where they have no memory it does nothing, but torch imports its compiler for it: seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _check_header(path: Path) -> None:
    with path.open("rb") as stream:
        if (n_bytes := int.from_bytes(stream.read(8), "little")) > HEADER_BYTES:
            raise ValueError(f"its header of {n_bytes:,} bytes is longer than {HEADER_BYTES:,}")


def _check_tensors(file, model: AttentionLSTM, n_bytes: int) -> None:
    """Compare the header with the model before anything is allocated, and bound what comes along with the weights."""
    wanted = {f"model.{name}": list(weight.shape) for name, weight in model.state_dict().items()}
    found = {name: file.get_slice(name) for name in file.keys()}
    for name in sorted(wanted.keys() | {name for name in found if name.startswith("model.")}):
        shape = found[name].get_shape() if name in found else "missing"
        if shape != wanted.get(name):
            raise ValueError(f"{name} is {shape}, where its config asks for {wanted.get(name, 'nothing')}")
        if found[name].get_dtype() != "F32":
            raise ValueError(f"{name} has type {found[name].get_dtype()}, not F32")
    n_weights = sum(weight.numel() for weight in model.parameters())
    if n_bytes > 16 * n_weights + MORE_BYTES:  # an optimiser's state is twice as large as the weights
        raise ValueError(f"its {n_bytes:,} bytes are too many for a model of {n_weights:,} weights")
    if other := {tensor.get_dtype() for tensor in found.values()} - DTYPES:
        raise ValueError(f"it holds numbers of type {min(other)}")


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
