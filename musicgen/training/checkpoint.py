"""A trained model as one file: tensors in safetensors format, and a JSON record of the training."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.origin import Origin, checksum
from musicgen.piano_roll import DEFAULT_FPS
from musicgen.training.progress import check_record
from musicgen.utils.files import atomic_write, printable

SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "pretrained" / "maestro.safetensors"
# Tensors that had another name in older checkpoints.
OLD_NAMES = {
    r"lstms\.(\d+)\.": r"layers.\1.cell.",
    r"attentions\.(\d+)\.": r"layers.\1.attention.",
    r"copy\.no_match\.": "copy.null_key.",
    r"output\.(pedal\.)?persistence\.": r"output.\1skip.",
}
DTYPES = {"F32", "F64", "F16", "I64", "I32", "U8", "BOOL"}
MORE_BYTES = 2**26
HEADER_BYTES = 2**24  # parsed JSON takes about twenty times as much memory as its text


class CheckpointError(ValueError):
    """Raised for a file that is not an intact checkpoint; the message names the file and the reason."""


@dataclass
class Checkpoint:
    """The content of a checkpoint.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode.
    tensors : dict of str to Tensor
        Other tensors: the baselines, and the state of the optimizer in a latest checkpoint.
    record : dict
        How the model was trained, on what, and with which result; plain JSON.
    sha256 : str
        Of all tensors and the record, as in the file.
    """

    model: AttentionLSTM
    tensors: dict[str, Tensor]
    record: dict
    sha256: str = ""


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
        Where to keep the old checkpoint of `path`, if there is one.
    half : bool
        Store the weights with 16 bits.

    Raises
    ------
    ValueError
        If a name is reserved, or a value is not finite.
    """
    if taken := [name for name in tensors if name.startswith("model.")] + [name for name in record if name == "model"]:
        raise ValueError(f"{str(path)!r}: the name {taken[0]!r} is reserved")
    weights = {f"model.{name}": weight.half() if half else weight for name, weight in model.state_dict().items()}
    everything = {name: tensor.detach().cpu().contiguous() for name, tensor in (weights | dict(tensors)).items()}
    if name := first_not_finite(everything):
        raise ValueError(f"{str(path)!r}: not written, since {name} holds values that are not finite")
    text = json.dumps({"model": asdict(model.config), **record})
    with atomic_write(path, previous) as temporary:
        temporary.write_bytes(save(everything, {"record": text, "sha256": digest(everything, text)}))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint. The file may come from a stranger: it is validated, and nothing in it is executed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a checkpoint, or its tensors do not fit its config.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{str(path)!r}: no such checkpoint")
    try:
        check_header(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            record = json.loads(metadata["record"])
            config = {"fps": record.get("data", {}).get("fps", DEFAULT_FPS)}  # older ones have it only here, or not
            model = _empty_model(ModelConfig(**config | record.pop("model")))
            check_record(record)
            check_tensors(file, model, path.stat().st_size)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise CheckpointError(f"{str(path)!r}: not a musicgen checkpoint ({reason})") from error
    if metadata.get("sha256") != digest(tensors, metadata["record"]):
        raise CheckpointError(f"{str(path)!r}: damaged, its checksum does not match")
    if name := first_not_finite(tensors):
        raise CheckpointError(f"{str(path)!r}: {name} holds values that are not finite")
    tensors = {current_tensor_name(name): tensor for name, tensor in tensors.items()}
    weights = {name: tensors.pop(f"model.{name}").float() for name in model.state_dict()}
    model.load_state_dict(weights, assign=True)
    model.origin = Origin(path.absolute(), metadata["sha256"], checksum(model))
    return Checkpoint(model.eval(), tensors, record, metadata["sha256"])


def _empty_model(config: ModelConfig) -> AttentionLSTM:
    """Build a model on the meta device, where tensors have shapes, but no memory."""
    with torch.device("meta"), NoDraws():
        return AttentionLSTM(config)


def current_tensor_name(name: str) -> str:
    """Translate the name of a tensor in an older checkpoint to its current name."""
    for old, new in OLD_NAMES.items():
        name = re.sub(rf"^model\.{old}", rf"model.{new}", name)
    return name


class NoDraws(TorchFunctionMode):
    """Skips the random initialisation of tensors on the meta device.

    Torch would import its compiler for it, which takes seconds.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def check_header(path: Path) -> None:
    """Raise ValueError if the header of a safetensors file is too long."""
    with path.open("rb") as stream:
        if (n_bytes := int.from_bytes(stream.read(8), "little")) > HEADER_BYTES:
            raise ValueError(f"its header of {n_bytes:,} bytes is longer than {HEADER_BYTES:,}")


def check_tensors(file, model: nn.Module, n_bytes: int) -> None:
    """Raise ValueError if the tensors in a file do not fit the model, before they are read."""
    wanted = {f"model.{name}": list(weight.shape) for name, weight in model.state_dict().items()}
    found = {current_tensor_name(name): file.get_slice(name) for name in file.keys()}
    for name in sorted(wanted.keys() | {name for name in found if name.startswith("model.")}):
        shape = found[name].get_shape() if name in found else "missing"
        if shape != wanted.get(name):
            raise ValueError(f"{name} is {shape}, but its config asks for {wanted.get(name, 'nothing')}")
        if found[name].get_dtype() not in ("F32", "F16"):
            raise ValueError(f"{name} has type {found[name].get_dtype()}, not F32 or F16")
    n_weights = sum(weight.numel() for weight in model.parameters())
    if n_bytes > 16 * n_weights + MORE_BYTES:  # the state of an optimizer is twice as large as the weights
        raise ValueError(f"its {n_bytes:,} bytes are too many for a model of {n_weights:,} weights")
    if other := {tensor.get_dtype() for tensor in found.values()} - DTYPES:
        raise ValueError(f"it holds tensors of type {min(other)}")


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with infinite or NaN values, or None."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of tensors, including their names, types and shapes."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()
