"""Optimizers, learning rates, averages of the weights, and lower precision."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

WARM_UP = 0.02  # share of the run in which the cosine schedule warms up, unless a number of updates is given
ALL = "all"  # stands for the whole model in `part_rates`


def make_sgd(groups: list[dict], config) -> torch.optim.SGD:
    """Return SGD with momentum. The poster names SGD, but no momentum."""
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum)


def make_adamw(groups: list[dict], config) -> torch.optim.AdamW:
    """Return AdamW: Adam with decoupled weight decay."""
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, config.learning_rate, betas, weight_decay=config.weight_decay, fused=True)


# Each takes parameter groups and a `TrainConfig`.
OPTIMIZERS = {"sgd": make_sgd, "adamw": make_adamw}
# Each takes the finished share of the run, and falls from 1 to 0 or stays at 1.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def rate_factor(schedule: str, done: float, n_updates: int, warm_up: int = 0, final_rate: float = 0.0) -> float:
    """Return the factor by which an update's learning rate is multiplied, from 0 to 1.

    Parameters
    ----------
    schedule : str
        A name in `SCHEDULES`.
    done : float
        The finished share of the run, from 0 to 1.
    n_updates : int
        Updates before this one.
    warm_up : int
        Updates in which the factor rises linearly. With 0, the cosine schedule takes 2 % of the run, the constant none.
    final_rate : float
        The factor at which the schedule ends.
    """
    factor = final_rate + (1 - final_rate) * SCHEDULES[schedule](done)
    if warm_up:
        return factor * min(1.0, (n_updates + 1) / warm_up)
    if schedule == "cosine":
        return factor * min(1.0, (done + 1e-4) / WARM_UP)
    return factor


def parse_rates(text: str) -> dict[str, float]:
    """Read factors of the learning rate from a text such as ``"all=0,output.pedal=10"``; ValueError if it is malformed.

    Returns
    -------
    dict of str to float
        The factor of each part, 0 or more.
    """
    rates = {}
    for entry in filter(None, text.split(",")):
        part, _, number = entry.partition("=")
        try:
            rates[part.strip()] = float(number)
        except ValueError:
            rates[part.strip()] = math.nan
        if not part.strip() or not 0 <= rates[part.strip()] < math.inf:
            raise ValueError(f"part_rates must look like 'output=10,copy=0', not {text!r}")
    return rates


def parameter_groups(model: nn.Module, part_rates: str = "") -> list[dict]:
    """Group the weights of a model by their learning-rate factors, for an optimizer.

    Parameters
    ----------
    model : Module
    part_rates : str
        As for `parse_rates`. A part is a module or a weight by its full name, or "all". Later entries win.

    Returns
    -------
    list of dict
        One group for each factor, with the entries ``params`` and ``factor``. Frozen weights (factor 0) have none.

    Raises
    ------
    ValueError
        If the model has no such part, or all of it would be frozen.
    """
    rates = parse_rates(part_rates)
    weights = dict(model.named_parameters())
    for part in rates:
        if not any(_belongs(name, part) for name in weights):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in weights))
            raise ValueError(f"part_rates: the model has no part {part!r}; its parts are {known}")
    groups: dict[float, list] = {}
    for name, weight in weights.items():
        factors = [1.0] + [factor for part, factor in rates.items() if _belongs(name, part)]
        groups.setdefault(factors[-1], []).append(weight)
    trained = [{"params": params, "factor": factor} for factor, params in groups.items() if factor]
    if not trained:
        raise ValueError(f"part_rates freezes all weights: {part_rates!r}")
    return trained


def _belongs(name: str, part: str) -> bool:
    return part in (ALL, name) or name.startswith(f"{part}.")


@contextmanager
def only_training(weights: Iterable[nn.Parameter], model: nn.Module) -> Iterator[None]:
    """During the block, compute gradients for `weights` only, not for the other weights of the model."""
    trained = set(weights)
    frozen = [weight for weight in model.parameters() if weight.requires_grad and weight not in trained]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(True)


class WeightAverage:
    """Exponential moving average of a model's weights, which forgets faster at first.

    Parameters
    ----------
    model : Module
        The average begins with its present weights.
    decay : float
        After n updates the decay is the smaller of this and ``(1 + n) / (10 + n)``.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.names = [name for name, _ in model.named_parameters()]
        self.weights = list(model.parameters())
        self.means = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, n_updates: int) -> None:
        """Include the weights after optimizer step number `n_updates`, counted from 1, in the average."""
        decay = min(self.decay, (1 + n_updates) / (10 + n_updates))
        torch._foreach_lerp_(self.means, self.weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the weights of the model by the average during the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for weight, mean in zip(self.weights, self.means):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the averaged weights by their names in a checkpoint."""
        return {f"average.{name}": mean for name, mean in zip(self.names, self.means)}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load the average from the tensors of a checkpoint; see `as_tensors`."""
        for name, mean in zip(self.names, self.means):
            mean.copy_(tensors[f"average.{name}"])


def autocast(device: str, precision: str) -> torch.autocast:
    """Return a context that computes in a precision, or in float32 on a processor without bfloat16.

    Parameters
    ----------
    device : str
        Type of a device, such as ``cpu``.
    precision : {"float32", "bfloat16"}
    """
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16" and has_bfloat16(device))


@cache
def has_bfloat16(device: str) -> bool:
    """Return whether an LSTM can run in bfloat16. It cannot on processors without AVX-512, where oneDNN fails."""
    if device != "cpu":
        return True
    lstm = nn.LSTM(1, 1, device="meta").to_empty(device=device)  # draws no random numbers
    try:
        with torch.autocast(device, torch.bfloat16):
            lstm(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True
