"""Export notebooks as HTML pages that load nothing from other hosts.

``python -m musicgen.lab.course.pages notebooks/*.ipynb --out outputs/pages``. Matplotlib draws the formulas,
so that a page needs no MathJax.
"""

import argparse
import re
from base64 import b64encode
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
from matplotlib.textpath import TextPath
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor

from musicgen.lab.figures.html import escape
from musicgen.utils.files import atomic_write

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?![\s$])(?P<inline>[^$\n]*?[^$\s\\])\$(?!\w)", re.DOTALL)
PIXELS = 16  # font size of a formula
COMMANDS = "ZMLQC"  # SVG path commands: "close", then those of the matplotlib path codes 1, 2, 3, 4


class FormulasToImages(Preprocessor):
    """Replaces the TeX formulas of Markdown cells by images."""

    def preprocess_cell(self, cell, resources, index):
        """Replace the formulas of one cell (called by nbconvert)."""
        if cell.cell_type == "markdown":
            parts = CODE.split(cell.source)  # every second part is code
            parts[::2] = [FORMULA.sub(_replacement, text) for text in parts[::2]]
            cell.source = "".join(parts)
        return cell, resources


def _replacement(match: re.Match) -> str:
    if match["block"]:
        return f'<p style="text-align: center">{formula_image(match["block"])}</p>'
    return formula_image(match["inline"])


def formula_image(tex: str) -> str:
    """Return a TeX formula as an inline SVG image, with its source as alternative text.

    A formula that matplotlib cannot draw is returned as code.
    """
    tex = " ".join(tex.split())
    try:
        with matplotlib.rc_context({"text.parse_math": True}):  # figures turn it off
            path = TextPath((0, 0), f"${tex}$", size=PIXELS)
    except ValueError:
        return f"`{tex}`"
    box = path.get_extents()
    left, bottom, width, height = box.x0 - 1, box.y0 - 1, box.width + 2, box.height + 2
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}" height="{height:.1f}" '
        f'viewBox="{left:.1f} {-bottom - height:.1f} {width:.1f} {height:.1f}">'
        f'<path fill="#212121" d="{_svg_path(path)}"/></svg>'
    )
    source = b64encode(svg.encode()).decode()
    return f'<img alt="{escape(tex)}" src="data:image/svg+xml;base64,{source}" style="vertical-align: {bottom:.1f}px">'


def _svg_path(path: TextPath) -> str:
    parts = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = (
            "" if code == path.CLOSEPOLY else " ".join(f"{x:.2f}" for x in points * np.tile([1, -1], len(points) // 2))
        )
        parts.append(COMMANDS[0 if code == path.CLOSEPOLY else code] + numbers)
    return "".join(parts)


def export(notebook: Path | str, slides: bool = False) -> str:
    """Return an executed notebook as a self-contained HTML page, or as slides."""
    exporter = HTMLExporter(
        template_name="offline",
        template_file="slides.html.j2" if slides else "index.html.j2",
        extra_template_basedirs=[str(Path(__file__).parent)],
        preprocessors=[FormulasToImages],
        embed_images=True,
    )
    path = Path(notebook)
    resources = {"metadata": {"name": path.stem, "path": str(path.parent)}}
    return exporter.from_notebook_node(nbformat.read(path, as_version=4), resources)[0]


def main() -> None:
    """Export the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description="Export notebooks as HTML pages that load nothing else.")
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/pages"), help="the folder for the pages")
    parser.add_argument("--slides", action="store_true", help="make a slide of each Markdown cell and what follows it")
    args = parser.parse_args()
    for notebook in args.notebooks:
        page = args.out / f"{notebook.stem}.html"
        with atomic_write(page) as temporary:
            temporary.write_text(export(notebook, args.slides), encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
