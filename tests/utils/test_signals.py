"""Ctrl-C and SIGTERM end every command with one line and its exit code, and leave no process behind."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from forked import PROCESSES
from raw_midi import midi_bytes, note

import musicgen
from musicgen.__main__ import main
from musicgen.midi import read_midi
from musicgen.training import save_checkpoint
from musicgen.utils.signals import terminate_by_exception

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SMALL = "--hidden-size 8 --window-frames 32 --n-epochs 100000".split()


def children(process):
    """Return the ids of all processes below another."""
    found, todo = set(), [process]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            new = {int(number) for number in task.read_text().split()} - found
            found, todo = found | new, [*todo, *new]
    return found


def wait_for(condition, seconds=60):
    """Wait until a condition holds, and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def command(arguments, told, cache):
    """Be ``python -m musicgen`` in a process group of its own, and write down what it tells."""
    os.setsid()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    terminate_by_exception()
    sys.exit(main(arguments))


@pytest.fixture
def start(tmp_path):
    """Start a command in a process of its own."""
    started = []

    def start(*arguments):
        told = tmp_path / f"told.{len(started)}"
        process = PROCESSES.Process(target=command, args=([*map(str, arguments)], told, tmp_path / "cache"))
        process.start()
        process.told = told
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def write_corpus(folder, n_files, n_notes):
    folder.mkdir()
    for index in range(n_files):
        events = b"\0\x90\x3c\x40" + b"\1\x3c\0\1\x3c\x40" * (n_notes + index) + b"\1\x3c\0"
        content = midi_bytes([events]) if n_notes else midi_bytes([note(0, 480 * (9 + index), 60)])
        (folder / f"{index}.mid").write_bytes(content)
    return folder


def check_end(process, number, line="", kill=os.kill):
    """Check that the command ends soon, with its exit code and one line, and all its processes with it."""
    below = children(process.pid)
    kill(process.pid, number)
    process.join(20)
    told = process.told.read_text().splitlines()
    assert (process.exitcode, told) == (CODES[number], [f"musicgen: stopped by {number.name}{line}"])
    gone = wait_for(lambda: not [child for child in below if Path(f"/proc/{child}").exists()], 10)
    assert gone, "processes are left behind"


def held_back(process):
    """Return the signals that a process blocks; none if it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return set()
    mask = int(re.search(r"^SigBlk:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return {number for number in CODES if mask >> (number - 1) & 1}


# A terminal's Ctrl-C is for a group of processes.
@pytest.mark.parametrize(("number", "kill"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_a_stopped_prepare_leaves_no_workers(tmp_path, start, number, kill):
    process = start("prepare", write_corpus(tmp_path / "data", 16, 100_000))
    n_workers = lambda: sum(held_back(child) == {*CODES} for child in children(process.pid))  # noqa: E731
    assert wait_for(lambda: n_workers() >= 2 or not process.is_alive())
    assert process.is_alive(), "it was too fast to be stopped"
    check_end(process, number, kill=kill)


def test_a_stopped_training_can_be_resumed_and_stopped_again(tmp_path, start):
    data = write_corpus(tmp_path / "data", 4, 0)
    process = start("train", data, "--out", tmp_path / "run", *SMALL)
    assert wait_for((tmp_path / "run" / "latest.safetensors").exists)
    check_end(process, signal.SIGINT, "; continue with --resume")
    before = (tmp_path / "run" / "log.csv").read_bytes()
    again = start("train", data, "--out", tmp_path / "run", "--resume", *SMALL)
    assert wait_for(lambda: len((tmp_path / "run" / "log.csv").read_bytes()) > len(before))
    assert (tmp_path / "run" / "log.csv").read_bytes().startswith(before)
    check_end(again, signal.SIGTERM, "; continue with --resume")


@pytest.mark.parametrize("number", CODES)
def test_a_stopped_generate_keeps_what_was_composed(tmp_path, tiny_model, monkeypatch, capsys, number):
    class Bar(nullcontext):
        """A progress bar that is stopped after the second second of music."""

        def update(self, _seconds):
            self.n_seconds = getattr(self, "n_seconds", 0) + 1
            if self.n_seconds == 2:
                os.kill(os.getpid(), number)

    bar = Bar()
    bar.enter_result = bar
    monkeypatch.setattr("musicgen.commands.progress_bar", lambda *_arguments: bar)
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model(n_pitches=88), {}, {})
    out = tmp_path / "new.mid"
    command = ["generate", "--seconds", "300", "--beats", "0", "--checkpoint", tmp_path / "tiny.safetensors"]
    assert main([*map(str, command), "--out", str(out), "--json"]) == CODES[number]
    told = capsys.readouterr()
    assert told.err == f"musicgen: stopped by {number.name} after 2 s of new music; wrote {out}\n"
    assert told.out == ""
    assert 1.5 < read_midi(out).duration_seconds <= 2


def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("import sys, time; print('loading', flush=True); time.sleep(60)")
    path = os.pathsep.join([str(tmp_path), str(Path(musicgen.__file__).parents[1])])
    started = subprocess.Popen(
        [sys.executable, "-m", "musicgen", "sample", "a.mid", "--out", "a.npz"],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdout.readline() == b"loading\n"
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert (started.returncode, said) == (-signal.SIGINT, b"")
