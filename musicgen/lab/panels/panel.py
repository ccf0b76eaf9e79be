"""Common parts of the panels: a box, labels, a message, a button."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anywidget
from ipywidgets import HTML, Box, Button, Layout, VBox, Widget

from musicgen.lab.figures.html import escape
from musicgen.utils.devices import device_errors

FRAME = {"border": "1px solid var(--jp-border-color2, #ccc)", "padding": "10px 12px"}


class ControlNames(anywidget.AnyWidget):
    """An invisible part of a panel that names its controls for screen readers: see ``names.js``."""

    _esm = Path(__file__).with_name("names.js")

    def __init__(self):
        super().__init__(layout=Layout(display="none"))


class Panel(VBox):
    """A box of widgets. Where there is no kernel, as on GitHub, it shows HTML instead.

    Parameters
    ----------
    children : list of Widget
    instead : callable
        Returns HTML to show there.
    layout : dict
        As for any widget.
    """

    def __init__(self, children: list[Widget], instead: Callable[[], str], **layout: str):
        super().__init__([*children, ControlNames()], layout=Layout(**{"overflow": "visible"} | layout))
        self.instead = instead
        self.add_class("musicgen-panel")

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.instead()}


class Message(HTML):
    """One line below the controls: the progress, or an error in red. Screen readers announce it."""

    def __init__(self):
        super().__init__()
        self.add_class("musicgen-live")

    def tell(self, text: str) -> None:
        """Show a line about the progress."""
        self.value = f'<span class="musicgen-message">{escape(text)}</span>'

    def complain(self, text: str) -> None:
        """Show an error in red."""
        style = "color: var(--jp-error-color1, #d32f2f); white-space: pre-wrap"
        self.value = f'<span class="musicgen-error" role="alert" style="{style}">{escape(text)}</span>'

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Catch and show any error raised in the block: bad input in one line, a bug with its traceback.

        Otherwise an exception in the callback of a widget would appear only in JupyterLab's log.
        """
        try:
            with device_errors():
                yield
        except (ValueError, OSError) as error:
            self.complain(str(error))
        except Exception:
            self.complain(traceback.format_exc())


def labelled(name: str, *controls: Widget, help: str = "", width: str = "auto") -> Box:
    """Return a row with the name of a setting and its controls, which screen readers announce by this name.

    Parameters
    ----------
    name : str
    controls : Widget
    help : str
        The tooltip of the name.
    width : str
        Of the name, as in CSS.
    """
    tooltip = (
        f' style="border-bottom: 1px dotted; cursor: help; line-height: 1.2" title="{escape(help)}"' if help else ""
    )
    label = HTML(f"<span{tooltip}>{escape(name)}</span>", layout=Layout(width=width, flex="none"))
    label.add_class("musicgen-label")
    row = Box([label, *controls], layout=Layout(align_items="center", grid_gap="6px", overflow="visible"))
    row.add_class("musicgen-row")
    return row


def button(text: str, icon: str, help: str, act: Callable[[], None], style: str = "") -> Button:
    """Make a button that calls `act`."""
    made = Button(description=text, icon=icon, tooltip=help, button_style=style, layout=Layout(width="auto"))
    made.on_click(lambda _: act())
    return made
