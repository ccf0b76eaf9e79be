"""The commands of the command line: each takes the parsed arguments and returns its result."""

# torch and matplotlib take seconds to import: the functions that need them import them.

import errno
import os
import sys
import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from musicgen.beats import in_strict_time
from musicgen.corpora.folder import BEATS, load_corpus, match_composer, normal_name, read_beats, write_beats
from musicgen.dataset import RollCache, WindowConfig, prepare
from musicgen.midi import Performance, read_midi, read_performance, write_midi
from musicgen.piano_roll import DEFAULT_FPS, MOST_FPS, N_PITCHES, PianoRoll
from musicgen.utils.files import atomic_write, printable
from musicgen.utils.processes import run_parallel
from musicgen.utils.progress import progress_bar
from musicgen.utils.settings import only_fields
from musicgen.utils.signals import Stopped

MOST_BEATS = 10_000  # of a recording
MOST_FILES = 100  # pieces of one `generate`
FINER = 5  # times the frame rate of the model, to find beats
SAVE_EVERY = 20  # recordings whose beats were found


def say(text: str) -> None:
    """Print a message to standard error, if anyone can still read it."""
    with suppress(OSError):  # a full disk, or a reader that has gone, as in `2>&1 | head -1`
        print(printable(text)[:300], file=sys.stderr, flush=True)


def check_output(path: str | None, endings: tuple[str, ...], inputs: tuple = ()) -> None:
    """Raise ValueError if an output file has the wrong ending, is a folder, or is also an input."""
    if path and Path(path).suffix.lower() not in endings:
        raise ValueError(f"{path!r} does not end in {' or '.join(endings)}")
    if path and any(each and Path(path).exists() and Path(path).samefile(each) for each in inputs):
        raise ValueError(f"{path!r} is an input; the output must be another file")
    if path and Path(path).is_dir():
        raise ValueError(f"{path!r} is a folder; the output must be a file")
    if path:
        check_writable(Path(path).absolute().parent)


def check_writable(folder: Path) -> None:
    """Raise OSError if a folder cannot be written to, or cannot be created."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(existing))


def sample_command(args: Namespace) -> dict:
    """Sample one MIDI file into a piano roll."""
    check_output(args.out, (".npz",), (args.file,))
    performance = read_performance(args.file)
    for warning in performance.warnings:
        say(f"{args.file}: {warning}")
    roll = performance.to_roll(args.fps, args.sustain, args.max_seconds)
    arrays = {name: value for name, value in vars(roll).items() if name in ("velocity", "fps", "pedal", "beats")}
    with atomic_write(args.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **{name: value for name, value in arrays.items() if value is not None})
    reasons = performance.dropped_notes(args.fps, args.max_seconds)
    counts = {"n_frames": roll.n_frames, "n_notes": roll.n_notes, "dropped": sum(reasons.values())}
    return counts | {"reasons": reasons, "warnings": list(performance.warnings)}


def load_rolls(folders: list[str], fps: int = DEFAULT_FPS, progress: bool = True) -> RollCache:
    """Load and sample the pieces of one or several folders, and report missing files."""
    pieces = load_corpus(*folders)
    if progress and (problems := pieces.describe_missing()):
        say(problems)
    return prepare(pieces, fps=fps, progress=progress)


def prepare_command(args: Namespace) -> dict:
    """Sample every piece of a folder into the cache, and report the files that were skipped."""
    pieces = load_corpus(args.data_dir)
    rolls = prepare(pieces, max_seconds=args.max_seconds)
    if problems := pieces.describe_missing():
        say(problems)
    skipped = [{"file": name, "reason": reason} for name, reason in rolls.skipped]
    warnings = [{"file": name, "warning": warning} for name, warning in rolls.warnings]
    counts = {"n_files": len(pieces), "n_sampled": len(rolls), "hours": rolls.summary()["hours"]}
    return counts | {"skipped": skipped, "warnings": warnings, "missing": pieces.missing, "dropped": rolls.dropped}


def beats_command(args: Namespace) -> dict:
    """Find the beats of a folder's recordings, so that a model can be trained with them. Those that are there stay."""
    from musicgen.training import SHIPPED_CHECKPOINT

    started = time.perf_counter()
    path = Path(args.out or Path(args.data_dir) / BEATS)
    check_output(str(path), (".npz",), (args.checkpoint,))
    checkpoint = Path(args.checkpoint or SHIPPED_CHECKPOINT).absolute()
    config = load_piano_model(checkpoint).model.config
    if not config.beats:
        raise ValueError(f"{args.checkpoint!r}: its model knows no beats, so it cannot find any")
    beats = read_beats(path)
    n_before = len(beats)
    pieces = {normal_name(piece.name): piece for piece in load_rolls([args.data_dir], config.fps).pieces}
    todo = [name for name in pieces if name not in beats]
    jobs = [(checkpoint, pieces[name].path.absolute()) for name in todo]
    without = []
    with progress_bar("finding beats", len(todo), "piece") as bar:
        try:
            for number, (name, found) in enumerate(zip(todo, run_parallel(_beats_of_file, jobs, batch_size=1)), 1):
                if found is None:
                    without.append(name)
                else:
                    beats[name] = found
                if number % SAVE_EVERY == 0:
                    write_beats(path, beats)
                bar.update()
        finally:  # also after Ctrl-C: the next call goes on from here
            if len(beats) > n_before:
                write_beats(path, beats)
    counts = {"path": str(path), "n_found": len(beats) - n_before, "n_kept": n_before}
    return counts | {"without_beats": without, "seconds": round(time.perf_counter() - started, 1)}


