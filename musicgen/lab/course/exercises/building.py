"""Exercises of notebooks 03 (building) and 04 (training)."""

import math

import torch

from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import Case, FunctionExercise

_random = torch.Generator().manual_seed(0)


def _numbers(*shape):
    return torch.randn(*shape, generator=_random)


def _nll(p, frames):
    return -(frames * p.log() + (1 - frames) * (1 - p).log())


def _seen_and_next(windows):
    return windows[:, :-1], windows[:, 1:]


def _distance(n_frames):
    """Return how many frames each frame (row) lies after each frame (column)."""
    return torch.arange(n_frames)[:, None] - torch.arange(n_frames)


def _allowed(n_frames, span, from_distance=0):
    distance = _distance(n_frames)
    return (distance >= from_distance) & (distance < span + from_distance)


def _attend(query, key, value, scale=True, mask=True, axis=-1):
    scores = query @ key.mT / (query.shape[-1] ** 0.5 if scale else 1)
    later = _distance(query.shape[1]) < 0
    return scores.masked_fill(later & torch.tensor(mask), -1e9).softmax(axis) @ value


def _attend_and_cut(query, key, value):
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return weights.tril() @ value


def _gru_step(x, h, w_x, w_h, order=(0, 1, 2), with_reset=True, squash=torch.tanh, swapped=False):
    parts_x = (w_x @ x).chunk(3)
    parts_h = (w_h @ h).chunk(3)
    r, z = (torch.sigmoid(parts_x[order[part]] + parts_h[order[part]]) for part in (0, 1))
    new = squash(parts_x[2] + (r if with_reset else 1) * parts_h[2])
    return z * new + (1 - z) * h if swapped else (1 - z) * new + z * h


def _cosine(done):
    return (1 + math.cos(math.pi * done)) / 2


def _valid(nll, lengths, more=0):
    return torch.arange(nll.shape[1]) < torch.tensor(lengths)[:, None] + more


def _mean_of_means(nll, lengths):
    return torch.stack([row[:length].mean() for row, length in zip(nll, lengths)]).mean()


def _lowest(histories, column="validation_nll"):
    return {name: min(row[column] for row in rows) for name, rows in histories.items()}


def _best_run(histories):
    lowest = _lowest(histories)
    return min(lowest, key=lowest.get)


def _norm(gradients):
    return torch.stack([(each**2).sum() for each in gradients]).sum().sqrt()


def _clipped(gradients, largest):
    return [each * min(1.0, largest / _norm(gradients)) for each in gradients]


_P = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.7, 0.4]])
_FRAMES = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
_QUERY_KEY_VALUE = tuple(_numbers(2, 5, 4) for _ in range(3))
_ONE_FRAME = tuple(_numbers(1, 1, 3) for _ in range(3))
_SMALL_GRU = (_numbers(3), _numbers(2), _numbers(6, 3), _numbers(6, 2))
_GRU = (_numbers(5), _numbers(4), _numbers(12, 5), _numbers(12, 4))
_HISTORIES = {
    "too fast": [{"train_nll": 3.9, "validation_nll": 3.6}, {"train_nll": 3.8, "validation_nll": 3.7}],
    "slow": [{"train_nll": 3.0, "validation_nll": 2.9}, {"train_nll": 2.5, "validation_nll": 2.4}],
    "early": [{"train_nll": 2.6, "validation_nll": 2.2}, {"train_nll": 2.3, "validation_nll": 2.6}],
    "learned by heart": [{"train_nll": 2.4, "validation_nll": 2.5}, {"train_nll": 1.0, "validation_nll": 2.8}],
}
_GRADIENTS = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0], [12.0]])]  # of norm 13 together

