"""Several processes, one run: the same weights as of one process, one who writes, and nobody left behind."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo  # noqa: F401 (an optimizer imports it when it is made, here before the processes fork)
from batches import batch_of
from forked import PROCESSES
from raw_midi import midi_bytes, note

from musicgen.__main__ import main
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.scaling import torchrun as distributed
from musicgen.training import TrainConfig, Trainer, load_checkpoint
from musicgen.training.progress import Progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
SIZES = {"n_pitches": 5, "hidden_size": 4, "n_layers": 1, "n_attention_layers": 1, "attention_size": 2}
SIZES |= {"attention_span": 4, "pitch_size": 2, "pitch_reach": 1, "copy_heads": 1}
LOST = "another process of this run ended or does not answer; the last checkpoint is kept"


class Sequences:
    """Batches of 5, 4, 3 and 1 windows of unequal lengths; a signal comes before one of them."""

    def __init__(self, stop=None, number=signal.SIGTERM):
        self.stop, self.number = stop, number

    def epoch(self, number):
        random = np.random.default_rng(number)
        for batch, size in enumerate([5, 4, 3, 1]):
            if (number, batch) == self.stop:
                os.kill(os.getpid(), self.number)
            frames = np.where(random.random((size, 9, 5)) < 0.3, random.integers(1, 128, (size, 9, 5)), 0)
            lengths, composers = random.integers(2, 10, size=size), random.integers(0, 2, size=size)
            yield batch_of(frames.astype(np.uint8), lengths, composers)

    def n_batches(self, number):
        return 4


def validate(model):
    return sum(weight.double().square().sum().item() for weight in model.parameters())


def train(folder, batches, seed=0, **config):
    torch.manual_seed(seed)  # what a process begins with, before it hears of the others
    dropout = config.pop("dropout", 0.0)
    sizes = {"dropout": dropout, "composers": ("Liszt",)}
    model = AttentionLSTM(ModelConfig(**SIZES, **sizes))
    settings = TrainConfig(**{"n_epochs": 3, "learning_rate": 0.03, **config})
    kind = distributed.DistributedTrainer if distributed.n_ranks() > 1 else Trainer
    kind(model, batches, validate, settings, folder, progress=True).run(resume=True)


def one_of(rank, port, folder, batches, config):
    """Be one of two processes as torchrun starts them, and write down what goes wrong."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with (folder.parent / f"told.{rank}").open("w") as told, redirect_stderr(told):
        try:
            with distributed.joined():
                train(folder, batches[rank], seed=rank, **config)
        except (ConnectionError, ValueError) as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)


