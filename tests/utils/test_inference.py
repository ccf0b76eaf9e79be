"""Running a model changes nothing for those who train or use it elsewhere."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from musicgen.evaluation.likelihood import evaluate, fit_baselines, mean_nll
from musicgen.generation import GenerationConfig, generate
from musicgen.piano_roll import PianoRoll
from musicgen.utils.inference import for_inference, single_thread


@pytest.fixture
def roll():
    velocity = torch.zeros(30, 88, dtype=torch.uint8)
    velocity[3:19, 40] = 70
    velocity[8:11, 47] = 50
    return PianoRoll(velocity.numpy())


@pytest.mark.parametrize(
    "use",
    [
        lambda model, roll: generate(model, roll, GenerationConfig(seconds=2)),
        lambda model, roll: evaluate(model, [roll], fit_baselines([roll])),
        lambda model, roll: mean_nll(model, [roll]),
    ],
    ids=["generate", "evaluate", "mean_nll"],
)
def test_modes_and_random_states_and_threads_are_as_before(tiny_model, roll, use):
    model = tiny_model(n_pitches=88, dropout=0.5)
    expected = use(model, roll)
    model.train()
    model.dropout.eval()  # someone has frozen a part
    modes = [module.training for module in model.modules()]
    random_state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    assert use(model, roll) == expected  # dropout is off
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == n_threads
    assert all(weight.requires_grad and not weight.is_inference() for weight in model.parameters())


def test_a_model_is_copied_only_if_it_must_change(tiny_model):
    model = tiny_model().eval()
    assert for_inference(model) is model is for_inference(model, "cpu")
    copied = for_inference(model.train())
    assert copied is not model and not copied.training and model.training


def test_nothing_is_assigned_to_a_model_that_is_used(tiny_model, roll, monkeypatch):
    """So no thread can change it under the hands of another, whatever their order."""
    model = tiny_model(n_pitches=88)
    modules = set(model.modules())
    assign = torch.nn.Module.__setattr__

    def refuse(module, name, value):
        assert module not in modules, name
        assign(module, name, value)

    monkeypatch.setattr(torch.nn.Module, "__setattr__", refuse)
    assert generate(model, roll, GenerationConfig(seconds=1.8)).n_frames == 36
    assert mean_nll(model, [roll]) > 0


def test_threads_that_share_a_model_compose_what_one_after_another_does(tiny_model, roll):
    model = tiny_model(n_pitches=88)
    configs = [GenerationConfig(seconds=1.8, seed=seed, guidance_scale=1 + seed % 2) for seed in range(8)]
    expected = [generate(model, roll, config) for config in configs]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda config: generate(model, roll, config), configs)) == expected


def test_overlapping_python_threads_get_their_number_of_threads_back():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    steps = [threading.Event() for _ in range(3)]
    seen = {}

    def first():
        with single_thread():
            seen["first"] = torch.get_num_threads()
            steps[0].set()
            steps[1].wait(10)
        steps[2].set()

    def second():
        steps[0].wait(10)
        with single_thread(), single_thread():
            seen["second"] = torch.get_num_threads()
            steps[1].set()
            steps[2].wait(10)
            seen["still"] = torch.get_num_threads()
        seen["second afterwards"] = torch.get_num_threads()

    try:
        workers = [threading.Thread(target=each) for each in (first, second)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(10)
        later = threading.Thread(target=lambda: seen.update(later=torch.get_num_threads()))
        later.start()
        later.join(10)
    finally:
        torch.set_num_threads(usual)
    assert seen == {"first": 1, "second": 1, "still": 1, "second afterwards": 3, "later": 3}
