"""Score a model on the four published polyphonic data sets: ``python benchmarks/polyphonic.py FILE.mat --train``.

They are read from their MATLAB files into piano rolls.
"""

import hashlib
import json
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from loky import ProcessPoolExecutor
from scipy.io import loadmat

from musicgen.__main__ import Parser, config_options
from musicgen.commands import config_of, load_piano_model, training_config_classes
from musicgen.corpora.splits import SPLITS
from musicgen.dataset import CorpusError, Piece, RollCache
from musicgen.piano_roll import N_PITCHES, PianoRoll
from musicgen.utils.limits import system_bounded

# Nats per step on the test split. Independent: the lowest of the recurrent and convolutional networks whose keys are
# independent within a step. Joint: RNN-NADE, Boulanger-Lewandowski, Bengio, Vincent 2012, table 1.
PUBLISHED = {
    "JSB_Chorales": {"independent": 8.10, "joint": 5.56},
    "Nottingham": {"independent": 3.07, "joint": 2.31},
    "MuseData": {"independent": 6.97, "joint": 5.60},
    "Piano_midi": {"independent": 7.46, "joint": 7.05},
}
SPLIT_OF = {"traindata": "train", "validdata": "validation", "testdata": "test"}
VELOCITY = 64  # the data have no velocities
MAX_BYTES = 2**26  # far more than the largest of the four
MAX_MEMORY = 10**9  # the largest of the four takes 42 MB
DEFAULTS = {
    "fps": 1,  # a frame is a step of the score
    "hidden_size": 256,
    "n_layers": 1,
    "n_attention_layers": 1,
    "attention_span": 128,
    "dropout": 0.3,
    "pedal": False,
    "beats": False,
    "velocity_context": False,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "schedule": "cosine",
    "n_epochs": 40,
    "precision": "bfloat16",
    "velocity_weight": 0.0,
}


def read_polyphonic(path: Path | str) -> RollCache:
    """Read JSB Chorales, Nottingham, MuseData or Piano-midi.de, or any data set in the same layout.

    A frame is one step of the data set, a musical duration (a quarter note in JSB Chorales, an eighth note in the
    others) that has no rate in hertz: the rolls have ``fps=1``, and one second stands for one step.

    Parameters
    ----------
    path : Path or str
        A MATLAB file of version 5 to 7 with the cells ``traindata``, ``validdata`` and ``testdata``, each 1 x N
        matrices of shape (n_steps, 88) with a one where a pitch sounds (column 0 is pitch 21).

    Returns
    -------
    RollCache
        The pieces with their splits, in the order of the file. Sounding cells have velocity 64; the cache key is a
        hash of the file.

    Raises
    ------
    CorpusError
        If there is no such file, or it holds anything else.

    References
    ----------
    Boulanger-Lewandowski, Bengio, Vincent, "Modeling Temporal Dependencies in High-Dimensional Sequences: Application
    to Polyphonic Music Generation and Transcription", ICML 2012.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(path, "no such file")
    if path.stat().st_size > MAX_BYTES:
        raise CorpusError(path, f"larger than {MAX_BYTES:,} bytes")
    worker = ProcessPoolExecutor(1)  # some broken files crash it: deeply nested cells overflow SciPy's stack
    try:
        variables = worker.submit(_load, path, MAX_MEMORY).result(timeout=60)
    except Exception as error:  # what SciPy raises has no common type
        reason = f"cannot be read as a MATLAB file of version 5 to 7 ({type(error).__name__})"
        raise CorpusError(path, reason) from error
    finally:
        worker.shutdown(kill_workers=True)
    pieces, rolls = [], []
    for name, split in SPLIT_OF.items():
        for number, matrix in enumerate(_read_cells(path, name, variables), 1):
            pieces.append(Piece(path, f"{name}/{number}", "unknown", f"{path.stem}, {split} {number}", split))
            rolls.append(PianoRoll(matrix.astype(np.uint8) * np.uint8(VELOCITY), 1))
    return RollCache.from_rolls(pieces, rolls, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def _load(path: Path, n_bytes: int) -> dict:
    with system_bounded(n_bytes):
        return loadmat(path, variable_names=list(SPLIT_OF))


def _read_cells(path: Path, name: str, variables: dict) -> list[np.ndarray]:
    """Return the matrices of one split, and check each."""
    cells = variables.get(name)
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.shape[:1] != (1,) or not cells.size:
        raise CorpusError(path, f"cannot be read: {name} is missing, or not 1 x N cells")
    for number, matrix in enumerate(cells[0], 1):
        numbers = isinstance(matrix, np.ndarray) and matrix.dtype.kind in "buif" and matrix.ndim == 2
        if not numbers or not len(matrix) or matrix.shape[1] != N_PITCHES or not np.isin(matrix, (0, 1)).all():
            wanted = f"zeros and ones of shape (n_steps, {N_PITCHES})"
            raise CorpusError(path, f"cannot be read: {name}, piece {number} is not a matrix of {wanted}")
    return list(cells[0])


def benchmark(args: Namespace) -> dict:
    """Score a model on one data set, after training it if that is requested."""
    # These import torch, which the process that reads a file does without.
    from musicgen.evaluation.likelihood import evaluate, fit_baselines
    from musicgen.training.run import make_trainer

    rolls, name = read_polyphonic(args.file), Path(args.file).stem
    result = {"dataset": name, "split": args.split}
    result |= {f"published_{output}": nll for output, nll in PUBLISHED.get(name, {}).items()}
    with TemporaryDirectory() as temporary:
        checkpoint = args.checkpoint
        if not checkpoint:
            sizes, windows, recipe = (config_of(kind, args) for kind in training_config_classes())
            trainer = make_trainer(rolls, sizes, windows, recipe, args.out or temporary)
            if not trainer.run():
                raise ValueError("the training was stopped in its first epoch: there is no model to score")
            checkpoint = trainer.best_path
            result |= {name: trainer.best[name] for name in ("validation_nll", "train_nll")}
            result |= {"epochs": trainer.progress.epoch}
            result |= {"seconds": round(trainer.progress.seconds, 1), "seed": recipe.seed}
        model = load_piano_model(checkpoint).model
    scores = evaluate(model, rolls.select(split=args.split), fit_baselines(rolls.select(split="train")))
    unknown = ("velocity", "pedal", "beats", "n_struck")  # the data have none
    scores = {name: value for name, value in scores.items() if not any(word in name for word in unknown)}
    return result | {"n_steps": scores.pop("n_frames")} | scores


def make_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="benchmarks/polyphonic.py", description=benchmark.__doc__)
    parser.add_argument("file", metavar="FILE.mat", help="JSB_Chorales, Nottingham, MuseData or Piano_midi")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", metavar="CHECKPOINT", help="score this model")
    model.add_argument("--train", action="store_true", help="train one on the file first, with the options below")
    parser.add_argument("--split", default="test", choices=SPLITS, help="(default: %(default)s)")
    parser.add_argument("--out", metavar="RUN_DIR", help="receives the checkpoints and log.csv (default: not kept)")
    parser.add_argument("--json", action="store_true", help="accepted as in other commands; the result is always JSON")
    for kind, without in zip(
        training_config_classes(), (("n_pitches", "fps", "composers"), ("seed", "composer_dropout"), ())
    ):
        config_options(parser, kind, *without)
    parser.set_defaults(**DEFAULTS)
    return parser


if __name__ == "__main__":
    try:
        print(json.dumps(benchmark(make_parser().parse_args())))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/polyphonic.py: {error}")
