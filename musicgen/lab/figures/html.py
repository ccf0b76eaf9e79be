"""HTML and pictures of the notebooks. Every text that enters a page goes through `escape`."""

import html
import io
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Control characters except tab and line feed, line separators, and characters that reorder the text around them.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SURROGATE = re.compile("[\ud800-\udfff]")
# A figure in the dark themes of JupyterLab and VS Code: its brightness is inverted, its hues stay.
DARK = '[data-jp-theme-light="false"] .musicgen-figure, .vscode-dark .musicgen-figure'
CELL = "padding: 3px 12px; text-align: right; border-bottom: 1px solid #80808040"


def readable(text: object) -> str:
    r"""Return `text` with unprintable characters escaped.

    Lone surrogates, which Python makes of file names that are not UTF-8, become U+FFFD. Control characters and
    characters that change the direction of the text become escapes such as ``\u202e``.
    """
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", SURROGATE.sub("\ufffd", str(text)))


def escape(text: object) -> str:
    """Return `text` with unprintable characters and HTML markup escaped."""
    return html.escape(readable(text))


def table(rows: Iterable[Sequence], head: Sequence = (), bold: Collection[int] = ()) -> str:
    """Return an HTML table.

    Parameters
    ----------
    rows : iterable of sequence
        The cells of each row. They may come from anywhere: all of them are escaped.
    head : sequence
        The names of the columns, if any. They are escaped, too.
    bold : collection of int
        The indices of rows in bold.
    """
    names = "".join(f"<th style='{CELL}'>{escape(name)}</th>" for name in head)
    body = ""
    for index, row in enumerate(rows):
        weight = "bold" if index in bold else "normal"
        cells = "".join(f"<td style='{CELL}'>{escape(cell)}</td>" for cell in row)
        body += f"<tr style='font-weight: {weight}'>{cells}</tr>"
    top = f"<thead><tr>{names}</tr></thead>" if names else ""
    return f"<table style='border-collapse: collapse'>{top}<tbody>{body}</tbody></table>"


def image(png: bytes, alt: str) -> str:
    """Return an HTML ``<img>`` element for a figure's PNG, with alternative text and a style for dark themes."""
    picture = b64encode(png).decode()
    style = f"<style>{DARK} {{ filter: invert(0.93) hue-rotate(180deg) }}</style>"
    about = f'class="musicgen-figure" style="max-width: 100%" alt="{escape(alt)}"'
    return f'{style}<img {about} src="data:image/png;base64,{picture}">'


def figure_html(shown: Axes | Figure, dpi: int = 90) -> str:
    """Return a figure as an HTML ``<img>`` element with its alternative text."""
    return image(png_bytes(shown, dpi), getattr(shown.figure, "alt", "A figure."))


def png_bytes(shown: Axes | Figure, dpi: int = 90) -> bytes:
    """Return a figure as the bytes of a PNG file with 256 colours, which halves its size."""
    drawn = io.BytesIO()
    small = io.BytesIO()
    shown.figure.savefig(drawn, format="png", dpi=dpi)
    pixels = Image.open(drawn).convert("RGB")
    pixels.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
