"""The optimisers and learning-rate schedules of a training run."""

import math

import torch

WARM_UP = 0.02  # share of the run
OPTIMIZERS = {
    "sgd": lambda weights, c: torch.optim.SGD(weights, c.learning_rate, momentum=c.momentum),
    "adamw": lambda weights, c: torch.optim.AdamW(weights, c.learning_rate, weight_decay=c.weight_decay, fused=True),
}
# The factor of the learning rate, given the finished share of the run.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: min(1.0, (done + 1e-4) / WARM_UP) * (1 + math.cos(math.pi * done)) / 2,
}
