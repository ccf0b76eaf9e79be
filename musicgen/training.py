"""The training loop. It knows nothing of music: it sees sequences of frames, and learns to predict the next one."""

import csv
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from musicgen.checkpoint import load_checkpoint, save_checkpoint
from musicgen.files import write_whole
from musicgen.model import AttentionLSTM
from musicgen.recipe import OPTIMIZERS, SCHEDULES, TrainConfig, next_frame_loss

LESS = "the last good checkpoint is kept, take a lower learning rate"


class Batches(Protocol):
    """What a trainer learns from: epochs that depend on their number alone, so that they can be taken up again."""

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield batches: frames (batch, n_frames + 1, n_keys), lengths without padding and labels, both (batch,)."""

    def n_batches(self, number: int) -> int:
        """Return how many batches the epoch has."""


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


class Trainer:
    """Trains a model, and can be stopped and resumed at any update without a trace.

    In the run folder it keeps ``best.safetensors`` (the lowest validation loss), ``latest.safetensors`` (with all
    that it takes to resume) and ``log.csv`` (one line per epoch). The recipe is the poster's: binary cross-entropy
    against the next frame, here summed over the keys and averaged over the frames. Averaged over the keys as
    well, its gradients are 88 times smaller and SGD learns silence.

    Parameters
    ----------
    model : AttentionLSTM
        The model to train, in place.
    batches : Batches
        The training data.
    validate : callable
        Takes the model, returns its validation loss in nats per frame. Called after each epoch.
    config : TrainConfig
        The recipe.
    run_dir : Path or str
        The run folder.
    tensors : mapping of str to Tensor, optional
        Kept in every checkpoint, such as the baselines to compare with.
    about : dict, optional
        Kept in every checkpoint: what the data are, in JSON. A run is resumed only where it is the same.
    progress : bool
        Show a progress bar for each epoch.
    """

    def __init__(
        self,
        model: AttentionLSTM,
        batches: Batches,
        validate: Callable[[AttentionLSTM], float],
        config: TrainConfig,
        run_dir: Path | str,
        tensors: Mapping[str, Tensor] | None = None,
        about: dict | None = None,
        progress: bool = True,
    ):
        self.model, self.batches, self.validate, self.config = model, batches, validate, config
        self.best_path = Path(run_dir) / "best.safetensors"
        self.latest_path = Path(run_dir) / "latest.safetensors"
        self.log_path = Path(run_dir) / "log.csv"
        self.tensors, self.show_progress = dict(tensors or {}), progress
        self.settings = {"training": asdict(config), **(about or {})}
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config)
        self.progress = Progress()

    def run(self, resume: bool = False, watch: Callable[["Trainer"], bool] | None = None) -> list[dict]:
        """Train to the last epoch, or until Ctrl-C, the notebook's stop button or the watcher ends it.

        Parameters
        ----------
        resume : bool
            Go on from the run folder's latest checkpoint, if there is one.
        watch : callable, optional
            Takes the trainer after each update and each epoch; the run stops there if it returns true.

        Returns
        -------
        list of dict
            One row per finished epoch: epoch, updates, learning_rate, train_nll, validation_nll (nats per frame),
            seconds.

        Raises
        ------
        ValueError
            If the run folder holds a run and `resume` is false, or one with other settings; if the loss is no
            longer finite.
        """
        if self.latest_path.exists():
            if not resume:
                folder = self.latest_path.parent
                raise ValueError(f"{str(folder)!r} holds a run already: resume it or take another folder")
            self._restore()
        else:
            torch.manual_seed(self.config.seed)
        self.watch = watch or (lambda trainer: False)
        with _stop_on_signal() as stop:
            while self.progress.epoch < self.config.n_epochs and not stop.is_set():
                self._run_epoch(stop)
                if self.watch(self):
                    stop.set()
        return self.progress.history

    def _run_epoch(self, stop: threading.Event) -> None:
        """Do what is left of an epoch; save where it ends or is stopped."""
        at, started = self.progress, time.monotonic() - self.progress.seconds
        n_batches = self.batches.n_batches(at.epoch)
        bar = tqdm(
            total=n_batches, initial=at.batch, desc=f"epoch {at.epoch + 1}/{self.config.n_epochs}", unit="batch",
            disable=not self.show_progress,
        )  # fmt: skip
        self.model.train()
        for index, batch in enumerate(self.batches.epoch(at.epoch)):
            if index < at.batch:
                continue
            if stop.is_set():
                break
            self._update(batch, (at.epoch + index / n_batches) / self.config.n_epochs)
            if self.watch(self):
                stop.set()
            bar.update()
            bar.set_postfix(nll=f"{at.loss_sum / max(1, at.n_frames):.3f}")
        bar.close()
        at.seconds = time.monotonic() - started
        if at.batch != n_batches and not stop.is_set():
            raise ValueError(f"epoch {at.epoch} had {at.batch} batches, not {n_batches} as it said")
        if at.batch == n_batches:
            self._finish_epoch(started)
        self._save(self.latest_path, self._resume_tensors())

    def _update(self, batch: tuple[np.ndarray, ...], done: float) -> None:
        """Take one step of gradient descent; `done` is the share of the run that lies behind."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * SCHEDULES[self.config.schedule](done)
        scored = next_frame_loss(self.model, *batch, self.config)
        loss = (scored.nll + self.config.velocity_weight * scored.velocity_nll) / max(1, scored.n_frames)
        if not torch.isfinite(loss):
            update = self.progress.updates + 1
            raise ValueError(f"the loss is {loss.item()} at update {update}: {LESS}")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.progress.batch += 1
        self.progress.updates += 1
        self.progress.loss_sum += scored.nll.item()
        self.progress.n_frames += scored.n_frames

    def _finish_epoch(self, started: float) -> None:
        at = self.progress
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            validation_nll = self.validate(self.model.eval())
        if not math.isfinite(validation_nll):
            raise ValueError(f"the validation loss is {validation_nll} after epoch {at.epoch + 1}: {LESS}")
        best = min((row["validation_nll"] for row in at.history), default=math.inf)
        at.seconds = time.monotonic() - started
        row = {
            "epoch": at.epoch + 1,
            "updates": at.updates,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_nll": at.loss_sum / at.n_frames,
            "validation_nll": validation_nll,
            "seconds": round(at.seconds, 1),
        }
        self.progress = Progress(at.epoch + 1, 0, at.updates, 0.0, 0, at.seconds, [*at.history, row])
        if validation_nll < best:
            self._save(self.best_path, {})
        with write_whole(self.log_path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerows(self.progress.history)

    def _save(self, path: Path, resume_tensors: dict[str, Tensor]) -> None:
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise ValueError(f"the weights are no longer finite after update {self.progress.updates}: {LESS}")
        record = {**self.settings, "progress": asdict(self.progress)}
        save_checkpoint(path, self.model, self.tensors | resume_tensors, record)

    def _resume_tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"]
        kept = {
            f"optimizer.{index}.{name}": value
            for index, values in state.items()
            for name, value in values.items()
            if value is not None
        }
        return kept | {"random_state": torch.get_rng_state()}

    def _restore(self) -> None:
        """Take up weights, optimiser, random numbers and position where the latest checkpoint left them."""
        checkpoint = load_checkpoint(self.latest_path)
        if "random_state" not in checkpoint.tensors:
            raise ValueError(f"{str(self.latest_path)!r} holds a model, but nothing to resume its training from")
        kept = {name: value for name, value in checkpoint.record.items() if name != "progress"}
        if kept != self.settings or checkpoint.model.config != self.model.config:
            raise ValueError(f"{str(self.latest_path)!r} was trained otherwise: {_differences(kept, self.settings)}")
        self.model.load_state_dict(checkpoint.model.state_dict())
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in checkpoint.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(checkpoint.tensors["random_state"])
        self.progress = Progress(**checkpoint.record["progress"])


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Turn Ctrl-C, the notebook's stop button or a cluster's SIGTERM into a flag that is looked at between updates."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _differences(kept: dict, wanted: dict) -> str:
    changed = [name for name in sorted(kept.keys() | wanted.keys()) if kept.get(name) != wanted.get(name)]
    return "; ".join(f"{name} was {kept.get(name)}, now {wanted.get(name)}" for name in changed) or "another model"
