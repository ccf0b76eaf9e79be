"""A training run on a corpus: makes a trainer from rolls, settings and, optionally, a trained model."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from musicgen.dataset import Batches, RollCache, WindowBatches, WindowConfig
from musicgen.evaluation.likelihood import fit_baselines, mean_nll
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.piano_roll import N_PITCHES
from musicgen.training.checkpoint import Checkpoint, load_checkpoint
from musicgen.training.device_windows import DeviceWindows
from musicgen.training.trainer import TrainConfig, Trainer
from musicgen.utils.devices import choose_device
from musicgen.utils.settings import only_fields

# What training from a trained model takes unless told otherwise: small steps that do not undo what was learned.
FINE_TUNING = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "clip_norm": 5.0,
    "average_decay": 0.99,
    "window_frames": 256,
    "max_transpose": 2,
}

MOST_EPOCHS = 100_000
ADDABLE = ("home", "probe")  # parts that a trained model can be given


def make_trainer(
    rolls: RollCache,
    sizes: ModelConfig | None,
    windows: WindowConfig,
    config: TrainConfig,
    run_dir: Path | str,
    start: Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
    kind: type[Trainer] = Trainer,
    validate: Callable[[AttentionLSTM], float] | None = None,
) -> Trainer:
    """Return a trainer that trains on the training split and validates on the validation split.

    Parameters
    ----------
    rolls : RollCache
        With a train and a validation split.
    sizes : ModelConfig or None
        None for those of `start`.
    windows : WindowConfig
    config : TrainConfig
    run_dir : Path or str
    start : Path or str, optional
        A checkpoint whose weights training starts from. Its own validation loss becomes the first row of the log.
    device : str
        As for `choose_device`.
    progress : bool
        Show a progress bar for each epoch.
    kind : type
        `Trainer`, or a subclass.
    validate : callable, optional
        Takes the model, returns its loss; by default the mean of the validation split, in nats per frame.

    Raises
    ------
    ValueError
        If a split is missing, or if settings or data do not fit the checkpoint.
    """
    training = rolls.select(split="train")
    validation = rolls.select(split="validation")
    checkpoint = load_checkpoint(start) if start else None
    torch.manual_seed(config.seed)
    if checkpoint:
        model = model_from(checkpoint, sizes or checkpoint.model.config, start)
    else:
        model = AttentionLSTM(sizes or ModelConfig())
    if model.config.fps != rolls.fps:
        name = f"{str(start)!r} was trained with" if start else "the model is made for"
        raise ValueError(f"{name} {model.config.fps} frames per second, the data have {rolls.fps}")
    if model.config.n_pitches != N_PITCHES:
        raise ValueError(f"n_pitches must be {N_PITCHES}, the keys of a piano, not {model.config.n_pitches}")
    model = model.to(choose_device(device))
    about = {"windows": asdict(windows), "data": training.summary(), "start": checkpoint and checkpoint.record}
    return kind(
        model=model,
        batches=make_batches(training, windows, model),
        validate=validate or (lambda model: mean_nll(model, validation)),
        config=config,
        run_dir=run_dir,
        tensors=fit_baselines(training).as_tensors(),
        about=about,
        progress=progress,
        validate_first=checkpoint is not None,
    )


def settings_of_run(
    values: Mapping[str, Any], start: ModelConfig | None = None
) -> tuple[ModelConfig, WindowConfig, TrainConfig, dict]:
    """Return the settings of a run from the values that a user gave; all others have their defaults.

    Parameters
    ----------
    values : mapping of str to object
        By the names of the fields. Other names are ignored.
    start : ModelConfig, optional
        The sizes of a trained model that the run starts from. Then `FINE_TUNING` has the defaults of the recipe.

    Returns
    -------
    sizes : ModelConfig
    windows : WindowConfig
    recipe : TrainConfig
        If only ``minutes`` was given, and not ``n_epochs``, the time alone ends the run.
    chosen : dict
        The values of `FINE_TUNING` that were taken.
    """
    chosen = {name: value for name, value in FINE_TUNING.items() if name not in values} if start else {}
    sizes = replace(start or ModelConfig(), **only_fields(ModelConfig, values))
    windows = WindowConfig(**only_fields(WindowConfig, {**chosen, **values}))
    recipe = TrainConfig(**only_fields(TrainConfig, {**chosen, **values}))
    if values.get("minutes") and "n_epochs" not in values:
        recipe = replace(recipe, n_epochs=MOST_EPOCHS)
    return sizes, windows, recipe, chosen


def make_batches(rolls: RollCache, windows: WindowConfig, model: AttentionLSTM) -> Batches:
    """Return batches for a model, cut on the CPU, or on the model's device if `WindowConfig.tempo_versions` is set."""
    if not windows.tempo_versions:
        return WindowBatches(rolls, windows, model.config.composers, model.config.home)
    if model.config.home:
        raise ValueError("a model with home needs windows that are cut on the CPU: leave tempo_versions out")
    return DeviceWindows(rolls, windows, model.config.composers, next(model.parameters()).device)


def model_from(checkpoint: Checkpoint, sizes: ModelConfig, name: Path | str) -> AttentionLSTM:
    """Return a checkpoint's model with other settings, such as `dropout`, if they fit its weights.

    A part in `ADDABLE` that the checkpoint lacks begins without effect.

    Raises
    ------
    ValueError
        If a setting does not fit; the message names it with both values.
    """
    theirs = checkpoint.model.config
    differing = [each.name for each in fields(sizes) if getattr(sizes, each.name) != getattr(theirs, each.name)]
    if not differing:
        return checkpoint.model
    misfits = [each for each in differing if not _fits(theirs, each, getattr(sizes, each))]
    if misfits:
        told = "; ".join(f"{each} is {getattr(sizes, each)!r}, there {getattr(theirs, each)!r}" for each in misfits)
        raise ValueError(f"settings do not fit the model of {str(name)!r}: {told}; leave them out")
    model = AttentionLSTM(sizes)
    model.load_state_dict(model.state_dict() | checkpoint.model.state_dict())
    return model


def _fits(config: ModelConfig, field: str, value: object) -> bool:
    """Return whether a model's trained weights remain valid with another value of a setting."""
    if field in ("composers", "fps"):
        return False
    if field in ADDABLE and value:
        return True
    try:
        return _shapes(replace(config, **{field: value})) == _shapes(config)
    except ValueError:
        return False


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: weight.shape for name, weight in AttentionLSTM(config).state_dict().items()}


def free_run_dir(parent: Path | str, name: str) -> Path:
    """Return the first of ``parent/name``, ``parent/name-2``, ``parent/name-3``, ... that does not exist."""
    path = Path(parent) / name
    number = 1
    while path.exists():
        number += 1
        path = Path(parent) / f"{name}-{number}"
    return path
