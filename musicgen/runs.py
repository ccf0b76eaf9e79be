"""Training runs side by side: what was set, and what came of it."""

import html
from dataclasses import asdict, dataclass
from pathlib import Path

from musicgen.checkpoint import CheckpointError, load_checkpoint


@dataclass(frozen=True)
class Run:
    """A run that was kept.

    Parameters
    ----------
    name : str
        That of its folder.
    settings : dict
        All that was set, of the model, its training and its windows, by name.
    history : list of dict
        One row per finished epoch, as `Trainer.run` returns it; at least one.
    """

    name: str
    settings: dict
    history: list[dict]

    @property
    def best(self) -> dict:
        """The epoch with the lowest validation loss."""
        return min(self.history, key=lambda row: row["validation_nll"])


def load_runs(folder: Path | str) -> list[Run]:
    """Read all runs below a folder that have finished an epoch, in the order in which they were begun.

    What cannot be read as a checkpoint is left out.
    """
    runs = []
    for path in sorted(Path(folder).glob("*/best.safetensors"), key=lambda path: path.parent.stat().st_ctime):
        try:
            latest = path.with_name("latest.safetensors")
            checkpoint = load_checkpoint(latest if latest.exists() else path)
        except CheckpointError:
            continue
        record = checkpoint.record
        settings = asdict(checkpoint.model.config) | record.get("windows", {}) | record["training"]
        runs.append(Run(path.parent.name, settings, record["progress"]["history"]))
    return runs


def compare_runs(runs: list[Run]) -> list[dict]:
    """Return one row for each run: its name, the settings in which runs differ, and how it went.

    Losses are in nats per frame; those named are of the epoch with the lowest validation loss.
    """
    names = {name for run in runs for name in run.settings}
    order = [name for run in runs[:1] for name in run.settings] + sorted(names)
    differing = [name for name in dict.fromkeys(order) if len({repr(run.settings.get(name)) for run in runs}) > 1]
    return [
        {"run": run.name}
        | {name: run.settings.get(name, "") for name in differing}
        | {
            "epochs": len(run.history),
            "seconds": round(run.history[-1]["seconds"]),
            "training": round(run.best["train_nll"], 3),
            "validation": round(run.best["validation_nll"], 3),
        }
        for run in runs
    ]


def runs_table(runs: list[Run]) -> str:
    """Return `compare_runs` as an HTML table, the lowest validation loss in bold."""
    rows = compare_runs(runs)
    lowest = min((row["validation"] for row in rows), default=None)
    cell = "style='padding: 3px 12px; text-align: right; border-bottom: 1px solid #80808040'"
    head = "".join(f"<th {cell}>{name.replace('_', ' ')}</th>" for name in (rows[0] if rows else ()))
    body = ""
    for row in rows:
        weight = "bold" if row["validation"] == lowest else "normal"
        cells = "".join(f"<td {cell}>{html.escape(str(value))}</td>" for value in row.values())
        body += f"<tr style='font-weight: {weight}'>{cells}</tr>"
    return f"<table style='border-collapse: collapse'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
