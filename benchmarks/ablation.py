"""What do copy attention, beats, pulse features and input noise change?  ``python benchmarks/ablation.py DATA``

Small models are trained from scratch with equal numbers of updates, on the same windows, with three seeds, as the
shipped model was: AdamW, cosine, an average of the weights, and longer windows in the last fifth. Each row of
``benchmarks/results/ablation.csv`` gives the likelihood of the validation split, and the measures of
`musicgen.evaluation.likeness` for its pieces, each continued after four seconds with the default settings. Rows that
exist are not made again, so that the command can be stopped at any time.

Pulse features are not part of the package. They tell each pitch its own onsets in the last 3.2 s through learned
filters, and how strongly the number of onsets repeats itself at each lag up to 5 s. Input noise drops 3 % of the notes
that the model sees in training, and moves 10 % of their onsets by one frame; what it predicts stays as it was played.

``--shipped`` asks the same at the end of training: the shipped model is trained on, as it is and with a part added or
taken away, and the beginnings of the validation pieces are scored. ``benchmarks/results/ablation_shipped.csv`` has the
results.
"""

import argparse
import csv
import dataclasses
import tempfile
import time
from pathlib import Path

import torch
from likeness import PRIME_FRAMES, measure
from tables import append_row
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import RollCache, WindowConfig, prepare
from musicgen.evaluation.likelihood import evaluate, fit_baselines
from musicgen.generation import GenerationConfig, continue_rolls
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.model.features import ONSET, moving_averages
from musicgen.training import SHIPPED_CHECKPOINT, TrainConfig, Trainer, load_checkpoint
from musicgen.training.device_windows import DeviceWindows

RESULTS = Path(__file__).parent / "results" / "ablation.csv"
SECONDS = 34
BEGINNING = 102.4  # seconds of each validation piece that --shipped scores
COMPOSERS = ("Johann Sebastian Bach", "Ludwig van Beethoven", "Frédéric Chopin", "Joseph Haydn", "Franz Liszt")
COMPOSERS += ("Franz Schubert", "Robert Schumann", "Maurice Ravel", "Wolfgang Amadeus Mozart")
RECIPE = {"optimizer": "adamw", "learning_rate": 0.003, "schedule": "cosine", "warm_up": 200, "final_rate": 0.02}
RECIPE |= {"beta2": 0.98, "weight_decay": 0.02, "clip_norm": 5.0, "average_decay": 0.999, "long_share": 0.2}
RECIPE |= {"precision": "bfloat16"}
WINDOWS = {"window_frames": 512, "batch_size": 8, "max_transpose": 6, "max_stretch": 0.16, "tempo_versions": 3}
WINDOWS |= {"composer_dropout": 0.3, "beat_dropout": 0.35}
DROPPED, MOVED = 0.03, 0.1  # shares of the notes
SIZES = {"hidden_size": 256, "pitch_size": 16, "attention_span": 256, "copy_span": 640}
VARIANTS = {
    "none": (),
    "copy": ("copy",),
    "beats": ("beats",),
    "pulse": ("pulse",),
    "all": ("copy", "beats", "pulse"),
    "all, input noise": ("copy", "beats", "pulse", "noise"),
}
SHIPPED_VARIANTS = {
    "as it is": (),
    "with pulse features": ("pulse",),
    "with input noise": ("noise",),
    "without copy attention": ("no copy",),
}
LIKELIHOODS = ("nll", "nll_given_beats", "pedal_nll", "velocity_nll")
MUSIC = ("auc", "acf_std", "memory", "steadiness", "pitch_class_correlation", "interval_overlap", "notes_per_second")


