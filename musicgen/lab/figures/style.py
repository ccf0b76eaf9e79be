"""Common parts of all figures: the colours, the size, the alternative text, and how a notebook shows them.

A figure has a light ground and dark text of its own, so it can be read wherever it is shown. JupyterLab's dark theme
inverts its brightness (see `image`). The player uses the same colours. Nothing here changes the settings of matplotlib:
the style belongs to our figures, and what a cell adds to one of them has it, too.
"""

from base64 import b64encode
from pathlib import Path

import matplotlib.axes
import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.legend import Legend
from matplotlib.text import Text

from musicgen.lab.figures.fonts import drawable, families_for
from musicgen.lab.figures.html import image, png_bytes, readable
from musicgen.utils.files import atomic_write

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
GREY = "#808080"
GROUND = "#ffffff"
INK = "#333333"  # text
SIZE = 11  # of text, in points
TITLE_SIZE = 12
SMALL_SIZE = 10

# Velocity from 1 (soft, pale blue) to 127 (loud, bright orange), of about the same lightness throughout.
VELOCITY = LinearSegmentedColormap.from_list("velocity", ["#86a3bd", "#6f86d6", "#a25fd0", "#d8478f", "#ee5a24"], 127)
COLOURS = {
    "velocity": [to_hex(VELOCITY(index)) for index in range(127)],  # item i is the colour of velocity i + 1
    "prime": "#2a86c9",
    "now": GREEN,
    "pedal": "#8a8a8a",
    "beat": GREY,
}


def literal(text: object) -> str:
    r"""Escape `text` for a title or label, so that it shows every character as it is, dollar signs included.

    In matplotlib two dollar signs enclose mathematics. So texts that come from anywhere, such as the title of a piece,
    go through this function, and a title that the reader sets can still be ``$x^2$``.
    """
    return drawable(text).replace("$", r"\$")


def _with_style(options: dict, size: float = SIZE) -> dict:
    """Add our colour and a size to the options of a text."""
    return {"color": INK, "fontsize": size} | normalize_kwargs(options, Text)


class StyledAxes(matplotlib.axes.Axes):
    """Axes in our style, whatever matplotlib's settings are."""

    def clear(self) -> None:
        """Clear the axes and apply the style again. Matplotlib also calls this when it makes axes."""
        super().clear()
        self.set_facecolor("none")
        self.set_prop_cycle(color=PALETTE)
        self.grid(False)
        self.tick_params(which="both", direction="out", color=INK, labelcolor=INK, labelsize=SIZE, grid_color=GREY)
        for name, spine in self.spines.items():
            spine.set_color(INK)
            spine.set_visible(name in ("left", "bottom"))
        for label in (self.xaxis.label, self.yaxis.label):
            label.set(color=INK, size=SIZE)

    def set_title(self, label: str, fontdict: dict | None = None, loc: str = "center", **options) -> Text:
        """Set the title, as in matplotlib, by default centred and in our style."""
        return super().set_title(label, fontdict, loc, **_with_style(options, TITLE_SIZE))

    def text(self, x: float, y: float, s: str, fontdict: dict | None = None, **options) -> Text:
        """Write a text, as in matplotlib, by default in our style."""
        return super().text(x, y, s, fontdict, **_with_style(options))

    def annotate(self, text: str, xy: tuple, *args, **options) -> Text:
        """Annotate a point, as in matplotlib, by default in our style."""
        return super().annotate(text, xy, *args, **_with_style(options))

    def legend(self, *args, **options) -> Legend:
        """Add a legend, as in matplotlib, by default without a frame and in our style."""
        defaults = {"frameon": False, "labelcolor": INK, "fontsize": 0.9 * SIZE}
        return super().legend(*args, **defaults | options)


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure with alternative text, independent of pyplot.

    Since pyplot does not know it, no cell shows it twice.

    Attributes
    ----------
    notes : list of str
        Sentences about what the figure shows; see `describe`.
    """

    def __init__(self, width: float = 8, height: float = 4):
        super().__init__(figsize=(width, height), layout="constrained", facecolor=GROUND)
        self.notes: list[str] = []

    def add_subplot(self, *args, **options) -> Axes:
        """Add axes in our style; `subplots`, ``twinx`` and ``colorbar`` also call this method."""
        return super().add_subplot(*args, **{"axes_class": StyledAxes} | options)

    def colorbar(self, *args, **options) -> Colorbar:
        """Add a scale of colours, as in matplotlib, in our style."""
        bar = super().colorbar(*args, **options)
        bar.outline.set(edgecolor=INK, linewidth=0.8)
        bar.ax.tick_params(color=INK, labelcolor=INK, labelsize=SMALL_SIZE)
        for label in (bar.ax.xaxis.label, bar.ax.yaxis.label):
            label.set(color=INK, size=SMALL_SIZE)
        return bar

    def suptitle(self, t: str, **options) -> Text:
        """Set the title of the figure."""
        return super().suptitle(t, **_with_style(options, 1.2 * SIZE))

    def legend(self, *args, **options) -> Legend:
        """Add one frameless legend for all axes of the figure."""
        return super().legend(*args, **{"frameon": False, "labelcolor": INK, "fontsize": 0.9 * SIZE} | options)

    def savefig(self, fname, **options) -> None:
        """Save the whole figure, as in matplotlib, by default on our ground."""
        ours = {"facecolor": GROUND, "transparent": False, "bbox_inches": self.bbox_inches}
        super().savefig(fname, **ours | options)

    @property
    def alt(self) -> str:
        """The alternative text, made of the titles, the labels of the axes and any `describe` sentences."""
        labels = [f"{ax.get_ylabel()} by {ax.get_xlabel()}" for ax in self.axes if ax.get_ylabel() and ax.get_xlabel()]
        parts = [self.get_suptitle(), *(ax.get_title() for ax in self.axes), *(self.notes or labels)]
        whole = ". ".join(part.rstrip(".") for part in dict.fromkeys(parts) if part)
        return readable(f"{whole}." if whole else "A figure.").replace(r"\$", "$").replace("\n", " ")

    def draw(self, renderer) -> None:
        """Draw the figure with fonts that have its characters. Characters that no font has are escaped."""
        for text in self.findobj(Text):
            text.set_text(drawable(text.get_text()))
            if not text.get_text().isascii():
                text.set_fontfamily(families_for(text.get_text()))
        super().draw(renderer)

    def _ipython_display_(self) -> None:  # takes precedence over IPython's own formatter of figures
        from IPython.display import publish_display_data  # not above: the command line needs no IPython

        publish_display_data(self._repr_mimebundle_())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        """Return the figure as HTML with alternative text, and as PNG and text for viewers without HTML."""
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


def legend_below(ax: Axes, n_columns: int = 4) -> None:
    """Place the legend below everything else in a figure of ours, so that it covers nothing."""
    if isinstance(ax.figure, Figure):
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns)
    else:  # the reader's own figure may have another layout
        ax.legend()


def save_figure(ax: Axes, path: Path | str) -> None:
    """Write the figure of `ax` as a PNG file atomically."""
    with atomic_write(path) as temporary:
        ax.figure.savefig(temporary, format="png", dpi=150)


def fading(colour: str, strongest: float = 1.0) -> LinearSegmentedColormap:
    """Return a colour map from transparent to `colour` with an opacity of `strongest`."""
    return LinearSegmentedColormap.from_list("fading", [(*to_rgb(colour), 0), (*to_rgb(colour), strongest)])
