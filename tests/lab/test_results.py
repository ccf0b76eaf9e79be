"""The measured results that notebook 06 shows come with the package."""

from pathlib import Path

import pytest

from musicgen.lab.course import results

SOURCE = Path(__file__).parents[2] / "benchmarks" / "results"
TABLES = sorted(Path(str(results.MEASURED)).glob("*.csv"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_the_package_has_the_measured_results(table):
    assert table.read_bytes() == (SOURCE / table.name).read_bytes(), "make notebooks copies the new results"


def test_results_are_read_from_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {row["split"] for row in results.read_results("likeness")} == {"test", "validation"}
    with pytest.raises(ValueError, match="only ablation, ablation_shipped, home, lesions, likeness"):
        results.read_results("secret")


def test_auc_is_shown_beside_the_number_of_candidates(monkeypatch):
    commands = {
        "--composers --seed 1 --temperature 0.85": 0.85,
        "--composers --seed 1": 0.78125,
        "--free": 0.75,
        "--free --checkpoint 7a047b1.safetensors --beat False --home False --candidates 1": 0.875,
        "--free --strength 2": 0.5,
        "--free --seed 2  # at commit 4f20c40": 0.25,
    }
    row = {"source": "model", "split": "test"}
    rows = [row | {"auc": str(auc), "command": f"python x.py data {options}"} for options, auc in commands.items()]
    monkeypatch.setattr(results, "read_results", lambda name: rows)
    ax = results.plot_auc()
    assert {label.get_text(): line.get_xdata()[0] for label, line in zip(ax.get_yticklabels(), ax.lines[::2])} == {
        "beats and composer given, 1 candidate, no home": 0.85,
        "beats and composer given, 8 candidates": 0.78125,
        "a plain file, 8 candidates": 0.75,
        "a plain file, 1 candidate, no home": 0.875,
    }


def test_half_minutes_are_those_of_the_test_split_by_run_and_settings(monkeypatch):
    table = [
        ("real", "test", "--seed 0", 0.75),
        ("real", "test", "--seed 0", 0.5),
        ("model", "test", "--seed 0", 0.625),
        ("model", "test", "--seed 1", 0.25),
        ("model", "test", "--seed 0", 0.125),
        ("model", "test", "--seed 1", 0.5),
        ("model", "test", "--seed 0 --feedback 2 --candidates 1", 0.875),
        ("model", "test", "--seed 0 --feedback 2 --candidates 1", 0.75),
        ("model", "validation", "--seed 0", 0.375),
    ]
    names = ("source", "split", "command", "pitch_class_correlation")
    monkeypatch.setattr(results, "read_results", lambda name: [dict(zip(names, row)) for row in table])
    assert results.half_minutes() == {
        "the pianists": [[0.75, 0.5]],
        "the model": [[0.625, 0.125], [0.25, 0.5]],
        "the model, feedback 2, candidates 1": [[0.875, 0.75]],
    }
    ax = results.plot_half_minutes()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0 to 30", "30 to 60"]
    assert "the model: 0.44, 0.31" in ax.figure.alt  # means of two runs