EXERCISES: dict[str, Exercise | FunctionExercise] = {
    "03-1": FunctionExercise(
        '''def nll_per_frame(p, frames):
    """Return the NLL of each frame, summed over the pitches.

    p and frames: tensors of shape (T, 88), probabilities and zeros or ones. Result: shape (T,).
    """''',
        (
            Case(
                (torch.full((1, 2), 0.5), torch.tensor([[1.0, 0.0]])),
                torch.tensor([2 * math.log(2)]),
                "Two coins: log 2 nats each, and they add up.",
            ),
            Case((_P, _FRAMES), _nll(_P, _FRAMES).sum(-1), "-(x * log p + (1 - x) * log(1 - p)), then the sum."),
        ),
        (
            (lambda p, frames: _nll(p, frames).mean(-1), "That is the mean over the pitches. Take the sum."),
            (lambda p, frames: _nll(p, frames).sum(), "That is the sum over everything: one number for each frame."),
            (lambda p, frames: _nll(p, frames).sum(0), "Wrong axis: that sums over the frames. Pitches are the last."),
            (lambda p, frames: -_nll(p, frames).sum(-1), "The minus is missing: a surprise is not negative."),
            (lambda p, frames: _nll(p, frames).sum(-1) / math.log(2), "That is in bits: use log, not log2."),
            (
                lambda p, frames: -(frames * p.log()).sum(-1),
                "Only the pitches that sound are counted. Silence can surprise, too: add (1 - x) * log(1 - p).",
            ),
            (
                lambda p, frames: -(frames * p + (1 - frames) * (1 - p)).sum(-1),
                "The logarithm is missing: -log p is large where p is small.",
            ),
        ),
    ),
    "03-2": FunctionExercise(
        '''def seen_and_next(windows):
    """Return what a model sees of windows, shape (B, T + 1, 88), and the answers: (B, T, 88) each."""''',
        (
            Case(
                (torch.arange(3.0).reshape(1, 3, 1),),
                (torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[1.0], [2.0]]])),
                "The model sees frames 0 and 1, and the answers are frames 1 and 2.",
            ),
            Case(
                (torch.arange(24.0).reshape(3, 4, 2),),
                _seen_and_next(torch.arange(24.0).reshape(3, 4, 2)),
                "Cut along the second axis: the first one is the batch.",
            ),
        ),
        (
            (lambda w: (w[:, :-1], w[:, :-1]), "The answer is the frame that is seen: the model would learn to copy."),
            (lambda w: (w[:, 1:], w[:, :-1]), "The wrong way round: that predicts the past from the future."),
            (lambda w: (w, w[:, 1:]), "Off by one: the last frame has no answer, so the model must not see it."),
            (lambda w: (w[:, :-2], w[:, 2:]), "Off by one: the answer is the next frame, not the one after it."),
            (lambda w: (w[:-1], w[1:]), "Wrong axis: that shifts the windows of the batch. Frames are axis 1."),
        ),
    ),
    "03-3": FunctionExercise(
        '''def allowed(n_frames, span):
    """Return a bool tensor (n_frames, n_frames): may frame t (row) see frame s (column)?

    A frame sees itself and the frames before it, span frames in all.
    """''',
        (
            Case((2, 2), torch.tensor([[True, False], [True, True]]), "Frame 0 sees itself; frame 1 sees 0 and 1."),
            Case((5, 2), _allowed(5, 2), "With span 2, frame 4 sees frames 3 and 4."),
            Case((4, 9), _allowed(4, 9), "A span may be longer than the window."),
        ),
        (
            (lambda n, span: _allowed(n, span).T, "The mask leaks: frames see later ones. Rows are t, columns s."),
            (lambda n, span: _allowed(n, span, 1), "Off by one: a frame sees itself, too."),
            (lambda n, span: _allowed(n, span + 1), "Off by one: with the frame itself, it is span frames."),
            (lambda n, span: _distance(n) >= 0, "The span is missing: frames that are further back are hidden."),
            (lambda n, span: ~_allowed(n, span), "That is what is hidden. Return what may be seen."),
        ),
        tolerance=0,
    ),
    "03-4": FunctionExercise(
        '''def attend(query, key, value):
    """Return what each frame finds with causal attention, shape (B, T, A)."""''',
        (
            Case(_ONE_FRAME, _ONE_FRAME[2], "A single frame sees only itself: it finds its own value."),
            Case(
                _QUERY_KEY_VALUE,
                _attend(*_QUERY_KEY_VALUE),
                "Scores / sqrt(A), mask, softmax over the last axis, times the values.",
            ),
        ),
        (
            (lambda q, k, v: _attend(q, k, v, mask=False), "The mask is missing: each frame sees the answer."),
            (lambda q, k, v: _attend(q, k, v, scale=False), "Divide the scores by the square root of A."),
            (
                lambda q, k, v: _attend(q, k, v, axis=-2),
                "Wrong axis: the weights of a row sum to 1, so softmax(dim=-1).",
            ),
            (
                _attend_and_cut,
                "The mask comes before the softmax: like this, the weights no longer sum to 1.",
            ),
        ),
    ),
    "03-5": FunctionExercise(
        '''def gru_step(x, h, w_x, w_h):
    """Return the new output of a gated recurrent unit, shape (units,).

    (w_x @ x) and (w_h @ h) hold three parts each: r, z and n. Then r = sigmoid(x_r + h_r), z = sigmoid(x_z + h_z),
    n = tanh(x_n + r * h_n), and the result is (1 - z) * n + z * h.
    """''',
        (
            Case(_SMALL_GRU, _gru_step(*_SMALL_GRU), "chunk(3) gives the three parts of a vector."),
            Case(_GRU, _gru_step(*_GRU), "It must work for any number of units."),
        ),
        (
            (lambda x, h, a, b: _gru_step(x, h, a, b, order=(1, 0, 2)), "The order of the parts is r, z, n."),
            (lambda x, h, a, b: _gru_step(x, h, a, b, with_reset=False), "The reset gate r is missing in n."),
            (lambda x, h, a, b: _gru_step(x, h, a, b, squash=torch.sigmoid), "n is no gate: use tanh, not sigmoid."),
            (
                lambda x, h, a, b: _gru_step(x, h, a, b, swapped=True),
                "The wrong way round: z keeps h, 1 - z lets n in.",
            ),
        ),
    ),
    "04-1": Exercise(
        63,
        ("An update uses one batch.", "1,000 / 16 is 62.5.", "The last batch is smaller, but it is one, too."),
        ((62.5, "There are no half updates. What happens to the last 8 windows?"), (62, "The last 8 windows count.")),
    ),
    "04-2": FunctionExercise(
        '''def cosine(done):
    """Return the factor of the learning rate: 1 at the start (done = 0), half a cosine wave later 0 (done = 1)."""''',
        (
            Case((0.0,), 1.0, "cos 0 is 1."),
            Case((1.0,), 0.0, "cos pi is -1. Shift and scale it: from 1 and -1 to 1 and 0."),
            Case((0.5,), 0.5, "Half way, the factor is a half."),
            Case((0.25,), _cosine(0.25), "(1 + cos(pi * done)) / 2"),
        ),
        (
            (
                lambda done: math.cos(math.pi * done),
                "It falls to -1, and the model would unlearn. Add 1, and halve it.",
            ),
            (
                lambda done: math.cos(math.pi * done / 2),
                "That is a quarter of a wave: it ends steeply. Take half of one.",
            ),
            (lambda done: (1 + math.cos(2 * math.pi * done)) / 2, "That is a whole wave: it comes back to 1."),
            (lambda done: 1 - done, "That is a straight line. A cosine begins and ends gently."),
        ),
    ),
    "04-3": FunctionExercise(
        '''def mean_nll_of(nll, lengths):
    """Return the mean over the frames that count: nll has shape (B, T), and row b counts up to lengths[b]."""''',
        (
            Case((torch.tensor([[1.0, 3.0]]), [2]), torch.tensor(2.0), "Without padding it is the mean."),
            Case(
                (torch.tensor([[1.0, 3.0, 9.0, 9.0], [5.0, 6.0, 7.0, 8.0]]), [2, 4]),
                torch.tensor(5.0),
                "The sum over the frames that count, divided by their number.",
            ),
            Case((torch.tensor([[2.0, 7.0], [4.0, 7.0]]), [1, 0]), torch.tensor(2.0), "A row may have no frames."),
        ),
        (
            (lambda nll, lengths: nll.mean(), "The padding counts. Leave out what lies behind the lengths."),
            (_mean_of_means, "That is the mean of the rows' means: frames of short rows would weigh more."),
            (
                lambda nll, lengths: (nll * _valid(nll, lengths)).mean(),
                "The padding is 0 now, but it still counts as frames. Divide by the sum of the lengths.",
            ),
            (
                lambda nll, lengths: nll[_valid(nll, lengths, 1)].mean(),
                "Off by one: row b counts the frames 0 to lengths[b] - 1.",
            ),
        ),
    ),
    "04-4": FunctionExercise(
        '''def best_run(histories):
    """Return the name of the run whose best epoch has the lowest validation loss.

    histories: for each name a list of epochs, dicts with train_nll and validation_nll.
    """''',
        (
            Case(({"only": _HISTORIES["slow"]},), "only", "With one run, return its name."),
            Case((_HISTORIES,), "early", "Find the lowest validation_nll of each run, then the lowest of those."),
        ),
        (
            (
                lambda histories: min(histories, key=lambda name: histories[name][-1]["validation_nll"]),
                "That compares the last epochs. The best checkpoint is kept, whenever it was.",
            ),
            (
                lambda histories: min(histories, key=lambda name: _lowest(histories, "train_nll")[name]),
                "That is the training loss. What was learned by heart does not help with new pieces.",
            ),
            (lambda histories: min(_lowest(histories).values()), "That is the loss. Return the name of the run."),
            (lambda histories: max(histories, key=lambda name: _lowest(histories)[name]), "Lower is better: min."),
        ),
    ),
    "04-5": FunctionExercise(
        '''def clipped(gradients, largest):
    """Return the gradients, scaled by one factor so that the norm of all of them together is at most largest.

    gradients: a list of tensors. What is small enough stays as it is.
    """''',
        (
            Case(([torch.tensor([6.0, 8.0])], 5.0), [torch.tensor([3.0, 4.0])], "The norm is 10: halve everything."),
            Case((_GRADIENTS, 6.5), _clipped(_GRADIENTS, 6.5), "The root of the sum of all squares, over all tensors."),
            Case((_GRADIENTS, 20.0), _GRADIENTS, "These are small enough: do not make them larger."),
        ),
        (
            (
                lambda gradients, largest: [each.clamp(-largest, largest) for each in gradients],
                "That cuts each number on its own, and changes the direction. Scale all by one factor.",
            ),
            (
                lambda gradients, largest: [_clipped([each], largest)[0] for each in gradients],
                "That takes the norm of each tensor on its own. Add up the squares of all of them.",
            ),
            (
                lambda gradients, largest: [each * largest / _norm(gradients) for each in gradients],
                "Small gradients are made larger. The factor is at most 1.",
            ),
        ),
    ),
}
