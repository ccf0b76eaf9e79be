"""Where a run continues: at the checkpoint before a damaged one, never at a manipulated one; one run at a time."""

import csv
import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import batch_of

from musicgen.training import CheckpointError, TrainConfig, Trainer, load_checkpoint, resume, save_checkpoint


class Sequences:
    """Four batches an epoch. An epoch waits for the event `stuck` before it begins."""

    def __init__(self, stuck=None):
        self.stuck, self.begun = stuck, threading.Event()

    def epoch(self, number):
        self.begun.set()
        if self.stuck:
            assert self.stuck.wait(60)
        random = np.random.default_rng(number)
        for _ in range(self.n_batches(number)):
            held = random.random((2, 9, 5)) < 0.3
            yield batch_of(np.where(held, 70, 0).astype(np.uint8), np.array([9, 7]), np.array([0, 0]))

    def n_batches(self, number):
        return 4


@pytest.fixture
def trainer(tiny_model, tmp_path):
    def build(folder="run", batches=None, seed=0, validate=lambda model: 1.0, **config):
        settings = TrainConfig(**{"n_epochs": 3, "seed": 5, "optimizer": "adamw", **config})
        model = tiny_model(seed=seed, dropout=0.3)
        return Trainer(model, batches or Sequences(), validate, settings, tmp_path / folder, progress=False)

    return build


def stop_after(n_epochs):
    """Validate, and break the run off in the epoch after the `n_epochs`-th."""
    losses = iter(n_epochs * [1.0])
    return lambda model: next(losses, np.nan)


def broken_off(trainer, n_epochs=2, **config):
    """Run some epochs, then fail, as a machine does."""
    with pytest.raises(ValueError, match="loss is nan"):
        trainer(validate=stop_after(n_epochs), **config).run()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def weights_of(path):
    return load_checkpoint(path).model.state_dict()


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-50] ^= 4
    path.write_bytes(content)


def dig(path):
    content = bytearray(path.read_bytes())
    content[-400:-200] = bytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, dig, Path.unlink])
def test_a_damaged_latest_checkpoint_is_reported_and_the_one_before_it_leads_to_the_same_result(
    trainer, tmp_path, capsys, damage
):
    trainer("whole").run()
    broken_off(trainer)
    latest, previous = (tmp_path / "run" / f"{name}.safetensors" for name in ("latest", "previous"))
    assert [load_checkpoint(path).record["progress"]["epoch"] for path in (latest, previous)] == [2, 1]
    damage(latest)
    trainer(seed=1).run(resume=True)
    said = capsys.readouterr().err
    assert "latest.safetensors'" in said and f"continuing from {str(previous)!r}" in said
    assert weights_of(latest).keys() == weights_of(tmp_path / "whole" / "latest.safetensors").keys()
    torch.testing.assert_close(
        weights_of(latest), weights_of(tmp_path / "whole" / "latest.safetensors"), rtol=0, atol=0
    )
    rows = [list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("whole", "run")]
    assert [[row["updates"] for row in log] for log in rows] == 2 * [["4", "8", "12"]]


def test_a_damaged_checkpoint_never_replaces_the_intact_one_before_it(trainer, tmp_path):
    broken_off(trainer)
    cut(tmp_path / "run" / "latest.safetensors")
    trainer(n_epochs=3).run(resume=True)
    records = [load_checkpoint(tmp_path / "run" / f"{name}.safetensors").record for name in ("latest", "previous")]
    assert [record["progress"]["epoch"] for record in records] == [3, 2]


def test_the_first_save_after_a_damaged_latest_keeps_the_previous(trainer, tmp_path):
    broken_off(trainer)
    cut(tmp_path / "run" / "latest.safetensors")
    with pytest.raises(ValueError, match="loss is nan"):
        trainer(validate=stop_after(1)).run(resume=True)
    assert load_checkpoint(tmp_path / "run" / "previous.safetensors").record["progress"]["epoch"] == 1


