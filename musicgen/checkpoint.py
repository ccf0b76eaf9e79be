"""A trained model as one file: tensors in safetensors format, and a JSON record of how they were made."""

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
from musicgen.support.files import atomic_write, printable
from musicgen.support.resume import validate_progress, validate_settings

SHIPPED_CHECKPOINT = Path(__file__).parent / "pretrained" / "maestro.safetensors"
# Older checkpoints: other names, and parts that their models did not have.
OLD_NAMES = {"n_keys": "n_pitches", "key_size": "pitch_size", "key_reach": "pitch_reach"}
LEGACY = {"copy_heads": 0, "pedal": False, "beats": False, "velocity_context": False}
DTYPES = {"F32", "F64", "F16", "I64", "I32", "U8", "BOOL"}
MORE_BYTES = 2**26
HEADER_BYTES = 2**24  # parsed JSON takes about twenty times as much memory as its text


class CheckpointError(ValueError):
    """A file that is not an intact checkpoint; the message names the file and the reason."""


@dataclass
class Checkpoint:
    """The content of a checkpoint.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode.
    tensors : dict of str to Tensor
        Other tensors: the baselines, and the state of the optimiser in a latest checkpoint.
    record : dict
        How the model was trained, on what, and with which result; plain JSON.
    """

    model: AttentionLSTM
    tensors: dict[str, Tensor]
    record: dict


def save_checkpoint(
    path: Path | str,
    model: AttentionLSTM,
    tensors: Mapping[str, Tensor],
    record: dict,
    previous: Path | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint atomically, with a checksum.

    Parameters
    ----------
    path : Path or str
    model : AttentionLSTM
    tensors : mapping of str to Tensor
        No name may begin with ``model.``.
    record : dict
        JSON, without the entry ``model``.
    previous : Path, optional
        A new name for an old checkpoint at `path`.
    half : bool
        Store the weights with 16 bits.

    Raises
    ------
    ValueError
        If a name is taken, or a value is not finite.
    """
    if taken := [name for name in tensors if name.startswith("model.")] + [name for name in record if name == "model"]:
        raise ValueError(f"{str(path)!r}: the name {taken[0]!r} is reserved")
    weights = {f"model.{name}": weight.half() if half else weight for name, weight in model.state_dict().items()}
    everything = {name: tensor.detach().cpu().contiguous() for name, tensor in (weights | dict(tensors)).items()}
    if name := _not_finite(everything):
        raise ValueError(f"{str(path)!r}: not written, since {name} holds values that are not finite")
    text = json.dumps({"model": asdict(model.config), **record})
    with atomic_write(path, previous) as temporary:
        temporary.write_bytes(save(everything, {"record": text, "sha256": _digest(everything, text)}))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint from any source: nothing in it is executed, and everything is validated.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a checkpoint, or its tensors do not fit its config.
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
            check_record(record)
            _check_tensors(file, model, path.stat().st_size)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise CheckpointError(f"{str(path)!r}: not a musicgen checkpoint ({reason})") from error
    if metadata.get("sha256") != _digest(tensors, metadata["record"]):
        raise CheckpointError(f"{str(path)!r}: damaged, its checksum does not match")
    if name := _not_finite(tensors):
        raise CheckpointError(f"{str(path)!r}: {name} holds values that are not finite")
    weights = {name: tensors.pop(f"model.{name}").float() for name in model.state_dict()}
    model.load_state_dict(weights, assign=True)
    return Checkpoint(model.eval(), tensors, record)


def check_record(record: dict) -> None:
    """Raise ValueError unless the progress, history and settings of a record have the right types and ranges."""
    if "progress" in record:
        validate_progress(record["progress"])
    for name in ("training", "windows"):
        validate_settings(record.get(name, {}))
    if not isinstance(record.get("data", {}), dict):
        raise ValueError("its description of the data is not a table")


def _empty_model(config: ModelConfig) -> AttentionLSTM:
    """Build a model with shapes but without memory."""
    with torch.device("meta"), _NoDraws():
        return AttentionLSTM(config)


class _NoDraws(TorchFunctionMode):
    """Skips random initialisation, for which torch would import its compiler on the meta device (seconds)."""

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
    """Compare names, shapes and types with the model before anything is allocated, and limit the rest."""
    wanted = {f"model.{name}": list(weight.shape) for name, weight in model.state_dict().items()}
    found = {name: file.get_slice(name) for name in file.keys()}
    for name in sorted(wanted.keys() | {name for name in found if name.startswith("model.")}):
        shape = found[name].get_shape() if name in found else "missing"
        if shape != wanted.get(name):
            raise ValueError(f"{name} is {shape}, but its config asks for {wanted.get(name, 'nothing')}")
        if found[name].get_dtype() not in ("F32", "F16"):
            raise ValueError(f"{name} has type {found[name].get_dtype()}, not F32 or F16")
    n_weights = sum(weight.numel() for weight in model.parameters())
    if n_bytes > 16 * n_weights + MORE_BYTES:  # the state of an optimiser is twice as large as the weights
        raise ValueError(f"its {n_bytes:,} bytes are too many for a model of {n_weights:,} weights")
    if other := {tensor.get_dtype() for tensor in found.values()} - DTYPES:
        raise ValueError(f"it holds tensors of type {min(other)}")


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
