"""Results as CSV files, one row per run."""

import csv
from pathlib import Path


def append_row(path: Path, row: dict) -> None:
    """Add a row to a CSV file; a new file first gets the names of the columns."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