def test_two_damaged_checkpoints_are_an_error_and_not_a_random_start(trainer, tmp_path):
    broken_off(trainer)
    for name in ("latest", "previous"):
        cut(tmp_path / "run" / f"{name}.safetensors")
    before = contents(tmp_path / "run")
    with pytest.raises(CheckpointError, match="previous.safetensors"):
        trainer().run(resume=True)
    with pytest.raises(ValueError, match="holds a run already"):
        trainer().run()
    (tmp_path / "run" / "latest.safetensors").unlink()
    with pytest.raises(ValueError, match="holds a run already"):
        trainer().run()
    assert {"latest.safetensors": before["latest.safetensors"], **contents(tmp_path / "run")} == before


def test_only_what_differs_is_shown(trainer):
    broken_off(trainer)
    with pytest.raises(CheckpointError) as caught:
        trainer(learning_rate=0.125, clip_norm=7.0).run(resume=True)
    told = str(caught.value).partition("was trained with other settings: ")[2]
    assert told == "training.clip_norm was 100.0, now 7.0; training.learning_rate was 0.01, now 0.125"
    with pytest.raises(
        ValueError, match=r"^was trained with other settings: a.b was 1, now None; a.c was None, now \[2\]$"
    ):
        resume.check_same({"a": {"b": 1, "d": {}}, "e": 5}, {"a": {"c": [2]}, "e": 5})


class Short(Sequences):
    def n_batches(self, number):
        return 1


FILES = ("best.safetensors", "latest.safetensors", "previous.safetensors", "log.csv")
AGES = ("missing", "older", "newer", "damaged")


@pytest.fixture(scope="module")
def folders(tiny_model, tmp_path_factory):
    """Keep the run folder as it is after each of three epochs, of which the third is the best."""
    path = tmp_path_factory.mktemp("kept")
    losses = iter([2.0, 3.0, 1.0])

    def keep(trainer):
        if not trainer.progress.n_frames:
            shutil.copytree(path / "run", path / str(trainer.progress.epoch))
        return False

    model = tiny_model(seed=0, dropout=0.3)
    config = TrainConfig(n_epochs=3, seed=5, optimizer="adamw")
    Trainer(model, Short(), lambda model: next(losses), config, path / "run", progress=False).run(callback=keep)
    return path


def mixed(folders, folder, ages):
    """Make a run folder whose files come from the second or the third epoch, are damaged, or missing."""
    folder.mkdir()
    for file, age in zip(FILES, ages):
        if age != "missing":
            shutil.copy(folders / ("2" if age == "older" else "3") / file, folder / file)
        if age == "damaged":
            cut(folder / file)


@pytest.mark.parametrize(("best", "latest", "previous"), [*itertools.product(AGES, AGES, ("missing", "newer"))])
def test_a_run_folder_that_is_not_whole_ends_in_training_or_in_one_line(
    trainer, folders, tmp_path, best, latest, previous
):
    mixed(folders, tmp_path / "run", (best, latest, previous, best))  # and a log as old as the best
    before = contents(tmp_path / "run")
    resumed = trainer(batches=Short(), n_epochs=4, validate=lambda model: 1.5, seed=1)
    if previous == "missing" and latest in ("missing", "damaged") and before:
        with pytest.raises(CheckpointError, match="latest.safetensors") as caught:
            resumed.run(resume=True)
        assert "\n" not in str(caught.value) and "another folder" in str(caught.value)
        assert {".lock": b""} | before == {".lock": b""} | contents(tmp_path / "run")
        return
    rows = resumed.run(resume=True)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert list(csv.DictReader(resumed.log_path.open())) == [{k: str(v) for k, v in row.items()} for row in rows]
    kept = load_checkpoint(resumed.best_path).record["progress"]["history"][-1]
    assert kept == resumed.best, "what it tells is what the file holds"
    assert kept["validation_nll"] == (1.0 if "newer" in (best, latest) else 1.5)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_told_before_training(trainer, folders, tmp_path, name):
    mixed(folders, tmp_path / "run", ("newer", "newer", "newer", "newer"))
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).mkdir()
    resumed = trainer(batches=Short(), n_epochs=4)
    with pytest.raises(ValueError, match=f"{name}' is a folder, where a run has a file: move it away"):
        resumed.run(resume=True)
    assert not resumed.progress.updates


