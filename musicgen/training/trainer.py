"""The training loop: a trainer that can be stopped and resumed."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from musicgen.dataset import Batch, WindowBatches
from musicgen.model import AttentionLSTM
from musicgen.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from musicgen.training.loss import next_frame_loss
from musicgen.training.optim import OPTIMIZERS, SCHEDULES, autocast
from musicgen.training.resume import Progress, check_same, only_run, read_progress, resume_tensors, write_log
from musicgen.utils.files import printable
from musicgen.utils.progress import progress_bar
from musicgen.utils.settings import Settings, setting
from musicgen.utils.signals import StopSignal, catch_signals

RUN_FILES = ("best.safetensors", "latest.safetensors", "previous.safetensors", "log.csv")
SAVE_SECONDS = 300.0  # between two checkpoints within an epoch
ADVICE = "the last good checkpoint is kept; take a lower learning rate"
PRECISIONS = "float32", "bfloat16"


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Configuration of a `Trainer`."""

    optimizer: str = setting("``sgd`` with momentum, as on the poster, or ``adamw``.", "sgd", choices=OPTIMIZERS)
    learning_rate: float = setting("The poster uses 0.001 to 0.01.", 0.01, 1e-12, 1, usual=(1e-4, 0.1))
    schedule: str = setting("``constant``, or ``cosine`` after a short warm-up.", "constant", choices=SCHEDULES)
    momentum: float = setting("Momentum of SGD.", 0.9, 0, 0.999)
    weight_decay: float = setting("Weight decay of AdamW.", 0.01, 0, 1)
    clip_norm: float = setting("Largest norm of the gradient.", 100.0, 1e-6, math.inf, usual=(0.1, 1000))
    n_epochs: int = setting("Passes over the data.", 10, 1, 100_000, usual=(1, 64))
    precision: str = setting("A processor without ``bfloat16`` uses ``float32``.", "float32", choices=PRECISIONS)
    velocity_weight: float = setting("Weight of the velocities in the loss.", 0.25, 0, 100, usual=(0, 2))
    pedal_weight: float = setting("Weight of the pedal in the loss.", 1.0, 0, 100, usual=(0, 2))
    seed: int = setting("Seed of dropout; for ``train``, also of weights and windows.", 0, 0, 2**63 - 1)


