"""Progress bars that stay quiet in log files."""

import sys

from tqdm import tqdm

from musicgen.utils.files import printable

QUIET_SECONDS = 30.0  # between two lines where standard error is not a terminal


class _Lines:
    """A stream that writes each state of a progress bar on its own line.

    The lines go to standard error. In a notebook they go to standard output, since standard error has a red box there.
    """

    def __init__(self):
        in_notebook = type(sys.stderr).__module__.startswith("ipykernel")
        self.stream = sys.stdout if in_notebook else sys.stderr

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()


def print_above_bar(text: str) -> None:
    """Print a message to standard error, above a progress bar if there is one."""
    tqdm.write(printable(text), file=sys.stderr)


def progress_bar(
    description: str, total: int, unit: str, show: bool = True, initial: int = 0, scale: bool = False
) -> tqdm:
    """Return a progress bar on standard error; without a terminal, it prints a line every 30 seconds.

    `scale` counts in thousands and millions, as for bytes.
    """
    options = {"desc": description, "total": total, "unit": unit, "initial": initial}
    options |= {"disable": not show, "unit_scale": scale}
    if sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(**options, file=_Lines(), mininterval=QUIET_SECONDS, maxinterval=QUIET_SECONDS, delay=QUIET_SECONDS)
