"""What the tests of the lab share."""

import numpy as np
import pytest

from musicgen.lab.player.sound import Sound


@pytest.fixture
def quick_sound(monkeypatch):
    """Render silence; the tests of audio are elsewhere."""
    silence = Sound(np.zeros(800, np.float32), 8000)
    monkeypatch.setattr("musicgen.lab.player.sound._render_part", lambda roll: silence)


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no figure in a training panel: each takes half a second."""
    monkeypatch.setattr("musicgen.lab.panels.training.figure_html", lambda shown: f"<img alt='{shown.figure.alt}'>")
