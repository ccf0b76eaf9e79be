"""Figures and tables that compare pieces."""

from collections.abc import Mapping, Sequence

from IPython.display import HTML
from matplotlib.axes import Axes

from musicgen.corpora.splits import SPLITS
from musicgen.dataset import RollCache
from musicgen.lab.figures.charts import plot_totals
from musicgen.lab.figures.html import table


def compare(rows: Mapping[object, Mapping[str, float]], measures: Sequence[str] = ()) -> HTML:
    """Show measures of several pieces or groups of pieces as a table.

    Parameters
    ----------
    rows : mapping of object to mapping of str to float
        The measures of each piece or group, such as those of `statistics`.
    measures : sequence of str
        The columns; by default all.
    """
    measures = list(measures) or list(next(iter(rows.values())))
    cells = [[str(name), *(f"{row[measure]:.2f}" for measure in measures)] for name, row in rows.items()]
    return HTML(table(cells, ["", *(measure.replace("_", " ") for measure in measures)]))


def plot_splits(rolls: RollCache) -> Axes:
    """Draw the minutes of music by each composer in each split."""
    minutes = {piece.composer: dict.fromkeys(SPLITS, 0.0) for piece in rolls.pieces}
    for piece, length in zip(rolls.pieces, rolls.lengths):
        minutes[piece.composer][piece.split] += length / rolls.fps / 60
    return plot_totals({"minutes": minutes}, f"{len(rolls)} pieces by composer and split")