class PulseFeatures(nn.Module):
    """Features of the pulse for each pitch, from its own onsets and from the number of onsets per frame."""

    n_own, n_lags, n_filters, decay = 64, 100, 16, 0.98

    def __init__(self):
        super().__init__()
        self.own = nn.Conv1d(1, self.n_filters, self.n_own, bias=False)
        self.shared = nn.Sequential(nn.Linear(3 * self.n_lags, 64), nn.ReLU(), nn.Linear(64, self.n_filters))

    def forward(self, onsets: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the features (B, T, K, n_filters) of onsets (B, T, K), and the state for the next call."""
        n_batch, n_frames, n_pitches = onsets.shape
        past, averages = state or (onsets.new_zeros(n_batch, self.n_lags, n_pitches), None)
        onsets = torch.cat([past, onsets], dim=1)  # (B, L + T, K)
        recent = onsets[:, self.n_lags + 1 - self.n_own :].transpose(1, 2).flatten(0, 1)  # (B K, 63 + T)
        own = self.own(recent[:, None]).unflatten(0, (n_batch, n_pitches))  # (B, K, F, T)
        counts = torch.log1p(onsets.sum(-1))  # (B, L + T)
        lagged = counts.unfold(1, self.n_lags + 1, 1).flip(-1)  # (B, T, L + 1): now, one frame ago, ...
        averages = counts.new_zeros(n_batch, 1, self.n_lags + 1) if averages is None else averages
        products = moving_averages((lagged[..., :1] * lagged)[:, None], (self.decay,), averages)[:, 0]
        similar = products[..., 1:] / (products[..., :1] + 0.01)  # the autocorrelation at lags 1 to L
        ago = lagged[..., :-1]  # lag 1 before the frame to be predicted is now
        shared = self.shared(torch.cat([ago, similar, ago * similar], dim=-1))  # (B, T, F)
        state = onsets[:, -self.n_lags :], products[:, None, -1]
        return own.permute(0, 3, 1, 2) + shared[:, :, None], state


class PulseLSTM(AttentionLSTM):
    """An `AttentionLSTM` with pulse features; its output takes them in beside what copy attention found."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.pulse = PulseFeatures()
        self.output.copied = nn.Linear(3 * config.copy_heads + self.pulse.n_filters, config.pitch_size, bias=False)

    def forward(self, frames, state=None, *inputs):
        """Do as `AttentionLSTM.forward` does; the state is a pair."""
        features, model_state = super().forward(frames, state and state[0], *inputs)
        with torch.autocast(frames.device.type, enabled=False):
            pulse, pulse_state = self.pulse(features.pitches[..., ONSET], state and state[1])
        copied = pulse if features.copied_notes is None else torch.cat([features.copied_notes, pulse], dim=-1)
        return features._replace(copied_notes=copied), (model_state, pulse_state)


class Updates(DeviceWindows):
    """Windows in five epochs with a given number of updates in all."""

    n_epochs, n_updates = 5, 400

    def n_batches(self, number: int) -> int:
        """Return a fifth of the updates."""
        return self.n_updates // self.n_epochs


def add_noise(model: nn.Module, inputs: tuple) -> tuple:
    """Drop and move notes of the frames (B, T, 88) that a model sees in training: a hook before `forward`."""
    if not model.training:
        return inputs
    frames, *others = inputs
    onset = (frames > 0) & (F.pad(frames, (0, 0, 1, 0))[:, :-1] == 0)
    numbers = torch.rand_like(frames)
    number = numbers.gather(1, onset.cumsum(1).clamp(max=frames.shape[1] - 1))  # the same for all frames of a note
    late = onset & (number < DROPPED + MOVED / 2)
    early = (onset & (number > 1 - MOVED / 2))[:, 1:]
    noisy = frames * ~(late | (number < DROPPED))
    noisy[:, :-1] = torch.where(early & (noisy[:, :-1] == 0), frames[:, 1:], noisy[:, :-1])
    return noisy, *others


def build_shipped(parts: tuple[str, ...], seed: int) -> AttentionLSTM:
    """Return the shipped model with pulse features that change nothing yet, without copy attention, or as it is."""
    torch.manual_seed(seed)
    shipped = load_checkpoint(SHIPPED_CHECKPOINT).model
    weights = shipped.state_dict()
    if "no copy" in parts:
        model = AttentionLSTM(dataclasses.replace(shipped.config, copy_heads=0))
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
        return model.train()
    if "pulse" not in parts:
        return shipped.train()
    model = PulseLSTM(shipped.config)
    for last in (model.pulse.own.weight, model.pulse.shared[-1].weight, model.pulse.shared[-1].bias):
        nn.init.zeros_(last)
    old, new = weights["output.copied.weight"], model.output.copied.weight.detach()
    weights["output.copied.weight"] = torch.cat([old, new[:, old.shape[1] :]], dim=1)
    model.load_state_dict(model.state_dict() | weights)
    return model.train()


def build(parts: tuple[str, ...], seed: int) -> AttentionLSTM:
    """Return a new model with the named parts."""
    torch.manual_seed(seed)
    more = {"copy_heads": 4 * ("copy" in parts), "beats": "beats" in parts}
    return (PulseLSTM if "pulse" in parts else AttentionLSTM)(
        ModelConfig(**SIZES, **more, dropout=0.1, composers=COMPOSERS)
    )


def listen(model: AttentionLSTM, rolls: RollCache, seed: int) -> dict[str, float]:
    """Continue the first four seconds of all long pieces, and measure the music."""
    long = [i for i, n_frames in enumerate(rolls.lengths) if n_frames >= SECONDS * 20]
    real, composers = [rolls[i][: SECONDS * 20] for i in long], [rolls.pieces[i].composer for i in long]
    labels = [model.config.label_of(name) if name in COMPOSERS else 0 for name in composers]
    primes = [roll[:PRIME_FRAMES] for roll in real]
    made = continue_rolls(model, primes, SECONDS * 20 - PRIME_FRAMES, GenerationConfig(seed=seed), labels)
    return measure(real, [[roll] for roll in made])


def train(model: AttentionLSTM, training: RollCache, args: argparse.Namespace, seed: int) -> Trainer:
    """Train a model; the shipped one in smaller steps, in which new parts learn ten times as fast."""
    recipe = RECIPE | ({"learning_rate": 0.0003, "warm_up": 20} if args.shipped else {})
    if args.shipped and isinstance(model, PulseLSTM):
        recipe |= {"part_rates": "pulse=10"}
    config = TrainConfig(**recipe, n_epochs=Updates.n_epochs, validate_every=Updates.n_epochs, seed=seed)
    batches = Updates(training, WindowConfig(**WINDOWS, seed=seed), COMPOSERS)
    batches.n_updates = args.updates
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, batches, lambda model: 0.0, config, folder)
        trainer.run()
    return trainer


