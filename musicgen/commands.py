"""What each command of the command line does: it takes the parsed arguments and returns what it has to say."""

import time
from argparse import Namespace
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from musicgen.corpora.folder import load_corpus, make_chorales, match_composer
from musicgen.dataset import RollCache, prepare
from musicgen.midi import Performance, read_midi, read_performance, write_midi
from musicgen.piano_roll import N_PITCHES, PianoRoll
from musicgen.polyphonic import PUBLISHED, read_polyphonic
from musicgen.support.files import atomic_write

# torch and matplotlib take seconds to import: only the commands that need them do so.


def sample(args: Namespace) -> dict:
    """Sample one MIDI file into a piano roll."""
    performance = read_performance(args.file)
    roll = performance.to_roll(args.fps, args.sustain)
    with atomic_write(args.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, velocity=roll.velocity, fps=roll.fps)
    dropped = sum(performance.dropped.values())
    return {"n_frames": roll.n_frames, "n_notes": roll.n_notes, "dropped": dropped, "reasons": performance.dropped}


def prepare_corpus(args: Namespace) -> dict:
    """Sample every piece of a folder once and keep the rolls."""
    pieces = load_corpus(args.data_dir)
    rolls = prepare(pieces)
    skipped = [{"file": name, "reason": reason} for name, reason in rolls.skipped]
    return {"n_files": len(pieces), "n_sampled": len(rolls), "hours": rolls.summary()["hours"], "skipped": skipped}


def train(args: Namespace) -> dict:
    """Train a model on a folder's train split. Ctrl-C stops it, --resume goes on."""
    from musicgen.scaling.torchrun import joined, rank

    with joined():
        told = _train_together(args)
        return {} if rank() else told


def _train_together(args: Namespace) -> dict:
    """Do the command, in one of the processes of the run."""
    from musicgen.scaling.torchrun import one_by_one, rank

    configs = [config_of(kind, args) for kind in training_configs()]
    with one_by_one():
        rolls = prepare(load_corpus(args.data_dir), progress=rank() == 0)
    known = {piece.composer for piece in rolls.select(split="train").pieces}
    composers = tuple(match_composer(name, known) for name in filter(None, args.composer_names.split(",")))
    start = _load_piano_model(args.start) if args.start else None
    if start and composers not in ((), start.model.config.composers):
        raise ValueError(f"{args.start!r} has composers of its own: leave --composers out")
    return _train_on(rolls, replace(configs[0], composers=composers), *configs[1:], args.out, args.resume, start)


def training_configs() -> tuple[type, ...]:
    """Return what configures a training run: its model, its windows, and the recipe."""
    from musicgen.dataset import WindowConfig
    from musicgen.model import ModelConfig
    from musicgen.recipe import TrainConfig

    return ModelConfig, WindowConfig, TrainConfig


def _train_on(rolls: RollCache, sizes, windows, config, run_dir: Path | str, resume: bool = False, start=None) -> dict:
    """Train on the train split, select on the validation split."""
    import torch

    from musicgen.dataset import WindowBatches
    from musicgen.evaluation.likelihood import fit_baselines, piece_nlls
    from musicgen.model import AttentionLSTM
    from musicgen.scaling.torchrun import mean_of, n_ranks, rank
    from musicgen.training import Trainer

    train_rolls, validation_rolls = rolls.select(split="train"), rolls.select(split="validation")
    part = validation_rolls[rank() :: n_ranks()] if len(validation_rolls) >= n_ranks() else validation_rolls
    torch.manual_seed(config.seed)
    model = (start.model if start else AttentionLSTM(sizes)).to("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(
        model,
        WindowBatches(train_rolls, windows, model.config.composers),
        lambda model: mean_of(*(counts.sum() for counts in piece_nlls(model, part))),
        config,
        run_dir,
        tensors=fit_baselines(train_rolls).as_tensors(),
        about={"windows": asdict(windows), "data": train_rolls.summary(), "start": start and start.record},
    )
    history = trainer.run(resume)
    best = min(history, key=lambda row: row["validation_nll"], default={})
    return {
        "checkpoint": str(trainer.best_path if best else trainer.latest_path),
        "epochs": len(history),
        "validation_nll": best.get("validation_nll"),
        "train_nll": best.get("train_nll"),
        "seconds": round(trainer.progress.seconds, 1),
    }


def evaluate_checkpoint(args: Namespace) -> dict:
    """Score a checkpoint, teacher-forced, on whole pieces of one split."""
    from musicgen.evaluation.likelihood import Baselines, evaluate

    checkpoint = _load_piano_model(args.checkpoint)
    rolls = prepare(load_corpus(args.data_dir)).select(split=args.split)
    return evaluate(checkpoint.model, rolls, Baselines.from_tensors(checkpoint.tensors))