def test_a_lost_best_checkpoint_of_a_finished_run_is_replaced_by_the_latest(trainer, folders, tmp_path, capsys):
    mixed(folders, tmp_path / "run", ("missing", "older", "missing", "older"))
    again = trainer(n_epochs=2)
    kept = load_checkpoint(again.latest_path)
    kept.record["training"]["n_epochs"] = 2
    save_checkpoint(again.latest_path, kept.model, kept.tensors, kept.record)
    again.run(resume=True)
    assert again.best["validation_nll"] == 3.0 and again.best_path.exists()
    assert "best.safetensors" in capsys.readouterr().err


def test_a_best_checkpoint_of_another_run_is_not_touched(trainer, folders, tmp_path):
    mixed(folders, tmp_path / "run", ("missing", "newer", "missing", "newer"))
    trainer("other", n_epochs=1, learning_rate=0.5).run()
    shutil.copy(tmp_path / "other" / "best.safetensors", tmp_path / "run" / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"best.safetensors' was trained with .*learning_rate.*; move it away"):
        trainer(n_epochs=3).run(resume=True)


class Card:
    """A device with a random state, as torch names its functions."""

    state = torch.tensor([7, 8])

    def get_rng_state(self, device):
        return self.state

    def set_rng_state(self, state, device):
        self.state = state


def test_the_random_state_of_a_device_is_kept_and_restored(monkeypatch):
    card = Card()
    monkeypatch.setattr(torch, "get_device_module", lambda device: card)
    kept = resume.random_states(torch.device("cuda"))
    drawn, card.state = torch.rand(3), torch.tensor([9])
    resume.restore_random_states(kept, torch.device("cuda"))
    assert card.state.tolist() == [7, 8] and torch.rand(3).equal(drawn)
    resume.restore_random_states(resume.random_states(torch.device("cpu")), torch.device("cuda"))  # of a run on the CPU
    assert card.state.tolist() == [7, 8]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EAGAIN])
def test_only_a_lock_that_is_taken_means_another_run(trainer, monkeypatch, capsys, number):
    locks = pytest.importorskip("fcntl")

    def refuse(handle, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "flock", refuse)
    if number == errno.EAGAIN:
        with pytest.raises(ValueError, match="another run is using this folder"):
            trainer().run()
    else:
        assert len(trainer().run()) == 3
        assert "cannot be locked" in capsys.readouterr().err