def run(variant: str, seed: int, training: RollCache, validation: RollCache, args: argparse.Namespace) -> dict:
    """Train one model and score it."""
    parts, started = (SHIPPED_VARIANTS if args.shipped else VARIANTS)[variant], time.time()
    model = (build_shipped if args.shipped else build)(parts, seed)
    if "noise" in parts:
        model.register_forward_pre_hook(add_noise)
    trainer = train(model, training, args, seed)
    minutes = (time.time() - started) / 60
    with trainer.averaged_model():
        scores = evaluate(model.eval(), validation, fit_baselines(training))
        scores |= listen(model, validation, seed)
    values = {name: round(scores[name], 4) if name in scores else "" for name in LIKELIHOODS + MUSIC}
    about = {"variant": variant, "seed": seed, "updates": args.updates, "minutes": round(minutes, 1)}
    options = f"--shipped --updates {args.updates}" if args.shipped else f"--updates {args.updates}"
    return about | values | {"command": f"python benchmarks/ablation.py DATA {options}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="MAESTRO, or another folder of MIDI files with splits")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shipped", action="store_true", help="train the shipped model on")
    parser.add_argument("--only", choices=[*VARIANTS, *SHIPPED_VARIANTS], nargs="+")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    args.only = args.only or list(SHIPPED_VARIANTS if args.shipped else VARIANTS)
    args.results = args.results or RESULTS.with_name(f"ablation{'_shipped' * args.shipped}.csv")
    torch.set_num_threads(1)
    rolls = prepare(load_corpus(args.data))
    training, validation = rolls.select(split="train"), rolls.select(split="validation")
    if args.shipped:
        validation = prepare(load_corpus(args.data), max_seconds=BEGINNING).select(split="validation")
    made = set()
    if args.results.exists():
        with args.results.open(newline="") as stream:
            made = {(row["variant"], int(row["seed"]), int(row["updates"])) for row in csv.DictReader(stream)}
    for seed in args.seeds:
        for variant in args.only:
            if (variant, seed, args.updates) not in made:
                row = run(variant, seed, training, validation, args)
                append_row(args.results, row)
                print(row, flush=True)


if __name__ == "__main__":
    main()
