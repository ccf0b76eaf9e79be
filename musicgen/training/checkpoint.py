"""A trained model as one file: tensors in safetensors format, and a JSON record of how they were made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training.resume import check_record
from musicgen.training.tensors import NoDraws, check_header, check_tensors, digest, not_finite
from musicgen.utils.files import atomic_write, printable

SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "pretrained" / "maestro.safetensors"
# For older checkpoints: settings that were renamed, and the values of settings that did not exist yet.
OLD_NAMES = {"n_keys": "n_pitches", "key_size": "pitch_size", "key_reach": "pitch_reach"}
LEGACY = {"copy_heads": 0, "pedal": False, "beats": False, "velocity_context": False}


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
    if name := not_finite(everything):
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
            sizes = {OLD_NAMES.get(name, name): value for name, value in record.pop("model").items()}
            model = _empty_model(ModelConfig(**LEGACY | sizes))
            check_record(record)
            check_tensors(file, model, path.stat().st_size)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise CheckpointError(f"{str(path)!r}: not a musicgen checkpoint ({reason})") from error
    if metadata.get("sha256") != digest(tensors, metadata["record"]):
        raise CheckpointError(f"{str(path)!r}: damaged, its checksum does not match")
    if name := not_finite(tensors):
        raise CheckpointError(f"{str(path)!r}: {name} holds values that are not finite")
    weights = {name: tensors.pop(f"model.{name}").float() for name in model.state_dict()}
    model.load_state_dict(weights, assign=True)
    return Checkpoint(model.eval(), tensors, record)


def _empty_model(config: ModelConfig) -> AttentionLSTM:
    """Build a model on the meta device: its tensors have shapes, but no memory."""
    with torch.device("meta"), NoDraws():
        return AttentionLSTM(config)
