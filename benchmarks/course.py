"""Count what a student meets in each notebook: ``python benchmarks/course.py``, written to results/course.csv.

Words before the first code cell, lines of the median and of the largest code cell, words per line of code, cells that
build something (they define a function or a class, and are no exercise), and exercises: all, those that ask for a
function, with automatic checks, and with solutions. Blank lines and comments do not count as code. Below them are the
same counts of notebooks of other courses, from results/anchors.csv: they were counted by reading the named version of
each file, their words are rounded. That every cell of ours can be run again is tested in tests/browser.
"""

import csv
import json
import re
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COLUMNS = ("words_before_code", "n_code_cells", "median_lines", "largest_cell", "words_per_code_line")
COLUMNS += ("n_building_cells", "n_exercises", "n_functions", "n_checked", "n_solved")


def read_cells(path: Path) -> list[tuple[str, str]]:
    """Return the kind and the text of each cell of a notebook."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def n_code(source: str) -> int:
    """Count the lines of code in a cell."""
    lines = [line.strip() for line in source.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def count(path: Path) -> dict:
    """Count the cells, words and exercises of one notebook."""
    cells = read_cells(path)
    first = next(number for number, (kind, _) in enumerate(cells) if kind == "code")
    lines = [n_code(text) for kind, text in cells if kind == "code"]
    n_words = [len(text.split()) if kind == "markdown" else 0 for kind, text in cells]
    code = [text for kind, text in cells if kind == "code"]
    checks = sum(text.count("check(") for text in code)
    defining = [text for text in code if re.search(r"^(def|class) ", text, re.MULTILINE)]
    functions = sum("check(" in text for text in defining)
    questions = sum(text.count("<details>") for kind, text in cells if kind == "markdown")
    solutions = path.parent / "solutions" / f"{path.name[:2]}_solutions.ipynb"
    solved = sum(text.count("check(") for _, text in read_cells(solutions)) if solutions.exists() else 0
    return {
        "name": path.stem,
        "words_before_code": sum(n_words[:first]),
        "n_code_cells": len(lines),
        "median_lines": median(lines),
        "largest_cell": max(lines),
        "words_per_code_line": round(sum(n_words) / sum(lines), 1),
        "n_building_cells": len(defining) - functions,
        "n_exercises": checks + questions,
        "n_functions": functions,
        "n_checked": checks,
        "n_solved": questions + solved,
    }


def anchors() -> list[dict]:
    """Return the counts of other courses."""
    with (RESULTS / "anchors.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"words_per_code_line": round(int(row["words"]) / int(row["code_lines"]), 1)} for row in rows]


def main() -> None:
    ours = [count(path) for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))]
    rows = [{name: row.get(name, "") for name in ("name", *COLUMNS)} for row in ours + anchors()]
    with (RESULTS / "course.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'':32}", *(f"{name:>20}" for name in COLUMNS))
    for row in rows:
        print(f"{row['name']:32}", *(f"{row[name]!s:>20}" for name in COLUMNS))


if __name__ == "__main__":
    main()
