"""After a kill at any moment there is the old state or the new one, and a resumed run ends as if uninterrupted."""

import csv
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch._dynamo  # noqa: F401 (an optimizer imports it when it is made, here before the processes fork)
from batches import batch_of
from forked import PROCESSES
from raw_midi import midi_bytes, note
from test_download import ROOT, archive_at, server  # noqa: F401 (a fixture)

from musicgen import dataset
from musicgen.corpora.folder import Piece, load_corpus
from musicgen.corpora.maestro import download_maestro
from musicgen.midi import read_midi
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import TrainConfig, Trainer, load_checkpoint
from musicgen.utils import files
from musicgen.utils.files import atomic_write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
SIZES = {"n_pitches": 5, "hidden_size": 4, "n_layers": 1, "n_attention_layers": 1, "attention_size": 2}
SIZES |= {"attention_span": 4, "copy_heads": 1, "copy_span": 4, "dropout": 0.3, "pitch_size": 2, "pitch_reach": 1}
OURS = str(Path(files.__file__).parents[1])


class Sequences:
    def epoch(self, number):
        frames = np.random.default_rng(number).integers(0, 2, (2, 2, 9, 5)).astype(np.uint8) * 70
        return (batch_of(batch, np.array([9, 7]), np.array([0, 0])) for batch in frames)

    def n_batches(self, number):
        return 2


def train(folder):
    torch.manual_seed(1)
    model = AttentionLSTM(ModelConfig(**SIZES))

    def nll(model):
        return sum(weight.double().square().sum().item() for weight in model.parameters())

    Trainer(model, Sequences(), nll, TrainConfig(n_epochs=12), folder, progress=False).run(resume=True)


def sample(folder):
    pieces = []
    for index in range(6):
        content = midi_bytes([note(0, 480 + 96 * index, 60 + index)])
        with atomic_write(folder / f"{index}.mid") as temporary:
            temporary.write_bytes(content)
        pieces.append(Piece(folder / f"{index}.mid", f"{index}.mid", "X", "Y", "train"))
    with mock.patch("musicgen.utils.processes.cpu_count", return_value=1):  # in this process
        rolls = dataset.prepare(pieces, folder / "cache", progress=False)
    assert list(rolls) == [read_midi(piece.path) for piece in pieces]


def killed_at(work, folder, line, *more):
    """Do the work, and kill this process at the given line of our package, counted as they are executed."""

    def count(frame, event, argument):
        nonlocal line
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        line -= event == "line"
        if not line:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    work(folder, *more)


def run(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def check_run(folder):
    """Check that every checkpoint is intact and that the log has a row for each finished epoch, or one more."""
    names = [name for name in ("best", "latest", "previous") if (folder / f"{name}.safetensors").exists()]
    epochs = {name: load_checkpoint(folder / f"{name}.safetensors").record["progress"]["epoch"] for name in names}
    log = folder / "log.csv"
    rows = [int(row["epoch"]) for row in csv.DictReader(log.open())] if log.exists() else []
    assert rows == list(range(1, len(rows) + 1))
    done = max(epochs.get("latest", 0), epochs.get("previous", 0))
    assert done <= len(rows) <= done + 1


def test_a_run_killed_at_25_moments_ends_as_the_uninterrupted_run(tmp_path):
    assert run(train, tmp_path / "whole") == 0
    dice, codes = random.Random(7), []
    for _ in range(25):
        codes.append(run(killed_at, train, tmp_path / "killed", dice.randrange(1, 700)))
        check_run(tmp_path / "killed")
    assert codes.count(-signal.SIGKILL) >= 15
    assert run(train, tmp_path / "killed") == 0
    for name in ("best", "latest"):
        ends = [load_checkpoint(tmp_path / run / f"{name}.safetensors") for run in ("whole", "killed")]
        torch.testing.assert_close(ends[1].tensors, ends[0].tensors, rtol=0, atol=0)
        torch.testing.assert_close(*(end.model.state_dict() for end in ends), rtol=0, atol=0)
    logs = [list(csv.DictReader((tmp_path / run / "log.csv").open())) for run in ("whole", "killed")]
    assert [[{**row, "seconds": 0} for row in log] for log in logs[:1]] == [[{**row, "seconds": 0} for row in logs[1]]]


def fetch(folder, archive):
    download_maestro(folder, archive, 5, progress=False)


def test_a_download_killed_at_25_moments_is_complete_or_missing(tmp_path, server):  # noqa: F811
    dice, codes, archive = random.Random(5), [], archive_at(server)
    for _ in range(25):
        codes.append(run(killed_at, fetch, tmp_path, dice.randrange(1, 220), archive))
        if (tmp_path / ROOT).exists():
            assert len(load_corpus(download_maestro(tmp_path, archive))) == 2
            shutil.rmtree(tmp_path / ROOT)
    assert codes.count(-signal.SIGKILL) >= 10 and set(codes) <= {0, -signal.SIGKILL}
    assert len(load_corpus(download_maestro(tmp_path, archive, progress=False))) == 2


def test_a_preparation_killed_at_25_moments_continues(tmp_path):
    dice = random.Random(3)
    codes = [run(killed_at, sample, tmp_path, dice.randrange(1, 900)) for _ in range(25)]
    assert codes.count(-signal.SIGKILL) >= 15 and set(codes) <= {0, -signal.SIGKILL}
    assert run(sample, tmp_path) == 0
