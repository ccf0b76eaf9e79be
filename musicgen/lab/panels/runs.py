"""Tables of training runs: their settings and results."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from IPython.display import HTML

from musicgen.lab.figures.html import escape, table
from musicgen.training import CheckpointError, load_checkpoint


@dataclass(frozen=True)
class Run:
    """A training run that has been validated at least once.

    Parameters
    ----------
    name : str
        The name of its folder.
    settings : dict
        All settings of the model, the training and the windows, by name.
    history : list of dict
        One row per validation, as `Trainer.run` returns it; at least one.
    """

    name: str
    settings: dict
    history: list[dict]

    @property
    def best(self) -> dict:
        """The row of the history with the lowest validation loss."""
        return min(self.history, key=lambda row: row["validation_nll"])


def load_runs(folder: Path | str) -> list[Run]:
    """Load the runs in a folder that have been validated, in natural order of their names.

    A run whose latest checkpoint is damaged counts up to its best one. A run without a sound checkpoint is left out.
    """
    folders = {path.parent for path in Path(folder).glob("*/best.safetensors")}
    in_order = sorted(folders, key=lambda path: [part.zfill(9) for part in re.split(r"(\d+)", path.name)])
    return [run for run in map(_read_run, in_order) if run]


def _read_run(folder: Path) -> Run | None:
    for name in ("latest", "best"):
        try:
            checkpoint = load_checkpoint(folder / f"{name}.safetensors")
        except CheckpointError:
            continue
        record = checkpoint.record
        if history := record.get("progress", {}).get("history"):
            settings = asdict(checkpoint.model.config) | record.get("windows", {}) | record.get("training", {})
            return Run(folder.name, settings, history)
    return None


def compare_runs(runs: list[Run]) -> list[dict]:
    """Return a row for each run: its name, its results, and the settings in which the runs differ.

    Losses are in nats per frame, at the epoch with the lowest validation loss.
    """
    names = {name for run in runs for name in run.settings}
    order = [name for run in runs[:1] for name in run.settings] + sorted(names)
    differing = [name for name in dict.fromkeys(order) if len({repr(run.settings.get(name)) for run in runs}) > 1]
    return [
        {"run": run.name}
        | {name: run.settings.get(name, "") for name in differing}
        | {
            "epochs": run.history[-1]["epoch"],
            "seconds": round(run.history[-1]["seconds"]),
            "training": "" if run.best["train_nll"] is None else round(run.best["train_nll"], 3),  # of a start
            "validation": round(run.best["validation_nll"], 3),
        }
        for run in runs
    ]


def runs_table(runs: list[Run]) -> str:
    """Return `compare_runs` as an HTML table, with the lowest validation loss in bold."""
    rows = compare_runs(runs)
    lowest = min((row["validation"] for row in rows), default=None)
    bold = [index for index, row in enumerate(rows) if row["validation"] == lowest]
    head = [str(name).replace("_", " ") for name in (rows[0] if rows else ())]
    return table([list(row.values()) for row in rows], head, bold)


def show_runs(folder: Path | str) -> HTML:
    """Show a table of all runs in a folder, and report runs that cannot be read."""
    runs = load_runs(folder)
    used = {run.name for run in runs}
    invalid = sorted({path.parent.name for path in Path(folder).glob("*/*.safetensors")} - used)
    note = f"<p>Left out, unfinished or invalid: {escape(', '.join(invalid))}</p>" if invalid else ""
    return HTML((runs_table(runs) if runs else "<i>There are no runs yet.</i>") + note)