def _beats_of_file(checkpoint: Path, source: Path) -> np.ndarray | None:
    """Find the beats of one file, in one thread: each process has its own files."""
    from musicgen.evaluation.beat_tracking import track_beats
    from musicgen.utils.inference import single_thread

    model = load_piano_model(checkpoint).model
    fps = model.config.fps
    with single_thread():
        return track_beats(model, read_midi(source, fps), read_midi(source, min(FINER * fps, MOST_FPS)))


def train_command(args: Namespace) -> dict:
    """Train a model on the train split of one or several folders. Ctrl-C stops the run, --resume continues it."""
    from musicgen.scaling.torchrun import joined, rank

    with joined(args.device):
        result, stopped_by = _train(args)
        is_first = rank() == 0
    if stopped_by:
        raise Stopped(stopped_by, "; continue with --resume")
    return result if is_first else {}


def _train(args: Namespace) -> tuple[dict, int | None]:
    """Train in this process; return the result, and the number of the signal that stopped the run, or None."""
    from musicgen.scaling.torchrun import DistributedTrainer, n_ranks, one_by_one, rank
    from musicgen.training import Trainer
    from musicgen.training.resume import files_of_run
    from musicgen.training.run import make_trainer, settings_of_run

    check_writable(Path(args.out).absolute())  # as the next line, before a large corpus is sampled
    files_of_run(Path(args.out), args.resume)
    start = load_piano_model(args.start) if args.start else None
    sizes, windows, recipe, chosen = settings_of_run(vars(args), start and start.model.config)
    with one_by_one():
        rolls = load_rolls(args.data_dirs, sizes.fps, progress=rank() == 0)
    known = {piece.composer for piece in rolls.select(split="train").pieces}
    composers = tuple(match_composer(name, known) for name in filter(None, args.composer_names.split(",")))
    if start and composers not in ((), start.model.config.composers):
        theirs = ", ".join(start.model.config.composers) or "none"
        raise ValueError(f"leave --composers out, or give those of {args.start!r}: {theirs}")
    if not start:
        sizes = replace(sizes, composers=composers)
    if rank() == 0:
        tell_without_effect(training_without_effect(sizes, recipe), args)
    several = n_ranks() > 1
    trainer = make_trainer(
        rolls,
        sizes,
        windows,
        recipe,
        args.out,
        args.start,
        args.device,
        kind=DistributedTrainer if several else Trainer,
        validate=validate_together(rolls.select(split="validation")) if several else None,
    )
    if chosen and rank() == 0:
        say(f"training further with {', '.join(f'{name} {value}' for name, value in chosen.items())}")
    history = trainer.run(args.resume)
    n_epochs = trainer.progress.epoch
    if rank() == 0 and n_epochs == recipe.n_epochs:
        say(f"finished {n_epochs} epochs; train more with --resume --n-epochs {2 * n_epochs}")
    best = trainer.best or {}
    result = {"checkpoint": str(trainer.best_path if best else trainer.latest_path), "epochs": n_epochs}
    if start and history:
        result["start_nll"] = history[0]["validation_nll"]
    result |= {name: best.get(name) for name in ("validation_nll", "train_nll")}
    result["seconds"] = round(trainer.progress.seconds, 1)
    return result, trainer.stop.number


def training_config_classes() -> tuple[type, ...]:
    """Return the configuration classes of a training run."""
    from musicgen.model import ModelConfig
    from musicgen.training import TrainConfig

    return ModelConfig, WindowConfig, TrainConfig


