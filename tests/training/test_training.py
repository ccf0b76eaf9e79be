"""The loop: it learns, can be stopped and resumed at any update, and rejects checkpoints that do not fit."""

import copy
import csv
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from batches import batch_of

from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.training import TrainConfig, Trainer, load_checkpoint, next_frame_loss
from musicgen.training.optim import has_bfloat16
from musicgen.training.run import free_run_dir

STOPS = (signal.SIGINT, signal.SIGTERM)
BOTH = ("Bach", "Liszt")


def random_frames(random, *shape):
    """Draw velocities of which three in ten sound."""
    return np.where(random.random(shape) < 0.3, random.integers(1, 128, shape), 0).astype(np.uint8)


class Sequences:
    """Five batches per epoch; signals arrive before the (epoch, batch) of `stops`, the model breaks at `broken_at`."""

    seed = 0

    def __init__(self, stops=(), broken_at=None):
        self.stops, self.broken_at, self.asked, self.model = list(stops), broken_at, [], None

    def epoch(self, number):
        random = np.random.default_rng(self.seed + number)
        for batch in range(self.n_batches(number)):
            if (number, batch) in self.stops:
                self.stops.remove((number, batch))
                signal.raise_signal(STOPS[batch % 2])
            self.asked.append((number, batch))
            assert len(self.asked) < 99, "an epoch without an end"
            if (number, batch) == self.broken_at:
                self.model.output.last.bias.data.fill_(np.nan)
            yield batch_of(
                random_frames(random, 3, 9, 5), random.integers(2, 10, size=3), random.integers(0, 3, size=3)
            )

    def n_batches(self, number):
        return 5

    def longer(self):
        """Return other batches, for the last part of a run."""
        other = copy.copy(self)
        other.seed = 100
        return other


@pytest.fixture
def trainer(tiny_model, tmp_path):
    """Build trainers for one run folder, each with its own model."""

    def build(batches=None, validate=lambda model: 1.0, folder="run", model=None, about=None, tensors=None, **config):
        model = model or tiny_model(seed=config.pop("model_seed", 0), dropout=0.3, composers=BOTH)
        settings = TrainConfig(**{"n_epochs": 3, "schedule": "cosine", "seed": 5, **config})
        batches = batches or Sequences()
        batches.model = model
        return Trainer(model, batches, validate, settings, tmp_path / folder, tensors, about, progress=False)

    return build


