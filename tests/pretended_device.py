"""Train, score and generate on a pretended device, and print the results: ``pretended_device.py DEVICE``.

The tensors of ``pretended`` lie in this computer's memory, but an operation that mixes them with others is an error,
as on a GPU. So a computer without a GPU can find out whether the package forgets to move something. It runs in a
process of its own, since torch can have only one such device, which stays. `test_device.py` calls it.
"""

import json
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch._decomp.decompositions import lstm_impl
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

torch.inference_mode = torch.no_grad  # a wrapped tensor cannot be used in inference mode

from musicgen.dataset import Piece, WindowBatches, WindowConfig, prepare  # noqa: E402
from musicgen.evaluation.likelihood import evaluate, fit_baselines, piece_nlls  # noqa: E402
from musicgen.generation import GenerationConfig, generate  # noqa: E402
from musicgen.lab.figures.moments import attention_at  # noqa: E402
from musicgen.midi import write_midi  # noqa: E402
from musicgen.model import AttentionLSTM, ModelConfig  # noqa: E402
from musicgen.piano_roll import PianoRoll  # noqa: E402
from musicgen.training import TrainConfig, Trainer, load_checkpoint  # noqa: E402

PRETENDED = "pretended"
MOVES = {"aten::_to_copy", "aten::copy_"}  # these alone go from one device to another


class Far(torch.Tensor):
    """A tensor on the pretended device; `near` holds its numbers."""

    @staticmethod
    def __new__(cls, near):
        size, offset = {"strides": near.stride(), "dtype": near.dtype}, near.storage_offset()
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), storage_offset=offset, device=torch.device(PRETENDED, 0), **size
        )
        far.near = near
        return far

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return dispatch(operation, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Sees every operation, also those that make the first tensor of a device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return dispatch(operation, args, kwargs or {})


def dispatch(operation, args, kwargs):
    """Apply an operation to the numbers; its result is where its arguments are. Single numbers may be anywhere."""
    name, tensors = operation._schema.name, [x for x in pytree.arg_tree_leaves(*args, **kwargs) if is_tensor(x)]
    to_far = any(isinstance(x, Far) for x in tensors)
    if to_far and name not in MOVES and any(x.dim() for x in tensors if not isinstance(x, Far)):
        raise RuntimeError(f"{name} has tensors on two devices")
    if kwargs.get("device") is not None:
        to_far = torch.device(kwargs["device"]).type == PRETENDED
        kwargs = kwargs | {"device": torch.device("cpu")}
    near_args, near_kwargs = pytree.tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
    result = operation(*near_args, **near_kwargs)
    if not operation._schema.returns:
        return None
    if name.endswith("_"):
        return args[0]
    return pytree.tree_map(lambda x: Far(x) if to_far and is_tensor(x) else x, result)


def is_tensor(x) -> bool:
    return isinstance(x, torch.Tensor)


class Module(backend_registration._DummyBackendModule):
    """The device for autocast."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


def register() -> None:
    """Register the device; torch calls these two operations within `torch.tensor`, without `Pretend`."""
    backend_registration._setup_privateuseone_for_python_backend(PRETENDED, Module())
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")


library = torch.library.Library("aten", "IMPL")


def empty_strided(size, stride, *, dtype=None, **_):
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def copy_from(source, target, non_blocking=False):
    target.near.copy_(source)
    return target


def corpus(folder: Path):
    """Write three pieces of changing chords, and sample them."""
    pieces = []
    for number in range(3):
        velocity = np.zeros((40, 88), np.uint8)
        for start in range(0, 40, 9):
            velocity[start : start + 6, [20 + 3 * number + start // 9, 40 + start // 10]] = 50 + 7 * number
        write_midi(PianoRoll(velocity), path := folder / f"{number}.mid")
        pieces.append(Piece(path, path.name, "Bach", "", "train"))
    return prepare(pieces, progress=False)


def life_of_a_model(device: str, rolls, **sizes) -> list:
    """Train, stop, resume, save, load, score, look at attention and generate."""
    config = TrainConfig(optimizer="adamw" if sizes["output"] == "joint" else "sgd", n_epochs=2)
    with tempfile.TemporaryDirectory() as folder:
        for resume, last in ((False, 3), (True, None)):
            torch.manual_seed(1)
            model = AttentionLSTM(ModelConfig(hidden_size=8, composers=("Bach",), dropout=0.1, **sizes)).to(device)
            batches = WindowBatches(rolls, WindowConfig(window_frames=10, batch_size=3), ("Bach",))
            trainer = Trainer(
                model, batches, lambda model: float(next(iter(piece_nlls(model, rolls)))[0].sum()), config, folder,
                progress=False,
            )  # fmt: skip
            history = trainer.run(resume, callback=lambda trainer, last=last: trainer.progress.updates == last)
        assert {weight.device.type for weight in model.parameters()} == {device}
        kept = load_checkpoint(trainer.latest_path).model
    losses = [row[name] for row in history for name in ("train_nll", "validation_nll")]
    piece = generate(model, rolls[0][:20], GenerationConfig(seconds=1.5, top_p=0.9, guidance_scale=2), "Bach")
    scores = [evaluate(each, rolls, fit_baselines(rolls))["nll"] for each in (model, kept)]
    return [losses, scores, attention_at(model, piece, 1.2, "Bach").tolist(), piece.velocity.tolist()]


def main(device: str) -> None:
    """Do all of it with each output."""
    if device == PRETENDED:
        register()
    # The CPU's LSTM in its parts, too, so that both devices do the same sums.
    with tempfile.TemporaryDirectory() as folder, patch.object(torch.nn.modules.rnn._VF, "lstm", lstm_impl):
        rolls = corpus(Path(folder))
        with Pretend():
            print(json.dumps([life_of_a_model(device, rolls, output=o) for o in ("independent", "shared", "joint")]))


if __name__ == "__main__":
    main(sys.argv[1])