def validate_together(rolls: RollCache):
    """Return a function that validates a model in several processes, each on every n-th piece."""
    from musicgen.evaluation.likelihood import piece_nlls
    from musicgen.scaling.torchrun import mean_of, n_ranks, rank

    part = rolls[rank() :: n_ranks()] if len(rolls) >= n_ranks() else rolls
    return lambda model: mean_of(*(counts.sum() for counts in piece_nlls(model, part)))


def evaluate_command(args: Namespace) -> dict:
    """Score a checkpoint on the whole pieces of one split, with teacher forcing."""
    from musicgen.evaluation.likelihood import Baselines, evaluate
    from musicgen.utils.devices import choose_device

    checkpoint = load_piano_model(args.checkpoint)
    model = checkpoint.model.to(choose_device(args.device))
    rolls = load_rolls([args.data_dir], checkpoint.model.config.fps).select(split=args.split)
    return evaluate(model, rolls, Baselines.from_tensors(checkpoint.tensors), progress=True)


def load_piano_model(path: Path | str):
    """Load a checkpoint; raise CheckpointError unless its model has 88 pitches."""
    from musicgen.training import CheckpointError, load_checkpoint

    checkpoint = load_checkpoint(path)
    if (n_pitches := checkpoint.model.config.n_pitches) != N_PITCHES:
        raise CheckpointError(f"{str(path)!r}: its model has {n_pitches} pitches, a piano has {N_PITCHES}")
    return checkpoint


def generate_command(args: Namespace) -> dict:
    """Compose one or several continuations of an opening. Ctrl-C stops early and writes the music so far."""
    from musicgen.generation import GenerationConfig, without_prime
    from musicgen.training import SHIPPED_CHECKPOINT
    from musicgen.utils.devices import choose_device

    outputs = output_files(args)
    config = config_of(GenerationConfig, args)
    device = choose_device(args.device)
    performance = read_performance(args.prime) if args.prime else None
    path = args.checkpoint or SHIPPED_CHECKPOINT
    checkpoint = load_piano_model(path)
    fps = checkpoint.model.config.fps
    asked = (args.composer or "").strip()
    style = choose_style(asked, checkpoint.model.config.composers, performance)
    prime, title = choose_prime(performance, args, style, asked, fps)
    ending = read_performance(args.ending).first_beats(MOST_BEATS, fps) if args.ending else None
    tell_without_effect(without_effect(args, checkpoint.model, style, prime), args)
    recording = performance.first_beats(MOST_BEATS, fps) if args.png and title and performance else None

    started = time.perf_counter()
    pieces, stopped_by = compose(checkpoint.model, prime, ending, config, style, device, args)
    seconds = time.perf_counter() - started
    n_prime = prime.n_frames if prime else 0
    n_new = pieces[0].n_frames - n_prime - (ending.n_frames if ending else 0)
    bpm = estimated_bpm(pieces[0], n_prime)
    if bpm:
        say(f"beat found: {bpm:.0f} per minute (--bpm sets another, --bpm none plays freely)")
    if stopped_by and not n_new:
        raise Stopped(stopped_by)

    written = [without_prime(piece, n_prime) for piece in pieces] if args.only_new else pieces
    beats = pieces[0].beats
    strict = not config.bpm and (beats is None or in_strict_time(beats))
    tempo_map = performance.prime_tempo_map if performance and strict and not args.only_new else None
    write_pieces(written, outputs, tempo_map, recording, title, 0 if args.only_new else n_prime)

    files = [path for paths in outputs for path in paths.values()]
    if stopped_by:
        raise Stopped(stopped_by, f" after {n_new / fps:g} s of new music; wrote {shortened(files)}")
    result = {
        "n_notes": sum(piece.n_notes for piece in written),
        "prime": title,
        "prime_seconds": n_prime / fps,
        "composer": style,
        "bpm_found": bpm,
        "seconds": written[0].duration_seconds,
        "generation_seconds": round(seconds, 2),
        "realtime_factor": round(args.n * n_new / fps / seconds, 1),
        "files": files,
    }
    if args.n > 1:
        result["pieces"] = [
            {"n_notes": piece.n_notes, "files": list(paths.values())} for piece, paths in zip(written, outputs)
        ]
    return result


