"""The command line: ``python -m musicgen COMMAND --help``."""

import signal

# Ctrl-C while the modules below are loaded ends the process without a traceback. (A shell may have it ignored.)
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import json
import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from dataclasses import fields

from musicgen import commands
from musicgen.corpora.splits import SPLITS
from musicgen.midi import MAX_SECONDS
from musicgen.piano_roll import DEFAULT_FPS
from musicgen.utils.devices import DEVICES, device_errors
from musicgen.utils.files import printable
from musicgen.utils.settings import help_of
from musicgen.utils.signals import Stopped, Terminated, terminate_by_exception


class Parser(ArgumentParser):
    """Argument parser that reports an error in one line."""

    def error(self, message: str):
        """Print the error and exit with code 2."""
        self.exit(2, f"{printable(f'{self.prog}: {message}; see {self.prog} --help')[:300]}\n")


def config_options(parser: ArgumentParser, kind: type, *without: str) -> None:
    """Add an option for each field of a config. An option that is not given leaves no attribute in the arguments."""
    for field in fields(kind):
        if field.name in without:
            continue
        name = f"--{field.name.replace('_', '-')}"
        text = f"{help_of(field)} Default: {field.default}.".replace("%", "%%")
        if isinstance(field.default, bool):
            parser.add_argument(name, action=BooleanOptionalAction, default=SUPPRESS, help=text)
        else:
            parser.add_argument(name, type=type(field.default), default=SUPPRESS, help=text, metavar="X")


def add_device(parser: ArgumentParser) -> None:
    """Add the option that chooses the device."""
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where torch computes (default: %(default)s)")


def add_data_dir(parser: ArgumentParser) -> None:
    """Add the positional argument DATA_DIR."""
    parser.add_argument(
        "data_dir", type=path, metavar="DATA_DIR", help="a folder of MIDI files, with or without MAESTRO's csv"
    )


def add_max_seconds(parser: ArgumentParser) -> None:
    """Add the option that limits the length of a piece."""
    parser.add_argument("--max-seconds", type=float, default=MAX_SECONDS, help="cut longer pieces off (%(default)g)")


