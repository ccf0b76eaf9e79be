"""The progress of a training run: stored to resume it, and validated before it is used."""

import csv
import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from musicgen.training.optim import WeightAverage
from musicgen.utils.files import atomic_write
from musicgen.utils.locks import Lock, exclusive
from musicgen.utils.progress import print_above_bar

RUN_FILES = ("best.safetensors", "latest.safetensors", "previous.safetensors", "log.csv")
# What the optimizers keep for each weight, in its shape; only "step" is one number.
KEPT = {"SGD": {"momentum_buffer"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
COUNTS = {"epoch", "batch", "updates", "n_frames"}
PROGRESS = ("epoch", "batch", "updates", "loss_sum", "n_frames", "seconds", "epoch_began", "history")
ROW = ("epoch", "updates", "learning_rate", "train_nll", "validation_nll", "seconds")
LONGEST_SETTING = 100  # characters
RANDOM_STATE = "random_state"
DEVICE_STATE = "random_state.device"


@dataclass
class Progress:
    """Progress of a run: the numbers of finished epochs, batches and updates, the losses, and the times.

    ``batch`` counts the finished batches of the next epoch. ``loss_sum`` and ``n_frames`` count since the last
    validation. ``seconds`` and ``epoch_began`` are times of the run: now (when it is saved), and when the epoch began.
    ``history`` has a row for each validation.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    n_frames: int = 0
    seconds: float = 0.0
    epoch_began: float = 0.0
    history: list[dict] = field(default_factory=list)

    def add(self, loss: float, n_frames: int) -> None:
        """Count an optimizer step."""
        self.batch += 1
        self.updates += 1
        self.loss_sum += loss
        self.n_frames += n_frames

    def finish_epoch(self, seconds: float) -> None:
        """Go on to the next epoch, which begins `seconds` after the start of the run."""
        self.epoch += 1
        self.batch = 0
        self.seconds = seconds
        self.epoch_began = seconds

    def add_row(self, learning_rate: float, validation_nll: float) -> None:
        """Add a row to the history. Before the first update there is no training loss."""
        train_nll = self.loss_sum / self.n_frames if self.n_frames else None
        row = {
            "epoch": self.epoch,
            "updates": self.updates,
            "learning_rate": learning_rate,
            "train_nll": train_nll,
            "validation_nll": validation_nll,
            "seconds": round(self.seconds, 1),
        }
        self.history = [*self.history, row]
        self.loss_sum = 0.0
        self.n_frames = 0


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
        progress = validate_progress(record["progress"], n_epochs, _validated_every(record))
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


def _validated_every(record: dict) -> int:
    """Return the number of epochs between two validations; 1 in older records."""
    every = record.get("training", {}).get("validate_every", 1)
    return every if isinstance(every, int) and every > 0 else 1


def validate_progress(kept: dict, n_epochs: int = 100_000, every: int = 1) -> Progress:
    """Validate and return the progress read from JSON.

    Parameters
    ----------
    kept : dict
        The fields of a `Progress`; in older records, without ``epoch_began``.
    n_epochs : int
        The largest number of epochs.
    every : int
        Epochs between two validations.

    Raises
    ------
    ValueError
        If a value is missing or invalid.
    """
    is_older = isinstance(kept, dict) and "epoch_began" not in kept
    if is_older:
        kept = {**kept, "epoch_began": 0.0}
    _check_names(kept, PROGRESS)
    at = Progress(**kept)
    rows = at.history if isinstance(at.history, list) else [None]
    for values, names in [(kept, PROGRESS), *((row, ROW) for row in rows)]:
        _check_names(values, names)
        for name in set(names) - {"history"}:
            if name == "train_nll" and values["epoch"] == 0 and values[name] is None:
                continue  # the loss of a model that training starts from
            kind, lowest, highest = (int, 0, 2**53) if name in COUNTS else ((int, float), -1e300, 1e300)
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
                raise ValueError(f"its {name} is {reprlib.repr(value)}")
    epochs = [row["epoch"] for row in rows]
    ascending = all(before < after for before, after in zip(epochs, [*epochs[1:], at.epoch + 1]))
    if at.epoch > n_epochs or not ascending or not set(range(every, at.epoch + 1, every)) <= set(epochs):
        raise ValueError(f"its history does not fit epoch {reprlib.repr(at.epoch)}: {reprlib.repr(at.history)}")
    if is_older and at.history:
        at.epoch_began = at.history[-1]["seconds"]  # right if every epoch was validated
    return at


def _check_names(values: object, names: tuple[str, ...]) -> None:
    """Raise ValueError unless `values` is a dict with exactly these keys."""
    if not isinstance(values, dict) or values.keys() != set(names):
        found = list(values) if isinstance(values, dict) else values
        raise ValueError(f"expected the entries {', '.join(names)}, not {reprlib.repr(found)}")


def validate_settings(settings: object) -> None:
    """Raise ValueError unless settings from JSON are a dict from names to numbers or short texts."""
    if not isinstance(settings, dict):
        raise ValueError(f"expected settings, not {reprlib.repr(settings)}")
    for name, value in settings.items():
        text = isinstance(value, str) and len(value) <= LONGEST_SETTING
        if not name.isidentifier() or not (text or (isinstance(value, (int, float)) and not math.isnan(value))):
            raise ValueError(f"{reprlib.repr(name)} cannot be {reprlib.repr(value)}")


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as named tensors."""
    return {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def write_log(path: Path, history: list[dict]) -> None:
    """Write a history as a CSV file."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ROW)
        writer.writeheader()
        writer.writerows(history)


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


def check_record(record: dict) -> None:
    """Raise ValueError if the progress, history or settings in a record have wrong types or values."""
    for name in ("training", "windows"):
        validate_settings(record.get(name, {}))
    if not isinstance(record.get("data", {}), dict):
        raise ValueError("its description of the data is not a dict")
    if "progress" in record:
        validate_progress(record["progress"], every=_validated_every(record))
