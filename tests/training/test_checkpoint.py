"""Checkpoints are read as they were written; damaged, foreign and manipulated files are rejected."""

import json
import pickle
import random
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from musicgen.training import CheckpointError, checkpoint, load_checkpoint, save_checkpoint

TENSORS = {
    "baseline.marginal": torch.tensor([0.125, 0.5, 1e-8]),
    "random_state": torch.arange(40, dtype=torch.uint8).view(4, 10),
    "optimizer.0.step": torch.tensor(7.0),
    "steps": torch.tensor([2**40, -3]),
}
ROW = {"epoch": 1, "updates": 4, "learning_rate": 0.5, "train_nll": 3.5, "validation_nll": 3.25, "seconds": 2.0}
PROGRESS = {"epoch": 1, "batch": 2, "updates": 6, "loss_sum": 7.5, "n_frames": 3, "seconds": 2.5, "history": [ROW]}
RECORD = {"training": {"seed": 3, "rate": 0.1}, "progress": PROGRESS, "name": "é\n"}


@pytest.fixture
def small(tiny_model):
    """Build a small model of the fullest kind."""
    return lambda: tiny_model(
        copy_heads=2, pitch_size=4, pitch_reach=2, composers=("Johann Sebastian Bach", "Clara Schumann")
    )


@pytest.fixture
def saved(small, tmp_path, monkeypatch):
    """Save a small model, after `spoil`, and return the path; `hostile` also saves values that are not finite."""

    def save(spoil=lambda model: None, tensors=TENSORS, record=RECORD, hostile=False):
        model = small()
        spoil(model)
        with monkeypatch.context() as patch:
            if hostile:
                patch.setattr(checkpoint, "first_not_finite", lambda tensors: None)
            save_checkpoint(tmp_path / "a.safetensors", model, tensors, record)
        return tmp_path / "a.safetensors"

    return save


def check_rejected(path, reason=""):
    with pytest.raises(CheckpointError, match=f"{path.name}': .*{reason}"):
        load_checkpoint(path)
    return True


