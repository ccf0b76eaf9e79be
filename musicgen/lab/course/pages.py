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
from nbconvert.preprocessors import Preprocessor, TagRemovePreprocessor

from musicgen.lab.figures.html import escape
from musicgen.utils.files import atomic_write

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?![\s$])(?P<inline>[^$\n]*?[^$\s\\])\$(?!\w)", re.DOTALL)
# What no link of the glossary may get into: code, formulas, links, headings, HTML elements with what they hold, tags.
NOT_PROSE = re.compile(
    r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|^#[^\n]*|<summary>.*?</summary>|<[^>]+>)",
    re.DOTALL | re.MULTILINE,
)
PANELS = {  # pictures of the panels, beside the notebooks
    "ComposePanel(": ("figures/compose_panel.png", "A panel: style, opening, temperature, seconds, seed, Compose"),
    "GenerationPanel(": ("figures/generation_panel.png", "A panel: the opening, all settings, Compose, Another, Keep"),
    "explore_moments(": ("figures/explorer_panel.png", "A panel: a slider for the moment, and what the model looks at"),
}
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
    """Render a TeX formula as an inline SVG image with its source as alternative text.

    A formula that matplotlib cannot draw is returned as code.
    """
    tex = " ".join(tex.split())
    try:
        with matplotlib.rc_context({"text.parse_math": True}):  # figures turn it off
            path = TextPath((0, 0), f"${tex}$", size=PIXELS)
    except ValueError:
        return f"`{tex}`"
    box = path.get_extents()
    left = box.x0 - 1
    bottom = box.y0 - 1
    width = box.width + 2
    height = box.height + 2
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


def read_glossary(path: Path) -> dict[str, str]:
    """Read the meaning of each term from a Markdown table, where a row may name several terms; {} without a file."""
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \|$", path.read_text(encoding="utf-8") if path.is_file() else "", re.MULTILINE
    )
    return {term.strip(): meaning for terms, meaning in rows[1:] for term in terms.split(",")}


class GlossaryLinks(Preprocessor):
    """Links the first occurrence of each glossary term to the glossary, with its meaning as a tooltip."""

    def preprocess(self, notebook, resources):
        """Link the terms of a whole notebook (called by nbconvert)."""
        terms = dict(resources["glossary"])
        for cell in (cell for cell in notebook.cells if cell.cell_type == "markdown"):
            parts = NOT_PROSE.split(cell.source)  # every second part is code, a link, a heading, a formula or HTML
            for index in range(0, len(parts), 2):
                parts[index] = self._link(parts[index], terms)
            cell.source = "".join(parts)
        return notebook, resources

    @staticmethod
    def _link(text: str, terms: dict[str, str]) -> str:
        """Link the first occurrence of each of `terms` in a text, and remove the linked terms from `terms`.

        It takes one pass, so that no link gets into another.
        """
        if not terms:
            return text
        longest_first = sorted(terms, key=len, reverse=True)
        names = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

        def link(match: re.Match) -> str:
            term = next((name for name in terms if name.casefold() == match[0].casefold()), None)
            if term is None:  # it was linked before
                return match[0]
            meaning = terms.pop(term).replace('"', "'")
            return f'[{match[0]}](glossary.html#{anchor(term)} "{meaning}")'

        return names.sub(link, text)


def anchor(term: str) -> str:
    """Return the HTML anchor of a term on the glossary page."""
    return re.sub(r"\W+", "-", term.lower())


def glossary_notebook(terms: dict[str, str]) -> nbformat.NotebookNode:
    """Return the glossary as a notebook of one cell, with an anchor for each term."""
    rows = [f'| <a id="{anchor(term)}"></a>{term} | {meaning} |' for term, meaning in terms.items()]
    text = "\n".join(["# Glossary", "", "| term | meaning |", "|---|---|", *rows])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def contents(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return the anchor and the text of each second-level heading."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## (.+)$", "\n".join(sources), re.MULTILINE)
    return [(heading.replace(" ", "-"), heading) for heading in headings]


class ForSlides(Preprocessor):
    """Keeps for slides what an audience wants to see: text, results, and code that defines functions or classes.

    Settings and helper code are hidden, exercises are left out, and a panel becomes its picture.
    """

    def preprocess(self, notebook, resources):
        """Choose the cells of a whole notebook (called by nbconvert)."""
        cells = []
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and "\n## Exercises" in cell.source:
                cells += self._by_heading(cell.source.split("\n## Exercises")[0])
                break
            shown = self._shown(cell, resources["folder"])
            cells += self._by_heading(shown.source) if shown.cell_type == "markdown" else [shown]
        notebook.cells = cells
        return notebook, resources

    @staticmethod
    def _by_heading(source: str) -> list[nbformat.NotebookNode]:
        """Return a cell for each second-level heading, so that it begins a slide; settings are left out."""
        parts = re.split(r"\n(?=## )", source)
        return [nbformat.v4.new_markdown_cell(part) for part in parts if not part.startswith("## Settings")]

    @staticmethod
    def _shown(cell: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
        """Return a cell for slides: code without a definition is hidden, and a panel is replaced by its picture."""
        if cell.cell_type != "code":
            return cell
        for name, (file, alt) in PANELS.items():
            if name in cell.source and (folder / file).is_file():
                picture = b64encode((folder / file).read_bytes()).decode()
                return nbformat.v4.new_markdown_cell(f'<img alt="{alt}" src="data:image/png;base64,{picture}">')
        if not re.search(r"^(def|class) ", cell.source, re.MULTILINE):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide_input"]
        return cell


def export(notebook: Path | str, slides: bool = False) -> str:
    """Return an executed notebook as a self-contained HTML page, or as slides."""
    path = Path(notebook)
    return _export(nbformat.read(path, as_version=4), path.stem, path.parent, slides)


def _export(notebook: nbformat.NotebookNode, name: str, folder: Path, slides: bool = False) -> str:
    exporter = HTMLExporter(
        template_name="offline",
        template_file="slides.html.j2" if slides else "index.html.j2",
        extra_template_basedirs=[str(Path(__file__).parent)],
        preprocessors=[*([ForSlides] if slides else [GlossaryLinks]), FormulasToImages],
        embed_images=True,
    )
    exporter.register_preprocessor(TagRemovePreprocessor(enabled=True, remove_input_tags={"hide_input"}), enabled=True)
    resources = {"metadata": {"name": name, "path": str(folder)}, "folder": folder}
    resources["contents"] = [] if slides else contents(notebook)
    resources["glossary"] = {} if name == "glossary" else read_glossary(folder / "glossary.md")
    return exporter.from_notebook_node(notebook, resources)[0]


def main() -> None:
    """Export the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description="Export notebooks as HTML pages that load nothing else.")
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/pages"), help="the folder for the pages")
    parser.add_argument("--slides", action="store_true", help="make a slide of each Markdown cell and what follows it")
    args = parser.parse_args()
    for notebook in args.notebooks:
        _write(args.out / f"{notebook.stem}.html", export(notebook, args.slides))
    for folder in dict.fromkeys(notebook.parent for notebook in args.notebooks):
        if terms := read_glossary(folder / "glossary.md"):
            _write(args.out / "glossary.html", _export(glossary_notebook(terms), "glossary", folder))


def _write(page: Path, html: str) -> None:
    with atomic_write(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
