"""Runs side by side: read from their folders, and compared by what differs."""

from dataclasses import asdict

import pytest

from musicgen.lab.panels.runs import Run, compare_runs, load_runs, runs_table, show_runs
from musicgen.training import save_checkpoint
from musicgen.training.progress import Progress


def history(*nlls):
    return [
        {"epoch": epoch, "updates": 5 * epoch, "learning_rate": 0.01, "train_nll": nll + 1, "validation_nll": nll}
        | {"seconds": 2.4 * epoch}
        for epoch, nll in enumerate(nlls, 1)
    ]


SGD = Run("first", {"optimizer": "sgd", "seed": 0, "n_layers": 2}, history(4.0, 3.0, 3.5))
ADAMW = Run(
    "<i>second", {"optimizer": "adamw", "seed": 0, "n_layers": 2, "max_transpose": 5}, [history(2.0)[0] | {"epoch": 4}]
)


def test_only_the_settings_that_differ_are_compared():
    assert compare_runs([SGD, ADAMW]) == [
        {"run": "first", "optimizer": "sgd", "max_transpose": "", "epochs": 3, "seconds": 7}
        | {"training": 4.0, "validation": 3.0},
        {"run": "<i>second", "optimizer": "adamw", "max_transpose": 5, "epochs": 4, "seconds": 2}
        | {"training": 3.0, "validation": 2.0},
    ]


def test_the_table_shows_all_text_as_text_and_the_best_in_bold():
    evil = "<img src=x onerror=alert(1)>"
    run = Run(evil, {"optimizer": evil, evil: evil, "n_layers": 2}, history(3.5))
    shown = runs_table([SGD, ADAMW, run])
    assert "<img" not in shown and "<i>" not in shown
    assert shown.count("&lt;img src=x onerror=alert(1)&gt;") == 4
    assert ["&lt;i&gt;second" in row for row in shown.split("<tr") if "bold" in row] == [True]
    assert "<td" not in runs_table([])


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Write two runs, one that never finished an epoch, and a file that is no checkpoint."""
    for name, nll in {"b": 4.0, "a": 3.0}.items():
        progress = asdict(Progress(epoch=2, history=history(9.0, nll)))
        record = {"training": {"seed": 3}, "windows": {"batch_size": 8}, "progress": progress}
        for file in ("best", "latest"):
            save_checkpoint(tmp_path / name / f"{file}.safetensors", tiny_model(), {}, record)
    save_checkpoint(tmp_path / "begun" / "latest.safetensors", tiny_model(), {}, {"training": {}})
    save_checkpoint(tmp_path / "begun" / "best.safetensors", tiny_model(), {}, {"progress": asdict(Progress())})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "best.safetensors").write_bytes(b"no checkpoint")
    return tmp_path


def test_runs_come_back_from_their_folders(folder):
    runs = {run.name: run for run in load_runs(folder)}
    assert list(runs) == ["a", "b"]
    assert runs["b"].best["validation_nll"] == 4.0
    assert runs["a"].settings["seed"] == 3 and runs["a"].settings["hidden_size"] == 8
    assert load_runs(folder / "nothing") == []


def test_a_run_with_a_damaged_latest_checkpoint_counts_up_to_its_best(folder):
    (folder / "b" / "latest.safetensors").write_bytes(b"no checkpoint")
    assert [run.name for run in load_runs(folder)] == ["a", "b"]


def test_runs_are_in_the_order_of_their_numbers(folder):
    for name, number in {"a": 10, "b": 9}.items():
        (folder / name).rename(folder / f"run-{number}")
    assert [run.name for run in load_runs(folder)] == ["run-9", "run-10"]


def test_runs_that_cannot_be_used_are_left_out_and_named(folder, tmp_path):
    (tmp_path / "<b>").mkdir()
    (tmp_path / "<b>" / "best.safetensors").write_bytes(b"junk")
    shown = show_runs(tmp_path).data
    assert "Left out" in shown and "begun" in shown and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "no runs" in show_runs(tmp_path / "nowhere").data