ROW = {"epoch": 1, "updates": 4, "learning_rate": 0.01, "train_nll": 3.5, "validation_nll": 1.0, "seconds": 0.1}
HOSTILE = {
    "no progress": lambda record, tensors: record.pop("progress"),
    "progress of another kind": lambda record, tensors: record.update(progress=[1, 2]),
    "progress without a field": lambda record, tensors: record["progress"].pop("n_frames"),
    "progress with a field more": lambda record, tensors: record["progress"].update(colour="red"),
    **{
        f"{name} {value!r}"[:40]: lambda record, tensors, name=name, value=value: record["progress"].update(
            {name: value}
        )
        for name, values in {
            "epoch": [-1, 4, 10**400, True, 2.0, "2", None],
            "batch": [-1, 4, 10**9, 0.5, "0"],
            "updates": [-1, 2**60, 8.5],
            "loss_sum": [float("nan"), float("inf"), 10**400, "much", [1.0]],
            "n_frames": [-1, False, {}],
            "seconds": ["long", float("-inf")],
            "epoch_began": ["soon", float("nan"), None],
            "history": [None, {}, [], [ROW], [ROW, 5], [ROW, ROW, ROW], [ROW, {"epoch": 2}], "ab", [ROW] * 10**5]
            + [[ROW, {**ROW, "validation_nll": value}] for value in (float("nan"), "1.0", None, True, [])],
        }.items()
        for value in values
    },
    "no random state": lambda record, tensors: tensors.pop("random_state"),
    "a short random state": lambda record, tensors: tensors.update(random_state=torch.zeros(9, dtype=torch.uint8)),
    "a random state of zeros": lambda record, tensors: tensors["random_state"].zero_(),
    "a random state of floats": lambda record, tensors: tensors.update(random_state=torch.zeros(5056)),
    **{
        name: lambda record, tensors, name=name: tensors.update({name: torch.zeros(2)})
        for name in ("optimizer.", "optimizer.x.step", "optimizer.0.colour", "optimizer.99.step")
        + ("optimizer.0.step.more", "optimizer.-1.step", "optimizer.00.step", "optimizer.\u0661.step")
    },
    "a state without a part": lambda record, tensors: tensors.pop("optimizer.0.exp_avg"),
    "a state without its step": lambda record, tensors: tensors.pop("optimizer.0.step"),
    "another shape": lambda record, tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(3, 2)}),
    "another type": lambda record, tensors: tensors.update(
        {"optimizer.0.exp_avg": tensors["optimizer.0.exp_avg"].double()}
    ),
    "a step of one dimension": lambda record, tensors: tensors.update({"optimizer.0.step": torch.ones(1)}),
    "a step before the first": lambda record, tensors: tensors["optimizer.0.step"].fill_(0),
    "a step beyond all updates": lambda record, tensors: tensors["optimizer.0.step"].fill_(1e30),
    "negative squares": lambda record, tensors: tensors["optimizer.0.exp_avg_sq"].fill_(-1),
    "a deep record": lambda record, tensors: record.update(training=nested(400)),
}


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


def test_a_manipulated_latest_checkpoint_is_rejected_and_nothing_changes(trainer, tmp_path):
    broken_off(trainer)
    latest = tmp_path / "run" / "latest.safetensors"
    sound = latest.read_bytes()
    for fault, change in HOSTILE.items():
        latest.write_bytes(sound)
        kept = load_checkpoint(latest)
        change(kept.record, kept.tensors)
        save_checkpoint(latest, kept.model, kept.tensors, kept.record)
        (tmp_path / "run" / "previous.safetensors").unlink(missing_ok=True)
        other = trainer(seed=1)
        state, weights = torch.get_rng_state(), [weight.clone() for weight in other.model.parameters()]
        try:
            other.run(resume=True)
        except CheckpointError as error:
            assert "latest.safetensors'" in str(error) and len(str(error)) < 2000, fault
        else:
            pytest.fail(fault)
        assert torch.equal(torch.get_rng_state(), state), fault
        assert all(torch.equal(*pair) for pair in zip(other.model.parameters(), weights)), fault
        assert not other.optimizer.state, fault
    latest.write_bytes(sound)
    assert len(trainer(seed=1).run(resume=True)) == 3  # and without any of these it goes on


def test_the_second_of_two_runs_in_a_folder_is_rejected_and_the_first_continues(trainer, tmp_path):
    go_on = threading.Event()
    first = trainer(batches=Sequences(stuck=go_on))
    thread = threading.Thread(target=first.run)
    thread.start()
    try:
        assert first.batches.begun.wait(60)
        for again in (False, True):
            with pytest.raises(ValueError, match="run': another run is using this folder"):
                trainer().run(resume=again)
    finally:
        go_on.set()
        thread.join(60)
    assert len(first.progress.history) == 3
    assert trainer().run(resume=True) == first.progress.history  # and the folder is free again


def test_a_killed_run_leaves_no_lock_and_its_unfinished_files_are_removed(tmp_path):
    lines = "import sys, pathlib, musicgen.training.resume as r\nwith r.run_lock(pathlib.Path(sys.argv[1])):\n"
    holder = lines + "  print('in', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(ValueError, match="another run"), resume.run_lock(tmp_path / "run"):
            pytest.fail("two of them")
        process.kill()
    (tmp_path / "run" / ".unfinished-x.safetensors").write_bytes(b"half")
    with resume.run_lock(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
