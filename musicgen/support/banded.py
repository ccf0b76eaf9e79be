"""A 1-D convolution along the pitch axis, computed as one product with a banded matrix."""

import torch
from torch import Tensor, nn

FEW_FRAMES = 128


class PitchConv(nn.Module):
    """Convolution along the pitch axis, as one banded matrix product.

    It covers `reach` pitches below and, with `above`, the pitch itself and those above.
    It is computed as one product with a banded (Toeplitz) matrix, which is faster than a convolution with few channels.
    """

    def __init__(self, n_features: int, pitch_size: int, reach: int, above: bool):
        super().__init__()
        self.reach, self.kept = reach, None
        self.convolution = nn.Conv2d(n_features, pitch_size, (1, 2 * reach + 1 if above else reach))

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_pitches, n_features) to (..., n_pitches, pitch_size), with zero padding at both ends."""
        n_pitches, flat = features.shape[-2], features.flatten(-2)  # (..., K * F)
        if torch.is_grad_enabled() or flat.shape[:-1].numel() > FEW_FRAMES:
            product = flat @ self.matrix(n_pitches)
        else:  # a few frames of generation: cache the matrix, and read only the rows of features that are not 0
            self.kept = self.matrix(n_pitches) if self.kept is None else self.kept
            rows = flat.flatten(0, -2).any(0).nonzero()[:, 0]
            product = flat[..., rows] @ self.kept[rows]
        return product.unflatten(-1, (n_pitches, -1)) + self.convolution.bias

    def train(self, mode: bool = True) -> "PitchConv":
        """Set training or evaluation mode, and clear the cached matrix.

        After changing weights by hand, call `eval` to rebuild the matrix.
        """
        self.kept = None
        return super().train(mode)

    def matrix(self, n_pitches: int) -> Tensor:
        """Return the weights as one banded matrix (n_pitches * n_features, n_pitches * pitch_size)."""
        weight = self.convolution.weight[:, :, 0].permute(2, 1, 0)  # (W, F, S)
        pitch = torch.arange(n_pitches, device=weight.device)
        tap = pitch[:, None] - pitch + self.reach  # (K, K): from each input pitch to each output pitch
        inside = (tap >= 0) & (tap < len(weight))
        matrix = weight[tap.clamp(0, len(weight) - 1)] * inside[..., None, None]  # (K, K, F, S)
        return matrix.transpose(1, 2).reshape(n_pitches * weight.shape[1], -1)