def sample_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.sample_command`."""
    parser.add_argument("file", type=path, metavar="FILE.mid", help="a MIDI file")
    parser.add_argument(
        "--out", type=path, required=True, metavar="ROLL.npz", help="file to write: velocity, fps, pedal, beats"
    )
    parser.add_argument("--fps", type=int, default=DEFAULT_FPS, help="frames per second (default: %(default)s)")
    parser.add_argument("--sustain", action="store_true", help="let notes sound while the pedal is down")
    add_max_seconds(parser)


def prepare_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.prepare_command`."""
    add_data_dir(parser)
    add_max_seconds(parser)


def train_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.train_command`."""
    parser.add_argument("data_dirs", type=path, metavar="DATA_DIR", nargs="+", help="folders of MIDI files")
    parser.add_argument(
        "--out", type=path, required=True, metavar="RUN_DIR", help="folder for the checkpoints and log.csv"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN_DIR, also with more epochs")
    parser.add_argument(
        "--start",
        type=path,
        metavar="CHECKPOINT",
        help="train this model further, with AdamW and a small learning rate",
    )
    names = "composers whose style the model learns, such as Bach,Chopin,Liszt"
    parser.add_argument("--composers", dest="composer_names", default="", metavar="NAMES", help=names)
    add_device(parser)
    for kind, without in zip(commands.training_config_classes(), (("n_pitches", "composers"), ("seed",), ())):
        config_options(parser, kind, *without)


def evaluate_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.evaluate_command`."""
    parser.add_argument("checkpoint", type=path, metavar="CHECKPOINT", help="a .safetensors file of a training run")
    add_data_dir(parser)
    parser.add_argument("--split", default="test", choices=SPLITS, help="pieces to score (default: %(default)s)")
    add_device(parser)


def beats_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.beats_command`."""
    add_data_dir(parser)
    text = "file to write; recordings that have beats in it keep them (default: beats.npz in DATA_DIR)"
    parser.add_argument("--out", type=path, metavar="BEATS.npz", help=text)
    parser.add_argument(
        "--checkpoint", type=path, help="a .safetensors file (default: the one that comes with musicgen)"
    )


def generate_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.generate_command`."""
    from musicgen.corpora.primes import PRIMES
    from musicgen.generation import GenerationConfig
    from musicgen.generation.engines import ENGINES

    parser.add_argument("--out", type=path, required=True, metavar="OUT.mid", help="MIDI file to write")
    parser.add_argument("--wav", type=path, metavar="OUT.wav", help="also write the sound")
    parser.add_argument("--png", type=path, metavar="OUT.png", help="also draw a figure")
    parser.add_argument("--prime", type=path, metavar="FILE.mid", help="the piece whose opening is continued")
    text = "how the piece ends: of several middles, the one that this follows best (--seconds counts up to the ending)"
    parser.add_argument("--ending", type=path, metavar="FILE.mid", help=text)
    known = ", ".join(PRIMES)
    parser.add_argument("--composer", help=f"write in this style; without --prime, continue an opening of {known}")
    parser.add_argument("--beats", type=float, default=8.0, help="length of the opening, 0 for none (default: 8)")
    parser.add_argument(
        "--checkpoint", type=path, help="a .safetensors file (default: the one that comes with musicgen)"
    )
    parser.add_argument(
        "--n", type=int, default=1, metavar="N", help="continuations to compose at once: OUT-1.mid, ..."
    )
    parser.add_argument("--only-new", action="store_true", help="write the continuation without the opening")
    where = "where torch computes; a single piece is fastest on the CPU (default: %(default)s)"
    parser.add_argument("--device", default="cpu", choices=DEVICES, help=where)
    engine = "how to run the model (default: ONNX Runtime if it is installed and the checkpoint has graphs)"
    parser.add_argument("--engine", choices=ENGINES, help=engine)
    config_options(parser, GenerationConfig, "bpm", "beat")
    text = "Tempo after the prime in beats per minute, or none to play freely. Default: the prime's own."
    parser.add_argument("--bpm", action=StoreTempo, default=SUPPRESS, metavar="N|none", help=text)


def path(text: str) -> str:
    """Return a path; refuse an empty one, which an unset variable in a script gives."""
    if not text:
        raise ArgumentTypeError("the path is empty")
    return text


class StoreTempo(Action):
    """Store a tempo as ``bpm``; the word "none" stores False as ``beat``."""

    def __call__(self, parser: ArgumentParser, args: Namespace, text: str, option: str | None = None) -> None:
        """Parse and store the value of the option."""
        args.beat = text != "none"
        try:
            args.bpm = float(text) if args.beat else 0.0
        except ValueError:
            parser.error(f"argument {option}: invalid tempo value: {text!r}")


def download_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.download_command`."""
    parser.add_argument(
        "--out", type=path, default="data", metavar="FOLDER", help="where to put it (default: %(default)s)"
    )
    parser.add_argument("--chorales", action="store_true", help="write the Bach chorales to FOLDER instead")


def export_options(parser: ArgumentParser) -> None:
    """Add the options of `commands.export_command`."""
    from musicgen.generation.export import PRECISIONS

    parser.add_argument("checkpoint", type=path, metavar="CHECKPOINT", help="a .safetensors file of a training run")
    text = "file for the graph of a step; the others lie beside it. generate looks for CHECKPOINT's name with .onnx"
    parser.add_argument("--out", type=path, required=True, metavar="FILE.onnx", help=text)
    text = "precision of the weights; int8 is faster, and four times smaller (default: %(default)s)"
    parser.add_argument("--precision", default="int8", choices=PRECISIONS, help=text)


COMMANDS = {
    "sample": (commands.sample_command, sample_options),
    "prepare": (commands.prepare_command, prepare_options),
    "beats": (commands.beats_command, beats_options),
    "train": (commands.train_command, train_options),
    "evaluate": (commands.evaluate_command, evaluate_options),
    "generate": (commands.generate_command, generate_options),
    "export": (commands.export_command, export_options),
    "download": (commands.download_command, download_options),
}


def make_parser(command: str | None) -> Parser:
    """Return a parser of all commands; only `command` gets its options, because some options need torch."""
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
    """Parse the command line and run the command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: 0; 2 for bad input, with one line on standard error; 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    give_streams()
    try:
        args = make_parser(arguments[0] if arguments else None).parse_args(arguments)
        with device_errors():
            result = args.run(args)
    except (ValueError, OSError) as error:
        commands.say(f"musicgen: {error}")
        return 2
    except ImportError as error:  # a library that this system cannot load
        commands.say(f"musicgen: {error}; is everything installed (make setup)?")
        return 2
    except MemoryError as error:
        commands.say(f"musicgen: {str(error) or 'there is not enough memory'}")
        return 2
    except (KeyboardInterrupt, Terminated) as stop:
        return report_stop(signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    except Stopped as stop:
        return report_stop(stop.number, stop.advice)
    for name, value in result.items():
        commands.say(f"{name}: {value}")
    if args.json and result:
        return print_line(json.dumps(result))
    return 0


def print_line(text: str) -> int:
    """Print a line to standard output, and return the exit code: 2 if it cannot be written."""
    try:
        print(text, flush=True)
    except OSError as error:  # a full disk, or a reader that has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (what is left in the old stream cannot be written either)
        commands.say(f"musicgen: standard output: {error}")
        return 2
    return 0


def give_streams() -> None:
    """Replace standard output and error where there are none, as under pythonw or some schedulers."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (open until the process ends)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def report_stop(number: int, advice: str = "") -> int:
    """Print which signal stopped the command, and return the exit code that shells expect."""
    commands.say(f"musicgen: stopped by {signal.Signals(number).name}{advice}")
    return 128 + number


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate_by_exception()
    sys.exit(main())
