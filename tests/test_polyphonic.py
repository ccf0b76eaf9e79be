"""The published data sets: every piece is read as it was written, and harmful files are rejected."""

import io
import pickle
import struct
import sys
import zipfile
import zlib
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import polyphonic
import pytest
import scipy.io
import scipy.sparse
from polyphonic import read_polyphonic

from musicgen.dataset import CorpusError, WindowBatches, WindowConfig
from musicgen.evaluation.likelihood import evaluate, fit_baselines
from musicgen.training import save_checkpoint

LENGTHS = {"traindata": [5, 2, 9], "validdata": [3], "testdata": [4, 7]}
SPLITS = {"traindata": "train", "validdata": "validation", "testdata": "test"}


def cells(matrices):
    row = np.empty((1, len(matrices)), object)
    row[0, :] = matrices
    return row


def pieces(dtype=np.uint8):
    random = np.random.default_rng(3)
    return {name: [(random.random((n, 88)) < 0.1).astype(dtype) for n in LENGTHS[name]] for name in LENGTHS}


def mat_bytes(variables, **options):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **options)
    return stream.getvalue()


def with_split(name, value):
    """A sound file but for one of its variables."""
    return mat_bytes({key: cells(matrices) for key, matrices in pieces().items()} | {name: value})


GOOD = mat_bytes({name: cells(matrices) for name, matrices in pieces().items()})


@pytest.fixture
def read_apart(tmp_path):
    """Read bytes as a file, in a process of its own."""

    def read(content, name="Some_set.mat"):
        (tmp_path / name).write_bytes(content)
        return read_polyphonic(tmp_path / name)

    return read


class Here:
    """Does in this process what a worker would do: a worker takes a second to start."""

    def __init__(self, n_workers):
        assert n_workers == 1

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, kill_workers):
        pass


