"""Progress of a training run: what the trainer counts, its record in a checkpoint, and the log."""

import csv
import math
import reprlib
from dataclasses import dataclass, field
from pathlib import Path

from musicgen.utils.files import atomic_write

COUNTS = {"epoch", "batch", "updates", "n_frames"}
PROGRESS = ("epoch", "batch", "updates", "loss_sum", "n_frames", "seconds", "epoch_began", "history")
ROW = ("epoch", "updates", "learning_rate", "train_nll", "validation_nll", "seconds")
LONGEST_SETTING = 100  # characters


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


def write_log(path: Path, history: list[dict]) -> None:
    """Write a history as a CSV file."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ROW)
        writer.writeheader()
        writer.writerows(history)


def check_record(record: dict) -> None:
    """Raise ValueError if the progress, history or settings in a record have wrong types or values."""
    for name in ("training", "windows"):
        validate_settings(record.get(name, {}))
    if not isinstance(record.get("data", {}), dict):
        raise ValueError("its description of the data is not a dict")
    if "progress" in record:
        validate_progress(record["progress"], every=validated_every(record))


def validated_every(record: dict) -> int:
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
    progress = Progress(**kept)
    rows = progress.history if isinstance(progress.history, list) else [None]
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
    ascending = all(before < after for before, after in zip(epochs, [*epochs[1:], progress.epoch + 1]))
    if progress.epoch > n_epochs or not ascending or not set(range(every, progress.epoch + 1, every)) <= set(epochs):
        told = reprlib.repr(progress.history)
        raise ValueError(f"its history does not fit epoch {reprlib.repr(progress.epoch)}: {told}")
    if is_older and progress.history:
        progress.epoch_began = progress.history[-1]["seconds"]  # right if every epoch was validated
    return progress


def validate_settings(settings: object) -> None:
    """Raise ValueError unless settings from JSON are a dict from names to numbers or short texts."""
    if not isinstance(settings, dict):
        raise ValueError(f"expected settings, not {reprlib.repr(settings)}")
    for name, value in settings.items():
        is_text = isinstance(value, str) and len(value) <= LONGEST_SETTING
        is_number = isinstance(value, int) or (isinstance(value, float) and not math.isnan(value))
        if not name.isidentifier() or not (is_text or is_number):
            raise ValueError(f"{reprlib.repr(name)} cannot be {reprlib.repr(value)}")


def _check_names(values: object, names: tuple[str, ...]) -> None:
    """Raise ValueError unless `values` is a dict with exactly these keys."""
    if not isinstance(values, dict) or values.keys() != set(names):
        found = list(values) if isinstance(values, dict) else values
        raise ValueError(f"expected the entries {', '.join(names)}, not {reprlib.repr(found)}")
