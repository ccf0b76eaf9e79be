"""Run a model without side effects: others see the same mode, device and number of threads as before."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_lock = threading.Lock()
_inside = threading.local()  # `_inside.now` is true in a Python thread that runs `single_thread`
_n_running = 0
_usual_count = 1  # torch's threads while nobody is in `single_thread`


def for_inference(model: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Return a model in evaluation mode on a device.

    It is the model itself if it is so already, otherwise a copy. So a model that is being trained goes on in training
    mode, and several threads can use one model.

    Parameters
    ----------
    model : torch.nn.Module
    device : torch.device or str, optional
        By default the model stays where it is.
    """
    here = next(model.parameters()).device
    wanted = here if device is None else torch.device(device)
    training = any(module.training for module in model.modules())
    if not training and wanted.type == here.type:
        return model
    return copy.deepcopy(model).to(wanted).eval()


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """After the block, restore the mode (training or evaluation) of each module of a model."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute in one thread during the block, which is fastest for single frames.

    Several Python threads may be in such a block at once.
    Torch keeps the number for each Python thread, but a new Python thread starts with the number that any other one
    has set last.
    """
    global _n_running, _usual_count
    if getattr(_inside, "now", False):
        yield
        return
    with _lock:
        before = torch.get_num_threads()
        if not _n_running:
            _usual_count = before
        elif before == 1:  # this Python thread has started while another one is in here
            before = _usual_count
        _n_running += 1
        torch.set_num_threads(1)
    _inside.now = True
    try:
        yield
    finally:
        _inside.now = False
        with _lock:
            _n_running -= 1
            torch.set_num_threads(before)
