"""A linear layer that has its products made by the faster of two libraries."""

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """`torch.nn.Linear`, which on a CPU and in single precision takes oneDNN, as torch's LSTM layers do.

    By itself torch takes MKL for it, which needs twice the time on processors of other makers than its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of `x`, of ``in_features`` values, to ``out_features``."""
        on_cpu = x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        if on_cpu and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return super().forward(x.to_mkldnn()).to_dense()
        return super().forward(x)
