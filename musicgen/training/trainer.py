"""The training loop: a trainer that can be stopped and resumed."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from musicgen.dataset import Batch, Batches
from musicgen.model import AttentionLSTM
from musicgen.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from musicgen.training.loss import PEDAL_WEIGHT, VELOCITY_WEIGHT, next_frame_loss
from musicgen.training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    WeightAverage,
    autocast,
    only_training,
    parameter_groups,
    parse_rates,
    rate_factor,
)
from musicgen.training.progress import Progress, write_log
from musicgen.training.resume import (
    RUN_FILES,
    check_same,
    files_of_run,
    optimizer_tensors,
    progress_from_checkpoint,
    random_states,
    read_average,
    restore_random_states,
    run_lock,
)
from musicgen.utils.inference import modes_kept
from musicgen.utils.progress import print_above_bar, progress_bar
from musicgen.utils.settings import Settings, setting
from musicgen.utils.signals import StopSignal, catch_signals

SAVE_SECONDS = 300.0  # between two checkpoints within an epoch
ADVICE = "the last good checkpoint is kept; take a lower learning rate"
PRECISIONS = "float32", "bfloat16"
GROWING = "training.n_epochs", "training.minutes"  # may be larger when a run is resumed


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Configuration of a `Trainer`."""

    optimizer: str = setting("``sgd``, as on the poster, or ``adamw``.", "sgd", choices=OPTIMIZERS)
    learning_rate: float = setting("The poster uses 0.001 to 0.01.", 0.01, 1e-12, 1, usual=(1e-4, 0.1))
    schedule: str = setting("``constant``, or ``cosine`` after a short warm-up.", "constant", choices=SCHEDULES)
    warm_up: int = setting("Updates of warm-up; 0: 2 % of the run for ``cosine``.", 0, 0, 10**6, usual=(0, 1000))
    final_rate: float = setting("Share of the learning rate at which ``cosine`` ends.", 0.0, 0, 1)
    momentum: float = setting("Momentum of SGD; the poster mentions none.", 0.9, 0, 0.999)
    beta1: float = setting("AdamW's decay of the mean gradient.", 0.9, 0, 0.9999, usual=(0.5, 0.999))
    beta2: float = setting("AdamW's decay of the mean squared gradient.", 0.999, 0, 0.99999, usual=(0.9, 0.9999))
    weight_decay: float = setting("Weight decay of AdamW.", 0.01, 0, 1)
    clip_norm: float = setting("Largest norm of the gradient.", 100.0, 1e-6, math.inf, usual=(0.1, 1000))
    part_rates: str = setting("Factors of the learning rate, as in ``all=0,output=10``; 0 freezes a part.", "")
    average_decay: float = setting("Decay of an average of the weights, which is kept; 0: none.", 0.0, 0, 0.99999)
    n_epochs: int = setting("Passes over the data.", 10, 1, 100_000, usual=(1, 64))
    minutes: float = setting("Time limit of a run in minutes; 0: no limit.", 0.0, 0, 1e5)
    long_share: float = setting("Last share of the run, with half as many windows, twice as long.", 0.0, 0, 1)
    validate_every: int = setting("Epochs from one validation to the next.", 1, 1, 100_000, usual=(1, 10))
    precision: str = setting("A processor without ``bfloat16`` uses ``float32``.", "float32", choices=PRECISIONS)
    velocity_weight: float = setting("Weight of the velocities in the loss.", VELOCITY_WEIGHT, 0, 100, usual=(0, 2))
    pedal_weight: float = setting("Weight of the pedal in the loss.", PEDAL_WEIGHT, 0, 100, usual=(0, 2))
    half: bool = setting("Store the best weights with 16 bits.", False)
    seed: int = setting("Seed of dropout; for ``train``, also of weights and windows.", 0, 0, 2**63 - 1)

    def __post_init__(self):
        super().__post_init__()
        parse_rates(self.part_rates)


