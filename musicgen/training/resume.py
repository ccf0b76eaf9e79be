"""Resuming a training run: its lock and files, and the states of optimizer and random numbers in a checkpoint."""

import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from musicgen.training.optim import WeightAverage
from musicgen.training.progress import Progress, validate_progress, validated_every
from musicgen.utils.locks import Lock, exclusive
from musicgen.utils.progress import print_above_bar

RUN_FILES = ("best.safetensors", "latest.safetensors", "previous.safetensors", "log.csv")
# What the optimizers keep for each weight, in its shape; only "step" is one number.
KEPT = {"SGD": {"momentum_buffer"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
RANDOM_STATE = "random_state"
DEVICE_STATE = "random_state.device"


@contextmanager
def run_lock(folder: Path, locked: bool = True) -> Iterator[None]:
    """Lock a run folder during the block, and remove the unfinished files of a killed run.

    Raises
    ------
    ValueError
        If another run is using the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not locked:
        yield
        return
    with exclusive(folder / ".lock") as lock:
        if lock is Lock.TAKEN:
            raise ValueError(f"{str(folder)!r}: another run is using this folder; take another one")
        if lock is Lock.UNKNOWN:
            print_above_bar(f"{str(folder)!r} cannot be locked on this file system: start no second run there")
        for left in folder.glob(".unfinished-*.safetensors"):  # from a run that was killed
            left.unlink()
        yield


def files_of_run(folder: Path, resume: bool) -> list[str]:
    """Return the names of the files of a run that a folder holds.

    Raises
    ------
    ValueError
        If there are any and `resume` is false, or if one of the names is a folder.
    """
    found = [name for name in RUN_FILES if (folder / name).exists()]
    if found and not resume:
        raise ValueError(f"{str(folder)!r} holds a run already ({found[0]}): resume it, or take another folder")
    for name in found:
        if (folder / name).is_dir():
            raise ValueError(f"{str(folder / name)!r} is a folder, where a run has a file: move it away")
    return found


def progress_from_checkpoint(
    record: dict, tensors: Mapping[str, Tensor], optimizer: Optimizer, n_epochs: int
) -> tuple[Progress, dict]:
    """Return the progress and the optimizer's state from a checkpoint; `optimizer` is not changed.

    Parameters
    ----------
    record, tensors
        From `load_checkpoint`. They may come from anyone.
    optimizer : Optimizer
        The state must fit it.
    n_epochs : int
        Epochs of the run.

    Raises
    ------
    ValueError
        If anything is missing or invalid.
    """
    if "progress" not in record or RANDOM_STATE not in tensors:
        raise ValueError("holds a model, but no training state to resume from")
    try:
        torch.Generator().set_state(tensors[RANDOM_STATE])
        progress = validate_progress(record["progress"], n_epochs, validated_every(record))
        return progress, _read_optimizer(tensors, optimizer, progress.updates)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot be resumed: {error}") from error


def read_average(tensors: Mapping[str, Tensor], average: WeightAverage) -> dict[str, Tensor]:
    """Return the averaged weights stored in a checkpoint; ValueError if they do not fit the model."""
    found = {}
    for name, mean in average.as_tensors().items():
        value = tensors.get(name)
        if value is None or value.shape != mean.shape or value.dtype != mean.dtype:
            raise ValueError(f"cannot be resumed: {name} is missing, or not of shape {tuple(mean.shape)}")
        found[name] = value
    return found


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the random number generators of the CPU and of the training device."""
    states = {RANDOM_STATE: torch.get_rng_state()}
    if device.type != "cpu":
        states[DEVICE_STATE] = torch.get_device_module(device).get_rng_state(device)
    return states


def restore_random_states(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the states from `random_states`. A device keeps its own state if the checkpoint is from a CPU run."""
    torch.set_rng_state(tensors[RANDOM_STATE])
    if device.type != "cpu" and DEVICE_STATE in tensors:
        torch.get_device_module(device).set_rng_state(tensors[DEVICE_STATE], device)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as named tensors."""
    return {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def _read_optimizer(tensors: Mapping[str, Tensor], optimizer: Optimizer, updates: int) -> dict:
    """Validate an optimizer's tensors from a checkpoint, and return them as a state dict.

    Raises
    ------
    ValueError
        If a tensor is missing or invalid, or belongs to no weight.
    """
    left = {name for name in tensors if name.startswith("optimizer.")}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {}
    for index, weight in enumerate(weights):
        names = {key: f"optimizer.{index}.{key}" for key in KEPT[type(optimizer).__name__]}
        if left.isdisjoint(names.values()):
            continue  # nothing is kept of a weight that has had no gradient yet
        state[index] = {key: _checked(tensors, name, key, weight, updates) for key, name in names.items()}
        left -= set(names.values())
    if left:
        raise ValueError(f"{min(left)!r} belongs to no weight")
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def _checked(tensors: Mapping[str, Tensor], name: str, key: str, weight: Tensor, updates: int) -> Tensor:
    """Return a weight's optimizer state `key`; raise ValueError if its type, shape or range is wrong."""
    value = tensors.get(name)
    shape = () if key == "step" else tuple(weight.shape)
    if value is None or value.shape != shape or value.dtype != torch.float32:
        raise ValueError(f"{name} is missing, or not of type float32 and shape {shape}")
    ranges = {"step": (1, updates), "exp_avg_sq": (0, math.inf)}
    lowest, highest = ranges.get(key, (-math.inf, math.inf))
    if not lowest <= value.min() <= value.max() <= highest:  # also false for nan
        raise ValueError(f"{name} is out of its range {lowest}..{highest}")
    return value


def check_same(kept: dict, wanted: dict, more: Collection[str] = ()) -> None:
    """Raise ValueError if two nested dicts differ; numbers at the key paths `more` may be larger in `wanted`."""
    before = _flat(kept)
    now = _flat(wanted)
    for name in more:
        if isinstance(before.get(name), (int, float)) and before[name] <= now.get(name, 0):
            before[name] = now[name]
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        told = [f"{name} was {reprlib.repr(before.get(name))}, now {reprlib.repr(now.get(name))}" for name in changed]
        raise ValueError(f"was trained with other settings: {'; '.join(told)}")


def _flat(nested: object, name: str = "") -> dict:
    """Flatten nested dicts to one dict from paths, such as ``training.seed``, to values."""
    if not isinstance(nested, dict):
        return {name.removeprefix("."): nested}
    return {path: value for key, inner in nested.items() for path, value in _flat(inner, f"{name}.{key}").items()}
