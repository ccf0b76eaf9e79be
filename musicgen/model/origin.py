"""Origin of a model: its checkpoint, and a checksum that tells whether the weights have changed since."""

import zlib
from pathlib import Path
from typing import NamedTuple

from torch import nn


class Origin(NamedTuple):
    """The checkpoint that a model was read from.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the checkpoint.
    checksum : int
        Of the weights as they were read; see `checksum`.
    """

    path: Path
    sha256: str
    checksum: int


def checksum(model: nn.Module) -> int:
    """Return the CRC-32 of the names and values of all tensors of a model, which takes some milliseconds."""
    found = 0
    for name, tensor in model.state_dict().items():
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensor.detach().cpu().contiguous().numpy(), found)
    return found
