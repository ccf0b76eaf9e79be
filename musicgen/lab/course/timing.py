"""Time the steps of a notebook."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.axes import Axes

from musicgen.lab.figures.charts import plot_bars


class Times(dict):
    """A dict from the name of each step to its time in seconds."""

    @contextmanager
    def measure(self, name: str, n_times: int = 1) -> Iterator[None]:
        """Time a block that repeats a step `n_times`, and store the mean seconds per repetition."""
        started = time.perf_counter()
        yield
        self[name] = (time.perf_counter() - started) / n_times

    def plot(self) -> Axes:
        """Draw the times as bars."""
        return plot_bars(self, xlabel="seconds")
