"""What the tests of the lab share."""

import numpy as np
import pytest

from musicgen.lab.player.sound import Sound


@pytest.fixture
def quick_sound(monkeypatch):
    """Render silence; the tests of audio are elsewhere."""
    for module in ("player.web_player", "panels.takes"):
        monkeypatch.setattr(f"musicgen.lab.{module}.render", lambda roll: Sound(np.zeros(800, np.float32), 8000))


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no figure in a training panel: each takes half a second."""
    monkeypatch.setattr("musicgen.lab.panels.training.figure_html", lambda shown: f"<img alt='{shown.figure.alt}'>")
