"""The device that torch computes on: its choice, and messages for devices that cannot be used."""

# torch takes seconds to import: the functions that need it import it.

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

DEVICES = ("auto", "cpu", "cuda")
# Words in the messages of torch and of the libraries that it calls.
MEMORY_WORDS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
CARD_WORDS = ("cuda", "cudnn", "cublas", "cusolver", "nvidia", "nccl")


class DeviceError(ValueError):
    """Raised if a device cannot be used or has too little memory; the message says what to do."""


def choose_device(name: str = "auto"):
    """Return a torch device by its name. A graphics card must pass a small computation first.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        ``auto`` is the graphics card if it works, otherwise the CPU. A card that is there and does not work is
        reported on standard error.

    Returns
    -------
    torch.device

    Raises
    ------
    DeviceError
        If ``cuda`` is asked for and does not work.
    ValueError
        If there is no device of this name.
    """
    import torch

    if name not in DEVICES:
        raise ValueError(f"the device must be one of {', '.join(DEVICES)}, not {name!r}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    problem = _problem_of_card()
    if problem is None:
        return torch.device("cuda")
    if name == "cuda":
        raise DeviceError(problem)
    print(f"the CPU is used: {problem}", file=sys.stderr)
    return torch.device("cpu")


def _problem_of_card() -> str | None:
    """Return one line that says why the graphics card cannot be used, or None if it works."""
    import torch

    if not torch.backends.cuda.is_built():
        return "this PyTorch was built without support for graphics cards; use --device cpu"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # an old driver is only a warning
        available = torch.cuda.is_available()
    if not available:
        reason = _first_line(caught[0].message) if caught else "no NVIDIA driver was found"
        return f"there is no graphics card that PyTorch can use ({reason}); use --device cpu"
    try:
        ones = torch.ones(2, 2, device="cuda")
        (ones @ ones).sum().item()  # a card that is too old or too new fails only when it computes
    except (RuntimeError, AssertionError) as error:
        return describe_device_error(error) or _first_line(error)
    return None


@contextmanager
def device_errors() -> Iterator[None]:
    """Raise torch's errors about devices and memory in the block as `DeviceError`; other errors pass unchanged."""
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError) as error:
        text = describe_device_error(error)
        if text is None:
            raise
        raise DeviceError(text) from error


def describe_device_error(error: Exception) -> str | None:
    """Describe an error about a device or memory in one line, with advice; return None for any other error."""
    reason = _first_line(error)
    message = str(error).lower()
    on_card = any(word in message for word in CARD_WORDS)
    if isinstance(error, MemoryError) or any(word in message for word in MEMORY_WORDS):
        elsewhere = ", or use --device cpu" if on_card else ""
        return f"there is not enough memory ({reason}); take a smaller batch, window or model{elsewhere}"
    if on_card:
        return f"the graphics card cannot be used ({reason}); update its driver or use --device cpu"
    return None


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
