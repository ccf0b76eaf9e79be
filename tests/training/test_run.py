"""A run from rolls and settings: a new model or one that is trained already, and what does not fit together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen.dataset import Piece, RollCache, WindowBatches, WindowConfig
from musicgen.evaluation.likelihood import mean_nll
from musicgen.lab.course.notebook import train
from musicgen.model import ModelConfig
from musicgen.piano_roll import PianoRoll
from musicgen.training import TrainConfig, load_checkpoint
from musicgen.training.device_windows import DeviceWindows
from musicgen.training.progress import check_record
from musicgen.training.run import make_trainer, settings_of_run

SIZES = ModelConfig(hidden_size=6, n_layers=1, n_attention_layers=1, pitch_size=2, copy_heads=1, composers=("Ravel",))
WINDOWS = WindowConfig(window_frames=16, batch_size=3)


def corpus(fps=20):
    random = np.random.default_rng(3)
    pieces, rolls = [], []
    for number, split in enumerate(("train", "train", "validation")):
        pieces.append(Piece(Path(str(number)), str(number), "Ravel", "?", split))
        rolls.append(PianoRoll(np.repeat(random.random((6, 88)) < 0.1, 5, axis=0).astype(np.uint8) * 60, fps))
    return RollCache.from_rolls(pieces, rolls)


@pytest.fixture
def start(tmp_path):
    """Train a model shortly, and return its checkpoint."""
    trainer = make_trainer(corpus(), SIZES, WINDOWS, TrainConfig(n_epochs=1), tmp_path / "first", progress=False)
    trainer.run()
    return trainer.best_path


def test_a_start_gives_weights_sizes_and_the_first_row(start, tmp_path):
    trainer = make_trainer(corpus(), None, WINDOWS, TrainConfig(n_epochs=1), tmp_path / "run", start, progress=False)
    weights = load_checkpoint(start).model.state_dict()
    torch.testing.assert_close(trainer.model.state_dict(), weights, rtol=0, atol=0)
    assert trainer.model.config == SIZES
    expected = mean_nll(load_checkpoint(start).model, corpus().select(split="validation"))
    rows = trainer.run()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["validation_nll"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": 7}, "hidden_size is 7, there 6"),
        ({"composers": ("Haydn",)}, r"composers is \('Haydn',\), there \('Ravel',\)"),
        ({"n_layers": 2, "dropout": 0.3}, "n_layers is 2, there 1; leave them out"),
    ],
)
def test_settings_that_do_not_fit_the_start_are_named_with_both_values(start, tmp_path, changed, said):
    sizes = ModelConfig(**vars(SIZES) | changed)
    with pytest.raises(ValueError, match=said):
        make_trainer(corpus(), sizes, WINDOWS, TrainConfig(), tmp_path / "run", start)


def test_a_start_with_another_frame_rate_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="trained with 20 frames per second, the data have 10"):
        make_trainer(corpus(fps=10), None, WINDOWS, TrainConfig(), tmp_path / "run", start)


def test_windows_are_cut_on_the_device_only_on_request(tmp_path):
    on_device = WindowConfig(window_frames=16, batch_size=3, tempo_versions=2)
    kinds = [
        type(make_trainer(corpus(), SIZES, windows, TrainConfig(), tmp_path).batches)
        for windows in (WINDOWS, on_device)
    ]
    assert kinds == [WindowBatches, DeviceWindows]


def test_home_is_added_to_a_trained_model_without_effect_and_learns_alone(start, tmp_path):
    old = load_checkpoint(start).model
    recipe = TrainConfig(optimizer="adamw", part_rates="all=0,output.home=10", n_epochs=1)
    windows = WindowConfig(window_frames=16, batch_size=3, home_dropout=0.0)
    trainer = make_trainer(corpus(), replace(old.config, home=True), windows, recipe, tmp_path / "run", start)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    assert not before["output.home.network.4.weight"].any()
    trainer.run()
    changed = {name for name, weight in trainer.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed <= {name for name in before if name.startswith("output.home.")}
    assert before.keys() - changed >= old.state_dict().keys()


def test_home_needs_windows_that_are_cut_on_the_cpu(start, tmp_path):
    sizes = replace(load_checkpoint(start).model.config, home=True)
    windows = WindowConfig(window_frames=16, batch_size=3, tempo_versions=2)
    with pytest.raises(ValueError, match="leave tempo_versions out"):
        make_trainer(corpus(), sizes, windows, TrainConfig(), tmp_path / "run", start)


def test_a_notebook_trains_a_model_further(start, tmp_path):
    recipe = TrainConfig(optimizer="adamw", learning_rate=1e-4, n_epochs=2)

    def watch(trainer, baselines):
        assert baselines.keys() == {"marginal", "Markov"}
        return trainer.run(), []

    run = train(corpus(), "tuned", None, recipe, WINDOWS, tmp_path / "runs", watch, start)
    assert run.run_dir == tmp_path / "runs" / "tuned" and len(run.history) == 3
    assert run.best_nll <= run.history[0]["validation_nll"]


@pytest.mark.parametrize(
    ("given", "n_epochs"),
    [
        ({"minutes": 2.5}, 100_000),
        ({"minutes": 0.0}, 10),
        ({"minutes": 2.5, "n_epochs": 3}, 3),
        ({}, 10),
    ],
)
def test_only_a_time_limit_replaces_the_number_of_epochs(given, n_epochs):
    _, _, recipe, chosen = settings_of_run(given)
    assert (recipe.n_epochs, chosen) == (n_epochs, {})


def test_a_record_with_a_number_too_large_for_a_float_is_read_as_a_number():
    check_record({"training": {"seed": 10**400}})
    with pytest.raises(ValueError, match="cannot be nan"):
        check_record({"training": {"learning_rate": float("nan")}})
