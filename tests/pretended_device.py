"""Train, score and generate on the CPU and on a pretended device, and print the results as JSON.

The tensors of ``pretended`` lie in this computer's memory, but an operation that mixes them with others is an error,
as on a GPU. So a computer without a GPU can find out whether the package forgets to move something. It runs in a
process of its own, since torch can have only one such device, which stays. `test_device.py` calls it.
"""

import json
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch._decomp.decompositions import lstm_impl
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

torch.inference_mode = torch.no_grad  # a wrapped tensor cannot be used in inference mode

from musicgen.dataset import Piece, WindowBatches, WindowConfig, prepare  # noqa: E402
from musicgen.evaluation.likelihood import evaluate, fit_baselines, piece_nlls  # noqa: E402
from musicgen.generation import GenerationConfig, generate, generate_several  # noqa: E402
from musicgen.lab.figures.moments import attention_at  # noqa: E402
from musicgen.midi import write_midi  # noqa: E402
from musicgen.model import AttentionLSTM, ModelConfig  # noqa: E402
from musicgen.piano_roll import PianoRoll  # noqa: E402
from musicgen.training import TrainConfig, Trainer, load_checkpoint  # noqa: E402

PRETENDED = "pretended"
# Settings of the models, by output; only the joint one has a probe, with which candidates are steered.
SIZES = {"independent": {}, "shared": {}, "joint": {"probe": True}}
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
    tensors = list(tensors_in([*args, *kwargs.values()]))
    to_far = any(isinstance(x, Far) for x in tensors)
    if not to_far and kwargs.get("device") is None:
        return operation(*args, **kwargs)
    name = operation._schema.name
    if to_far and name not in MOVES and any(x.dim() for x in tensors if not isinstance(x, Far)):
        raise RuntimeError(f"{name} has tensors on two devices")
    if kwargs.get("device") is not None:
        to_far = torch.device(kwargs["device"]).type == PRETENDED
        kwargs = kwargs | {"device": torch.device("cpu")}
    near_kwargs = {key: moved(value, near_of) for key, value in kwargs.items()}
    result = operation(*moved(args, near_of), **near_kwargs)
    if not operation._schema.returns:
        return None
    if name.endswith("_"):
        return args[0]
    return moved(result, Far) if to_far else result


def tensors_in(values):
    """Yield the tensors among values and in their lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def moved(value, move):
    """Apply `move` to a tensor, or to those in a list; torch's own tree_map is several times slower."""
    if isinstance(value, torch.Tensor):
        return move(value)
    if isinstance(value, (list, tuple)):
        return type(value)([moved(each, move) for each in value])
    return value


def near_of(x):
    return x.near if isinstance(x, Far) else x


class Module(backend_registration._DummyBackendModule):
    """The device as torch asks for it: for autocast, and for the state of its random numbers, which are the CPU's."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]

    def get_rng_state(self, device):
        return torch.get_rng_state()

    def set_rng_state(self, state, device):
        torch.set_rng_state(state)


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
        velocity = np.zeros((24, 88), np.uint8)
        for start in range(0, 24, 5):
            velocity[start : start + 4, [20 + 3 * number + start // 5, 40 + start // 10]] = 50 + 7 * number
        write_midi(PianoRoll(velocity), path := folder / f"{number}.mid")
        pieces.append(Piece(path, path.name, "Bach", "", "train"))
    return prepare(pieces, progress=False)


def life_of_a_model(device: str, rolls, **sizes) -> list:
    """Train, stop, resume, save, load, score, look at attention and generate."""
    config = TrainConfig(optimizer="adamw" if sizes["output"] == "joint" else "sgd", n_epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        for resume, last in ((False, 1), (True, None)):
            torch.manual_seed(1)
            model = AttentionLSTM(ModelConfig(hidden_size=8, composers=("Bach",), dropout=0.1, **sizes)).to(device)
            batches = WindowBatches(rolls, WindowConfig(window_frames=8, batch_size=3), ("Bach",))
            trainer = Trainer(
                model, batches, lambda model: float(next(iter(piece_nlls(model, rolls[:1])))[0].sum()), config, folder,
                progress=False,
            )  # fmt: skip
            history = trainer.run(resume, callback=lambda trainer, last=last: trainer.progress.updates == last)
        assert {weight.device.type for weight in model.parameters()} == {device}
        kept = load_checkpoint(trainer.latest_path).model
    losses = [row[name] for row in history for name in ("train_nll", "validation_nll")]
    piece = generate(model, rolls[0][:12], GenerationConfig(seconds=1.0, top_p=0.9, guidance_scale=2), "Bach")
    scores = [evaluate(each, rolls, fit_baselines(rolls))["nll"] for each in (model, kept)]
    music = [piece.velocity.tolist()]
    attention = attention_at(model, piece, 0.8, "Bach").tolist()
    if sizes.get("probe"):  # the beats of the prime are found, and candidates are steered
        steered = GenerationConfig(seconds=2.5, candidates=2, strength=9.0)
        (piece,) = generate_several(model, rolls[0], steered, 1, "Bach", device=device)
        music.append(piece.velocity.tolist())
    return [losses, scores, attention, music]


def lstm_cell(x, state, weight, hidden_weight, bias, hidden_bias):
    """Compute `torch.lstm_cell` in its parts."""
    hidden, cell = state
    input_gate, forget_gate, candidate, output_gate = (
        torch.nn.functional.linear(x, weight, bias) + torch.nn.functional.linear(hidden, hidden_weight, hidden_bias)
    ).chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell


def errors_of_mixing() -> list:
    """Add something on this side to a tensor on the other, and return the error of each try, if there is one."""
    errors = []
    for other in (torch.ones(2), torch.tensor(2), 2):
        try:
            torch.ones(2, device=PRETENDED) + other
        except RuntimeError as error:
            errors.append(str(error))
        else:
            errors.append(None)
    return errors


def main() -> None:
    """Do all of it with each output, first on the CPU."""
    register()  # before the first gradient: autograd counts the devices once
    results = {}
    # The CPU's LSTM in its parts, too, so that both devices do the same sums.
    parts = patch.multiple(torch.nn.modules.rnn._VF, lstm=lstm_impl), patch.object(torch, "lstm_cell", lstm_cell)
    with tempfile.TemporaryDirectory() as folder, parts[0], parts[1]:
        rolls = corpus(Path(folder))
        for output, more in SIZES.items():
            results.setdefault("cpu", {})[output] = life_of_a_model("cpu", rolls, output=output, **more)
            with Pretend():
                results.setdefault(PRETENDED, {})[output] = life_of_a_model(PRETENDED, rolls, output=output, **more)
        with Pretend():
            results["errors_of_mixing"] = errors_of_mixing()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
