"""Forms without a browser: what their controls hold, and the config that comes of it."""

import math
from dataclasses import fields

import pytest
from ipywidgets import FloatLogSlider, FloatSlider

from musicgen.dataset import WindowConfig
from musicgen.generation import GenerationConfig
from musicgen.lab.figures import charts
from musicgen.lab.panels.forms import follow, form
from musicgen.lab.panels.panel import Message
from musicgen.model import ModelConfig
from musicgen.training.trainer import OPTIMIZERS, TrainConfig


def slider_of(made, name):
    (row,) = [row for row in made.children[0].children if f"musicgen-{name}" in row._dom_classes]
    (slider,) = [part for part in row.children if isinstance(part, (FloatSlider, FloatLogSlider))]
    return slider


@pytest.mark.parametrize("kind", [ModelConfig, TrainConfig, WindowConfig, GenerationConfig])
def test_a_form_begins_with_the_defaults_and_shows_every_setting_that_has_limits(kind):
    assert form(kind).value == kind()
    free_text = {"composers", "part_rates"}
    assert set(form(kind).controls) == {each.name for each in fields(kind)} - free_text


def test_it_begins_with_what_it_is_told_and_keeps_what_it_does_not_show():
    made = form(ModelConfig, ("n_pitches",), n_pitches=7, hidden_size=100, composers=("Bach",))
    assert made.value == ModelConfig(n_pitches=7, hidden_size=100, composers=("Bach",))
    assert "n_pitches" not in made.controls
    with pytest.raises(ValueError, match="hidden_size"):
        form(ModelConfig, hidden_size=0)


def test_what_is_set_is_in_the_config_and_those_who_watch_are_told():
    made, told = form(TrainConfig), []
    made.observe(lambda change: told.append(change["new"]), "value")
    made.controls["optimizer"].value = "adamw"
    made.controls["learning_rate"].value = 0.0123
    assert told == [TrainConfig(optimizer="adamw"), TrainConfig(optimizer="adamw", learning_rate=0.0123)]
    assert made.controls["optimizer"].options == tuple(OPTIMIZERS)


def test_the_boxes_have_the_limits_and_the_sliders_what_is_usual():
    made = form(TrainConfig)
    rate, slider = made.controls["learning_rate"], slider_of(made, "learning_rate")
    assert (rate.min, rate.max) == (1e-12, 1)
    assert isinstance(slider, FloatLogSlider)
    assert (10**slider.min, 10**slider.max) == (pytest.approx(1e-4), pytest.approx(0.1))
    assert math.isfinite(made.controls["clip_norm"].max), "a browser knows no infinity"
    assert isinstance(slider_of(made, "momentum"), FloatSlider)


def test_slider_and_box_move_together_but_a_box_may_go_beyond():
    made = form(ModelConfig)
    box, slider = made.controls["hidden_size"], slider_of(made, "hidden_size")
    slider.value = 512.0
    assert made.value.hidden_size == 512 and isinstance(made.value.hidden_size, int)
    box.value = 2000
    assert (made.value.hidden_size, slider.value) == (2000, 1024)


def test_a_browser_that_moves_a_slider_onto_its_step_changes_nothing():
    made = form(ModelConfig, pitch_reach=36)
    slider_of(made, "pitch_reach").value = 32.0  # the nearest power of two
    assert made.value.pitch_reach == 36
    slider_of(made, "pitch_reach").value = 64.0
    assert made.value.pitch_reach == 64


def test_settings_that_contradict_each_other_give_no_config_but_a_message():
    made = form(ModelConfig)
    made.controls["n_layers"].value = 1
    assert made.value is None
    assert "n_attention_layers must be a whole number from 0 to 1" in made.message.value
    made.controls["n_attention_layers"].value = 0
    assert made.value == ModelConfig(n_layers=1, n_attention_layers=0)
    assert made.message.value == ""


def test_a_figure_follows_a_form_and_is_still_there_where_widgets_are_dead():
    drawn = []

    def draw(config):
        drawn.append(config.n_epochs)
        return charts.plot_bars({"epochs": config.n_epochs})

    made = form(TrainConfig, n_epochs=3)
    panel = follow(made, draw)
    before = panel.children[1].value
    made.controls["n_epochs"].value = 5
    assert drawn == [3, 5] and panel.children[1].value != before
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "data:image/png;base64," in bundle["text/html"] and "n epochs" in bundle["text/html"]


def test_errors_are_told_in_a_line_faults_with_their_traceback_and_never_as_markup():
    message = Message()
    with message.errors():
        raise ValueError("no such <script>")
    assert "no such &lt;script&gt;" in message.value and "Traceback" not in message.value
    with message.errors():
        raise KeyError("a fault of ours")
    assert "Traceback" in message.value


def test_help_stands_beside_every_name():
    row = form(TrainConfig).children[0].children[0]
    assert "sgd, as on the poster" in row.children[0].value