def in_two(target, *arguments):
    """Call a function with a rank, a port and more in two processes, and return their exit codes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pair = [PROCESSES.Process(target=target, args=(rank, port, *arguments)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(100)
    return [process.exitcode for process in pair]


def train_in_two(folder, first=None, second=None, **config):
    """Return the exit codes of two processes, and what each told."""
    folder.parent.mkdir(exist_ok=True)
    codes = in_two(one_of, folder, [first or Sequences(), second or Sequences()], config)
    return codes, [(folder.parent / f"told.{rank}").read_text() for rank in range(2)]


def kept(folder, name="latest"):
    return load_checkpoint(folder / f"{name}.safetensors")


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("recipe", [{}, {"optimizer": "adamw", "clip_norm": 0.5, "velocity_weight": 1.0}])
def test_two_processes_learn_what_one_learns(tmp_path, recipe):
    train(tmp_path / "one", Sequences(), **recipe)
    codes, told = train_in_two(tmp_path / "two" / "run", **recipe)
    assert codes == [0, 0]
    for name in ("best", "latest"):
        one, two = (kept(path, name).model.state_dict() for path in (tmp_path / "one", tmp_path / "two" / "run"))
        for weights in (one, two):
            # What is added to all keys of attention moves no softmax: its gradient is 0, and AdamW sees its rounding.
            weights["layers.0.attention.query_key_value.bias"][2:4] = 0
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
    for row, other in zip(rows(tmp_path / "one"), rows(tmp_path / "two" / "run"), strict=True):
        assert {**other, "seconds": 0} == pytest.approx({**row, "seconds": 0}, rel=1e-5)
    assert told[1] == ""


def test_a_signal_to_one_stops_both_at_once_and_resumed_they_end_as_if_never_stopped(tmp_path):
    recipe = {"dropout": 0.3, "optimizer": "adamw"}
    assert train_in_two(tmp_path / "whole" / "run", **recipe)[0] == [0, 0]
    folder = tmp_path / "parted" / "run"
    for stops in [{"second": Sequences((1, 2))}, {"first": Sequences((2, 0), signal.SIGINT)}, {}]:
        assert train_in_two(folder, **recipe, **stops)[0] == [0, 0]
        if stops:
            stop = next(iter(stops.values())).stop
            progress = kept(folder).record["progress"]
            assert (progress["epoch"], progress["batch"]) == stop
    ends = [kept(tmp_path / run / "run") for run in ("whole", "parted")]
    torch.testing.assert_close(ends[1].model.state_dict(), ends[0].model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(ends[1].tensors, ends[0].tensors, rtol=0, atol=0)


@pytest.mark.parametrize("dead", ["first", "second"])
def test_where_one_is_killed_the_other_ends_with_a_message_and_the_last_checkpoint_stays(tmp_path, dead):
    folder, started = tmp_path / "run", time.monotonic()
    codes, told = train_in_two(folder, **{dead: Sequences((1, 3), signal.SIGKILL)})
    assert sorted(codes) == [-signal.SIGKILL, 2] and codes[dead == "second"] == -signal.SIGKILL
    assert LOST in told[dead == "first"] and time.monotonic() - started < 90
    assert kept(folder).record["progress"]["epoch"] == len(rows(folder)) == 1
    assert train_in_two(folder)[0] == [0, 0]
    train(tmp_path / "whole", Sequences())
    torch.testing.assert_close(
        kept(folder).model.state_dict(), kept(tmp_path / "whole").model.state_dict(), rtol=1e-4, atol=1e-6
    )


def test_processes_that_find_different_checkpoints_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed.distributed, "broadcast", lambda tensor, source: tensor.fill_(8))
    monkeypatch.setattr(distributed.DistributedTrainer, "_any_process", lambda self, flag: flag)
    model = AttentionLSTM(ModelConfig(**SIZES, copy_span=4))
    trainer = distributed.DistributedTrainer(model, Sequences(), validate, TrainConfig(), tmp_path)
    with pytest.raises(ValueError, match="different checkpoints"):
        trainer._begin(resume=True)
    assert {weight.unique().item() for weight in model.parameters()} == {8}  # they start from one model


def test_every_window_is_in_one_part_and_without_one_there_is_no_frame_to_predict(monkeypatch):
    batch = batch_of(np.arange(50).reshape(5, 2, 5).astype(np.uint8), np.array([5, 6, 7, 8, 9]), np.arange(5))
    monkeypatch.setattr(distributed, "n_ranks", lambda: 7)
    trainer, parts = object.__new__(distributed.DistributedTrainer), []
    trainer.config, trainer.progress = TrainConfig(), Progress()
    for rank in range(7):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(trainer._shard(batch))
    for part, whole in zip(zip(*parts[:5]), batch):
        np.testing.assert_array_equal(np.concatenate(part), whole)
    assert [part.lengths.tolist() for part in parts[5:]] == [[1], [1]]


OPTIONS = "--hidden-size 6 --n-layers 1 --n-attention-layers 1 --pitch-size 3 --pitch-reach 2 --window-frames 16 --json"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Ten short pieces, which the hashes of their names split."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for index in range(10):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{index}.mid").write_bytes(
            midi_bytes([note(0, 960 + 96 * index, 60 + index, 40) + note(48, 960, 50, 90)])
        )
    return tmp_path / "data"


def child_with_rank(parent, rank):
    """Find a child process by its environment, on Linux."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = status.read_text().rpartition(")")[2].split()[1] == str(parent)
            if is_child and f"RANK={rank}".encode() in (status.parent / "environ").read_bytes().split(b"\0"):
                return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError("no such process")


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "musicgen"]
    command += ["train", *map(str, arguments), *OPTIONS.split()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def command(rank, port, folder, arguments):
    """Run a command as torchrun does, and write down what it prints and tells."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with (folder / f"out.{rank}").open("w") as out, (folder / f"told.{rank}").open("w") as told:
        with redirect_stdout(out), redirect_stderr(told):
            code = main(arguments)
    sys.exit(code)


def test_the_command_in_two_processes_does_what_it_does_alone_and_tells_it_once(tmp_path, corpus, capsys):
    arguments = ["train", str(corpus), "--out", str(tmp_path / "two"), "--n-epochs", "2", *OPTIONS.split()]
    assert in_two(command, tmp_path, arguments) == [0, 0]
    out, nothing, told, silence = ((tmp_path / name).read_text() for name in ("out.0", "out.1", "told.0", "told.1"))
    assert main(["train", str(corpus), "--out", str(tmp_path / "one"), "--n-epochs", "2", *OPTIONS.split()]) == 0
    one, two = json.loads(capsys.readouterr().out), json.loads(out)
    assert two["validation_nll"] == pytest.approx(one["validation_nll"], rel=1e-5)
    assert (two["epochs"], Path(two["checkpoint"])) == (2, tmp_path / "two" / "best.safetensors")
    assert told.count("validation_nll") == 1 and nothing == silence == ""
    models = [kept(tmp_path / name).model.state_dict() for name in ("one", "two")]
    torch.testing.assert_close(*models, rtol=1e-4, atol=1e-6)


def test_where_torchrun_loses_a_process_all_end_and_the_checkpoint_stays(tmp_path, corpus):
    with torchrun(corpus, "--out", tmp_path / "run", "--n-epochs", 100_000) as process:
        deadline = time.monotonic() + 200
        while not (tmp_path / "run" / "latest.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(child_with_rank(process.pid, 1), signal.SIGKILL)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and LOST.encode() in told
    assert kept(tmp_path / "run").record["progress"]["epoch"] == len(rows(tmp_path / "run")) > 0
