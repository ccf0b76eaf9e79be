"""Player and panels in a small notebook, turned and clicked in a real browser."""

import re

import nbformat
import numpy as np
import pytest
import soundfile
from lab import faults_of_access, play

from musicgen.midi import write_midi
from musicgen.piano_roll import PianoRoll

ENDED = re.compile(r"after \d+:\d\d")  # a run tells how long it took
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CELLS = [
    """
from pathlib import Path
import torch
from IPython.display import display
from musicgen.lab.figures.architecture import plot_architecture
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.lab.panels.forms import follow, form
from musicgen.lab.panels.composing import ComposePanel, GenerationPanel
from musicgen.lab import explore_moments
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import TrainConfig, Trainer
from musicgen.lab.panels.training import TrainingPanel, train_and_watch
from musicgen.dataset import WindowBatches, WindowConfig
rolls = prepare(load_corpus("midi"))
batches = WindowBatches(rolls, WindowConfig(window_frames=32, batch_size=4))
SIZES = {"hidden_size": 16, "attention_size": 8, "attention_span": 32, "output": "independent"}
""",
    "follow(form(ModelConfig, ('n_pitches',), **SIZES), plot_architecture)",
    """
def make_trainer(name, sizes, recipe):
    validate = lambda model: 2.0
    return Trainer(AttentionLSTM(sizes), batches, validate, recipe, Path("runs") / name, progress=False)

sizes, recipe = form(ModelConfig, **SIZES), form(TrainConfig, n_epochs=400)
history, _ = train_and_watch(make_trainer("plain", sizes.value, TrainConfig(n_epochs=2)), {"Markov": 3.0})
""",
    "TrainingPanel(make_trainer, {'model': sizes, 'training': recipe}, {'Markov': 3.0}, 'runs')",
    "model = load_checkpoint(SHIPPED_CHECKPOINT).model\nGenerationPanel(model, load_corpus('midi'), 'made', seconds=8)",
    "ComposePanel(model)",
    "explore_moments(model, rolls[0], 'A piece')",
]


@pytest.fixture(scope="module")
def music(folder):
    """Write three short pieces, of random notes."""
    random = np.random.default_rng(5)
    (folder / "midi").mkdir()
    for name in ("one", "two", "three"):
        velocity = np.zeros((160, 88), np.uint8)
        for start in range(0, 160, 8):
            velocity[start : start + 7, random.choice(range(25, 60), 3, replace=False)] = 80
        write_midi(PianoRoll(velocity), folder / "midi" / f"{name}.mid")
    return folder / "midi"


