"""A linear layer that has its products made by the faster of two libraries."""

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """`torch.nn.Linear`, which on a CPU and in single precision takes oneDNN, as torch's LSTM layers do.

    By itself torch takes MKL for it, which on an AMD EPYC needs twice the time (notebook 06 compares the two).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of `x`, of ``in_features`` values, to ``out_features``."""
        single = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if torch.compiler.is_compiling() or not single:
            return super().forward(x)
        wanted = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        return super().forward(x.to_mkldnn()).to_dense() if wanted else super().forward(x)
