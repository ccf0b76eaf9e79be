"""Where a training run stands: kept to resume it, and looked at closely before it is taken up again."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.optim import Optimizer

# What the optimisers keep for each weight, in its shape; only "step" is one number.
KEPT = {"SGD": {"momentum_buffer"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
COUNTS = {"epoch", "batch", "updates", "n_frames"}
ROW = ("epoch", "updates", "learning_rate", "train_nll", "validation_nll", "seconds")


@dataclass
class Progress:
    """Where a run stands: `epoch` epochs and `batch` batches of the next one are done."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    n_frames: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder until the block ends, or the process, however it does.

    Raises
    ------
    ValueError
        If another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")  # the system's own: nothing is left locked by a process that was killed
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{str(folder)!r}: another run is at work in this folder, take another one") from None
    try:
        for left in folder.glob(".unfinished-*.safetensors"):  # by a run that was killed
            left.unlink()
        yield
    finally:
        lock.release()


def read_stand(
    record: dict, tensors: Mapping[str, Tensor], optimizer: Optimizer, n_epochs: int
) -> tuple[Progress, dict]:
    """Take out of a checkpoint its progress and what `optimizer` can load, and change nothing yet.

    Parameters
    ----------
    record, tensors
        As `load_checkpoint` gives them. They may be a stranger's.
    optimizer : Optimizer
        Whose state is to fit.
    n_epochs : int
        How many epochs the run has.

    Raises
    ------
    ValueError
        If anything is missing, or is not what such a run could have kept.
    """
    if "progress" not in record or "random_state" not in tensors:
        raise ValueError("holds a model, but nothing to resume its training from")
    try:
        torch.Generator().set_state(tensors["random_state"])
        progress = _read_progress(record["progress"], n_epochs)
        return progress, _read_optimizer(tensors, optimizer, progress.updates)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot be resumed: {error}") from error


def _read_progress(kept: dict, n_epochs: int) -> Progress:
    at = Progress(**kept)
    rows = at.history if isinstance(at.history, list) else [None]
    if len(rows) != at.epoch or not at.epoch <= n_epochs or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"at epoch {reprlib.repr(at.epoch)} its history is {reprlib.repr(at.history)}")
    for values, names in [(kept, tuple(vars(at))), *((row, ROW) for row in rows)]:
        if tuple(values) != names:
            raise ValueError(f"it tells {reprlib.repr(list(values))}, not {names}")
        for name in set(names) - {"history"}:
            kind, lowest, highest = (int, 0, 2**53) if name in COUNTS else ((int, float), -1e300, 1e300)
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
                raise ValueError(f"its {name} is {reprlib.repr(value)}")
    return at


def resume_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Name all that it takes to go on: the optimiser's state, and where the random numbers stand."""
    kept = {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    return kept | {"random_state": torch.get_rng_state()}


def _read_optimizer(tensors: Mapping[str, Tensor], optimizer: Optimizer, updates: int) -> dict:
    state, left = {}, {name for name in tensors if name.startswith("optimizer.")}
    ranges = {"step": (1, updates), "exp_avg_sq": (0, math.inf)}
    for index, weight in enumerate(weight for group in optimizer.param_groups for weight in group["params"]):
        names = {f"optimizer.{index}.{key}": key for key in KEPT[type(optimizer).__name__]}
        for name, key in names.items() if names.keys() & left else ():  # else no loss has reached this weight
            value, shape = tensors.get(name), () if key == "step" else weight.shape
            lowest, highest = ranges.get(key, (-math.inf, math.inf))
            if value is None or value.shape != shape or value.dtype != torch.float32:
                raise ValueError(f"{name} is missing, or not of type float32 and shape {tuple(shape)}")
            if not lowest <= value.min() <= value.max() <= highest:
                raise ValueError(f"{name} is out of its range {lowest}..{highest}")
            state.setdefault(index, {})[key] = value
        left -= names.keys()
    if left:
        raise ValueError(f"{min(left)!r} belongs to no weight")
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def check_same(kept: dict, wanted: dict) -> None:
    """Compare two nested dicts; raise a ValueError that tells which entries differ, and only those."""
    before, now = _flat(kept), _flat(wanted)
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        told = [f"{name} was {reprlib.repr(before.get(name))}, now {reprlib.repr(now.get(name))}" for name in changed]
        raise ValueError(f"was trained otherwise: {'; '.join(told)}")


def _flat(nested: object, name: str = "") -> dict:
    if not isinstance(nested, dict):
        return {name.removeprefix("."): nested}
    return {path: value for key, inner in nested.items() for path, value in _flat(inner, f"{name}.{key}").items()}
