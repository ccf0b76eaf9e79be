"""Forms: a config as sliders, boxes and drop-downs."""

import math
import sys
from collections.abc import Callable
from dataclasses import Field, fields

import traitlets
from ipywidgets import (
    HTML,
    BoundedFloatText,
    BoundedIntText,
    Box,
    Checkbox,
    Dropdown,
    FloatLogSlider,
    FloatSlider,
    Layout,
)

from musicgen.lab.figures.html import escape, figure_html
from musicgen.lab.figures.style import Axes
from musicgen.lab.panels.panel import Message, Panel, labelled
from musicgen.utils.settings import Settings, help_of

WIDEST_SLIDER = 10_000  # a wider range gets no slider
MANY_TIMES = 50  # if the highest value is this many times the lowest, the slider is logarithmic
LARGEST_EXACT = 2**53 - 1  # the largest whole number that a browser represents exactly
COLUMNS = {
    "display": "grid",
    "overflow": "visible",
    "grid_template_columns": "repeat(auto-fit, minmax(320px, 1fr))",
    "grid_gap": "0 28px",
}


class Form(Panel):
    """A form for a config; `value` is the config, or None if the settings are invalid.

    Made by `form`. To react to changes, call ``form.observe(callback, "value")``.
    """

    value = traitlets.Any()

    def __init__(self, start: Settings, without: tuple[str, ...]):
        self.start = start
        self.message = Message()
        shown = [each for each in fields(start) if each.name not in without and _is_shown(each)]
        self.controls = {}
        rows = []
        for each in shown:
            control, *parts = _control(each, start)
            self.controls[each.name] = control
            control.observe(self._refresh, "value")
            rows.append(_row(each.name, help_of(each), parts))
        super().__init__([Box(rows, layout=Layout(**COLUMNS)), self.message], lambda: settings_table(self.start))
        self._refresh()

    def _refresh(self, _=None) -> None:
        """Update the config from the widgets, and show an error if the settings are invalid."""
        wanted = {each.name: getattr(self.start, each.name) for each in fields(self.start)}
        wanted |= {name: control.value for name, control in self.controls.items()}
        self.message.value = ""
        value = None
        with self.message.errors():
            value = type(self.start)(**wanted)
        self.value = value


def form(kind: type[Settings], without: tuple[str, ...] = (), **start) -> Form:
    """Make a form with a control for each field of a config class.

    A number has a slider and a box, a choice has a drop-down list.
    A slider covers the usual values, a box takes all allowed ones. The description of each setting is its tooltip.

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
    """Return a form above a figure that is redrawn when a setting changes.

    Parameters
    ----------
    form : Form
    draw : callable
        Takes the config, returns axes.
    """
    picture = HTML()

    def redraw(_=None) -> None:
        with form.message.errors():
            if form.value:
                picture.value = figure_html(draw(form.value), dpi=80)

    redraw()
    form.observe(redraw, "value")
    panel = Panel([form, picture], lambda: form.instead() + picture.value)
    panel.add_class("musicgen-follow")
    return panel


def settings_table(config: Settings) -> str:
    """Return an HTML table of the names and values of a config."""
    cells = [
        f"<td style='text-align:right'>{each.name.replace('_', ' ')}</td>"
        f"<td style='text-align:left'><b>{escape(str(getattr(config, each.name)))}</b></td>"
        for each in fields(config)
        if _is_shown(each)
    ]
    rows = "".join(f"<tr>{''.join(cells[at : at + 4])}</tr>" for at in range(0, len(cells), 4))
    return f"<table>{rows}</table>"


def _is_shown(each: Field) -> bool:
    numeric = each.metadata["limits"][0] is not None
    return numeric or bool(each.metadata["choices"]) or isinstance(each.default, bool)


def _row(name: str, text: str, parts: list) -> Box:
    """Return a row of the form: the name of a setting with its help as a tooltip, then its widgets."""
    row = labelled(name.replace("_", " "), *parts, help=text, width="138px")
    row.add_class(f"musicgen-{name}")
    return row


def _control(each: Field, start: Settings) -> list:
    """Return the widget that holds the value of a setting, followed by the widgets to show."""
    if isinstance(each.default, bool):
        box = Checkbox(getattr(start, each.name), indent=False)
        return [box, box]
    return _choice(each, start) if each.metadata["choices"] else _number(each, start)


def _choice(each: Field, start: Settings) -> list:
    names = tuple(each.metadata["choices"])
    options = Dropdown(options=names, value=getattr(start, each.name), layout=Layout(width="190px"))
    return [options, options]


def _number(each: Field, start: Settings) -> list:
    """Return the number box of a setting, then the widgets of its row.

    These are the box and, unless the usual range is too wide, a slider.
    """
    whole = isinstance(each.default, int)
    value = getattr(start, each.name)
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
    """Make a slider without a number box; over a wide range it is logarithmic."""
    looks = {"readout": False, "layout": Layout(flex="1 1 100px", min_width="90px")}
    if low > 0 and high / low >= MANY_TIMES:
        base, step = (2, 1) if whole else (10, 0.1)
        return FloatLogSlider(low, base=base, min=math.log(low, base), max=math.log(high, base), step=step, **looks)
    step = 1 if whole else 10 ** math.floor(math.log10(high - low)) / 100
    return FloatSlider(low, min=low, max=high, step=step, **looks)


def _join(slider: FloatSlider | FloatLogSlider, box: BoundedFloatText, tidy: Callable[[float], float]) -> None:
    """Synchronise a slider with a number box, whose value may exceed the slider's range."""
    base = getattr(slider, "base", None)
    low, high = (base**end if base else end for end in (slider.min, slider.max))

    def step(number: float) -> int:
        """Return the index of the slider's step that is nearest to a number."""
        number = min(max(number, low), high)
        return round((math.log(number, base) if base else number) / slider.step)

    def follow(_=None) -> None:
        slider.value = min(max(box.value, low), high)

    def lead(change: dict) -> None:
        if step(change["new"]) != step(box.value):  # otherwise the browser only rounded it to a step
            box.value = tidy(change["new"])

    follow()
    box.observe(follow, "value")
    slider.observe(lead, "value")