def weights_of(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def logged(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def validation(model):
    """Depend on every weight, and require evaluation mode."""
    assert not model.training
    return sum(weight.double().square().sum().item() for weight in model.parameters())


def test_one_batch_is_memorised(trainer):
    batch = batch_of(
        random_frames(np.random.default_rng(1), 4, 13, 5), np.array([13, 9, 12, 13]), np.array([2, 0, 1, 1])
    )
    one = Sequences()
    one.epoch, one.n_batches = lambda number: iter(25 * [batch]), lambda number: 25
    torch.manual_seed(0)
    model = AttentionLSTM(
        ModelConfig(n_pitches=5, hidden_size=16, pitch_size=8, attention_size=4, copy_heads=1, composers=BOTH)
    )
    rows = trainer(one, model=model, optimizer="adamw", learning_rate=0.03, n_epochs=4).run()
    marginal_nll = -5 * (0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert rows[-1]["train_nll"] < 0.5 * marginal_nll < rows[0]["train_nll"]


ALL_SETTINGS = {"optimizer": "adamw", "average_decay": 0.7, "warm_up": 4, "final_rate": 0.1, "part_rates": "output=2"}
ALL_SETTINGS |= {"validate_every": 2, "beta2": 0.9, "clip_norm": 0.5, "long_share": 0.4}


@pytest.mark.parametrize("recipe", [{"optimizer": "sgd"}, {"optimizer": "adamw"}, ALL_SETTINGS])
def test_a_run_stopped_and_resumed_is_the_uninterrupted_run_bit_for_bit(trainer, tmp_path, recipe):
    recipe = recipe | {"learning_rate": 0.05}
    whole = trainer(validate=validation, folder="whole", **recipe)
    rows = whole.run()
    for folder, stops in {"at first": [(0, 0)], "at last": [(2, 4)], "often": [(0, 3), (0, 4), (2, 0)]}.items():
        batches = Sequences(stops)
        for part in range(len(stops) + 1):
            torch.manual_seed(99 + part)  # any other random state
            parted = trainer(batches, validation, folder, model_seed=part, **recipe)
            again = parted.run(resume=True)
            assert parted.progress.epoch == (stops + [(3, 0)])[part][0]  # the epochs that were finished
        assert without_seconds(again) == without_seconds(rows)
        torch.testing.assert_close(weights_of(parted.model), weights_of(whole.model), rtol=0, atol=0)
        for name in ("best.safetensors", "latest.safetensors"):
            ends = [load_checkpoint(tmp_path / run / name) for run in ("whole", folder)]
            torch.testing.assert_close(ends[1].tensors, ends[0].tensors, rtol=0, atol=0)
            torch.testing.assert_close(*(weights_of(end.model) for end in ends), rtol=0, atol=0)
        assert without_seconds(logged(tmp_path / "whole")) == without_seconds(logged(tmp_path / folder))


def test_a_stop_during_validation_lets_the_epoch_end_and_signal_handlers_are_restored(trainer):
    before = [signal.getsignal(number) for number in STOPS]
    with pytest.raises(ValueError, match="nan"):
        trainer(Sequences(broken_at=(0, 0)), folder="broken").run()
    assert len(trainer(validate=lambda model: signal.raise_signal(signal.SIGINT) or 2.0).run()) == 1
    assert [signal.getsignal(number) for number in STOPS] == before


def test_it_can_run_in_a_thread(trainer):
    with ThreadPoolExecutor() as threads:
        assert len(threads.submit(trainer().run).result()) == 3


def test_a_finished_run_has_nothing_left_to_do(trainer, tmp_path):
    rows, before = trainer().run(), contents(tmp_path / "run")
    again = trainer(batches := Sequences(), validate=lambda model: pytest.fail("validated"), model_seed=1)
    assert (again.run(resume=True), batches.asked) == (rows, [])
    assert contents(tmp_path / "run") == before


def test_a_folder_with_a_run_is_continued_only_on_request(trainer, tmp_path):
    trainer(Sequences([(0, 2)])).run()
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run' holds a run already"):
        trainer().run()
    assert contents(tmp_path / "run") == before
    assert len(trainer(folder="new").run(resume=True)) == 3  # nothing there to resume: it begins


def test_other_settings_data_or_models_are_rejected_and_the_difference_is_named(trainer, tiny_model, tmp_path):
    same = {"about": {"data": {"key": "abc"}}}
    trainer(Sequences([(0, 2)]), **same).run()
    before = contents(tmp_path / "run")
    others = [
        (trainer(about={"data": {"key": "xyz"}}), "data.key was 'abc', now 'xyz'$"),
        (trainer(), "data.key was 'abc', now None$"),
        (trainer(**same, momentum=0.75), "training.momentum was 0.9, now 0.75$"),
        (trainer(**same, model=tiny_model(dropout=0.2, composers=BOTH)), "model.dropout was 0.3, now 0.2$"),
        (
            trainer(**same, model=tiny_model(dropout=0.3)),
            r"model.composers was \('Bach', 'Liszt'\), now \(\)$",
        ),  # that knows no composers
    ]
    for other, difference in others:
        weights = weights_of(other.model)
        with pytest.raises(ValueError, match=f"latest.safetensors' was trained with other settings: {difference}"):
            other.run(resume=True)
        torch.testing.assert_close(weights_of(other.model), weights, rtol=0, atol=0)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("broken_at", "loss", "said"),
    [((1, 3), 2.0, "loss is nan at update 9"), (None, np.nan, "loss is nan after"), (None, np.inf, "loss is inf")],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    trainer, tmp_path, broken_at, loss, said
):
    losses = iter([2.0, loss])
    with pytest.raises(ValueError, match=said):
        trainer(Sequences(broken_at=broken_at), validate=lambda model: next(losses)).run()
    assert load_checkpoint(tmp_path / "run" / "latest.safetensors").record["progress"]["updates"] == 5


def test_a_gradient_that_is_not_finite_changes_no_weight(trainer):
    run = trainer()
    before = weights_of(run.model)
    run.model.output.last.weight.register_hook(lambda gradient: gradient * np.inf)
    with pytest.raises(ValueError, match="norm of the gradient is (inf|nan) at update 1"):
        run.run()
    torch.testing.assert_close(weights_of(run.model), before, rtol=0, atol=0)


def test_a_run_that_ends_while_it_saves_its_first_checkpoint_leaves_no_log(trainer, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("musicgen.training.trainer.save_checkpoint", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            trainer().run()
    assert len(trainer().run()) == 3  # the folder is still free


def test_weights_that_are_not_finite_never_replace_a_checkpoint(trainer, tmp_path):
    steps = iter([lambda bias: 2.0, lambda bias: bias.fill_(np.inf).numel() + 2.0])  # weights that no loss has seen
    with pytest.raises(ValueError, match="weights are no longer finite after update 10"):
        trainer(validate=lambda model: next(steps)(model.output.last.bias.data)).run()
    assert load_checkpoint(tmp_path / "run" / "latest.safetensors").record["progress"]["updates"] == 5


def test_a_checkpoint_that_cannot_be_resumed_is_rejected_by_name(trainer, tmp_path):
    trainer(Sequences([(2, 0)])).run()
    shutil.copy(tmp_path / "run" / "best.safetensors", tmp_path / "run" / "latest.safetensors")
    with pytest.raises(ValueError, match="latest.safetensors"):
        trainer().run(resume=True)


def test_the_log_has_a_row_for_each_epoch(trainer, tmp_path):
    losses = iter([4.5, 4.25, 5.0])
    rows = trainer(validate=lambda model: next(losses), learning_rate=0.02).run()
    assert logged(tmp_path / "run") == [{name: str(value) for name, value in row.items()} for row in rows]
    assert list(rows[0]) == ["epoch", "updates", "learning_rate", "train_nll", "validation_nll", "seconds"]
    found = [(row["epoch"], row["updates"], row["validation_nll"]) for row in rows]
    assert found == [(1, 5, 4.5), (2, 10, 4.25), (3, 15, 5.0)]
    done = np.array([4, 9, 14]) / 15  # before the last update of each epoch
    assert [row["learning_rate"] for row in rows] == pytest.approx(0.02 * (1 + np.cos(np.pi * done)) / 2)
    assert 0 <= rows[0]["seconds"] <= rows[1]["seconds"] <= rows[2]["seconds"]


def test_the_training_loss_is_an_average_over_frames_with_dropout(trainer, tiny_model):
    model = tiny_model()
    rows = trainer(model=model, learning_rate=1e-12, n_epochs=2).run()
    for epoch, row in enumerate(rows):
        with torch.no_grad():
            scored = [next_frame_loss(model, batch) for batch in Sequences().epoch(epoch)]
        nll, n_frames = sum(part.nll.item() for part in scored), sum(part.n_frames for part in scored)
        assert row["train_nll"] == pytest.approx(nll / n_frames, rel=1e-5)  # of the notes alone
    (dropped,) = trainer(model=tiny_model(dropout=0.5), folder="2", learning_rate=1e-12, n_epochs=1).run()
    assert dropped["train_nll"] != pytest.approx(rows[0]["train_nll"], rel=1e-3)


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_the_gradient_is_that_of_the_loss_for_one_frame_and_is_clipped(trainer, tiny_model, weight):
    def moved(**recipe):
        model, before, sequences = tiny_model(composers=BOTH), tiny_model(composers=BOTH), Sequences()
        sequences.n_batches = lambda number: 1
        recipe |= {"n_epochs": 1, "schedule": "constant", "momentum": 0, "velocity_weight": weight}
        trainer(sequences, model=model, folder=str(recipe), **recipe).run()
        return torch.cat([(a - b).ravel() for a, b in zip(model.parameters(), before.parameters())])

    model = tiny_model(composers=BOTH)
    scored = next_frame_loss(model, next(Sequences().epoch(0)), velocity_weight=weight)
    (scored.total / scored.n_frames).backward()
    gradient = torch.cat([parameter.grad.ravel() for parameter in model.parameters()])
    torch.testing.assert_close(moved(learning_rate=0.01, clip_norm=1e9), -0.01 * gradient, rtol=1e-3, atol=1e-6)
    assert moved(learning_rate=1.0, clip_norm=0.01).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_trains_and_validates_in_the_wanted_precision(trainer, precision):
    found = []
    trainer(validate=lambda model: found.append(model(torch.ones(1, 9, 5))[0]) or 1.0, precision=precision).run()
    expected = getattr(torch, precision) if has_bfloat16("cpu") else torch.float32
    assert [(f.hidden.dtype, f.pitches.dtype) for f in found] == 3 * [(expected, torch.float32)]


def test_a_processor_without_bfloat16_trains_in_single_precision(trainer, monkeypatch):
    monkeypatch.setattr("musicgen.training.optim.has_bfloat16", lambda device: False)
    found = []
    trainer(validate=lambda model: found.append(model(torch.ones(1, 9, 5))[0]) or 1.0, precision="bfloat16").run()
    assert {f.hidden.dtype for f in found} == {torch.float32}


def test_the_best_checkpoint_has_the_lowest_validation_loss_and_the_latest_the_last(trainer, tmp_path):
    losses, seen = [4.0, 2.5, 2.75, 2.5, 3.0], []
    more = {"tensors": {"baseline": torch.tensor([0.25, 0.5])}, "about": {"data": {"x": 1}}, "n_epochs": 5}
    more["validate"] = lambda model: seen.append(weights_of(model)) or losses[len(seen) - 1]
    for stops in ([(2, 1)], []):  # stopped once
        trainer(Sequences(stops), **more).run(resume=True)
    best, latest = (load_checkpoint(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "latest"))
    for checkpoint, epoch in [(best, 2), (latest, 5)]:
        torch.testing.assert_close(weights_of(checkpoint.model), seen[epoch - 1], rtol=0, atol=0)
        assert [row["validation_nll"] for row in checkpoint.record["progress"]["history"]] == losses[:epoch]
        assert checkpoint.tensors["baseline"].tolist() == [0.25, 0.5]
        assert checkpoint.record["data"] == {"x": 1}
    assert list(best.tensors) == ["baseline"]


def test_a_callback_sees_every_update_and_ends_the_run_where_it_says_so(trainer):
    seen = []

    def callback(watched):
        seen.append((watched.progress.updates, watched.progress.n_frames > 0))
        return watched.progress.updates == 7

    stopped = trainer()
    history = stopped.run(callback=callback)
    assert [updates for updates, within in seen if within] == [1, 2, 3, 4, 5, 6, 7]
    assert (5, False) in seen, "and the end of an epoch"
    assert len(history) == 1
    assert load_checkpoint(stopped.latest_path).record["progress"]["updates"] == 7
    resumed, whole = (
        [row | {"seconds": None} for row in rows]
        for rows in (trainer().run(resume=True), trainer(folder="whole").run())
    )
    assert resumed == whole


def test_a_callback_may_leave_the_model_in_evaluation_mode(trainer):
    ends = []
    for callback in (lambda trainer: False, lambda trainer: trainer.model.eval() is None):
        run = trainer(folder=str(len(ends)), validate=validation)
        run.run(callback=callback)
        ends.append(weights_of(run.model))
    torch.testing.assert_close(*ends, rtol=0, atol=0)  # it trains with dropout all the same


def test_the_average_of_the_weights_is_validated_and_kept(trainer, tmp_path):
    seen = []
    run = trainer(validate=lambda model: seen.append(weights_of(model)) or 1.0, n_epochs=1, average_decay=0.9)
    after = []
    run.run(callback=lambda trainer: after.append(weights_of(trainer.model)) or False)
    mean = weights_of(trainer().model)
    for n, weights in enumerate(after[:5], 1):
        decay = (1 + n) / (10 + n)
        mean = {name: decay * mean[name] + (1 - decay) * weight for name, weight in weights.items()}
    torch.testing.assert_close(seen[0], mean)
    torch.testing.assert_close(weights_of(load_checkpoint(tmp_path / "run" / "best.safetensors").model), seen[0])
    torch.testing.assert_close(weights_of(run.model), after[-1])  # and the trainer goes on from the weights themselves


def test_frozen_parts_stay_as_they_are(trainer):
    run = trainer(n_epochs=1, optimizer="adamw", part_rates="all=0,output=1")
    before = weights_of(run.model)
    run.run(callback=lambda trainer: trainer.model.copy.query_key.weight.requires_grad)
    changed = {name.split(".")[0] for name, weight in weights_of(run.model).items() if not weight.equal(before[name])}
    assert changed == {"output"} and run.progress.updates == 5
    assert all(weight.requires_grad for weight in run.model.parameters())


def test_a_run_ends_after_its_minutes_and_the_learning_rate_knows(trainer):
    def hour_passes(trainer):
        trainer.clock.started -= 3600 * (trainer.progress.n_frames > 0)
        return False

    run = trainer(n_epochs=100_000, minutes=450, optimizer="adamw", learning_rate=0.01)
    rows = run.run(callback=hour_passes)
    assert [(row["epoch"], row["updates"]) for row in rows] == [(1, 5), (2, 8)]  # the last one is validated, too
    assert rows[1]["learning_rate"] == pytest.approx(0.01 * (1 + np.cos(np.pi * 7 / 7.5)) / 2, rel=0.01)
    longer = trainer(n_epochs=100_000, minutes=630, optimizer="adamw", learning_rate=0.01, model_seed=1)
    assert longer.run(resume=True, callback=hour_passes)[2]["updates"] == 11


def test_a_run_whose_minutes_end_after_an_epoch_was_saved_is_validated(trainer):
    def hour_passes_between_epochs(trainer):
        trainer.clock.started -= 3600 * (trainer.progress.batch == 0)
        return False

    rows = trainer(n_epochs=9, minutes=30, validate_every=2).run(callback=hour_passes_between_epochs)
    assert [(row["epoch"], row["updates"]) for row in rows] == [(1, 5)]


def test_the_last_part_of_a_run_has_longer_windows(trainer):
    batches = Sequences()
    asked = []
    batches.longer = lambda: asked.append(run.progress.epoch) or batches
    run = trainer(batches, n_epochs=5, long_share=0.4)
    run.run()
    assert asked == [3, 4]


def test_an_epoch_that_is_resumed_keeps_the_windows_that_it_began_with(trainer):
    def hour_passes(trainer):
        trainer.clock.started -= 3600 * (trainer.progress.batch > 0)
        return False

    recipe = {"n_epochs": 100, "minutes": 20 * 60, "long_share": 0.5, "validate_every": 3, "schedule": "constant"}
    whole = trainer(folder="whole", **recipe)
    whole.run(callback=hour_passes)
    for part, stops in enumerate([[(1, 4)], [(2, 2)], []]):  # epoch 2 begins after 10 of the 20 hours, epoch 1 after 5
        parted = trainer(Sequences(stops), model_seed=part, **recipe)
        parted.run(resume=True, callback=hour_passes)
    assert parted.progress.updates == whole.progress.updates == 20
    torch.testing.assert_close(weights_of(parted.model), weights_of(whole.model), rtol=0, atol=0)


def test_the_run_leaves_the_modes_of_the_model_as_they_were(trainer):
    run = trainer(validate=validation, n_epochs=1)
    run.model.train()
    run.model.output.eval()
    run.run(callback=lambda trainer: not trainer.model.training)  # after a validation it is not in evaluation mode
    assert run.progress.updates == 5 and not run.ended
    assert run.model.training and not run.model.output.training


def test_validation_may_take_place_in_some_epochs_only(trainer):
    losses = iter([4.0, 3.0, 5.0])
    rows = trainer(validate=lambda model: next(losses), n_epochs=5, validate_every=2).run()
    assert [(row["epoch"], row["updates"]) for row in rows] == [(2, 10), (4, 20), (5, 25)]


def test_a_run_from_a_trained_model_never_ends_worse_than_it_began(trainer, tmp_path):
    losses = [2.0, 2.5, 2.25, 3.0]
    for stops in ([(1, 2)], []):  # stopped once
        run = trainer(Sequences(stops), validate=lambda model: losses.pop(0), average_decay=0.9)
        run.validate_first = True
        rows = run.run(resume=True)
    assert [(row["epoch"], row["train_nll"] is None, row["validation_nll"]) for row in rows] == [
        (0, True, 2.0), (1, False, 2.5), (2, False, 2.25), (3, False, 3.0)
    ]  # fmt: skip
    assert run.best["epoch"] == 0
    torch.testing.assert_close(weights_of(trainer().model), weights_of(load_checkpoint(run.best_path).model))
    assert logged(tmp_path / "run")[0]["train_nll"] == ""


def test_a_finished_run_can_be_trained_for_more_epochs(trainer, tmp_path):
    recipe = {"schedule": "constant"}
    trainer(n_epochs=2, **recipe).run()
    rows = trainer(n_epochs=3, model_seed=7, **recipe).run(resume=True)
    whole = trainer(n_epochs=3, folder="whole", **recipe).run()
    assert without_seconds(rows) == without_seconds(whole)
    with pytest.raises(ValueError, match="n_epochs was 3, now 2"):
        trainer(n_epochs=2, **recipe).run(resume=True)


@pytest.mark.parametrize("name", ["best.safetensors", "log.csv", "previous.safetensors"])
def test_a_folder_with_any_file_of_a_run_is_not_overwritten(trainer, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("precious")
    with pytest.raises(ValueError, match=f"holds a run already .{name}."):
        trainer().run()
    assert (tmp_path / "run" / name).read_text() == "precious"


def test_a_checkpoint_is_written_every_few_minutes_within_an_epoch(trainer, monkeypatch):
    monkeypatch.setattr("musicgen.training.trainer.SAVE_SECONDS", 0.0)
    running, found = trainer(), []

    def callback(trainer):
        if trainer.latest_path.exists():
            found.append(load_checkpoint(trainer.latest_path).record["progress"]["batch"])

    running.run(callback=callback)
    assert found[:4] == [1, 2, 3, 4]


def test_a_free_run_folder_has_the_first_number_that_is_not_taken(tmp_path):
    assert free_run_dir(tmp_path, "SGD") == tmp_path / "SGD"
    for name in ("SGD", "SGD-2"):
        (tmp_path / name).mkdir()
    assert free_run_dir(tmp_path, "SGD") == tmp_path / "SGD-3"