def shortened(files: list[str]) -> str:
    """Return a text that names the first two files, by the ends of long paths, and counts the others."""
    most = 120 // len(files[:2])
    names = [file if len(file) <= most else f"...{file[3 - most :]}" for file in files]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def output_files(args: Namespace) -> list[dict[str, str]]:
    """Check the output files before composing, and return the files of each piece by kind.

    The files of several pieces are numbered: ``new.mid`` becomes ``new-1.mid``, ``new-2.mid`` and so on.
    """
    endings = {"out": (".mid", ".midi"), "wav": (".wav",), "png": (".png",)}
    asked = {kind: getattr(args, kind) for kind in endings if getattr(args, kind)}
    if not 1 <= args.n <= MOST_FILES:
        raise ValueError(f"--n must lie in 1..{MOST_FILES}, not {args.n}")
    outputs = []
    for number in range(1, args.n + 1):
        paths = asked
        if args.n > 1:
            paths = {kind: str(Path(path).with_stem(f"{Path(path).stem}-{number}")) for kind, path in asked.items()}
        for kind, path in paths.items():
            check_output(path, endings[kind], (args.prime, args.ending, args.checkpoint))
        outputs.append(paths)
    return outputs


def compose(
    model, prime: PianoRoll | None, ending: PianoRoll | None, config, style: str | None, device, args: Namespace
) -> tuple[list[PianoRoll], int | None]:
    """Return the generated pieces, and the number of the signal that stopped composing early, or None."""
    from musicgen.generation import fill_between, generate_several
    from musicgen.utils.signals import catch_signals

    n_seconds = int(config.seconds - (prime.duration_seconds if prime else 0))
    show = sys.stderr.isatty() and not args.json
    with catch_signals() as stop, progress_bar("composing", n_seconds, "s of music", show) as bar:

        def after_frame(n_new: int) -> bool:
            if n_new % model.config.fps == 0:
                bar.update(1)
            return stop.is_set()

        options = {"composer": style, "callback": after_frame, "device": device, "engine": args.engine}
        if ending:
            pieces = fill_between(model, prime, ending, config, args.n, **options)
        else:
            pieces = generate_several(model, prime, config, args.n, **options)
    return pieces, stop.number


def export_command(args: Namespace) -> dict:
    """Write a checkpoint's model as graphs for ONNX Runtime, in Python or in a browser."""
    from musicgen.generation.export import export_graphs

    check_output(args.out, (".onnx",), (args.checkpoint,))
    checkpoint = load_piano_model(args.checkpoint)
    files = export_graphs(checkpoint.model, args.out, checkpoint.sha256, args.precision)
    return {name: str(path) for name, path in files.items()} | {"bytes": sum(p.stat().st_size for p in files.values())}


def estimated_bpm(roll: PianoRoll, prime_frames: int) -> float | None:
    """Return the tempo that the model found in the prime; None if it found no beats."""
    if not roll.beats_estimated or roll.beats is None:
        return None
    within = roll.beats[roll.beats[:, 0] <= prime_frames / roll.fps, 0]
    return round(60 / float(np.median(np.diff(within))), 1)


def choose_style(asked: str, composers: tuple[str, ...], performance: Performance | None) -> str | None:
    """Return the composer of the model in whose style it composes; None if none is asked for, or it knows none."""
    if asked and performance and not composers:
        raise ValueError(f"the model was trained without composers: leave --composer {asked} out")
    return match_composer(asked, composers) if asked and composers else None


def choose_prime(
    performance: Performance | None, args: Namespace, style: str | None, asked: str, fps: int
) -> tuple[PianoRoll | None, str | None]:
    """Return the prime and its title: the opening of the given file, or else a bundled opening by the composer."""
    from musicgen.corpora.primes import PRIMES, shipped_prime

    composer = (style or asked or "Bach").split()[-1]
    if not args.beats or (not performance and style and composer not in PRIMES):
        return None, None
    if not performance:
        return shipped_prime(composer, args.beats, fps), f"{composer}: {PRIMES[composer].title}"
    for warning in performance.warnings:
        say(f"{args.prime}: {warning}")
    prime = performance.first_beats(args.beats, fps)
    if prime.n_frames < performance.frame_of_beat(args.beats, fps):
        say(f"{args.prime}: shorter than {args.beats:g} beats; the prime is {prime.duration_seconds:g} s long")
    return prime, Path(args.prime).stem