@pytest.fixture(scope="module")
def opened(lab, folder, music):
    """Open the notebook and run it."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / "panels.ipynb")
    lab.open("panels.ipynb")
    lab.begin()
    lab.finish()
    assert lab.errors() == []
    return lab


@pytest.mark.parametrize("width", [1280, 1400])
def test_no_panel_has_a_scroll_bar_below(opened, width, picture):
    before = opened.page.viewport_size
    opened.page.set_viewport_size(before | {"width": width})
    opened.page.wait_for_timeout(300)
    for name in ("follow", "training", "generation", "compose", "explorer"):
        picture(opened, opened.page.locator(f".musicgen-{name}"), f"panel-{name}-{width}")
    assert opened.scroll_bars(".musicgen-panel") == []
    opened.page.set_viewport_size(before)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_every_control_has_a_name_and_every_text_enough_contrast(opened, theme, picture):
    opened.set_theme(theme)
    panel = opened.page.locator(".musicgen-generation")
    panel.locator("select").first.select_option("what I play")
    panel.locator(".musicgen-keyboard .key").first.wait_for()
    picture(opened, panel, f"keyboard-{theme}")
    picture(opened, opened.page.locator(".musicgen-training"), f"training-{theme}")
    assert faults_of_access(opened.page, ".musicgen-panel") == []
    names = panel.locator("input:visible, select:visible, [role=slider]:visible")
    assert {"temperature", "seed", "Begin with", "beats"} <= {each.get_attribute("aria-label") for each in names.all()}
    panel.locator("select").first.select_option("a shipped opening")


def test_a_slider_that_is_moved_changes_the_figure(opened):
    panel = opened.page.locator(".musicgen-follow")
    before = opened.pictures(panel)
    handle = panel.locator(".musicgen-n_layers .noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    opened.wait_for_another(panel, before)
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
    assert box.input_value() == "2"


def test_a_training_run_is_watched_and_stopped_and_goes_on(opened, folder):
    panel = opened.page.locator(".musicgen-training")
    opened.click(panel, "Train")
    panel.locator(".musicgen-message", has_text="left").wait_for()
    opened.wait_for_another(panel, opened.pictures(panel))
    assert "training loss" in panel.locator("img").first.get_attribute("alt")
    opened.click(panel, "Stop")
    panel.locator(".musicgen-message", has_text=ENDED).wait_for()
    panel.locator("td", has_text="run-1").wait_for()  # after the checkpoint, which follows the last message
    assert (folder / "runs" / "run-1" / "latest.safetensors").is_file()
    assert panel.locator("th", has_text="n epochs").count() == 1, "the setting in which the two runs differ"
    opened.click(panel, "Go on")
    panel.locator(".musicgen-message", has_text="left").wait_for()
    opened.click(panel, "Stop")
    panel.locator(".musicgen-message", has_text=ENDED).wait_for()
    assert opened.errors() == []


def upload(lab, panel, file):
    with lab.page.expect_file_chooser() as chooser:
        lab.click(panel, "Choose a MIDI file")
    chooser.value.set_files(file)


def loudness_after(lab, frame, folder, seconds):
    """Return how loud the sound that a player hands out is after some seconds, 0 for silence."""
    with lab.page.expect_download() as download:
        frame.get_by_test_id("wav").click()
    download.value.save_as(folder / "heard.wav")
    samples, rate = soundfile.read(folder / "heard.wav")
    return np.abs(samples[round(seconds * rate) :]).max()


def test_a_file_of_ones_own_is_continued_and_heard(opened, music, folder):
    panel = opened.page.locator(".musicgen-generation")
    panel.locator("select").first.select_option("a MIDI file of mine")
    upload(opened, panel, {"name": "bad<b>.mid", "mimeType": "audio/midi", "buffer": b"MThd no music"})
    panel.locator(".musicgen-error", has_text="bad<b>.mid").wait_for()
    upload(opened, panel, music / "one.mid")
    panel.locator(".musicgen-message", has_text="one.mid: 60 notes").wait_for()
    opened.click(panel, "Compose")
    panel.locator(".musicgen-message", has_text="8 s of music").wait_for()
    frame = play(opened, panel)
    player = next(each for each in opened.page.frames if each.query_selector("#player"))
    assert faults_of_access(player, "body") == []
    assert loudness_after(opened, frame, folder, seconds=4.5) > 0.05, "the prime ends after four seconds"
    assert opened.errors() == []


def test_what_is_played_on_the_keyboard_is_continued(opened):
    panel = opened.page.locator(".musicgen-generation")
    panel.locator("select").first.select_option("what I play")
    keyboard = panel.locator(".musicgen-keyboard")
    opened.click(keyboard, "Record")
    n_cells = opened.page.locator(".jp-Cell").count()
    for letter in "adgk":  # in JupyterLab's command mode A would add a cell, and D D would take one away
        opened.page.keyboard.press(letter, delay=150)
    keyboard.locator('.key[data-pitch="55"]').click(delay=150)
    opened.click(keyboard, "Stop")
    keyboard.locator(".told", has_text="5 notes in").wait_for()
    assert opened.page.locator(".jp-Cell").count() == n_cells
    opened.click(panel, "Compose")
    panel.locator("iframe[title*='What was played']").wait_for()
    assert opened.errors() == []


def test_a_piece_is_kept_and_saved(opened, folder):
    panel = opened.page.locator(".musicgen-generation")
    opened.click(panel, "Keep")
    kept = panel.get_by_role("group", name="What was played")
    opened.click(kept, "Save")
    kept.locator(".musicgen-message", has_text="saved").wait_for()
    assert len({path.suffix for path in (folder / "made").glob("what-was-played-1.*")}) == 3
    kept.get_by_role("button").last.click()
    kept.wait_for(state="detached")
    assert opened.errors() == []


def test_the_keys_of_the_piano_are_buttons_and_messages_are_announced(opened):
    panel = opened.page.locator(".musicgen-generation")
    panel.locator("select").first.select_option("what I play")
    key = panel.get_by_role("button", name="C4", exact=True)
    key.wait_for()
    assert key.get_attribute("data-pitch") == "60"
    opened.click(panel.locator(".musicgen-keyboard"), "Clear")
    opened.click(panel, "Compose")  # nothing is played then: the error stays, so this is the last test
    panel.get_by_role("status").filter(has_text="nothing has been played").wait_for()
    panel.locator("select").first.select_option("a shipped opening")
