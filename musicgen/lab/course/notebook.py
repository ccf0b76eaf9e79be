"""Helpers for the notebooks: open a corpus, choose a piece, train a model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen.corpora.chorales import make_chorales
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import first_annotated_beats
from musicgen.corpora.sample import sample_corpus
from musicgen.dataset import CorpusError, RollCache, WindowConfig, prepare
from musicgen.evaluation.likelihood import Baselines, baseline_nlls
from musicgen.lab.panels.training import train_and_watch
from musicgen.midi import read_performance
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.piano_roll import PianoRoll
from musicgen.training import TrainConfig, load_checkpoint
from musicgen.training.run import free_run_dir, make_trainer


def open_corpus(data: Path | str | None = None) -> RollCache:
    """Open a corpus: the bundled MAESTRO sample (None), ``"chorales"``, or a folder of MIDI files.

    It prints the number of pieces, which files are missing or were skipped, and what was passed over in others. While
    it samples a large corpus, it tells how far it is. The chorales are made once, in ``../data/chorales``, as seen from
    ``notebooks``; a program that was started one folder up finds them in ``data/chorales``.

    Raises
    ------
    CorpusError
        If the folder is missing or has no pieces; the message says what to do.
    """
    folder = sample_corpus() if data is None else make_chorales(_chorales()) if data == "chorales" else Path(data)
    try:
        pieces = load_corpus(folder)
    except CorpusError as error:
        advice = "Set DATA = None for the bundled sample, or to a folder of MIDI files"
        raise CorpusError(folder, f"{error.reason}. {advice}") from None
    rolls = prepare(pieces)
    print(f"{len(rolls)} pieces, {rolls.summary()['hours']:.1f} hours")
    skipped = [f"skipped {name}: {reason}" for name, reason in rolls.skipped]
    warnings = [f"{name}: {warning}" for name, warning in rolls.warnings]
    for notes in (pieces.describe_missing().splitlines(), skipped, warnings):
        for note in notes[:3]:
            print(note)
        if len(notes) > 3:
            print(f"and {len(notes) - 3} more")
    return rolls


def _chorales() -> Path:
    """Return the folder of the chorales, which lies beside that of the notebooks.

    The working directory is the notebooks' folder, or the one that holds it.
    """
    return (Path() if Path("notebooks").is_dir() else Path("..")) / "data" / "chorales"


def choose_piece(rolls: RollCache, index: int) -> tuple[PianoRoll, str]:
    """Return a piece and its name (composer and title); IndexError if `index` is out of range."""
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(rolls):
        raise IndexError(f"PIECE must be a whole number from 0 to {len(rolls) - 1}, not {index!r}")
    piece = rolls.pieces[index]
    return rolls[index], f"{piece.composer}: {piece.title}"


def choose_prime(rolls: RollCache, index: int, n_beats: int = 8) -> tuple[PianoRoll, PianoRoll]:
    """Return the opening of a piece, and the whole piece from its first note.

    Without annotated beats, those of the MIDI file count. In a recording they mean nothing: the files of MAESTRO say
    120 beats per minute throughout.
    """
    roll, _ = choose_piece(rolls, index)
    whole = roll[roll.notes["start_frame"][0] :]
    if whole.beats is not None and (whole.beats[:, 0] >= -1 / whole.fps).sum() > n_beats:
        return first_annotated_beats(roll, n_beats), whole
    return read_performance(rolls.pieces[index].path).first_beats(n_beats), whole


@dataclass(frozen=True)
class TrainedRun:
    """A finished or stopped run, with its best model."""

    run_dir: Path
    model: AttentionLSTM
    history: list[dict]
    updates: np.ndarray  # (n, 3): the number, the loss in nats per frame and the learning rate of each update
    baselines: Baselines

    @property
    def best_nll(self) -> float:
        """The lowest validation loss in nats per frame."""
        return min(row["validation_nll"] for row in self.history)


def train(
    rolls: RollCache,
    name: str,
    sizes: ModelConfig | None,
    recipe: TrainConfig,
    windows: WindowConfig,
    runs_dir: Path | str = "../runs",
    watch: Callable = train_and_watch,
    start: Path | str | None = None,
) -> TrainedRun:
    """Train a model on the training split with a live figure, and save the run in ``runs_dir/name`` or ``name-2`` etc.

    Parameters
    ----------
    rolls : RollCache
        With a train and a validation split.
    name : str
        Name of the run; a second run with this name is called ``name-2``.
    sizes, recipe, windows
        The settings of the model, the training and the windows. With `start`, `sizes` may be None.
    runs_dir : Path or str
    watch : callable
        Runs a trainer, shows it, and returns its history and its updates, as `train_and_watch` does.
    start : Path or str, optional
        A checkpoint to train further, for example `SHIPPED_CHECKPOINT`. For this, take AdamW and a learning rate of
        about 0.0001. The result is never worse than the start on the validation split.
    """
    trainer = make_trainer(rolls, sizes, windows, recipe, free_run_dir(runs_dir, name), start, progress=False)
    baselines = Baselines.from_tensors(trainer.tensors)
    history, updates = watch(trainer, baseline_nlls(baselines, rolls.select(split="validation")))
    if not history:
        raise ValueError(f"{name} was stopped in its first epoch: run the cell again")
    return TrainedRun(trainer.run_dir, load_checkpoint(trainer.best_path).model, history, updates, baselines)


def verdict(claim: str, holds: bool, evidence: str = "") -> None:
    """Print whether a claim holds, as in "AdamW beats Markov: yes, 2.29 against 2.33"."""
    print(f"{claim}: {'yes' if holds else 'no'}{', ' + evidence if evidence else ''}")
