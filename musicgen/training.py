"""The training loop. It knows nothing of music: it sees sequences of frames, and learns to predict the next one."""

import csv
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from musicgen.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from musicgen.model import AttentionLSTM
from musicgen.recipe import OPTIMIZERS, SCHEDULES, TrainConfig, next_frame_loss
from musicgen.resume import Progress, check_same, only_run, read_stand, resume_tensors
from musicgen.scaling.torchrun import add_up, rank, scatter_chance, share, start_alike, stop_on_signal
from musicgen.support.files import atomic_write, printable

LESS = "the last good checkpoint is kept, take a lower learning rate"


class Batches(Protocol):
    """What a trainer learns from: epochs that depend on their number alone, so that they can be taken up again."""

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield batches: frames (batch, n_frames + 1, n_pitches), lengths without padding and labels, both (batch,)."""

    def n_batches(self, number: int) -> int:
        """Return how many batches the epoch has."""


class Trainer:
    """Trains a model, and can be stopped and resumed at any update without a trace.

    In the run folder it keeps ``best.safetensors`` (the lowest validation loss), ``latest.safetensors`` (with all
    that it takes to resume), ``previous.safetensors`` (the one before, should the latest be damaged) and ``log.csv``
    (one line per epoch). The recipe is the poster's: binary cross-entropy against the next frame, here summed over
    the keys and averaged over the frames. Averaged over the keys as well, its gradients are 88 times smaller and
    SGD learns silence.

    Parameters
    ----------
    model : AttentionLSTM
        The model to train, in place.
    batches : Batches
        The training data.
    validate : callable
        Takes the model, returns its validation loss in nats per frame. Called after each epoch; of several processes
        in each, and returns the same in all.
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
        self.previous_path = Path(run_dir) / "previous.safetensors"
        self.log_path = Path(run_dir) / "log.csv"
        self.tensors, self.show_progress = dict(tensors or {}), progress
        self.settings = {"training": asdict(config), **(about or {})}
        self.latest_is_sound = False  # as far as is known
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
            If the run folder holds a run and `resume` is false, one with other settings, or one that is at work; if
            the loss is no longer finite.
        """
        folder = self.latest_path.parent
        with nullcontext() if rank() else only_run(folder), stop_on_signal() as stop:
            if not self.latest_path.exists() and not self.previous_path.exists():
                torch.manual_seed(self.config.seed)
            elif resume:
                self._restore()
            else:
                raise ValueError(f"{str(folder)!r} holds a run already: resume it or take another folder")
            start_alike([*self.model.parameters()], self.progress.updates)
            self.watch, asked = watch or (lambda trainer: False), False
            while self.progress.epoch < self.config.n_epochs and not stop(asked):
                number = self.progress.epoch
                self._run_epoch(stop)
                asked = self.progress.epoch == number or self.watch(self)  # where it has not ended, it was stopped
        return self.progress.history

    def _run_epoch(self, stop: Callable[[bool], bool]) -> None:
        """Do what is left of an epoch; save where it ends or is stopped."""
        at, started, stopped = self.progress, time.monotonic() - self.progress.seconds, False
        n_batches, asked = self.batches.n_batches(at.epoch), False
        bar = tqdm(
            total=n_batches, initial=at.batch, desc=f"epoch {at.epoch + 1}/{self.config.n_epochs}", unit="batch",
            disable=rank() > 0 or not self.show_progress,
        )  # fmt: skip
        self.model.train()
        for index, batch in enumerate(self.batches.epoch(at.epoch)):
            if index < at.batch:
                continue
            if stopped := stop(asked):
                break
            self._update(batch, (at.epoch + index / n_batches) / self.config.n_epochs)
            asked = self.watch(self)
            bar.update()
            bar.set_postfix(nll=f"{at.loss_sum / max(1, at.n_frames):.3f}")
        bar.close()
        at.seconds = time.monotonic() - started
        if at.batch != n_batches and not stopped:
            raise ValueError(f"epoch {at.epoch} had {at.batch} batches, not {n_batches} as it said")
        if at.batch == n_batches:
            self._finish_epoch(started)
        self._save_latest()

    def _update(self, batch: tuple[np.ndarray, ...], done: float) -> None:
        """Take one step of gradient descent; `done` is the share of the run that lies behind."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * SCHEDULES[self.config.schedule](done)
        scatter_chance(self.config.seed, self.progress.updates)
        scored, n_frames = next_frame_loss(self.model, *share(batch), self.config), int((batch[1] - 1).sum())
        loss = (scored.nll + self.config.velocity_weight * scored.velocity_nll) / max(1, n_frames)
        self.optimizer.zero_grad()
        loss.backward()
        loss, nll = loss.detach(), scored.nll.detach()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        add_up([loss, nll, *gradients])
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()} at update {self.progress.updates + 1}: {LESS}")
        if (norm := torch.nn.utils.get_total_norm(gradients)) > self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_norm, norm)
        self.optimizer.step()
        self.progress.batch += 1
        self.progress.updates += 1
        self.progress.loss_sum += nll.item()
        self.progress.n_frames += n_frames

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
        if rank():
            return
        with atomic_write(self.log_path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerows(self.progress.history)

    def _save(self, path: Path, resume: dict[str, Tensor], previous: Path | None = None) -> None:
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise ValueError(f"the weights are no longer finite after update {self.progress.updates}: {LESS}")
        if rank():
            return
        record = {**self.settings, "progress": asdict(self.progress)}
        save_checkpoint(path, self.model, self.tensors | resume, record, previous)

    def _save_latest(self) -> None:
        """Write the latest checkpoint. The one that was becomes the previous, unless it was found damaged."""
        previous = self.previous_path if self.latest_is_sound else None
        self._save(self.latest_path, resume_tensors(self.optimizer), previous)
        self.latest_is_sound = True

    def _load(self) -> tuple[Path, Checkpoint]:
        """Load the latest checkpoint or, if it is damaged or gone, the one before."""
        try:
            checkpoint = load_checkpoint(self.latest_path)
        except CheckpointError as error:
            if not self.previous_path.exists():
                raise
            tqdm.write(printable(f"{error}: going on from {str(self.previous_path)!r}"), file=sys.stderr)
            return self.previous_path, load_checkpoint(self.previous_path)
        self.latest_is_sound = True
        return self.latest_path, checkpoint

    def _restore(self) -> None:
        """Take up weights, optimiser, random numbers and position where the checkpoint left them, or nothing of it."""
        path, checkpoint = self._load()
        kept = {**checkpoint.record, "model": asdict(checkpoint.model.config), "progress": {}}
        try:
            check_same(kept, {**self.settings, "model": asdict(self.model.config)})
            at, state = read_stand(checkpoint.record, checkpoint.tensors, self.optimizer, self.config.n_epochs)
            if at.batch and at.batch >= self.batches.n_batches(at.epoch):
                raise ValueError(f"cannot be resumed: its epoch has no batch {at.batch}")
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{str(path)!r} {error}") from error
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.optimizer.load_state_dict(state)
        torch.set_rng_state(checkpoint.tensors["random_state"])
        self.progress = at
