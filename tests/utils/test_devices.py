"""The choice of a device, and the one line for a device or memory that fails."""

import sys

import pytest
import torch

from musicgen.__main__ import main
from musicgen.utils.devices import DeviceError, choose_device, device_errors


class BrokenCard:
    """Stands for `torch.cuda` and `torch.ones` on a machine whose card fails in a given way."""

    def __init__(self, monkeypatch, built=True, available=True, error=None):
        def ones(*_sizes, device):
            assert device == "cuda"
            if error:
                raise error
            return torch.eye(2)

        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch, "ones", ones)


TOO_OLD = torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nmore lines")


def test_auto_takes_the_card_if_it_computes_and_otherwise_the_cpu(monkeypatch, capsys):
    BrokenCard(monkeypatch)
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"
    assert choose_device("cpu").type == "cpu"
    BrokenCard(monkeypatch, available=False)
    assert choose_device("auto").type == "cpu"
    assert capsys.readouterr().err == ""


def test_a_card_that_fails_is_reported_and_auto_goes_on_without_it(monkeypatch, capsys):
    BrokenCard(monkeypatch, error=TOO_OLD)
    assert choose_device("auto").type == "cpu"
    said = capsys.readouterr().err
    assert "no kernel image" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("card", "named"),
    [({"built": False}, "without support"), ({"available": False}, "no graphics card"), ({"error": TOO_OLD}, "driver")],
)
def test_a_card_that_is_asked_for_and_fails_is_an_error_with_advice(monkeypatch, card, named):
    BrokenCard(monkeypatch, **card)
    with pytest.raises(DeviceError, match=f"{named}.*--device cpu"):
        choose_device("cuda")


def test_an_unknown_device_is_refused_by_name():
    with pytest.raises(ValueError, match="one of auto, cpu, cuda, not 'gpu'"):
        choose_device("gpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        AssertionError("Torch not compiled with CUDA enabled"),
        MemoryError(),
    ],
)
def test_what_a_machine_does_wrong_becomes_one_line_of_a_command(monkeypatch, capsys, tmp_path, error):
    def fail(_path):
        raise error

    monkeypatch.setattr("musicgen.commands.load_corpus", fail)
    assert main(["prepare", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("musicgen: the")


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), AssertionError()])
def test_a_fault_of_ours_stays_as_it_is(error):
    with pytest.raises(type(error)) as caught, device_errors():
        raise error
    assert caught.value is error


@pytest.mark.skipif(sys.platform != "linux", reason="other systems promise any amount of memory")
def test_real_allocations_that_fail_are_recognised():
    with pytest.raises(DeviceError, match="not enough memory"), device_errors():
        torch.empty(10**15)