def rewrite_header(path, change):
    """Rewrite the header of a file; its tensors stay."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def test_everything_is_restored(saved, small):
    model, checkpoint = small(), load_checkpoint(str(saved()))
    assert checkpoint.model.config == model.config
    assert checkpoint.record == RECORD
    torch.testing.assert_close(checkpoint.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert checkpoint.tensors.keys() == TENSORS.keys()
    torch.testing.assert_close(checkpoint.tensors, TENSORS, rtol=0, atol=0)
    frames, composers = (torch.rand(2, 9, 5) < 0.3).float(), torch.tensor([2, 1])
    features = [of(frames, composers=composers)[0] for of in (checkpoint.model, model)]
    assert all(torch.equal(*pair) for pair in zip(*features) if pair[0] is not None)


@pytest.mark.parametrize("output", ["independent", "shared", "joint"])
def test_every_kind_of_output_is_restored(tiny_model, tmp_path, output):
    model = tiny_model(output=output)
    save_checkpoint(tmp_path / "a.safetensors", model, {}, {})
    again = load_checkpoint(tmp_path / "a.safetensors").model
    assert again.config == model.config
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_loaded_model_is_ready_to_be_evaluated_and_can_be_trained_on(saved):
    model = load_checkpoint(saved(lambda model: model.train())).model
    assert not model.training
    model(torch.ones(1, 3, 5))[0].hidden.sum().backward()
    gradients = [weight.grad for weight in model.layers.parameters()]
    assert gradients and all(gradient is not None for gradient in gradients)


def test_a_loaded_model_no_longer_depends_on_the_file(saved):
    path = saved()
    model = load_checkpoint(path).model
    before = model.output.last.weight.clone()
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model.output.last.weight, before)


def test_a_flipped_bit_anywhere_is_noticed(saved):
    path = saved()
    content, dice = path.read_bytes(), random.Random(0)
    for at in sorted({*range(16), len(content) - 1, *dice.sample(range(len(content)), 100)}):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :])
        assert check_rejected(path), at


def test_a_cut_or_lengthened_file_is_noticed(saved):
    path = saved()
    content = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 4, len(content) - 1):
        path.write_bytes(content[:size])
        check_rejected(path)
    path.write_bytes(content + bytes(4))
    check_rejected(path)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_in_disguise_is_rejected_and_not_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    with open("bomb.safetensors", "wb") as stream:
        save({"model.output.last.bias": torch.zeros(1), "record": Bomb()}, stream)
    check_rejected(tmp_path / "bomb.safetensors")
    assert not Path("exploded").exists()


def test_what_is_not_a_file_is_rejected(tmp_path):
    (tmp_path / "folder").mkdir()
    check_rejected(tmp_path / "folder")
    check_rejected(tmp_path / "missing.safetensors", "no such checkpoint")
    (tmp_path / "text.safetensors").write_text("<html>not found</html>")
    check_rejected(tmp_path / "text.safetensors")


def config_with(**fields):
    def spoil(model):
        model.config = replace(model.config)
        for name, value in fields.items():
            object.__setattr__(model.config, name, value)

    return spoil


def with_nan(model):
    model.output.middle.weight.data[3, 1] = float("nan")


def without_bias(model):
    model.output.last.bias = None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (config_with(hidden_size=9), r"\[.*\], but its config asks for \[.*9"),
        (config_with(n_pitches=4), r"is \[128, 23\], but its config asks for \[128, 20\]"),
        (config_with(composers=["Franz Liszt"]), r"composer.weight is \[3, 32\], but its config asks for \[2, 32\]"),
        (config_with(composers=["Franz Liszt"] * 2), "composers must be different"),
        (config_with(composers=[5, 6]), "composers must be non-empty strings"),
        (config_with(output="shared"), "output.lower.* asks for nothing"),
        (config_with(output="telepathy"), "output must be one of independent, shared, joint, not 'telepathy'"),
        (config_with(pitch_reach=3), "output.lower.convolution.weight is .*, but its config asks for"),
        (config_with(attention_span=7), r"distance_bias is \[6\], but its config asks for \[7\]"),
        (config_with(n_layers=3, n_attention_layers=3), "layers.2.attention.* is missing, but its config asks for"),
        (config_with(n_attention_layers=1), "layers.0.attention.* asks for nothing"),
        (config_with(n_layers=17), "n_layers must be a whole number from 1 to 16, not 17"),
        (config_with(hidden_size=10**12), "hidden_size must be"),
        (config_with(dropout="much"), "dropout must lie in 0..0.9, not 'much'"),
        (without_bias, "model.output.last.bias is missing"),
        (lambda model: model.register_buffer("more", torch.zeros(2)), "model.more is .2., .* asks for nothing"),
        (lambda model: model.double(), "F64, not F32 or F16"),
        (lambda model: model.bfloat16(), "BF16, not F32 or F16"),
        (with_nan, "not finite"),
    ],
)
def test_a_model_that_does_not_fit_its_config_is_rejected(saved, spoil, reason):
    check_rejected(saved(spoil, hostile=True), reason)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_values_that_are_not_finite_are_rejected_outside_the_weights_too(saved, value):
    spoilt = {"tensors": {"baseline": torch.tensor([0.5, value])}}
    check_rejected(saved(**spoilt, hostile=True), "baseline holds values that are not finite")
    with pytest.raises(
        ValueError, match="a.safetensors': not written, since baseline holds values that are not finite"
    ):
        saved(**spoilt)


class Largest(TorchDispatchMode):
    """Notes how many values the largest tensor has that is really allocated."""

    n_values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            self.n_values = max(self.n_values, result.numel())
        return result


def test_a_config_that_asks_for_gigabytes_is_rejected_before_they_are_allocated(saved):
    path = saved(config_with(hidden_size=1500, n_layers=4, attention_size=2000))
    with Largest() as largest:
        check_rejected(path, "asks for")
    assert largest.n_values < 10_000


@pytest.mark.parametrize(
    "metadata",
    [{}]
    + [{"record": text} for text in ("{", "[]", "null", "{}", '{"model": 5}', '{"model": {"colour": 5}}')]
    + [{"record": '{"model": {"n_pitches": NaN}}'}, {"record": "[" * 100_000}],
)
def test_a_foreign_header_is_rejected(saved, metadata):
    path = saved()
    rewrite_header(path, lambda header: header.update(__metadata__=metadata))
    check_rejected(path)


def test_the_checksum_covers_names_and_record_and_is_required(saved):
    changes = [
        lambda header: header["__metadata__"].pop("sha256"),
        lambda header: header["__metadata__"].update(record=header["__metadata__"]["record"].replace("3.25", "3.24")),
        lambda header: header.update({"optimizer.1.step": header.pop("optimizer.0.step")}),
        lambda header: header["random_state"].update(shape=[10, 4]),
    ]
    for change in changes:
        path = saved()
        rewrite_header(path, change)
        check_rejected(path, "checksum")


def test_a_tensor_of_another_type_is_rejected(saved):
    path = saved(tensors={"steps": torch.tensor([0.5, 0.25, 3.0], dtype=torch.float16)})
    rewrite_header(path, lambda header: header["steps"].update(dtype="BF16"))
    check_rejected(path)


def test_a_failed_save_leaves_the_old_checkpoint(saved):
    path = saved()
    with pytest.raises(TypeError):
        saved(record={"a set": {1}})
    assert load_checkpoint(path).record == RECORD
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_header_that_is_too_long_is_rejected_before_it_is_read(tmp_path):
    path = tmp_path / "long.safetensors"
    header = json.dumps({"__metadata__": {"record": "[" + "{}," * 6_000_000 + "{}]"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="its header of 18,000,0.. bytes is longer than 16,777,216"):
        load_checkpoint(path)


def test_messages_shorten_long_names(saved):
    path = saved()

    def change(header):
        kept = header["__metadata__"]
        kept["record"] = kept["record"].replace('"n_pitches"', json.dumps("x" * 10**6), 1)

    rewrite_header(path, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "unexpected keyword argument" in str(caught.value) and len(str(caught.value)) < 600


def test_half_precision_is_loaded_as_float32(small, tmp_path):
    model, path = small(), tmp_path / "half.safetensors"
    save_checkpoint(path, model, {}, {}, half=True)
    save_checkpoint(tmp_path / "full.safetensors", model, {}, {})
    loaded = load_checkpoint(path).model.state_dict()
    assert {weight.dtype for weight in loaded.values()} == {torch.float32}
    torch.testing.assert_close(loaded, model.state_dict(), rtol=1e-3, atol=1e-6)
    n_weights = sum(weight.numel() for weight in model.parameters())
    assert (tmp_path / "full.safetensors").stat().st_size - path.stat().st_size >= 2 * n_weights - 64


def old_name(name):
    """The name that a tensor had before layers were modules."""
    for new, old in {
        r"layers\.(\d)\.cell": r"lstms.\1",
        r"layers\.(\d)\.attention": r"attentions.\1",
        "null_key": "no_match",
        "skip": "persistence",
    }.items():
        name = re.sub(new, old, name)
    return name


def test_tensors_with_old_names_are_loaded(small, saved):
    path = saved()
    with safe_open(path, "pt") as file:
        tensors = {old_name(name): file.get_tensor(name) for name in file.keys()}
        record = file.metadata()["record"]
    assert {"model.lstms.1.weight_hh_l0", "model.output.pedal.persistence.bias"} < tensors.keys()
    save_file(tensors, path, {"record": record, "sha256": checkpoint.digest(tensors, record)})
    torch.testing.assert_close(load_checkpoint(path).model.state_dict(), small().state_dict(), rtol=0, atol=0)


MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "change",
    [
        {"progress": []},
        {"progress": PROGRESS | {MARKUP: 1}},
        {"progress": PROGRESS | {"updates": "6"}},
        {"progress": PROGRESS | {"seconds": float("nan")}},
        {"progress": PROGRESS | {"history": [ROW | {"train_nll": MARKUP}]}},
        {"progress": PROGRESS | {"history": [ROW | {MARKUP: 1}]}},
        {"progress": PROGRESS | {"epoch": 2}},
        {"training": {MARKUP: 1}},
        {"training": {"learning_rate": [0.1]}},
        {"training": {"learning_rate": float("nan")}},
        {"training": {"optimizer": "x" * 300}},
        {"training": 5},
        {"windows": "none"},
        {"windows": {"batch_size": {"of": 3}}},
        {"data": [1]},
    ],
    ids=lambda change: str(change)[:60],
)
def test_an_invalid_record_is_rejected(saved, change):
    check_rejected(saved(record=RECORD | change), "not a musicgen checkpoint")
    with pytest.raises(ValueError):
        checkpoint.check_record(RECORD | change)


def test_the_record_of_the_shipped_checkpoint_is_valid():
    checkpoint.check_record(load_checkpoint(checkpoint.SHIPPED_CHECKPOINT).record)


@pytest.mark.parametrize(("data", "fps"), [({"data": {"fps": 12}}, 12), ({}, 20)])
def test_an_older_model_has_the_frame_rate_of_its_data_or_the_usual_one(saved, data, fps):
    path = saved(record=data)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        record = json.loads(file.metadata()["record"])
    del record["model"]["fps"]
    save_file(tensors, path, {"record": (text := json.dumps(record)), "sha256": checkpoint.digest(tensors, text)})
    assert load_checkpoint(path).model.config.fps == fps
