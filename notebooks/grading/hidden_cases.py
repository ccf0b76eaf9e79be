"""Arguments with which students' functions are called. Keep this file, and the seed of `make grade`, from them."""

import numpy as np
import torch


def hidden_arguments(name: str, seed: int) -> list[tuple]:
    """Return the arguments of a few calls; none for an exercise that is graded by its visible cases alone."""
    maker = MAKERS.get(name)
    if maker is None:
        return []
    random = np.random.default_rng([seed, *name.encode()])
    return [maker(random) for _ in range(5)]


def _melody(random, n):
    return random.integers(60, 66, n).tolist()


def _notes(random):
    pitches = random.permutation(np.arange(21, 109))[:3]  # two notes each, so that some of them overlap
    starts = random.integers(0, 12, 6)
    return [
        (int(p), int(random.integers(1, 128)), int(s), int(s + random.integers(1, 9)))
        for p, s in zip(np.repeat(pitches, 2), starts)
    ]


def _ticks(random):
    if random.integers(2):  # exactly between two frames, and too large for a float
        return 24 + 48 * int(random.integers(10**17)), 500_000, 480, 20
    return tuple(int(random.integers(*each)) for each in ((0, 10**6), (10**5, 10**6), (96, 960), (5, 80)))


def _rolls(random):
    return [random.integers(0, 128, (int(n), 4)) for n in random.integers(1, 9, 3)]


def _logits(random):
    return torch.from_numpy(random.normal(0, 3, 9))


def _pieces(random):
    return [(f"title {random.integers(4)}", str(random.choice(["train", "validation", "test"]))) for _ in range(6)]


def _tensor(random, *shape):
    return torch.from_numpy(random.normal(0, 1, shape)).float()


def _probabilities(random, *shape):
    return torch.from_numpy(random.uniform(0.05, 0.95, shape)).float()


def _frames(random, *shape):
    return torch.from_numpy(random.integers(0, 2, shape)).float()


def _sizes(random):
    return random.permutation(np.arange(2, 9))[:3].tolist()  # all different, so that swapped axes are seen


def _query_key_value(random):
    sizes = _sizes(random)
    return tuple(_tensor(random, *sizes) for _ in range(3))


def _gru(random):
    inputs, units, _ = _sizes(random)
    x = _tensor(random, inputs)
    h = _tensor(random, units)
    return x, h, _tensor(random, 3 * units, inputs), _tensor(random, 3 * units, units)


def _padded(random):
    B, T, _ = _sizes(random)
    return torch.from_numpy(random.uniform(1, 9, (B, T))).float(), random.integers(1, T + 1, B).tolist()


def _histories(random):
    losses = random.uniform(1, 4, (5, 4, 2)).tolist()
    return {
        f"run {n}": [{"train_nll": train, "validation_nll": validation} for train, validation in epochs]
        for n, epochs in enumerate(losses)
    }


def _gradients(random):
    return [3 * _tensor(random, 3), 3 * _tensor(random, 2, 4)]  # of norm 10 together, more or less


MAKERS = {
    "00-2": lambda random: (float(random.uniform(0, 90)), int(random.integers(5, 80))),
    "01-4": lambda random: (int(random.integers(21, 109)),),
    "01-5": _ticks,
    "01-6": lambda random: (_pieces(random),),
    "02-4": lambda random: ((random.integers(0, 3, 20) * 40).tolist(),),
    "02-5": lambda random: (_notes(random), 30),
    "02-6": lambda random: (_rolls(random),),
    "03-1": lambda random: (_probabilities(random, 4, 7), _frames(random, 4, 7)),
    "03-2": lambda random: (_tensor(random, *_sizes(random)),),
    "03-3": lambda random: (int(random.integers(4, 9)), int(random.integers(1, 6))),
    "03-4": _query_key_value,
    "03-5": _gru,
    "03-6": lambda random: ("linear model", "SGD", _frames(random, *_sizes(random))),
    "03-7": lambda random: (3 * _tensor(random, 9), float(random.uniform(0.3, 3)), _probabilities(random, 9)),
    "04-2": lambda random: (float(random.uniform(0, 1)),),
    "04-3": _padded,
    "04-4": lambda random: (_histories(random),),
    "04-5": lambda random: (_gradients(random), float(random.uniform(4, 16))),
    "05-6": lambda random: (_logits(random), float(random.uniform(0.3, 3))),
    "05-7": lambda random: (torch.sigmoid(_logits(random)), float(random.uniform(0.2, 0.95))),
    "05-8": lambda random: (_logits(random), _logits(random), float(random.uniform(1.2, 4))),
    "05-9": lambda random: (_probabilities(random, int(random.integers(3, 9))) * float(random.uniform(0.2, 5)),),
    "06-1": lambda random: (random.uniform(0.05, 0.95, (7, 5)), random.integers(0, 2, (7, 5))),
    "06-2": lambda random: (random.integers(0, 9, 6).tolist(), random.integers(0, 9, 8).tolist()),
    "06-3": lambda random: (_melody(random, 25), _melody(random, 30)),
    "07-1": lambda random: (int(random.integers(50, 900)), int(random.integers(5, 80)), float(random.uniform(0.5, 60))),
    "07-2": lambda random: (random.uniform(1, 9, 4).tolist(), random.uniform(1, 9, 5).tolist()),
    "07-3": lambda random: (float(random.uniform(0.1, 0.9)), float(random.uniform(1.5, 9))),
}
