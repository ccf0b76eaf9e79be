"""Time training steps, on a GPU if there is one: musicgen's, a bare LSTM's, and with one target per window."""

import shutil
import tempfile
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from turns import ROUNDS, rows, take_turns

from musicgen.dataset import WindowBatches, WindowConfig, prepare
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import TrainConfig, Trainer
from musicgen.training.optim import autocast, has_bfloat16

HIDDEN, BATCH, WINDOW = 384, 16, 256  # the sizes of the model before the shipped one, so that results can be compared
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PLACE = f", {torch.cuda.get_device_name()}" if DEVICE == "cuda" else ""
CAN_COMPILE = DEVICE == "cuda" or shutil.which("g++")  # on a CPU torch writes C++


def batches_of(pieces: list, window: int, batch: int) -> WindowBatches:
    return WindowBatches(prepare(pieces, progress=False), WindowConfig(window_frames=window, batch_size=batch))


def our_step(batches: WindowBatches, precision: str = "float32", compiled: bool = False, **sizes) -> Callable:
    """Make a function that takes a training step with the next batch, as `Trainer` does."""
    model = AttentionLSTM(ModelConfig(hidden_size=HIDDEN, **sizes)).train().to(DEVICE)
    if compiled:
        model.compile()
    config = TrainConfig(precision=precision)
    trainer = Trainer(model, batches, lambda model: 0.0, config, tempfile.mkdtemp(), progress=False)
    epoch = batches.epoch(0)
    return lambda: trainer.update(next(epoch), 0.0)


class Bare(nn.Module):
    """The model of many tutorials: an LSTM on the binary roll, optionally also on velocities, and a linear layer."""

    def __init__(self, loudness: bool):
        super().__init__()
        self.loudness = loudness
        self.lstm = nn.LSTM(2 * 88 if loudness else 88, HIDDEN, 2, batch_first=True)
        self.linear = nn.Linear(HIDDEN, 88)

    def forward(self, velocity: Tensor) -> Tensor:
        roll = (velocity > 0).float()
        inputs = torch.cat([roll, velocity / 127], dim=-1) if self.loudness else roll
        return self.linear(self.lstm(inputs)[0])


def bare_step(
    batches: WindowBatches, precision: str = "float32", many_to_one: bool = False, loudness: bool = False
) -> Callable:
    """Do the same with a bare LSTM; with `many_to_one`, each window predicts only the frame after it."""
    model, epoch = Bare(loudness).to(DEVICE), batches.epoch(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step() -> None:
        velocity = torch.from_numpy(next(epoch)[0]).to(DEVICE)
        with autocast(DEVICE, precision):
            logits, target = model(velocity[:, :-1]), (velocity[:, 1:] > 0).float()
        if many_to_one:
            logits, target = logits[:, -1], target[:, -1]
        loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum") / target[..., 0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def training(pieces: list) -> Iterator[dict]:
    """Time training steps; with the independent output our model is as large as the bare LSTM with velocities."""
    for precision in ("float32", "bfloat16") if has_bfloat16(DEVICE) else ("float32",):
        batches = batches_of(pieces, WINDOW, BATCH)
        contenders = {
            "bare LSTM": bare_step(batches, precision),
            "bare LSTM that hears loudness": bare_step(batches, precision, loudness=True),
            "windowed many-to-one": bare_step(batches, precision, many_to_one=True),
        }
        for layers in (0, 1, 2):
            step = our_step(batches, precision, output="independent", n_attention_layers=layers)
            contenders[f"musicgen, {layers} attention layers"] = step
        if CAN_COMPILE:
            contenders["musicgen, 2 attention layers, torch.compile"] = our_step(
                batches, precision, True, output="independent"
            )
        contenders["musicgen, 2 attention layers, joint output"] = our_step(batches, precision)
        targets = dict.fromkeys(contenders, BATCH * WINDOW) | {"windowed many-to-one": BATCH}
        seconds = take_turns(contenders, 3 * ROUNDS)
        yield from rows(f"training step, {precision}{PLACE}", "frames/s", targets, seconds, "bare LSTM")


def windows(pieces: list) -> Iterator[dict]:
    """Time training steps with longer windows and the same number of frames."""
    for layers in (0, 1, 2):
        sizes = {"output": "independent", "n_attention_layers": layers}
        contenders = {
            f"{window} frames": our_step(batches_of(pieces, window, 4096 // window), **sizes)
            for window in (128, 256, 512, 1024, 2048)
        }
        section = f"window length, {layers} attention layers{PLACE}"
        yield from rows(section, "frames/s", 4096, take_turns(contenders), "128 frames")
