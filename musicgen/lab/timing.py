"""Time the steps of a notebook."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.axes import Axes

from musicgen.lab.charts import plot_bars


class Times(dict):
    """Measured times: the seconds of each step by its name."""

    @contextmanager
    def measure(self, name: str, n_times: int = 1) -> Iterator[None]:
        """Time a block that does something `n_times`, and keep the mean seconds for once."""
        started = time.perf_counter()
        yield
        self[name] = (time.perf_counter() - started) / n_times

    def plot(self) -> Axes:
        """Draw the times as bars."""
        return plot_bars(self, xlabel="seconds")
