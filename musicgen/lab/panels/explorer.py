"""A panel to choose a moment of a piece, and to see what the model attends to and expects next."""

from ipywidgets import HTML, FloatSlider, Layout

from musicgen.lab.figures.html import figure_html
from musicgen.lab.figures.moment_plots import moment_figure
from musicgen.lab.panels.panel import Message, Panel
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll


def explore_moments(model: AttentionLSTM, roll: PianoRoll, title: str = "", seconds: float | None = None) -> Panel:
    """Return a panel: a slider for the time in a piece, and a figure of attention and likely next pitches."""
    last = roll.duration_seconds - 1 / roll.fps
    style = {"layout": Layout(width="95%"), "continuous_update": False, "description": "seconds", "step": 0.05}
    slider = FloatSlider(last / 2 if seconds is None else seconds, min=0, max=last, **style)
    picture = HTML()
    message = Message()

    def draw(_=None) -> None:
        message.value = ""
        with message.errors():
            picture.value = figure_html(moment_figure(model, roll, slider.value, title=title))

    draw()
    slider.observe(draw, "value")
    panel = Panel([slider, message, picture], lambda: picture.value)
    panel.add_class("musicgen-explorer")
    return panel
