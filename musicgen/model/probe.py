"""A linear probe, which tells from the hidden states whether the model hears a pianist or its own music.

The hidden states differ between real music and music of the model's own, more than any statistics of the notes do.
A logistic regression on them [1]_ tells how a continuation would have to be weighted to be distributed as real music.

References
----------
.. [1] Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
"""

import torch
from torch import Tensor, nn


def hidden_statistics(hidden: Tensor) -> Tensor:
    """Return the mean and the standard deviation of hidden states (B, T, H) over time, shape (B, 2 H)."""
    mean = hidden.mean(dim=1, keepdim=True)  # (B, 1, H)
    deviation = (hidden - mean).square().mean(dim=1).sqrt()  # (B, H): 15 times as fast as `Tensor.std`
    return torch.cat([mean[:, 0], deviation], dim=-1)


class Probe(nn.Module):
    """Logistic regression on the hidden states of a segment, compared with those of the prime.

    It is fitted by ``benchmarks/fit_probe.py``, not by the training of the model.

    Parameters
    ----------
    hidden_size : int
        Size of the hidden states that it sees: of all layers together, in an `AttentionLSTM`.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(4 * hidden_size))
        self.register_buffer("bias", torch.zeros(1))

    def forward(self, segment: Tensor, prime: Tensor) -> Tensor:
        """Return the log-odds that segments are generated, shape (B,); negative if they sound like a pianist.

        Both arguments are `hidden_statistics`, shape (B, 2 H).
        """
        return probe_features(segment, prime) @ self.weight + self.bias


def probe_features(segment: Tensor, prime: Tensor) -> Tensor:
    """Return the inputs of a `Probe`, shape (B, 4 H): a segment's statistics, and their difference from the prime's."""
    return torch.cat([segment, segment - prime], dim=-1)