@pytest.fixture
def read(read_apart, monkeypatch):
    """Read bytes as a file, in this process."""
    monkeypatch.setattr(polyphonic, "ProcessPoolExecutor", Here)
    return read_apart


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [bool, "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_piece_is_read_as_it_was_written(read, dtype, packed):
    written = pieces(dtype)
    variables = {"a_number": 7.0} | {name: cells(matrices) for name, matrices in written.items()}
    rolls = read(mat_bytes(variables, do_compression=packed))
    for name, matrices in written.items():
        chosen = rolls.select(split=SPLITS[name])
        assert len(chosen) == len(matrices)
        for roll, matrix in zip(chosen, matrices):
            np.testing.assert_array_equal(roll.velocity, 64 * matrix.astype(int))
    assert (rolls.fps, rolls[0].velocity.dtype) == (1, np.uint8)


def test_the_pieces_have_names_of_their_own(read):
    listed = read(GOOD).pieces
    assert [piece.name for piece in listed][2:5] == ["traindata/3", "validdata/1", "testdata/1"]
    assert "Some_set" in listed[0].title


def test_the_key_stands_for_the_content_and_not_for_the_name(read):
    changed = pieces()
    changed["testdata"][1][6, 87] ^= 1
    other = mat_bytes({name: cells(matrices) for name, matrices in changed.items()})
    assert read(GOOD, "a.mat").key == read(GOOD, "b.mat").key != read(other, "a.mat").key


def test_the_rest_of_the_package_takes_the_pieces(read, tiny_model):
    rolls = read(GOOD)
    train, test = rolls.select(split="train"), rolls.select(split="test")
    windows = WindowBatches(train, WindowConfig(window_frames=4, batch_size=2, max_transpose=3)).epoch(0)
    assert sum((batch.lengths - 1).sum() for batch in windows) >= 4 + 1 + 8
    scores = evaluate(tiny_model(n_pitches=88), test, fit_baselines(train))
    assert (scores["n_pieces"], scores["n_frames"]) == (2, 3 + 6)
    assert np.isfinite(scores["nll"])
    assert test.summary()["n_pieces"] == 2


ROW = np.zeros((2, 88))
WRONG = {
    "not in cells": np.zeros((1, 3)),
    "a column of cells": cells([ROW, ROW]).T,
    "two rows of cells": np.concatenate([cells([ROW]), cells([ROW])]),
    "no piece": np.empty((1, 0), object),
    "a text": "traindata",
    "a record": {"a": 1},
    "87 keys": cells([ROW, ROW[:, 1:]]),
    "a piece on its side": cells([np.zeros((88, 2))]),
    "three axes": cells([np.zeros((2, 44, 2))]),
    "a piece without a step": cells([ROW[:0]]),
    "twos": cells([ROW + 2]),
    "halves": cells([ROW + 0.5]),
    "minus ones": cells([ROW - 1]),
    "no numbers": cells([ROW * np.nan]),
    "complex numbers": cells([ROW + 1j]),
    "sparse": cells([scipy.sparse.csc_array(ROW)]),
    "letters": cells(["\1" * 88]),
    "cells in cells": cells([cells([ROW])]),
    "records in cells": cells([{"a": 1}]),
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["traindata", "testdata"])
def test_a_split_of_another_make_is_rejected_by_name(read, name, value):
    with pytest.raises(CorpusError, match=rf"Some_set\.mat.*{name}"):
        read(with_split(name, value))


@pytest.mark.parametrize("name", LENGTHS)
def test_a_split_that_is_missing_is_named(read, name):
    with pytest.raises(CorpusError, match=f"{name} is missing"):
        read(mat_bytes({key: cells(matrices) for key, matrices in pieces().items() if key != name}))


def element(kind, content, size=None):
    return struct.pack("<II", kind, len(content) if size is None else size) + content + bytes(-len(content) % 8)


def array(number_class, shape, values, size=None):
    """An array called traindata; `size` is what it claims, where that is not so."""
    flags, name = element(6, struct.pack("<II", number_class, 0)), element(1, b"traindata")
    return element(14, flags + element(5, struct.pack(f"<{len(shape)}i", *shape)) + name + values, size)


def packed(content):
    content = zlib.compress(content)
    return struct.pack("<II", 15, len(content)) + content


def nested(depth):
    """Cells in cells in cells."""
    head = array(1, (1, 1), b"")[8:]
    total = depth * (8 + len(head))
    return b"".join(struct.pack("<II", 14, total - 8 - at * (8 + len(head))) + head for at in range(depth))


def zip_bytes():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("traindata.npy", bytes(300))
    return stream.getvalue()


HEADER = GOOD[:128]
ROLL = array(9, (2, 88), element(2, bytes(176)))
HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "a header alone": HEADER,
    "a zip": zip_bytes(),
    "version 4": struct.pack("<5i", 0, 2, 88, 0, 2) + b"x\0" + bytes(2 * 88 * 8),
    "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(400),
    "big-endian": HEADER[:124] + b"\x01\x00MI" + GOOD[128:],
    "zeros": HEADER + bytes(400),
    "a number alone": HEADER + element(9, bytes(8)),
    "4 GiB of file": HEADER + array(1, (1, 1), ROLL, size=2**32 - 1),
    "4 GiB of numbers": HEADER + array(1, (1, 1), array(9, (2**31 - 1, 88), element(2, b"\1", size=2**32 - 8))),
    "2 billion rows": HEADER + array(1, (1, 1), array(9, (2**31 - 1, 88), element(2, bytes(176)))),
    "fewer than no pieces": HEADER + array(1, (1, -1), ROLL),
    "rows and columns below none": HEADER + array(1, (1, 1), array(9, (-2, -88), element(2, bytes(176)))),
    "more pieces than claimed": HEADER + array(1, (1, 1), ROLL + ROLL),
    "two values of a kind": HEADER + array(1, (1, 1), array(9, (2, 88), 2 * element(2, bytes(176)))),
    "half a number": HEADER + array(1, (1, 1), array(6, (1, 88), element(9, bytes(88 * 8 - 3)))),
    "packed twice": HEADER + packed(packed(ROLL)),
    "packed nothing": HEADER + packed(b""),
    "packed wrongly": HEADER + element(15, b"hello"),
    "a function": HEADER + array(16, (1, 1), ROLL),
    "an opaque object": HEADER + array(17, (1, 1), ROLL),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_is_no_data_set_is_rejected(read, content):
    with pytest.raises(CorpusError, match=r"Some_set\.mat': cannot be read"):
        read(content)


@pytest.mark.parametrize(
    "content", [HEADER + nested(100_000), HEADER + packed(nested(100_000))], ids=["deep", "packed"]
)
def test_a_file_that_is_nested_too_deeply_ends_only_the_process_that_reads_it(read_apart, content):
    with pytest.raises(CorpusError, match=r"Some_set\.mat': cannot be read"):
        read_apart(content)


class Harm:
    """What a pickle can do to those who read it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_ever_run(read, tmp_path):
    harm = pickle.dumps(Harm(tmp_path / "harm"))
    for content in (harm, HEADER + harm, with_split("traindata", cells([np.frombuffer(harm, np.uint8)]))):
        with pytest.raises(CorpusError):
            read(content)
    assert not (tmp_path / "harm").exists()
    pickle.loads(harm)
    assert (tmp_path / "harm").exists()  # it would have


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_file_that_ends_early_is_rejected(read, is_packed):
    content = mat_bytes({name: cells(matrices) for name, matrices in pieces().items()}, do_compression=is_packed)
    for length in range(0, len(content), 997):
        with pytest.raises(CorpusError):
            read(content[:length])


def test_a_damaged_file_is_rejected_or_still_a_data_set(read):
    for at in range(130, len(GOOD), 331):
        damaged = bytearray(GOOD)
        damaged[at] ^= 255
        try:
            rolls = read(damaged)
        except CorpusError:
            continue
        assert {value for roll in rolls for value in np.unique(roll.velocity)} == {0, 64}


def test_files_have_a_bound(read, monkeypatch):
    monkeypatch.setattr(polyphonic, "MAX_BYTES", 3000)
    with pytest.raises(CorpusError, match="larger than 3,000 bytes"):
        read(GOOD)


@pytest.mark.skipif(sys.platform != "linux", reason="the system bounds memory on Linux only")
def test_a_file_that_unpacks_to_more_than_its_memory_is_rejected(read_apart, monkeypatch):
    bomb = mat_bytes({"traindata": cells([np.zeros((1_000_000, 88), np.uint8)])}, do_compression=True)
    assert len(bomb) < 200_000
    monkeypatch.setattr(polyphonic, "MAX_MEMORY", 40_000_000)
    with pytest.raises(CorpusError, match="cannot be read .*MemoryError"):
        read_apart(bomb)
    assert len(read_apart(GOOD)) == 6


@pytest.mark.parametrize("name", ["missing.mat", "."])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(CorpusError, match="no such file"):
        read_polyphonic(tmp_path / name)


def test_the_command_scores_a_checkpoint_or_a_model_that_it_trains(tmp_path, tiny_model):
    (tmp_path / "JSB_Chorales.mat").write_bytes(GOOD)
    save_checkpoint(tmp_path / "a.safetensors", tiny_model(n_pitches=88), {}, {})

    def run(*arguments):
        return polyphonic.benchmark(
            polyphonic.make_parser().parse_args([str(tmp_path / "JSB_Chorales.mat"), *arguments])
        )

    scored = run("--checkpoint", str(tmp_path / "a.safetensors"))
    assert (scored["dataset"], scored["split"], scored["n_pieces"], scored["n_steps"]) == ("JSB_Chorales", "test", 2, 9)
    assert scored["published_joint"] == 5.56
    small = "--hidden-size 8 --attention-size 4 --precision float32 --n-epochs 2 --split validation".split()
    trained = run("--train", "--out", str(tmp_path / "run"), *small)
    assert (trained["n_pieces"], trained["epochs"]) == (1, 2)
    assert trained["nll"] == pytest.approx(trained["validation_nll"], rel=1e-5)
    assert not any("velocity" in name or "pedal" in name for name in trained)
