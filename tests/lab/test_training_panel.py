"""Live plots of a run, without a browser: the gathered losses, the display and the stop button."""

import time

import numpy as np
import pytest
from batches import batch_of

from musicgen.lab.panels import training as training_view
from musicgen.lab.panels.forms import form
from musicgen.lab.panels.training import LiveLossPlot, TrainingPanel
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import TrainConfig, Trainer

SIZES = {"n_pitches": 5, "hidden_size": 8, "n_layers": 1, "n_attention_layers": 0, "output": "independent"}


pytestmark = pytest.mark.usefixtures("no_pictures")


class Sequences:
    """Four batches an epoch."""

    def epoch(self, number):
        random = np.random.default_rng(number)
        for _ in range(4):
            yield batch_of(random.integers(0, 2, (3, 9, 5)).astype(np.uint8), np.full(3, 9), np.zeros(3, int))

    def n_batches(self, number):
        return 4


@pytest.fixture
def make_trainer(tmp_path):
    def make(name, sizes, recipe):
        return Trainer(
            AttentionLSTM(sizes), Sequences(), lambda model: 2.5, recipe, tmp_path / name, progress=False
        )  # fmt: skip

    return make


def wait_for(true):
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_a_follower_gathers_the_loss_of_each_update(make_trainer, monkeypatch):
    monkeypatch.setattr(training_view, "REDRAW_SECONDS", np.inf)
    trainer = make_trainer("run", ModelConfig(**SIZES), TrainConfig(n_epochs=2, schedule="cosine"))
    losses, shown = [], []
    follower = LiveLossPlot({"Markov": 3.0}, lambda *told: shown.append(told))

    def callback(trainer):
        at = trainer.progress
        losses.append((at.loss_sum, at.n_frames))
        return follower(trainer)

    history = trainer.run(callback=callback)
    numbers, nlls, rates = np.transpose(follower.updates)
    assert numbers.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert np.allclose([nlls[:4].mean(), nlls[4:].mean()], [row["train_nll"] for row in history])
    assert rates[-1] < rates[1]
    follower.draw(trainer)
    done, line, figure = shown[-1]
    assert done == 1 and line.startswith("epoch 2 of 2, update 8, after 0:0")
    assert "training loss" in figure and "<img" in figure


def test_a_follower_of_a_run_taken_up_within_an_epoch_begins_with_an_update_it_saw(make_trainer, monkeypatch):
    monkeypatch.setattr(training_view, "REDRAW_SECONDS", np.inf)
    whole, after = (LiveLossPlot({}, lambda *told: None) for _ in range(2))
    make_trainer("whole", ModelConfig(**SIZES), TrainConfig(n_epochs=2)).run(callback=whole)
    settings = ModelConfig(**SIZES), TrainConfig(n_epochs=2)
    make_trainer("parts", *settings).run(callback=lambda trainer: trainer.progress.updates == 2)
    make_trainer("parts", *settings).run(True, after)
    np.testing.assert_allclose(after.updates, whole.updates[3:])


def test_a_figure_that_is_slow_to_draw_is_drawn_seldom(make_trainer, monkeypatch):
    monkeypatch.setattr(training_view, "REDRAW_SECONDS", 0.0)
    shown = []

    def show(*told):
        shown.append(told)
        time.sleep(0.3)

    make_trainer("run", ModelConfig(**SIZES), TrainConfig(n_epochs=2)).run(callback=LiveLossPlot({}, show))
    assert 1 <= len(shown) <= 3, "there are ten calls"


def panel_of(make_trainer, tmp_path, **recipe):
    forms = {"model": form(ModelConfig, **SIZES), "recipe": form(TrainConfig, **recipe)}
    return TrainingPanel(make_trainer, forms, {"Markov": 3.0}, tmp_path)


def test_a_run_of_the_panel_ends_and_is_listed(make_trainer, tmp_path):
    panel = panel_of(make_trainer, tmp_path, n_epochs=2)
    panel.start.click()
    wait_for(lambda: not panel.start.disabled)
    assert "run-1" in panel.table.value and panel.curves.value
    assert "update 8" in panel.message.value
    assert panel.stop.disabled and panel.resume.disabled, "at its end there is nothing to stop or to go on with"
    (tmp_path / "run-7 copy").mkdir()
    panel.start.click()
    wait_for(lambda: "run-2" in panel.table.value)


def test_the_stop_button_ends_a_run_and_it_can_go_on(make_trainer, tmp_path):
    panel = panel_of(make_trainer, tmp_path, n_epochs=100_000)
    panel.start.click()
    wait_for(lambda: panel.trainer.progress.updates > 3)
    panel.stop.click()
    wait_for(lambda: not panel.start.disabled)
    stopped = panel.trainer.progress.updates
    assert panel.trainer.latest_path.is_file() and "after" in panel.message.value
    panel.resume.click()
    wait_for(lambda: panel.trainer.progress.updates > stopped)
    assert panel.follower.updates[0][0] == 1, "the figure begins where the run began"
    panel.stop.click()
    wait_for(lambda: not panel.start.disabled)


def test_what_goes_wrong_is_told_in_the_panel(make_trainer, tmp_path):
    panel = panel_of(make_trainer, tmp_path)
    panel.forms["model"].controls["n_attention_layers"].value = 2
    panel.start.click()
    assert "contradict" in panel.message.value and not panel.trainer
    panel.forms["model"].controls["n_attention_layers"].value = 0
    panel.forms["recipe"].controls["learning_rate"].value = 1.0
    panel.make_trainer = lambda *args: 1 / 0
    panel.start.click()
    assert "ZeroDivisionError" in panel.message.value and not panel.start.disabled
