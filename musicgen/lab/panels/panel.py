"""Common parts of the panels: a box, a message, a button, a picture."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ipywidgets import HTML, Button, Layout, VBox, Widget

from musicgen.lab.figures.html import escape

FRAME = {"border": "1px solid var(--jp-border-color2, #ccc)", "padding": "10px 12px"}


class Panel(VBox):
    """A box of widgets that shows a text where there is no kernel, as on GitHub.

    Parameters
    ----------
    children : list of Widget
    instead : callable
        Returns HTML to show there.
    layout : dict
        As for any widget.
    """

    def __init__(self, children: list[Widget], instead: Callable[[], str], **layout: str):
        super().__init__(children, layout=Layout(**layout))
        self.instead = instead

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self.instead()}


class Message(HTML):
    """One line below the controls: the progress, or an error in red."""

    def tell(self, text: str) -> None:
        """Show the progress."""
        self.value = f'<span class="musicgen-message">{escape(text)}</span>'

    def complain(self, text: str) -> None:
        """Show an error."""
        style = "color: var(--jp-error-color1, #d32f2f); white-space: pre-wrap"
        self.value = f'<span class="musicgen-error" role="alert" style="{style}">{escape(text)}</span>'

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Catch and show any error raised in the block: bad input in one line, a bug with its traceback.

        Otherwise an exception in the callback of a widget would appear only in JupyterLab's log.
        """
        try:
            yield
        except (ValueError, OSError) as error:
            self.complain(str(error))
        except Exception:
            self.complain(traceback.format_exc())


def button(text: str, icon: str, help: str, act: Callable[[], None], style: str = "") -> Button:
    """Make a button that calls `act`."""
    made = Button(description=text, icon=icon, tooltip=help, button_style=style, layout=Layout(width="auto"))
    made.on_click(lambda _: act())
    return made