class Clock:
    """Measures the time of a run, including that before it was resumed, and the time since the last checkpoint."""

    def __init__(self, seconds: float = 0.0):
        self.started = time.monotonic() - seconds
        self.saved = time.monotonic()

    def seconds(self) -> float:
        """Return the time of the run so far in seconds."""
        return time.monotonic() - self.started

    def is_time_to_save(self) -> bool:
        """Return whether the last checkpoint is more than five minutes old."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def note_saved(self) -> None:
        """Restart the time since the last checkpoint."""
        self.saved = time.monotonic()


class Trainer:
    """Trains a model. A run can be stopped and resumed after any update, with the same result.

    (If `TrainConfig.minutes` limits it, its length and learning rate also depend on the speed of the machine.)

    The run folder holds ``best.safetensors`` (lowest validation loss), ``latest.safetensors`` (with all that is needed
    to resume), ``previous.safetensors`` (in case the latest is damaged) and ``log.csv`` (a line per validation).

    Parameters
    ----------
    model : AttentionLSTM
        Trained in place.
    batches : Batches
        `WindowBatches`, `DeviceWindows`, or another class with the methods of `musicgen.dataset.Batches`; only
        `TrainConfig.long_share` needs `longer`.
    validate : callable
        Takes the model, returns its validation loss in nats per frame.
    config : TrainConfig
    run_dir : Path or str
    tensors : mapping of str to Tensor, optional
        Stored in every checkpoint, for example the baselines.
    about : dict, optional
        Stored in every checkpoint: a description of the data, in JSON. A run is resumed only with the same one.
    progress : bool
        Show a progress bar for each epoch.
    validate_first : bool
        Validate before the first update, too, as epoch 0: for a model that is trained already. Then the best
        checkpoint is never worse than this model.
    """

    writes = True  # checkpoints, log and progress bar

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
        validate_first: bool = False,
    ):
        self.model = model
        self.batches = batches
        self.validate = validate
        self.config = config
        self.run_dir = Path(run_dir)
        self.best_path, self.latest_path, self.previous_path, self.log_path = (self.run_dir / n for n in RUN_FILES)
        self.tensors = dict(tensors or {})
        self.settings = {"training": asdict(config), **(about or {})}
        self.show_progress = progress
        self.validate_first = validate_first
        self.optimizer = OPTIMIZERS[config.optimizer](parameter_groups(model, config.part_rates), config)
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.average = WeightAverage(model, config.average_decay) if config.average_decay else None
        self.progress = Progress()
        self.best: dict | None = None  # the row of the best checkpoint in the history
        self.clock = Clock()
        self.stop = StopSignal()
        self.callback: Callable[[Trainer], bool] = lambda trainer: False
        self.ended = False  # by the callback
        self.latest_is_sound = False

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.weights[0].device

    def run(self, resume: bool = False, callback: Callable[["Trainer"], bool] | None = None) -> list[dict]:
        """Train until the last epoch, the time limit, a stop signal (such as Ctrl-C), or until the callback ends it.

        Parameters
        ----------
        resume : bool
            Continue from the latest checkpoint, if there is one; `TrainConfig.n_epochs` and `TrainConfig.minutes` may
            be larger than before.
        callback : callable, optional
            Takes the trainer after each update and each epoch; returns True to end the run.

        Returns
        -------
        list of dict
            One row per validation: epoch, updates, learning_rate, train_nll, validation_nll, seconds.

        Raises
        ------
        ValueError
            If the folder holds a run and `resume` is false, or a run with other settings, or one that is still
            running; or if the loss is not finite.
        """
        self.callback = callback or (lambda trainer: False)
        self.ended = False
        with run_lock(self.run_dir, self.writes), catch_signals() as self.stop:
            with only_training(self.weights, self.model), modes_kept(self.model):
                self._begin(resume)
                while not self._is_over():
                    self._run_epoch()
                if self._is_complete() and self._is_unvalidated():  # the time was up after the last epoch was saved
                    self._validate(self._learning_rate())
        return self.progress.history

    @contextmanager
    def averaged_model(self) -> Iterator[AttentionLSTM]:
        """Yield the model; during the block it has the averaged weights, if there is an average."""
        with self.average.applied() if self.average else nullcontext():
            yield self.model

    # Hooks of musicgen.scaling; the defaults train on one machine.

    def _broadcast_weights(self) -> None:
        """Copy the weights of the first process to all others."""

    def _shard(self, batch: Batch) -> Batch:
        """Return the windows of a batch that this process computes; by default all of them."""
        return batch

    def _all_reduce(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""

    def _any_process(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def _mean_of_processes(self, value: float) -> float:
        """Return the mean of a number over all processes."""
        return value

    # The loop.

    def _begin(self, resume: bool) -> None:
        """Seed the random number generators, or resume from the latest checkpoint."""
        found = files_of_run(self.run_dir, resume)
        if found:
            self._restore(found)
        else:
            torch.manual_seed(self.config.seed)
        self._broadcast_weights()
        if not found:
            self.average = WeightAverage(self.model, self.config.average_decay) if self.average else None
        self.clock = Clock(self.progress.seconds)
        if self.validate_first and not self.progress.updates and not self.progress.history:
            self._validate(learning_rate=0.0)

    def _is_over(self) -> bool:
        """Return whether the run is stopped or complete."""
        return self._any_process(self._is_complete() or self.ended or self.stop.is_set())

    def _is_complete(self) -> bool:
        """Return whether all epochs are done, or the minutes are over."""
        return self.progress.epoch >= self.config.n_epochs or self._share_of_time(self.clock.seconds()) >= 1

    def _is_unvalidated(self) -> bool:
        """Return whether an epoch has just ended without a validation."""
        progress = self.progress
        validated = progress.history[-1]["epoch"] if progress.history else 0
        return not progress.batch and progress.epoch > validated

    def _share_of_time(self, seconds: float) -> float:
        """Return the share of `TrainConfig.minutes` that has passed, equal in all processes; 0 without a time limit."""
        if not self.config.minutes:
            return 0.0
        return self._mean_of_processes(seconds / (60 * self.config.minutes))

    def _run_epoch(self) -> None:
        """Train the rest of an epoch. Save a checkpoint every few minutes, when the run is stopped, and at the end."""
        progress = self.progress
        batches = self._batches_of_epoch()
        n_batches = batches.n_batches(progress.epoch)
        name = f"epoch {progress.epoch + 1}/{self.config.n_epochs}"
        with progress_bar(name, n_batches, "batch", self.show_progress and self.writes, progress.batch) as bar:
            for batch in islice(batches.epoch(progress.epoch), progress.batch, None):
                if self._any_process(self.ended or self.stop.is_set()):
                    self._save_latest()
                    return
                share_of_time = self._share_of_time(self.clock.seconds())
                if share_of_time >= 1 and progress.batch:  # an epoch has at least one update
                    break
                share_of_epochs = (progress.epoch + progress.batch / n_batches) / self.config.n_epochs
                self.update(batch, max(share_of_epochs, share_of_time))
                self.ended = self.callback(self)
                bar.set_postfix_str(f"nll {progress.loss_sum / max(1, progress.n_frames):.3f}", refresh=False)
                bar.update()
                if self.clock.is_time_to_save() and progress.batch < n_batches:
                    self._save_latest()
        self._finish_epoch()
        self.ended = self.callback(self) or self.ended

    def _batches_of_epoch(self) -> Batches:
        """Return the batches of this epoch, with longer windows if it began in the last part of the run."""
        progress = self.progress
        done = max(progress.epoch / self.config.n_epochs, self._share_of_time(progress.epoch_began))
        long_share = self.config.long_share
        is_last_part = long_share > 0 and done >= 1 - long_share
        return self.batches.longer() if is_last_part else self.batches

    def update(self, batch: Batch, done: float) -> None:
        """Take one optimizer step.

        Parameters
        ----------
        batch : Batch
        done : float
            The finished share of the run, from 0 to 1, on which the learning rate depends.
        """
        config = self.config
        progress = self.progress
        factor = rate_factor(config.schedule, done, progress.updates, config.warm_up, config.final_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor * group["factor"]  # of its part: see `parameter_groups`
        self.model.train()  # in whatever mode the model came, or a callback left it
        self.optimizer.zero_grad()
        n_frames = int((batch.lengths - 1).sum())  # of all processes
        shard = self._shard(batch)
        scored = next_frame_loss(self.model, shard, config.velocity_weight, config.pedal_weight, config.precision)
        part_of_loss = scored.total / max(1, n_frames)  # the parts of all processes sum to the mean over all frames
        part_of_loss.backward()
        loss = part_of_loss.detach()
        nll = scored.nll.detach()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self._all_reduce([loss, nll, *gradients])
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()} at update {progress.updates + 1}: {ADVICE}")
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise ValueError(f"the norm of the gradient is {norm.item()} at update {progress.updates + 1}: {ADVICE}")
        if norm > config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.weights, config.clip_norm, norm)
        self.optimizer.step()
        progress.add(nll.item(), n_frames)
        if self.average:
            self.average.update(progress.updates)

    def _finish_epoch(self) -> None:
        """Count the epoch, validate if a validation is due, and save the latest checkpoint."""
        progress = self.progress
        progress.finish_epoch(self.clock.seconds())
        is_last = progress.epoch >= self.config.n_epochs or self._share_of_time(progress.seconds) >= 1
        if is_last or progress.epoch % self.config.validate_every == 0:
            self._validate(self._learning_rate())
        else:
            self._save_latest()

    def _learning_rate(self) -> float:
        """Return the learning rate of the last update, without the factors of `TrainConfig.part_rates`."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["factor"]

    def _validate(self, learning_rate: float) -> None:
        """Validate, save the latest checkpoint, write the log, and keep the best model."""
        progress = self.progress
        precision = autocast(self.device.type, self.config.precision)
        with modes_kept(self.model), self.averaged_model() as model, precision:
            validation_nll = self.validate(model.eval())
        if not math.isfinite(validation_nll):
            raise ValueError(f"the validation loss is {validation_nll} after epoch {progress.epoch}: {ADVICE}")
        progress.seconds = self.clock.seconds()
        progress.add_row(learning_rate, validation_nll)
        self._save_latest()  # before the log: a run that is killed in between restores it from the checkpoint
        if self.writes:
            write_log(self.log_path, progress.history)
        if self.best is None or validation_nll < self.best["validation_nll"]:
            self._save_best()

    # Checkpoints.

    def _save(self, path: Path, more: dict[str, Tensor], previous: Path | None = None, half: bool = False) -> None:
        if not all(torch.isfinite(weight).all() for weight in self.model.parameters()):
            raise ValueError(f"the weights are no longer finite after update {self.progress.updates}: {ADVICE}")
        if self.writes:
            record = {**self.settings, "progress": asdict(self.progress)}
            save_checkpoint(path, self.model, self.tensors | more, record, previous, half)

    def _save_latest(self) -> None:
        """Write the latest checkpoint. Keep the replaced one as the previous checkpoint, unless it is damaged."""
        self.progress.seconds = self.clock.seconds()
        state = optimizer_tensors(self.optimizer) | random_states(self.device)
        if self.average:
            state |= self.average.as_tensors()
        previous = self.previous_path if self.latest_is_sound else None
        self._save(self.latest_path, state, previous)
        self.latest_is_sound = True
        self.clock.note_saved()

    def _save_best(self) -> None:
        """Save the current model, or its average, as the best one."""
        with self.averaged_model():
            self._save(self.best_path, {}, half=self.config.half)
        self.best = self.progress.history[-1]

    def _restore(self, found: list[str]) -> None:
        """Restore weights, optimizer, random state and progress from a checkpoint, all of them or none."""
        path, checkpoint = self._load(found)
        try:
            self._check_settings(checkpoint)
            progress, state = progress_from_checkpoint(
                checkpoint.record, checkpoint.tensors, self.optimizer, self.config.n_epochs
            )
            means = read_average(checkpoint.tensors, self.average) if self.average else {}
            if progress.batch and progress.batch >= self.batches.n_batches(progress.epoch):
                raise ValueError(f"cannot be resumed: its epoch has no batch {progress.batch}")
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{str(path)!r} {error}") from error
        best = self._read_best()
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.optimizer.load_state_dict(state)
        if self.average:
            self.average.load(means)
        restore_random_states(checkpoint.tensors, self.device)
        self.progress = progress
        self.clock = Clock(progress.seconds)
        self._restore_results(best)

    def _load(self, found: list[str]) -> tuple[Path, Checkpoint]:
        """Load the latest checkpoint, or the previous one if the latest is damaged or missing."""
        if not (self.latest_path.exists() or self.previous_path.exists()):
            place = f"{str(self.run_dir)!r} holds {found[0]}, but no latest.safetensors to resume from"
            raise CheckpointError(f"{place}: {self._advice()}")
        try:
            checkpoint = load_checkpoint(self.latest_path)
        except CheckpointError as error:
            if not self.previous_path.exists():
                raise CheckpointError(f"{error}; without previous.safetensors: {self._advice()}") from error
            print_above_bar(f"{error}: continuing from {str(self.previous_path)!r}")
            return self.previous_path, load_checkpoint(self.previous_path)
        self.latest_is_sound = True
        return self.latest_path, checkpoint

    def _advice(self) -> str:
        """Return what to do with a folder that holds nothing to resume from."""
        if self.best_path.exists():
            return f"begin a new run with --start {str(self.best_path)!r} in another folder"
        return "move it away, or take another folder"

    def _check_settings(self, checkpoint: Checkpoint) -> None:
        """Raise ValueError if a checkpoint comes from a run with other settings."""
        kept = {**checkpoint.record, "model": asdict(checkpoint.model.config), "progress": {}}
        if isinstance(kept.get("training"), dict):
            kept["training"] = asdict(TrainConfig()) | kept["training"]  # older runs lack newer settings
        check_same(kept, {**self.settings, "model": asdict(self.model.config)}, GROWING)

    def _read_best(self) -> dict | None:
        """Return the history row of the best checkpoint, or None if the checkpoint is missing or damaged.

        Raises
        ------
        CheckpointError
            If it comes from another run.
        """
        if not self.best_path.exists():
            return None
        try:
            checkpoint = load_checkpoint(self.best_path)
        except CheckpointError as error:
            print_above_bar(f"{error}: a new one will replace it")
            return None
        try:
            self._check_settings(checkpoint)
        except ValueError as error:
            raise CheckpointError(f"{str(self.best_path)!r} {error}; move it away") from error
        history = checkpoint.record.get("progress", {}).get("history")
        return history[-1] if history else None

    def _restore_results(self, best: dict | None) -> None:
        """Restore the best checkpoint and the log, if they are missing or older than the latest checkpoint."""
        history = self.progress.history
        if not history:
            return
        self.best = best
        lowest = min(history, key=lambda row: row["validation_nll"])
        is_validated = not self.progress.batch and history[-1]["epoch"] == self.progress.epoch
        is_better = best is None or lowest["validation_nll"] < best["validation_nll"]
        if is_validated and history[-1] == lowest and is_better:
            self._save_best()  # it was not saved before the run was killed, or was lost
        elif best is None and is_validated:
            print_above_bar(f"best.safetensors is missing: the model of epoch {self.progress.epoch} takes its place")
            self._save_best()
        if self.writes:
            write_log(self.log_path, history)
