"""A file or a folder lands whole or not at all."""

import os
import stat

import pytest

from musicgen.utils.files import atomic_folder, atomic_write


class Stopped(BaseException):
    """What Ctrl-C raises is no Exception either."""


def test_what_was_written_takes_the_files_place(tmp_path):
    path = tmp_path / "piece.mid"
    path.write_text("old, and longer")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old, and longer"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["piece.mid"]


def test_the_temporary_file_is_empty_beside_it_and_has_its_suffix(tmp_path):
    with atomic_write(tmp_path / "roll.npz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        assert temporary.read_bytes() == b""


@pytest.mark.parametrize("error", [ValueError, OSError, Stopped])
@pytest.mark.parametrize("old", [{}, {"piece.mid": "old"}])
def test_a_failure_leaves_everything_as_it_was(tmp_path, error, old):
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match="in the middle"):
        with atomic_write(tmp_path / "piece.mid") as temporary:
            temporary.write_text("half")
            raise error("in the middle")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == old


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_write(tmp_path / "log.csv") as first, atomic_write(tmp_path / "log.csv") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "log.csv").read_text() == "first"  # the one that ends last
    assert os.listdir(tmp_path) == ["log.csv"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_it_has_the_rights_of_any_new_file(tmp_path, umask, monkeypatch):
    before = os.umask(umask)
    try:
        (tmp_path / "usual").touch()
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")  # it belongs to the process: another thread would see it changed
            with atomic_write(tmp_path / "ours"):
                pass
        assert os.umask(umask) == umask  # looked at, not changed
    finally:
        os.umask(before)
    usual, ours = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours"))
    assert oct(ours) == oct(usual) == oct(0o666 & ~umask)


def test_the_bytes_are_on_the_disk_before_the_name_points_at_them(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: calls.append(name) or real(*args))
    with atomic_write(tmp_path / "model.safetensors") as temporary:
        temporary.write_bytes(b"weights")
    assert calls == ["fsync", "replace"]


def test_a_missing_folder_is_made(tmp_path):
    with atomic_write(str(tmp_path / "runs" / "first" / "loss.csv")) as temporary:
        temporary.write_text("epoch,nll\n")
    assert (tmp_path / "runs" / "first" / "loss.csv").read_text() == "epoch,nll\n"


def test_a_file_where_the_folder_should_be_is_an_error_that_names_it(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(OSError, match="outputs"):
        with atomic_write(tmp_path / "outputs" / "demo.mid"):
            pytest.fail("there is nowhere to write")
    assert (tmp_path / "outputs").read_text() == "a file"


def test_a_folder_of_that_name_is_an_error_that_names_it(tmp_path):
    (tmp_path / "demo.mid").mkdir()
    with pytest.raises(OSError, match="demo.mid"):
        with atomic_write(tmp_path / "demo.mid"):
            pass
    assert os.listdir(tmp_path) == ["demo.mid"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_that_names_it_and_the_old_file_stays(tmp_path):
    path = tmp_path / "piece.mid"
    path.write_text("old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=str(tmp_path)):
            with atomic_write(path):
                pytest.fail("it cannot be written")
    finally:
        tmp_path.chmod(0o700)
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    "name",
    ["plain", ".hidden", "two words.mid", "two\nlines.mid", "a.b.c", "-rf", "é" * 120 + ".mid"]
    + ["x" * 251 + ".mid", "x." + "y" * 253, "音" * 83 + ".mid"],  # as long as a file system takes
)
def test_every_name_that_a_file_can_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with atomic_write(name) as temporary:
        temporary.write_text("here")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "here"


def test_a_folder_lands_whole_with_its_files_and_the_rights_of_any_new_folder(tmp_path):
    (tmp_path / "usual").mkdir()
    with atomic_folder(tmp_path / "data" / "chorales") as temporary:
        (temporary / "bwv1.6.mid").write_text("one")
        assert temporary.name == "chorales" and not (tmp_path / "data" / "chorales").exists()
    assert [path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*")] == [
        "chorales",
        "chorales/bwv1.6.mid",
    ]
    assert (tmp_path / "data" / "chorales").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, Stopped])
def test_a_folder_left_in_the_middle_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "chorales") as temporary:
        (temporary / "bwv1.6.mid").write_text("one")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_there_already_with_files_in_it_is_left_as_it_was(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.mid").write_text("my own")
    with pytest.raises(OSError, match="mine"), atomic_folder(tmp_path / "mine") as temporary:
        (temporary / "other.mid").write_text("other")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "own.mid"]
