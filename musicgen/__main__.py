"""The command line: ``python -m musicgen COMMAND --help``."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import fields

from musicgen import commands
from musicgen.corpora.folder import SPLITS
from musicgen.piano_roll import DEFAULT_FPS
from musicgen.support.files import printable
from musicgen.support.settings import help_of


class Parser(ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str):
        """Leave with exit code 2."""
        self.exit(2, f"{printable(f'{self.prog}: {message}; see {self.prog} --help')}\n")


def add_config(parser: ArgumentParser, kind: type, *without: str, **defaults) -> None:
    """Add an option for each field of a config, with other defaults if wanted; its help is in the docstring."""
    described = help_of(kind)
    for field in fields(kind):
        if field.name not in without:
            default = defaults.get(field.name, field.default)
            text = f"{described[field.name]} (default: {default})".replace("%", "%%")
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(name, type=type(default), default=default, help=text, metavar="X")


def add_data_dir(parser: ArgumentParser) -> None:
    """Add the argument that most commands begin with."""
    parser.add_argument("data_dir", metavar="DATA_DIR", help="a folder of MIDI files, with or without MAESTRO's csv")


def add_training(parser: ArgumentParser, *without: str, **defaults) -> None:
    """Add the options of a training run; the windows have its seed."""
    for kind, left_out in zip(commands.training_configs(), (("n_pitches", "composers"), ("seed",), ())):
        add_config(parser, kind, *left_out, *without, **defaults)


def sample_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.sample`."""
    parser.add_argument("file", metavar="FILE.mid", help="a MIDI file")
    parser.add_argument("--out", required=True, metavar="ROLL.npz", help="gets velocity (n_frames, 88) and fps")
    parser.add_argument("--fps", type=int, default=DEFAULT_FPS, help="frames a second (default: %(default)s)")
    parser.add_argument("--sustain", action="store_true", help="let notes ring while the pedal is down")


def train_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.train`."""
    add_data_dir(parser)
    parser.add_argument("--out", required=True, metavar="RUN_DIR", help="gets the checkpoints and log.csv")
    parser.add_argument("--resume", action="store_true", help="go on where RUN_DIR stopped, with the same options")
    parser.add_argument("--start", metavar="CHECKPOINT", help="begin with this model: weights, sizes, composers")
    names = "tell these apart, as in Bach,Chopin,Liszt"
    parser.add_argument("--composers", dest="composer_names", default="", metavar="NAMES", help=names)
    add_training(parser)


def evaluate_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.evaluate_checkpoint`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .safetensors file of a training run")
    add_data_dir(parser)
    parser.add_argument("--split", default="test", choices=SPLITS, help="(default: %(default)s)")


# The four sets are small: as many epochs as it takes to overfit, and the best of them is scored.
BENCHMARK_DEFAULTS = {
    "hidden_size": 256,
    "n_layers": 1,
    "n_attention_layers": 1,
    "attention_span": 128,
    "dropout": 0.3,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "schedule": "cosine",
    "n_epochs": 40,
    "precision": "bfloat16",
    "velocity_weight": 0.0,
}


def benchmark_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.benchmark`."""
    parser.add_argument("file", metavar="FILE.mat", help="JSB_Chorales, Nottingham, MuseData or Piano_midi")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", metavar="CHECKPOINT", help="score this model")
    model.add_argument("--train", action="store_true", help="train one on the file first; the options below are for it")
    parser.add_argument("--split", default="test", choices=SPLITS, help="what is scored (default: %(default)s)")
    parser.add_argument("--out", metavar="RUN_DIR", help="gets the checkpoints and log.csv (default: not kept)")
    add_training(parser, "composer_dropout", **BENCHMARK_DEFAULTS)


def generate_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.generate_piece`."""
    from musicgen.corpora.primes import PRIMES
    from musicgen.generation import GenerationConfig

    parser.add_argument("--out", required=True, metavar="OUT.mid", help="the piece as a MIDI file")
    parser.add_argument("--wav", metavar="OUT.wav", help="and as sound")
    parser.add_argument("--png", metavar="OUT.png", help="and as a figure")
    parser.add_argument("--prime", metavar="FILE.mid", help="the piece whose opening is continued")
    parser.add_argument("--composer", help="write in the style of, and without --prime continue: " + ", ".join(PRIMES))
    parser.add_argument("--beats", type=float, default=8.0, help="length of the opening, 0 for none (default: 8)")
    parser.add_argument("--checkpoint", help="a .safetensors file (default: the one that comes with musicgen)")
    add_config(parser, GenerationConfig)


def download_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.download`."""
    parser.add_argument("--out", default="data", metavar="FOLDER", help="where to put it (default: %(default)s)")
    parser.add_argument("--chorales", action="store_true", help="write the Bach chorales to FOLDER instead")


COMMANDS = {
    "sample": (commands.sample, sample_options),
    "prepare": (commands.prepare_corpus, add_data_dir),
    "train": (commands.train, train_options),
    "evaluate": (commands.evaluate_checkpoint, evaluate_options),
    "benchmark": (commands.benchmark, benchmark_options),
    "generate": (commands.generate_piece, generate_options),
    "download": (commands.download, download_options),
}


def make_parser(command: str | None) -> Parser:
    """List all commands, but add the options of the one that is called alone: those of some need torch."""
    parser = Parser(prog="python -m musicgen", description="Learn to write piano music with an attention LSTM.")
    choices = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (run, add_options) in COMMANDS.items():
        sub = choices.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="end with one line of JSON on standard output")
        if name == command:
            add_options(sub)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: 0, or 2 for bad input, which is explained in one line on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = make_parser(arguments[0] if arguments else None).parse_args(arguments)
    try:
        result = args.run(args)
    except (ValueError, OSError) as error:
        print(printable(f"musicgen: {error}"), file=sys.stderr)
        return 2
    for name, value in result.items():
        print(printable(f"{name}: {value}"), file=sys.stderr)
    if args.json and result:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