class Trainer:
    """Trains a model. A run can be stopped and resumed after any update, with the same result.

    The run folder holds ``best.safetensors`` (lowest validation loss), ``latest.safetensors`` (with all that is needed
    to resume), ``previous.safetensors`` (in case the latest is damaged) and ``log.csv`` (a line per epoch).

    Parameters
    ----------
    model : AttentionLSTM
        Trained in place.
    batches : WindowBatches, or any object with its methods `epoch` and `n_batches`
        The batches of an epoch depend on its number only, so that a run can continue within one.
    validate : callable
        Takes the model, returns its validation loss in nats per frame. Called after each epoch.
    config : TrainConfig
    run_dir : Path or str
    tensors : mapping of str to Tensor, optional
        Stored in every checkpoint, for example the baselines.
    about : dict, optional
        Stored in every checkpoint: a description of the data, in JSON. A run is resumed only with the same one.
    progress : bool
        Show a progress bar for each epoch.
    """

    writes = True  # checkpoints, log and progress bar

    def __init__(
        self,
        model: AttentionLSTM,
        batches: WindowBatches,
        validate: Callable[[AttentionLSTM], float],
        config: TrainConfig,
        run_dir: Path | str,
        tensors: Mapping[str, Tensor] | None = None,
        about: dict | None = None,
        progress: bool = True,
    ):
        self.model, self.batches, self.validate, self.config = model, batches, validate, config
        self.run_dir = Path(run_dir)
        self.best_path, self.latest_path, self.previous_path, self.log_path = (self.run_dir / n for n in RUN_FILES)
        self.tensors, self.show_progress = dict(tensors or {}), progress
        self.settings = {"training": asdict(config), **(about or {})}
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config)
        self.progress, self.stop, self.latest_is_sound = Progress(), StopSignal(), False

    def run(self, resume: bool = False, callback: Callable[["Trainer"], bool] | None = None) -> list[dict]:
        """Train until the last epoch, a stop signal (such as Ctrl-C), or until the callback returns True.

        Parameters
        ----------
        resume : bool
            Continue from the latest checkpoint, if there is one; `TrainConfig.n_epochs` may be larger than before.
        callback : callable, optional
            Takes the trainer after each update and each epoch.

        Returns
        -------
        list of dict
            One row per finished epoch: epoch, updates, learning_rate, train_nll, validation_nll, seconds.

        Raises
        ------
        ValueError
            If the folder holds a run and `resume` is false, or a run with other settings, or one that is still
            running; or if the loss is not finite.
        """
        self.callback = callback or (lambda trainer: False)
        with only_run(self.run_dir, self.writes), catch_signals() as self.stop:
            self._begin(resume)
            ended = False
            while self.progress.epoch < self.config.n_epochs and not self._agree(ended or self.stop.is_set()):
                number = self.progress.epoch
                self._run_epoch()
                ended = self.progress.epoch == number or self.callback(self)
        return self.progress.history

    # Hooks of musicgen.scaling; the defaults train on one machine.

    def _begin(self, resume: bool) -> None:
        """Seed the random number generators, or resume from the latest checkpoint."""
        found = [name for name in RUN_FILES if (self.run_dir / name).exists()]
        if found and not resume:
            place = f"{str(self.run_dir)!r} holds a run already ({found[0]})"
            raise ValueError(f"{place}: resume it, or take another folder")
        if found:
            self._restore()
        else:
            torch.manual_seed(self.config.seed)

    def _part(self, batch: Batch) -> Batch:
        """Return the part of a batch that this trainer computes; by default all of it."""
        return batch

    def _add_up(self, tensors: list[Tensor]) -> None:
        """Add the losses and gradients of the other parts, in place."""

    def _agree(self, flag: bool) -> bool:
        """Return whether `flag` is set in any part; by default there is only one."""
        return flag

    def _run_epoch(self) -> None:
        """Train the rest of an epoch; save a checkpoint every few minutes, when stopped, and at the end."""
        at, started, ended = self.progress, time.monotonic() - self.progress.seconds, False
        n_batches, saved = self.batches.n_batches(at.epoch), time.monotonic()
        name = f"epoch {at.epoch + 1}/{self.config.n_epochs}"
        self.model.train()
        with progress_bar(name, n_batches, "batch", self.show_progress and self.writes, at.batch) as bar:
            for index, batch in enumerate(self.batches.epoch(at.epoch)):
                if index < at.batch:
                    continue
                if self._agree(ended or self.stop.is_set()):
                    break
                self._update(batch, (at.epoch + index / n_batches) / self.config.n_epochs)
                ended = self.callback(self)
                bar.set_postfix_str(f"nll {at.loss_sum / max(1, at.n_frames):.3f}", refresh=False)
                bar.update()
                if time.monotonic() - saved > SAVE_SECONDS and at.batch < n_batches:
                    at.seconds, saved = time.monotonic() - started, time.monotonic()
                    self._save_latest()
        at.seconds = time.monotonic() - started
        if at.batch == n_batches:
            self._finish_epoch(started)
        self._save_latest()

    def _update(self, batch: Batch, done: float) -> None:
        """Take one optimizer step; `done` is the fraction of the run that is completed (0 to 1)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * SCHEDULES[self.config.schedule](done)
        n_frames = int((batch.lengths - 1).sum())
        scored = next_frame_loss(self.model, self._part(batch), self.config)
        loss = scored.total / max(1, n_frames)
        self.optimizer.zero_grad()
        loss.backward()
        loss, nll = loss.detach(), scored.nll.detach()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        self._add_up([loss, nll, *gradients])
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()} at update {self.progress.updates + 1}: {ADVICE}")
        if (norm := torch.nn.utils.get_total_norm(gradients)) > self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_norm, norm)
        self.optimizer.step()
        self.progress.add(nll.item(), n_frames)

    def _finish_epoch(self, started: float) -> None:
        """Validate, keep the best model, and write the log."""
        at, device = self.progress, next(self.model.parameters()).device.type
        with autocast(device, self.config.precision):
            validation_nll = self.validate(self.model.eval())
        if not math.isfinite(validation_nll):
            raise ValueError(f"the validation loss is {validation_nll} after epoch {at.epoch + 1}: {ADVICE}")
        best = min((row["validation_nll"] for row in at.history), default=math.inf)
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.progress = at.next_epoch(learning_rate, validation_nll, time.monotonic() - started)
        if validation_nll < best:
            self._save(self.best_path, {})
        if self.writes:
            write_log(self.log_path, self.progress.history)

    def _save(self, path: Path, resume: dict[str, Tensor], previous: Path | None = None) -> None:
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise ValueError(f"the weights are no longer finite after update {self.progress.updates}: {ADVICE}")
        if self.writes:
            record = {**self.settings, "progress": asdict(self.progress)}
            save_checkpoint(path, self.model, self.tensors | resume, record, previous)

    def _save_latest(self) -> None:
        """Write the latest checkpoint; the one that it replaces becomes the previous one, unless it is damaged."""
        previous = self.previous_path if self.latest_is_sound else None
        self._save(self.latest_path, resume_tensors(self.optimizer), previous)
        self.latest_is_sound = True

    def _load(self) -> tuple[Path, Checkpoint]:
        """Load the latest checkpoint, or the previous one if the latest is damaged or missing."""
        try:
            checkpoint = load_checkpoint(self.latest_path)
        except CheckpointError as error:
            if not self.previous_path.exists():
                raise
            tqdm.write(printable(f"{error}: continuing from {str(self.previous_path)!r}"), file=sys.stderr)
            return self.previous_path, load_checkpoint(self.previous_path)
        self.latest_is_sound = True
        return self.latest_path, checkpoint

    def _restore(self) -> None:
        """Restore weights, optimiser, random state and progress from a checkpoint; all or nothing."""
        path, checkpoint = self._load()
        kept = {**checkpoint.record, "model": asdict(checkpoint.model.config), "progress": {}}
        wanted = {**self.settings, "model": asdict(self.model.config)}
        try:
            check_same(kept, wanted, more="training.n_epochs")
            at, state = read_progress(checkpoint.record, checkpoint.tensors, self.optimizer, self.config.n_epochs)
            if at.batch and at.batch >= self.batches.n_batches(at.epoch):
                raise ValueError(f"cannot be resumed: its epoch has no batch {at.batch}")
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{str(path)!r} {error}") from error
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.optimizer.load_state_dict(state)
        torch.set_rng_state(checkpoint.tensors["random_state"])
        self.progress = at
