"""What several test files share."""

import os
import shutil

import pytest

# Models this small gain nothing from a second thread, and on a busy machine the two only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model():
    """Build small models. All their weights are random, those of the attention cells too, so that every part counts."""
    import torch

    from musicgen.model import AttentionLSTM, ModelConfig

    def build(seed=0, **sizes):
        small = {"n_pitches": 5, "hidden_size": 8, "attention_size": 3, "attention_span": 6, "copy_heads": 2} | sizes
        model = AttentionLSTM(ModelConfig(**small)).eval()
        random = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.5, generator=random)
        return model

    return build


@pytest.fixture
def two_processes(monkeypatch):
    """Sample even a few files in worker processes."""
    monkeypatch.setattr("musicgen.utils.processes.FEW", 0)
    monkeypatch.setattr("musicgen.utils.processes.cpu_count", lambda: 2)


@pytest.fixture
def pyplot_keeps_nothing():
    """Draw without a screen, and see that no figure stays with pyplot: it would be shown twice in a notebook."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="session")
def browser():
    """Start a Chromium without a window, in which sound may start by itself."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium: `make browser` installs it, or on Debian or Ubuntu: apt install chromium")
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()
