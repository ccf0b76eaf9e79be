"""On a full or read-only disk, errors name the path and old files stay."""

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from raw_midi import midi_bytes, note
from test_download import ROOT, archive_at, server  # noqa: F401 (a fixture)
from test_kills import run

from musicgen.corpora.folder import Piece
from musicgen.corpora.maestro import download_maestro
from musicgen.dataset import prepare
from musicgen.lab.figures.rolls import plot_roll
from musicgen.lab.figures.style import save_figure
from musicgen.lab.player.sound import Sound, render_wav, write_wav
from musicgen.midi import write_midi
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.piano_roll import PianoRoll
from musicgen.training import save_checkpoint
from musicgen.utils.files import atomic_folder, atomic_write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of a file's size")
NOBODY = 65534
ROLL = PianoRoll((np.random.default_rng(1).random((200, 88)) < 0.1).astype(np.uint8) * 80)


def write_text(path):
    with atomic_write(path) as temporary, temporary.open("w") as stream:
        stream.write("x" * 9000)


def write_checkpoint(path):
    save_checkpoint(path, AttentionLSTM(ModelConfig(n_pitches=5, hidden_size=16)), {}, {})


def write_sound(path):
    write_wav(Sound(np.zeros(9000, np.float32), 9000), path)


def write_rendered(path):
    render_wav(PianoRoll(np.zeros((0, 88), np.uint8)), path)


def write_figure(path):
    save_figure(plot_roll(ROLL), path)


def write_piece(path):
    write_midi(ROLL, path)


def write_folder(path):
    with atomic_folder(path) as folder:
        write_text(folder / "a.txt")


def full(write, path):
    """Write in a process whose files may not grow beyond 2,000 bytes; exit with 0 if the error names the path."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        write(path)
    except OSError as error:
        os._exit(0 if str(error.filename) == str(path) else 3)
    os._exit(4)


WRITERS = [write_text, write_checkpoint, write_sound, write_rendered, write_figure, write_piece]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_path_and_the_old_file_stays(tmp_path, write):
    (tmp_path / "old.file").write_bytes(b"old")
    assert run(full, write, tmp_path / "old.file") == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.file": b"old"}


def sample(folder):
    return prepare([Piece(folder / "a.mid", "a.mid", "X", "Y", "train")], folder / "cache", progress=False)


def full_cache(folder):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    with io.StringIO() as told, redirect_stderr(told):
        rolls = sample(folder)
        os._exit(
            0
            if rolls[0].n_notes == ROLL.n_notes and told.getvalue().count("\n") == 1 and ".roll" in told.getvalue()
            else 3
        )


def test_a_cache_on_a_full_disk_is_told_and_the_rolls_are_not_lost(tmp_path):
    write_midi(ROLL, tmp_path / "a.mid")
    assert run(full_cache, tmp_path) == 0
    assert list((tmp_path / "cache").iterdir()) == []
    assert sample(tmp_path)[0].n_notes == ROLL.n_notes
    assert len(list((tmp_path / "cache").iterdir())) == 1, "once there is room"


def full_download(folder, archive):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    try:
        download_maestro(folder, archive, 5, progress=False)
    except ValueError as error:
        os._exit(0 if str(folder) in str(error) and "File too large" in str(error) else 3)
    os._exit(4)


def test_a_download_to_a_full_disk_is_an_error_that_names_it_and_works_once_there_is_room(tmp_path, server):  # noqa: F811
    assert run(full_download, tmp_path, archive_at(server)) == 0
    assert not (tmp_path / ROOT).exists()
    assert download_maestro(tmp_path, archive_at(server), progress=False).is_dir()


@pytest.fixture
def strangers_folder():
    """A folder that a process without rights can come to, also where the tests run as root."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "read-only").mkdir()
        (folder / "read-only" / "old.file").write_bytes(b"old")
        (folder / "data").mkdir()
        for name in ("good.mid", "secret.mid"):
            (folder / "data" / name).write_bytes(midi_bytes([note(0, 480, 60)]))
        (folder / "data" / "secret.mid").chmod(0)
        (folder / "read-only").chmod(0o555)
        folder.chmod(0o755)
        yield folder
        (folder / "read-only").chmod(0o755)


def without_rights(work, *arguments):
    """Do something as nobody, if need be, and exit with what it returns."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    os._exit(work(*arguments))


def refused(write, path):
    try:
        write(path)
    except PermissionError as error:
        return 0 if str(path.parent) in str(error) else 3
    return 4


@pytest.mark.parametrize("write", [*WRITERS, write_folder])
def test_a_read_only_folder_is_an_error_that_names_it_and_what_was_there_stays(strangers_folder, write):
    folder = strangers_folder / "read-only"
    path = folder / ("new" if write is write_folder else "old.file")
    assert run(without_rights, refused, write, path) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"old.file": b"old"}


def tell_what_can_be_sampled(folder):
    pieces = [Piece(folder / "data" / name, name, "X", "Y", "train") for name in ("good.mid", "secret.mid")]
    with tempfile.TemporaryDirectory() as cache:
        rolls = prepare(pieces, cache, progress=False)
    (folder / "said").write_text(f"{len(rolls)} {rolls.skipped}")
    return 0


def test_a_file_that_may_not_be_read_is_named_and_the_rest_is_sampled(strangers_folder):
    (strangers_folder / "said").touch()
    (strangers_folder / "said").chmod(0o666)
    assert run(without_rights, tell_what_can_be_sampled, strangers_folder) == 0
    assert (strangers_folder / "said").read_text() == "1 [('secret.mid', 'Permission denied')]"