def benchmark(args: Namespace) -> dict:
    """Score a model on one of the published polyphonic data sets."""
    from musicgen.evaluation.likelihood import evaluate, fit_baselines

    configs = [config_of(kind, args) for kind in training_configs()] if args.train else []
    rolls = read_polyphonic(args.file)
    said = {"dataset": Path(args.file).stem, "split": args.split}
    said |= {f"published_{output}": nll for output, nll in PUBLISHED.get(Path(args.file).stem, {}).items()}
    with TemporaryDirectory() as temporary:
        if args.train:
            trained = _train_on(rolls, *configs, args.out or temporary)
            if trained["validation_nll"] is None:
                raise ValueError("the training was stopped in its first epoch: there is no model to score")
            said |= trained | {"seed": args.seed}
        model = _load_piano_model(said["checkpoint"] if args.train else args.checkpoint).model
    if args.train and not args.out:
        said["checkpoint"] = None
    scores = evaluate(model, rolls.select(split=args.split), fit_baselines(rolls.select(split="train")))
    scores = {name: value for name, value in scores.items() if "velocity" not in name and name != "n_struck"}
    scores["n_steps"] = scores.pop("n_frames")
    return said | scores


def generate_piece(args: Namespace) -> dict:
    """Compose a piece out of the opening of another."""
    from musicgen.checkpoint import SHIPPED_CHECKPOINT
    from musicgen.generation import GenerationConfig, generate

    for path, endings in ((args.out, (".mid", ".midi")), (args.wav, (".wav",)), (args.png, (".png",))):
        if path and Path(path).suffix.lower() not in endings:
            raise ValueError(f"{path!r} does not end in {' or '.join(endings)}, as what is written there must")
    config, asked = config_of(GenerationConfig, args), (args.composer or "").strip()
    performance = read_performance(args.prime) if args.prime else None
    model = _load_piano_model(args.checkpoint or SHIPPED_CHECKPOINT).model
    if asked and performance and not model.config.composers:
        raise ValueError(f"the model was taught no composers: --composer {asked} would change nothing")
    style = match_composer(asked, model.config.composers) if asked and model.config.composers else None
    prime, title = _choose_prime(performance, args, style, asked)
    started = time.perf_counter()
    roll = generate(model, prime, config, style)
    seconds = time.perf_counter() - started
    prime_frames = prime.n_frames if prime else 0
    write_midi(roll, args.out)
    if args.wav:
        from musicgen.lab.audio import render, write_wav

        write_wav(render(roll), args.wav)
    if args.png:
        _write_figure(roll, prime_frames, title, args)
    return {
        "n_notes": roll.n_notes,
        "prime": title,
        "prime_seconds": prime_frames / roll.fps,
        "composer": style,
        "seconds": roll.duration_seconds,
        "generation_seconds": round(seconds, 2),
        "realtime_factor": round((roll.n_frames - prime_frames) / roll.fps / seconds, 1),
        "files": [path for path in (args.out, args.wav, args.png) if path],
    }


def _choose_prime(
    performance: Performance | None, args: Namespace, style: str | None, asked: str
) -> tuple[PianoRoll | None, str | None]:
    """Return the opening of the file or else a shipped one, if there is one of the composer, and its title."""
    from musicgen.corpora.primes import PRIMES, shipped_prime

    composer = (style or asked or "Bach").split()[-1]
    if not args.beats or (not performance and style and composer not in PRIMES):
        return None, None
    if performance:
        return performance.first_beats(args.beats), Path(args.prime).stem
    prime = shipped_prime(composer, args.beats)
    return prime, f"{composer}: {PRIMES[composer].title}"


def _load_piano_model(path: Path | str):
    from musicgen.checkpoint import CheckpointError, load_checkpoint

    checkpoint = load_checkpoint(path)
    if (n_pitches := checkpoint.model.config.n_pitches) != N_PITCHES:
        raise CheckpointError(f"{str(path)!r}: its model has {n_pitches} keys, a piano {N_PITCHES}")
    return checkpoint


def _write_figure(roll: PianoRoll, prime_frames: int, title: str | None, args: Namespace) -> None:
    """Draw the piece, below the one it was primed with where that is a file."""
    from musicgen.lab.plots import plot_comparison, plot_roll, save_figure

    if title and args.prime:
        ax = plot_comparison(read_midi(args.prime), roll, prime_frames, title[:60])
    else:
        told = f"primed with {title}" if title else "without a prime"
        ax = plot_roll(roll, title=f"A generated piece, {told}", prime_frames=prime_frames)
    save_figure(ax, args.png)


def download(args: Namespace) -> dict:
    """Fetch MAESTRO v2.0.0, or write the Bach chorales that come with music21."""
    from musicgen.corpora.maestro import download_maestro

    folder = make_chorales(args.out) if args.chorales else download_maestro(args.out)
    return {"path": str(folder), "n_files": len(load_corpus(folder))}


def config_of(kind: type, args: Namespace):
    """Make a config of the arguments that have its fields' names."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)})