def without_effect(args: Namespace, model, style: str | None, prime: PianoRoll | None) -> dict[str, str]:
    """Return the options of `generate` and why they have no effect; "" for those that have one."""
    config = model.config
    bpm = vars(args).get("bpm")
    no_pedal = "" if model.output.pedal is not None else "the model predicts no pedal"
    no_probe = "" if config.probe else "the model has no probe to choose by"
    single = "with --ending each middle has a single candidate" if args.ending else no_probe
    no_home = "" if config.home else "the model knows no home"
    switched_off = "" if vars(args).get("home", True) else "--no-home switches it off"
    no_style = "" if style else "it needs --composer, and a model that knows this composer"
    return {
        "guidance_scale": no_style,
        "pedal_temperature": no_pedal,
        "pedal": no_pedal,
        "candidates": single,
        "strength": single,
        "register": single or switched_off,
        "home": no_home,
        "feedback": no_home or switched_off,
        "beats_per_bar": "" if bpm else "it needs --bpm",
        "bpm": "" if config.beats or not bpm else "the model knows no beats",
        "only_new": "" if prime or not args.only_new else "there is no opening to leave out",
    }


def training_without_effect(sizes, recipe) -> dict[str, str]:
    """Return options of `train` and why they have no effect; "" for those that have one."""
    no_attention = "" if sizes.n_attending_layers else "there are no attention cells"
    independent = "--output independent has no such part" if sizes.output == "independent" else ""
    no_copies = independent or ("" if sizes.copies else "there are no copy heads")
    no_pedal = independent or ("" if sizes.pedal else "--no-pedal switches it off")
    only_sgd = "" if recipe.optimizer == "sgd" else f"it belongs to sgd, not to {recipe.optimizer}"
    only_adamw = "" if recipe.optimizer == "adamw" else f"it belongs to adamw, not to {recipe.optimizer}"
    return {
        "attention_size": no_attention,
        "attention_span": no_attention,
        "copy_heads": independent,
        "copy_span": no_copies,
        "pitch_size": independent,
        "pitch_reach": independent,
        "velocity_context": independent,
        "velocity_weight": independent,
        "pedal": independent,
        "pedal_weight": no_pedal,
        "beat_dropout": "" if sizes.beats else "--no-beats switches the beats off",
        "home_dropout": "" if sizes.home else "it needs --home",
        "composer_dropout": "" if sizes.composers else "it needs --composers",
        "momentum": only_sgd,
        "beta1": only_adamw,
        "beta2": only_adamw,
        "weight_decay": only_adamw,
        "final_rate": "" if recipe.schedule == "cosine" else "it needs --schedule cosine",
    }


def tell_without_effect(reasons: dict[str, str], args: Namespace) -> None:
    """Print the options that were given and have no effect, each with its reason."""
    for option, reason in reasons.items():
        if reason and option in vars(args):
            say(f"--{option.replace('_', '-')} has no effect: {reason}")


def write_pieces(
    pieces: list[PianoRoll],
    outputs: list[dict[str, str]],
    tempo_map,
    recording: PianoRoll | None,
    title: str | None,
    n_prime: int,
) -> None:
    """Write the MIDI files, then the sounds and the figures. An error message names the files already written."""
    written: list[str] = []
    try:
        for piece, paths in zip(pieces, outputs):
            write_midi(piece, paths["out"], tempo_map)
            written.append(paths["out"])
        for piece, paths in zip(pieces, outputs):
            if "wav" in paths:
                from musicgen.lab.player.sound import render_wav

                render_wav(piece, paths["wav"])
                written.append(paths["wav"])
            if "png" in paths:
                draw_piece(piece, paths["png"], recording, title, n_prime)
                written.append(paths["png"])
    except (ValueError, OSError, MemoryError) as error:
        if not written:
            raise
        reason = str(error) or "there is not enough memory"
        raise ValueError(f"{reason[:120]}; written before that: {shortened(written)}") from error


def draw_piece(piece: PianoRoll, path: str, recording: PianoRoll | None, title: str | None, n_prime: int) -> None:
    """Draw a piece to an image file; if it continues a recording, draw the recording above it."""
    from musicgen.lab.figures.rolls import plot_comparison, plot_roll
    from musicgen.lab.figures.style import save_figure

    if recording and n_prime:
        ax = plot_comparison(recording, piece, n_prime, title[:60])
    else:
        primed = f"primed with {title}" if title else "without a prime"
        ax = plot_roll(piece, title=f"A generated piece, {primed}", prime_frames=n_prime)
    save_figure(ax, path)


def download_command(args: Namespace) -> dict:
    """Fetch MAESTRO v2.0.0, or write the Bach chorales that come with music21."""
    from musicgen.corpora.chorales import make_chorales
    from musicgen.corpora.maestro import download_maestro

    folder = make_chorales(args.out) if args.chorales else download_maestro(args.out)
    return {"path": str(folder), "n_files": len(load_corpus(folder))}


def config_of(kind: type, args: Namespace):
    """Build a config of class `kind` from the options that were given; the others have their defaults."""
    return kind(**only_fields(kind, vars(args)))
