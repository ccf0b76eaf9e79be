"""Common parts of all figures: the colours, the size, the alternative text, and how a notebook shows them.

A figure has a transparent background, and its text and colours stand out from white and from black. So one picture
fits the light and the dark theme of JupyterLab, GitHub and an exported page. The player uses the same colours.
"""

import io
from base64 import b64encode
from pathlib import Path

import matplotlib
import matplotlib.figure
import numpy as np
from IPython.display import publish_display_data
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex, to_rgb
from matplotlib.text import Text
from PIL import Image

from musicgen.lab.figures.html import image, readable
from musicgen.utils.files import atomic_write

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
GREY = "#808080"
INK = "#787878"  # text: a contrast of 4.4 with white and with JupyterLab's dark background

# Velocity from 1 (soft, pale blue) to 127 (loud, bright orange), of about the same lightness throughout.
VELOCITY = LinearSegmentedColormap.from_list("velocity", ["#86a3bd", "#6f86d6", "#a25fd0", "#d8478f", "#ee5a24"], 127)
COLOURS = {
    "velocity": [to_hex(VELOCITY(index)) for index in range(127)],  # item i is the colour of velocity i + 1
    "prime": "#2a86c9",
    "now": GREEN,
    "pedal": "#8a8a8a",
    "beat": GREY,
}

# Set on import, so that whatever a cell adds to a figure has these colours, too.
matplotlib.rcParams.update(
    {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": GREY,
        "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "font.size": 11,
        "text.parse_math": False,  # a title may contain dollar signs
    }
)


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure with alternative text, independent of pyplot.

    Since pyplot does not know it, no cell shows it twice.

    Attributes
    ----------
    notes : list of str
        Sentences about what the figure shows; see `describe`.
    """

    def __init__(self, width: float = 8, height: float = 4):
        super().__init__(figsize=(width, height), layout="constrained")
        self.notes: list[str] = []

    @property
    def alt(self) -> str:
        """The alternative text, made of the titles, the labels of the axes and any `describe` sentences."""
        labels = [f"{ax.get_ylabel()} by {ax.get_xlabel()}" for ax in self.axes if ax.get_ylabel() and ax.get_xlabel()]
        parts = [self.get_suptitle(), *(ax.get_title() for ax in self.axes), *(self.notes or labels)]
        whole = ". ".join(part.rstrip(".") for part in dict.fromkeys(parts) if part)
        return readable(f"{whole}." if whole else "A figure.").replace("\n", " ")

    def draw(self, renderer) -> None:
        """Draw the figure, after replacing characters that matplotlib cannot draw."""
        for text in self.findobj(Text):
            text.set_text(readable(text.get_text()))
        super().draw(renderer)

    def _ipython_display_(self) -> None:  # takes precedence over IPython's own formatter of figures
        publish_display_data(self._repr_mimebundle_())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        """Return HTML with the alternative text, and the picture for viewers without HTML."""
        png = png_bytes(self)
        return {
            "text/html": image(png, self.alt),
            "image/png": b64encode(png).decode(),
            "text/plain": f"Figure: {self.alt}",
        }


def subplots(n_rows: int = 1, n_columns: int = 1, size: tuple[float, float] = (8, 4), **options):
    """Return a `Figure` of `size` (width and height in inches) and its axes, like ``pyplot.subplots``."""
    figure = Figure(*size)
    return figure, figure.subplots(n_rows, n_columns, **options)


def axes_for(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax` if it is given, otherwise the axes of a new figure of the given size in inches."""
    return Figure(width, height).subplots() if ax is None else ax


def describe(ax: Axes, sentence: str) -> None:
    """Add a sentence to the alternative text of a figure."""
    if isinstance(ax.figure, Figure):
        ax.figure.notes.append(sentence)


def save_figure(ax: Axes, path: Path | str) -> None:
    """Write the figure of `ax` as a PNG file atomically."""
    with atomic_write(path) as temporary:
        ax.figure.savefig(temporary, format="png", dpi=150)


def png_bytes(shown: Axes | matplotlib.figure.Figure, dpi: int = 90) -> bytes:
    """Return a figure as a PNG with 256 colours, which halves its size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    shown.figure.savefig(drawn, format="png", dpi=dpi)
    _with_palette(np.array(Image.open(drawn).convert("RGBA"))).save(small, "png", optimize=True)
    return small.getvalue()


def _with_palette(pixels: np.ndarray) -> Image.Image:
    """Reduce an RGBA image to its 256 most frequent colours.

    Pillow's own method for RGBA images loses pale colours.
    """
    pixels = ((pixels.astype(int) + 2) // 5 * 5).astype(np.uint8)  # 52 levels of each channel
    pixels[pixels[..., 3] == 0] = 0
    packed = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    values, index, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = values.view(np.uint8).reshape(-1, 4)
    palette = colours[np.argsort(-counts)[:256]]
    distance = ((colours[:, None].astype(int) - palette) ** 2).sum(axis=-1)  # (n_colours, 256)
    reduced = Image.fromarray(distance.argmin(axis=1).astype(np.uint8)[index.reshape(packed.shape)], "P")
    reduced.putpalette(palette.tobytes(), "RGBA")
    return reduced


def fading(colour: str, strongest: float = 1.0) -> LinearSegmentedColormap:
    """Return a colour map from transparent to `colour`, whose opacity ends at `strongest`."""
    return LinearSegmentedColormap.from_list("fading", [(*to_rgb(colour), 0), (*to_rgb(colour), strongest)])


def sequential() -> ListedColormap:
    """Return an opaque colour map from pale to dark blue, for tables of numbers."""
    return ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0, 0.95, 128)))


def is_dark(colour: tuple[float, ...] | str) -> bool:
    """Return whether white text is easier to read on `colour` than black text."""
    return np.dot(to_rgb(colour), [0.3, 0.6, 0.1]) < 0.5
