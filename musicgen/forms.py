"""Forms: a config as sliders, boxes and drop-downs, and what all panels of a notebook share."""

import html
import math
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields

import traitlets
from ipywidgets import (
    HTML,
    BoundedFloatText,
    BoundedIntText,
    Box,
    Button,
    Dropdown,
    FloatLogSlider,
    FloatSlider,
    Image,
    Layout,
    VBox,
    Widget,
)

from musicgen.plots import Axes, png_bytes
from musicgen.settings import Settings, help_of

WIDEST_SLIDER = 10_000  # limits farther apart than this are no range to slide over
MANY_TIMES = 50  # where the highest is so many times the lowest, a slider multiplies instead of adding
LARGEST_EXACT = 2**53 - 1  # of the whole numbers in a browser
FRAME = {"border": "1px solid var(--jp-border-color2, #ccc)", "padding": "10px 12px"}


class Panel(VBox):
    """A box of widgets that leaves something to read where widgets are dead: on GitHub, or in an exported page.

    Parameters
    ----------
    children : list of Widget
    instead : callable
        Returns HTML to show there.
    layout : dict
        As of any widget.
    """

    def __init__(self, children: list[Widget], instead: Callable[[], str], **layout: str):
        super().__init__(children, layout=Layout(**layout))
        self.instead = instead

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.instead()}


