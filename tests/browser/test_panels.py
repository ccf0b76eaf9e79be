"""Player and panels in a small notebook, turned and clicked in a real browser."""

import nbformat
import numpy as np
import pytest

from musicgen.midi import write_midi
from musicgen.piano_roll import PianoRoll

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CELLS = [
    """
from pathlib import Path
import torch
from IPython.display import display
from musicgen.architecture import plot_architecture
from musicgen.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.corpus import load_corpus
from musicgen.dataset import prepare
from musicgen.forms import follow, form
from musicgen.generation_panel import GenerationPanel
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.recipe import TrainConfig
from musicgen.training import Trainer
from musicgen.training_view import TrainingPanel, train_and_watch
from musicgen.windows import WindowBatches, WindowConfig
rolls = prepare(load_corpus("midi"))
batches = WindowBatches(rolls, WindowConfig(window_frames=32, batch_size=4))
SIZES = {"hidden_size": 16, "attention_size": 8, "attention_span": 32, "output": "independent"}
""",
    "follow(form(ModelConfig, ('n_keys',), **SIZES), plot_architecture)",
    """
def make_trainer(name, sizes, recipe):
    validate = lambda model: 2.0
    return Trainer(AttentionLSTM(sizes), batches, validate, recipe, Path("runs") / name, progress=False)

sizes, recipe = form(ModelConfig, **SIZES), form(TrainConfig, n_epochs=400)
history = train_and_watch(make_trainer("plain", sizes.value, TrainConfig(n_epochs=2)), {"Markov": 3.0})
""",
    "TrainingPanel(make_trainer, {'model': sizes, 'training': recipe}, {'Markov': 3.0}, 'runs')",
    "GenerationPanel(load_checkpoint(SHIPPED_CHECKPOINT).model, load_corpus('midi'), 'made', seconds=8)",
]


@pytest.fixture(scope="module")
def music(folder):
    """Write three short pieces, of random notes."""
    random = np.random.default_rng(5)
    (folder / "midi").mkdir()
    for name in ("one", "two", "three"):
        velocity = np.zeros((160, 88), np.uint8)
        for start in range(0, 160, 8):
            velocity[start : start + 7, random.integers(25, 60, 3)] = 80
        write_midi(PianoRoll(velocity), folder / "midi" / f"{name}.mid")
    return folder / "midi"


@pytest.fixture(scope="module")
def opened(lab, folder, music):
    """Open the notebook and run it."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / "panels.ipynb")
    lab.open("panels.ipynb")
    lab.run_all()
    assert lab.errors() == []
    return lab


def test_a_slider_that_is_moved_changes_the_figure(opened):
    panel = opened.page.locator(".musicgen-follow")
    before = panel.locator("img").get_attribute("src")
    handle = panel.locator(".musicgen-n_layers .noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    opened.wait_for_another(panel.locator("img"), before)
    assert panel.locator(".musicgen-n_layers input").input_value() == "3"
    assert opened.errors() == []


def test_settings_that_contradict_each_other_are_told(opened):
    panel = opened.page.locator(".musicgen-follow")
    box = panel.locator(".musicgen-n_layers input")
    box.fill("1")
    box.press("Enter")
    panel.locator(".musicgen-error", has_text="n_attention_layers").wait_for()
    box.fill("2")
    box.press("Enter")
    panel.locator(".musicgen-error").wait_for(state="detached")


def test_a_training_run_is_watched_and_stopped_and_goes_on(opened, folder):
    panel = opened.page.locator(".musicgen-training")
    panel.get_by_role("button", name="Train").click()
    panel.locator(".musicgen-message", has_text="left").wait_for()
    figure = panel.locator("img").first
    before = figure.get_attribute("src")
    opened.wait_for_another(figure, before)
    panel.get_by_role("button", name="Stop").click()
    panel.locator(".musicgen-message", has_text="after 0:").wait_for()
    assert (folder / "runs" / "run-1" / "latest.safetensors").is_file()
    panel.locator("td", has_text="run-1").wait_for()
    assert panel.locator("th", has_text="n epochs").count() == 1, "the setting in which the two runs differ"
    panel.get_by_role("button", name="Go on").click()
    panel.locator(".musicgen-message", has_text="left").wait_for()
    panel.get_by_role("button", name="Stop").click()
    panel.locator(".musicgen-message", has_text="after 0:").wait_for()
    assert opened.errors() == []
