"""The progress of a training run: stored to resume it, and validated before it is used."""

import csv
import math
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from musicgen.utils.files import atomic_write
from musicgen.utils.locks import exclusive

# What the optimisers keep for each weight, in its shape; only "step" is one number.
KEPT = {"SGD": {"momentum_buffer"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
COUNTS = {"epoch", "batch", "updates", "n_frames"}
PROGRESS = ("epoch", "batch", "updates", "loss_sum", "n_frames", "seconds", "history")
ROW = ("epoch", "updates", "learning_rate", "train_nll", "validation_nll", "seconds")
LONGEST_SETTING = 100  # characters


@dataclass
class Progress:
    """Progress of a run: the numbers of finished epochs and of finished batches in the next epoch."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    n_frames: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)

    def add(self, loss: float, n_frames: int) -> None:
        """Count an optimizer step."""
        self.batch += 1
        self.updates += 1
        self.loss_sum += loss
        self.n_frames += n_frames

    def next_epoch(self, learning_rate: float, validation_nll: float, seconds: float) -> "Progress":
        """Return the progress at the start of the next epoch, with a new row in the history."""
        values = self.epoch + 1, self.updates, learning_rate, self.loss_sum / self.n_frames, validation_nll
        row = dict(zip(ROW, (*values, round(seconds, 1))))
        return Progress(self.epoch + 1, 0, self.updates, 0.0, 0, seconds, [*self.history, row])


@contextmanager
def only_run(folder: Path, locked: bool = True) -> Iterator[None]:
    """Lock a run folder during the block; ValueError if another run holds it.

    Raises
    ------
    ValueError
        If another run is using the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not locked:
        yield
        return
    with exclusive(folder / ".lock") as free:
        if not free:
            raise ValueError(f"{str(folder)!r}: another run is using this folder; take another one")
        for left in folder.glob(".unfinished-*.safetensors"):  # from a run that was killed
            left.unlink()
        yield


def read_progress(
    record: dict, tensors: Mapping[str, Tensor], optimizer: Optimizer, n_epochs: int
) -> tuple[Progress, dict]:
    """Return the progress and the optimiser's state that a checkpoint holds; `optimizer` is not changed.

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
    if "progress" not in record or "random_state" not in tensors:
        raise ValueError("holds a model, but no training state to resume from")
    try:
        torch.Generator().set_state(tensors["random_state"])
        progress = validate_progress(record["progress"], n_epochs)
        return progress, _read_optimizer(tensors, optimizer, progress.updates)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot be resumed: {error}") from error


def validate_progress(kept: dict, n_epochs: int = 100_000) -> Progress:
    """Validate and return the progress read from JSON; raise ValueError if a value is missing or invalid."""
    _check_names(kept, PROGRESS)
    at = Progress(**kept)
    rows = at.history if isinstance(at.history, list) else [None]
    if len(rows) != at.epoch or not at.epoch <= n_epochs or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"at epoch {reprlib.repr(at.epoch)} its history is {reprlib.repr(at.history)}")
    for values, names in [(kept, PROGRESS), *((row, ROW) for row in rows)]:
        _check_names(values, names)
        for name in set(names) - {"history"}:
            kind, lowest, highest = (int, 0, 2**53) if name in COUNTS else ((int, float), -1e300, 1e300)
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
                raise ValueError(f"its {name} is {reprlib.repr(value)}")
    return at


def _check_names(values: object, names: tuple[str, ...]) -> None:
    if not isinstance(values, dict) or tuple(values) != names:
        found = list(values) if isinstance(values, dict) else values
        raise ValueError(f"expected the entries {', '.join(names)}, not {reprlib.repr(found)}")


def validate_settings(settings: object) -> None:
    """Raise ValueError unless settings from JSON map names to numbers or short texts."""
    if not isinstance(settings, dict):
        raise ValueError(f"expected settings, not {reprlib.repr(settings)}")
    for name, value in settings.items():
        text = isinstance(value, str) and len(value) <= LONGEST_SETTING
        if not name.isidentifier() or not (text or (isinstance(value, (int, float)) and not math.isnan(value))):
            raise ValueError(f"{reprlib.repr(name)} cannot be {reprlib.repr(value)}")


def resume_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state of the optimiser and of the random generator as named tensors."""
    kept = {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    return kept | {"random_state": torch.get_rng_state()}


def write_log(path: Path, history: list[dict]) -> None:
    """Write a history as a CSV file."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ROW)
        writer.writeheader()
        writer.writerows(history)


def _read_optimizer(tensors: Mapping[str, Tensor], optimizer: Optimizer, updates: int) -> dict:
    state, left = {}, {name for name in tensors if name.startswith("optimizer.")}
    ranges = {"step": (1, updates), "exp_avg_sq": (0, math.inf)}
    for index, weight in enumerate(weight for group in optimizer.param_groups for weight in group["params"]):
        names = {f"optimizer.{index}.{key}": key for key in KEPT[type(optimizer).__name__]}
        for name, key in names.items() if names.keys() & left else ():  # otherwise it has no gradient yet
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


def check_same(kept: dict, wanted: dict, more: str = "") -> None:
    """Raise ValueError if two nested dicts differ; only the number at the key path `more` may be larger."""
    before, now = _flat(kept), _flat(wanted)
    if isinstance(before.get(more), int) and before[more] <= now.get(more, 0):
        before[more] = now[more]
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        told = [f"{name} was {reprlib.repr(before.get(name))}, now {reprlib.repr(now.get(name))}" for name in changed]
        raise ValueError(f"was trained with other settings: {'; '.join(told)}")


def _flat(nested: object, name: str = "") -> dict:
    if not isinstance(nested, dict):
        return {name.removeprefix("."): nested}
    return {path: value for key, inner in nested.items() for path, value in _flat(inner, f"{name}.{key}").items()}


def check_record(record: dict) -> None:
    """Raise ValueError if the progress, history or settings in a record have wrong types or values."""
    if "progress" in record:
        validate_progress(record["progress"])
    for name in ("training", "windows"):
        validate_settings(record.get(name, {}))
    if not isinstance(record.get("data", {}), dict):
        raise ValueError("its description of the data is not a table")