class Message(HTML):
    """One line below the controls: how it goes, or in red what went wrong."""

    def tell(self, text: str) -> None:
        """Say how it goes."""
        self.value = f'<span class="musicgen-message">{html.escape(text)}</span>'

    def complain(self, text: str) -> None:
        """Say what went wrong."""
        style = "color: var(--jp-error-color1, #d32f2f); white-space: pre-wrap"
        self.value = f'<span class="musicgen-error" role="alert" style="{style}">{html.escape(text)}</span>'

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Show what goes wrong inside: bad input in one line, a fault of ours with its traceback.

        An exception that leaves the callback of a widget would only be seen in JupyterLab's log.
        """
        try:
            yield
        except (ValueError, OSError) as error:
            self.complain(str(error))
        except Exception:
            self.complain(traceback.format_exc())


class Form(Panel):
    """A config to be set by hand: `value` is the config, or None while its settings contradict each other.

    Made by `form`. What is to follow it says so with ``form.observe(callback, "value")``.
    """

    value = traitlets.Any()

    def __init__(self, start: Settings, without: tuple[str, ...]):
        self.start, self.message = start, Message()
        shown = [each for each in fields(start) if each.name not in without and _is_shown(each)]
        texts = help_of(type(start))
        self.controls, rows = {}, []
        for each in shown:
            control, *parts = _choice(each, start) if each.metadata["choices"] else _number(each, start)
            self.controls[each.name] = control
            control.observe(self._refresh, "value")
            rows.append(_row(each.name, texts[each.name], parts))
        columns = Box(rows, layout=Layout(display="grid", grid_template_columns="repeat(auto-fit, minmax(330px, 1fr))"))
        super().__init__([columns, self.message], lambda: settings_table(self.start), grid_gap="0")
        self._refresh()

    def _refresh(self, _=None) -> None:
        """Take over what is set, and tell where it is contradictory."""
        wanted = {each.name: getattr(self.start, each.name) for each in fields(self.start)}
        wanted |= {name: control.value for name, control in self.controls.items()}
        self.message.value = ""
        value = None
        with self.message.errors():
            value = type(self.start)(**wanted)
        self.value = value


def form(kind: type[Settings], without: tuple[str, ...] = (), **start) -> Form:
    """Make a form of a config class: a slider and a box for each number, a drop-down for each choice.

    A slider covers what is usual, a box takes all that is allowed; the docstring of each setting is its tooltip.

    Parameters
    ----------
    kind : type of Settings
        The config class.
    without : tuple of str
        Settings that are not shown.
    start : dict
        Values to start with, by setting, instead of the defaults.

    Returns
    -------
    Form
        Its `value` is a config of this class.

    Raises
    ------
    ValueError
        If the values to start with are not allowed.
    """
    return Form(kind(**start), without)


def follow(form: Form, draw: Callable[[Settings], Axes]) -> Panel:
    """Return a form above a figure, which is drawn anew whenever a setting changes.

    Parameters
    ----------
    form : Form
    draw : callable
        Takes the config, returns axes.
    """
    picture = Image(layout=Layout(max_width="100%", object_fit="contain", align_self="flex-start"))

    def redraw(_=None) -> None:
        with form.message.errors():
            if form.value:
                picture.value = png_bytes(draw(form.value), dpi=80)

    redraw()
    form.observe(redraw, "value")
    panel = Panel([form, picture], lambda: form.instead() + picture_html(picture.value))
    panel.add_class("musicgen-follow")
    return panel


def picture_html(png: bytes) -> str:
    """Return a picture as an element of a page."""
    return f'<img style="max-width: 100%" src="data:image/png;base64,{b64encode(png).decode()}">' if png else ""


def button(text: str, icon: str, help: str, act: Callable[[], None], style: str = "") -> Button:
    """Make a button that calls `act`."""
    made = Button(description=text, icon=icon, tooltip=help, button_style=style, layout=Layout(width="auto"))
    made.on_click(lambda _: act())
    return made


def settings_table(config: Settings) -> str:
    """Return a config as an HTML table of its names and values, four pairs a row."""
    cells = [
        f"<td style='text-align:right'>{each.name.replace('_', ' ')}</td>"
        f"<td style='text-align:left'><b>{html.escape(str(getattr(config, each.name)))}</b></td>"
        for each in fields(config)
        if _is_shown(each)
    ]
    rows = "".join(f"<tr>{''.join(cells[at : at + 4])}</tr>" for at in range(0, len(cells), 4))
    return f"<table>{rows}</table>"


def _is_shown(each: Field) -> bool:
    return bool(each.metadata["choices"]) or each.metadata["limits"][0] is not None


def _row(name: str, text: str, parts: list[Widget]) -> Box:
    """Put the name of a setting, which tells its help, beside what sets it."""
    style = "border-bottom: 1px dotted; cursor: help; line-height: 1.2"
    label = f'<span style="{style}" title="{html.escape(text)}">{name.replace("_", " ")}</span>'
    row = Box([HTML(label, layout=Layout(width="138px", flex="none")), *parts], layout=Layout(align_items="center"))
    row.add_class(f"musicgen-{name}")
    return row


def _choice(each: Field, start: Settings) -> list[Widget]:
    options = Dropdown(options=each.metadata["choices"], value=getattr(start, each.name), layout=Layout(width="190px"))
    return [options, options]


def _number(each: Field, start: Settings) -> list[Widget]:
    """Return a box, and it again with its slider to the left, unless the range is endless."""
    whole, value = isinstance(each.default, int), getattr(start, each.name)
    largest = LARGEST_EXACT if whole else sys.float_info.max
    lowest, highest = (min(limit, largest) for limit in each.metadata["limits"])
    kind = BoundedIntText if whole else BoundedFloatText
    box = kind(value, min=lowest, max=highest, layout=Layout(width="80px", flex="none"))
    low, high = each.metadata["usual"]
    if high - low > WIDEST_SLIDER:
        box.layout.width = "190px"
        return [box, box]
    slider = _slider(low, high, whole)
    _join(slider, box, lambda number: round(number) if whole else float(f"{number:.3g}"))
    return [box, slider, box]


def _slider(low: float, high: float, whole: bool) -> FloatSlider | FloatLogSlider:
    """Make a slider without a number; over a wide range it goes by powers of two, or by tenths of a power of ten."""
    looks = {"readout": False, "layout": Layout(flex="1 1 100px", min_width="90px")}
    if low > 0 and high / low >= MANY_TIMES:
        base, step = (2, 1) if whole else (10, 0.1)
        return FloatLogSlider(low, base=base, min=math.log(low, base), max=math.log(high, base), step=step, **looks)
    step = 1 if whole else 10 ** math.floor(math.log10(high - low)) / 100
    return FloatSlider(low, min=low, max=high, step=step, **looks)


def _join(slider: FloatSlider | FloatLogSlider, box: BoundedFloatText, tidy: Callable[[float], float]) -> None:
    """Let a slider move with its box, which holds the value and may go beyond what the slider offers."""
    base = getattr(slider, "base", None)
    low, high = (base**end if base else end for end in (slider.min, slider.max))

    def follow(_=None) -> None:
        slider.value = min(max(box.value, low), high)

    def lead(change: dict) -> None:
        if tidy(change["new"]) != tidy(min(max(box.value, low), high)):
            box.value = tidy(change["new"])

    follow()
    box.observe(follow, "value")
    slider.observe(lead, "value")
