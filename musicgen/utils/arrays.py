"""Arrays that cannot be changed."""

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    """Return an array that cannot be written to: a copy, or the array itself if it is one already."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array
