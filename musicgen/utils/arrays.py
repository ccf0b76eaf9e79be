"""Arrays that cannot be changed."""

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only copy of an array, or the array itself if it is read-only already."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array
