"""The long experiments: the command line accepts each run, and finished ones are not run again."""

import csv
import sys
from pathlib import Path

import numpy as np
import polyphonic
import pytest
import torch

from musicgen.__main__ import make_parser
from musicgen.dataset import Piece, RollCache
from musicgen.evaluation.likelihood import evaluate, fit_baselines
from musicgen.model.heads import teacher_forced_logits
from musicgen.piano_roll import PianoRoll

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DATA = Path("some data")


@pytest.fixture
def experiments(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import experiments

    return experiments


@pytest.fixture
def references(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import references

    return references


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ablation

    return ablation


@torch.inference_mode()
def test_pulse_features_change_nothing_at_first_and_copy_attention_is_missed_when_removed(ablation):
    random = torch.Generator().manual_seed(4)
    frames = torch.rand(1, 9, 88, generator=random) * (torch.rand(1, 9, 88, generator=random) < 0.1)

    def logits(*parts):
        model = ablation.build_shipped(parts, 0).eval()
        return teacher_forced_logits(model.output, model(frames)[0], frames, frames[..., 0])[0]

    torch.testing.assert_close(logits("pulse"), logits())
    assert not torch.allclose(logits("no copy"), logits(), atol=0.1)


def test_the_command_line_takes_every_run(experiments):
    for runs in experiments.EXPERIMENTS.values():
        for setting, arguments in runs(DATA):
            words = [str(word) for word in [*arguments, "--out", "run"]]
            script = words[0].endswith(".py")
            parser = polyphonic.make_parser() if script else make_parser(words[0])
            args = vars(parser.parse_args(words[script:]))
            kept = {name: value for name, value in setting.items() if name not in ("dataset", "composers")}
            assert {name: args[name] for name in kept} == kept


def test_no_two_runs_of_an_experiment_are_the_same(experiments):
    for runs in experiments.EXPERIMENTS.values():
        settings = [tuple(setting.items()) for setting, _ in runs(DATA)]
        assert len(settings) == len(set(settings)) > 3
        assert len({tuple(name for name, _ in setting) for setting in settings}) == 1  # they are columns of one table


def test_only_what_is_missing_is_run(experiments, monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    monkeypatch.setattr(experiments, "run", lambda arguments, data: ran.append(arguments) or {"nll": 3.5})
    monkeypatch.setattr(sys, "argv", ["experiments.py", "attention", str(DATA)])
    experiments.main()
    path = tmp_path / "attention.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))  # all but the third run
    experiments.main()
    assert len(ran) == 13 and ran[12] == ran[2]
    assert lines[0] == "n_attention_layers,seed,nll\n" and lines[3] == path.read_text().splitlines(keepends=True)[12]


def test_the_results_are_tables_without_holes():
    for path in (BENCHMARKS / "results").glob("*.csv"):
        header, *rows = csv.reader(path.open(newline=""))
        assert rows and {len(row) for row in rows} == {len(header)}, path.name


def test_the_floors_are_the_baselines_of_evaluate(references, tiny_model):
    frames = np.where(np.random.default_rng(5).random((20, 88)) < 0.3, 61, 0).astype(np.uint8)
    pieces = [Piece(DATA, str(number), "?", "?", split) for number, split in enumerate(["train", "validation", "test"])]
    rolls = RollCache.from_rolls(pieces, [PianoRoll(part) for part in np.split(frames, [7, 11])])
    model = tiny_model(n_pitches=88, output="independent")
    scores = evaluate(model, rolls.select(split="test"), fit_baselines(rolls.select(split="train")))
    [_, floor] = references.floors(rolls)
    assert floor["markov_nll"] == pytest.approx(scores["markov_nll"], abs=1e-3)
    assert floor["marginal_nll"] == pytest.approx(scores["marginal_nll"], abs=1e-3)
