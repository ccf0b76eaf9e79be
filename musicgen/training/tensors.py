"""Checks of tensors that were read from a file, before and after they are allocated."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DTYPES = {"F32", "F64", "F16", "I64", "I32", "U8", "BOOL"}
MORE_BYTES = 2**26
HEADER_BYTES = 2**24  # parsed JSON takes about twenty times as much memory as its text


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


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with infinite or NaN values, or None."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of named tensors, with their types and shapes."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()
