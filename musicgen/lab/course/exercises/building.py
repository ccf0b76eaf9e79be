"""Exercises of notebooks 03 (building) and 04 (training)."""

import math

import torch
from torch.nn import functional as F

from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import OF_SOLUTION, Case, FunctionExercise

_random = torch.Generator().manual_seed(0)


def _numbers(*shape):
    return torch.randn(*shape, generator=_random)


def _nll(p, frames):
    return -(frames * p.log() + (1 - frames) * (1 - p).log())


def _seen_and_next(windows):
    return windows[:, :-1], windows[:, 1:]


def _distance(n_frames):
    """Return a matrix of distances in frames: the frame of the row minus the frame of the column."""
    return torch.arange(n_frames)[:, None] - torch.arange(n_frames)


def _allowed(n_frames, span, from_distance=0):
    distance = _distance(n_frames)
    return (distance >= from_distance) & (distance < span + from_distance)


def _attend(query, key, value, divisor=None, hidden=-torch.inf, first_hidden=1, axis=-1):
    scores = query @ key.mT / (divisor or query.shape[-1] ** 0.5)
    later = torch.ones_like(scores[0], dtype=torch.bool).triu(first_hidden)
    return scores.masked_fill(later, hidden).softmax(axis) @ value


def _attend_to_the_future(query, key, value, first_seen=0):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    earlier = torch.ones_like(scores[0], dtype=torch.bool).tril(first_seen - 1)
    return scores.masked_fill(earlier, -torch.inf).softmax(-1) @ value


def _attend_without_transpose(query, key, value):
    return (query @ key / query.shape[-1] ** 0.5).softmax(-1) @ value


def _attend_with_all_axes_reversed(query, key, value):
    reversed_key = key.permute(2, 1, 0)  # what key.T does to three axes
    return (query @ reversed_key / query.shape[-1] ** 0.5).softmax(-1) @ value


def _attention_weights(query, key, value):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    later = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def _attend_and_cut(query, key, value):
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return weights.tril() @ value


def _gru_step(x, h, w_x, w_h, order=(0, 1, 2), with_reset=True, squash=torch.tanh, swapped=False):
    parts_x = (w_x @ x).chunk(3)
    parts_h = (w_h @ h).chunk(3)
    r, z = (torch.sigmoid(parts_x[order[part]] + parts_h[order[part]]) for part in (0, 1))
    new = squash(parts_x[2] + (r if with_reset else 1) * parts_h[2])
    return z * new + (1 - z) * h if swapped else (1 - z) * new + z * h


def _gru_step_reset_of_all(x, h, w_x, w_h):
    r_x, z_x, n_x = (w_x @ x).chunk(3)
    r_h, z_h, n_h = (w_h @ h).chunk(3)
    z = torch.sigmoid(z_x + z_h)
    new = torch.tanh(torch.sigmoid(r_x + r_h) * (n_x + n_h))
    return (1 - z) * new + z * h


def _gru_step_that_forgets(x, h, w_x, w_h):
    _, z_x, _ = (w_x @ x).chunk(3)
    _, z_h, _ = (w_h @ h).chunk(3)
    return _gru_step(x, h, w_x, w_h) - torch.sigmoid(z_x + z_h) * h


def _frame_nll(model, windows, per_pitch=False, total=False):
    nll = F.binary_cross_entropy_with_logits(model(windows[:, :-1]), windows[:, 1:], reduction="none")
    if total:
        return nll.sum()
    return nll.mean() if per_pitch else nll.sum(-1).mean()


def _training_step(model, optimizer, windows, order=("zero_grad", "backward", "step"), **sums):
    loss = _frame_nll(model, windows, **sums)
    does = {"zero_grad": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
    for action in order:
        does[action]()
    return loss.item()


def _in_order(*order):
    """Return a training step that runs the given parts in the given order."""
    return lambda model, optimizer, windows: _training_step(model, optimizer, windows, order)


def _loss_after_the_step(model, optimizer, windows):
    _training_step(model, optimizer, windows)
    return _frame_nll(model, windows).item()


def _two_steps(step, model_name, optimizer_name, windows):
    """Train a small linear model by calling a step twice; return both losses and the weights."""
    model = torch.nn.Linear(windows.shape[-1], windows.shape[-1])
    with torch.no_grad():
        model.weight.fill_(0.3)
        model.bias.fill_(-0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    losses = [step(model, optimizer, windows) for _ in range(2)]
    return (*losses, model.weight.detach())


def _sample(logits, temperature, uniform):
    return (uniform < torch.sigmoid(logits / temperature)).float()


def _cosine(done):
    return (1 + math.cos(math.pi * done)) / 2


def _valid(nll, lengths, more=0):
    return torch.arange(nll.shape[1]) < torch.tensor(lengths)[:, None] + more


def _mean_of_means(nll, lengths):
    return torch.stack([row[:length].mean() for row, length in zip(nll, lengths)]).mean()


def _lowest(histories, column="validation_nll"):
    return {name: min(row[column] for row in rows) for name, rows in histories.items()}


def _mean_validation(rows):
    return sum(row["validation_nll"] for row in rows) / len(rows)


def _norm(gradients):
    return torch.stack([(each**2).sum() for each in gradients]).sum().sqrt()


def _clipped(gradients, largest):
    return [each * min(1.0, largest / _norm(gradients)) for each in gradients]


_P = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.7, 0.4]])
_FRAMES = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
_QUERY_KEY_VALUE = tuple(_numbers(2, 5, 4) for _ in range(3))
_ONE_FRAME = tuple(_numbers(1, 1, 3) for _ in range(3))
_SMALL_GRU = (_numbers(3), _numbers(2), _numbers(6, 3), _numbers(6, 2))
_NO_STEP = "The weights do not change. The gradients must be there when the step comes: zero_grad, backward, step."
_STEP = ("linear model", "SGD", (_numbers(2, 4, 3) > 0).float())
_ONE_WINDOW = ("linear model", "SGD", (_numbers(1, 6, 2) > 0).float())
_LOGITS = torch.tensor([-2.0, -0.5, 0.5, 1.0, 3.0])
_UNIFORM = torch.tensor([0.05, 0.3, 0.7, 0.6, 0.99])
_GRU = (_numbers(5), _numbers(4), _numbers(12, 5), _numbers(12, 4))


def _epochs(*losses):
    return [{"train_nll": train, "validation_nll": validation} for train, validation in losses]


# The best run leads neither after the first epoch nor after the last, nor on average, nor in training.
_HISTORIES = {
    "too fast": _epochs((3.9, 3.6), (3.8, 3.7), (3.7, 3.8)),
    "slow": _epochs((3.2, 3.1), (2.8, 2.7), (2.4, 2.3)),
    "steady": _epochs((2.6, 2.5), (2.5, 2.45), (2.4, 2.5)),
    "best": _epochs((3.0, 2.9), (2.4, 2.2), (2.1, 3.4)),
    "quick start": _epochs((2.5, 2.4), (2.3, 2.6), (2.2, 2.9)),
    "learned by heart": _epochs((2.4, 2.55), (1.5, 2.7), (1.0, 2.8)),
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
            Case(
                (_P, _FRAMES), _nll(_P, _FRAMES).sum(-1), "A pitch that sounds costs -log p, a silent one -log(1 - p)."
            ),
        ),
        (
            (
                lambda p, frames: F.binary_cross_entropy_with_logits(p, frames, reduction="none").sum(-1),
                "p is a probability already, and ..._with_logits takes its sigmoid once more. Use log p itself.",
            ),
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
        boolean=True,
    ),
    "03-4": FunctionExercise(
        '''def attend(query, key, value):
    """Return what each frame finds with causal attention, shape (B, T, A)."""''',
        (
            Case(_ONE_FRAME, _ONE_FRAME[2], "A single frame sees only itself: it finds its own value."),
            Case(
                _QUERY_KEY_VALUE,
                _attend(*_QUERY_KEY_VALUE),
                "In this order: scores, divided; mask; softmax over the last axis; times the values.",
            ),
        ),
        (
            (
                lambda q, k, v: _attend(q, k, v, first_hidden=q.shape[1]),
                "The mask is missing: each frame sees the answer.",
            ),
            (
                lambda q, k, v: _attend(q, k, v, first_hidden=2),
                "The mask leaks one frame: each frame sees the next one. Hide all above the diagonal: triu(1).",
            ),
            (
                lambda q, k, v: _attend(q, k, v, first_hidden=0),
                "A frame sees itself, too: the diagonal must stay. A row without any score becomes nan.",
            ),
            (
                lambda q, k, v: _attend(q, k, v, hidden=0.0),
                "A score of 0 hides nothing, since exp(0) = 1 still gets weight. Set what is hidden to -torch.inf.",
            ),
            (
                _attend_to_the_future,
                "The wrong triangle: each frame sees itself and later ones. Rows are t, columns s; hide s > t.",
            ),
            (
                lambda q, k, v: _attend_to_the_future(q, k, v, 1),
                "The wrong triangle: each frame sees only later ones. Rows are t, columns s; hide s > t.",
            ),
            (lambda q, k, v: _attend(q, k, v, 1), "Divide the scores by the square root of A."),
            (lambda q, k, v: _attend(q, k, v, q.shape[-1]), "You divide by A. Take its square root."),
            (
                lambda q, k, v: _attend(q, k, v, 32**0.5),
                "32 is the A of the notebook. Here A is the last axis of the query: query.shape[-1].",
            ),
            (
                lambda q, k, v: _attend(q, k, v, 32),
                "32 is the A of the notebook. Here it is query.shape[-1], and its square root divides.",
            ),
            (
                lambda q, k, v: _attend(q, k, v, q.shape[1] ** 0.5),
                "You divide by the square root of T. Take that of A, the last axis.",
            ),
            (
                lambda q, k, v: _attend(k, q, v),
                "Query and key are swapped: rows belong to the frames that ask, so the query comes first.",
            ),
            (
                _attend_without_transpose,
                "The key must be transposed, so that each query meets each key: query @ key.mT, of shape (B, T, T).",
            ),
            (
                _attend_with_all_axes_reversed,
                "key.T reverses all three axes, the batch too. key.mT swaps the last two.",
            ),
            (_attention_weights, "Those are the weights. What is found is the weights times the values."),
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
            (_gru_step_reset_of_all, "The reset gate r multiplies h_n only: n = tanh(x_n + r * h_n)."),
            (_gru_step_that_forgets, "The old state is missing: add z * h."),
            (lambda x, h, a, b: _gru_step(x, 0 * h, a, b), "h is not used: the unit would remember nothing."),
            (
                lambda x, h, a, b: (_gru_step(x, h, a, b), _gru_step(x, h, a, b)),
                "A gated recurrent unit has one state, not two. Return it alone, not a tuple.",
            ),
            (lambda x, h, a, b: _gru_step(x, h, a, b, squash=torch.sigmoid), "n is no gate: use tanh, not sigmoid."),
            (
                lambda x, h, a, b: _gru_step(x, h, a, b, swapped=True),
                "The wrong way round: z keeps h, 1 - z lets n in.",
            ),
        ),
    ),
    "03-6": FunctionExercise(
        '''def training_step(model, optimizer, windows):
    """Make one update, and return the loss before it, in nats per frame.

    model: from frames to logits; windows: shape (B, T + 1, 88).
    """''',
        (
            Case(
                _STEP,
                OF_SOLUTION,
                "Compute the loss; zero_grad, backward, step; return the loss. "
                "It is called twice: compared are both losses, and the weights.",
            ),
            Case(
                _ONE_WINDOW,
                OF_SOLUTION,
                "The loss is the sum over the pitches, and the mean over frames and windows.",
            ),
        ),
        (
            (
                _in_order("backward", "step"),
                "zero_grad is missing: the gradients of all updates add up.",
            ),
            (_in_order("backward", "zero_grad", "step"), _NO_STEP),
            (_in_order("zero_grad", "step"), _NO_STEP),
            (_in_order("zero_grad", "backward"), _NO_STEP),
            (_in_order("zero_grad", "step", "backward"), _NO_STEP),
            (
                lambda model, optimizer, windows: _training_step(model, optimizer, windows, per_pitch=True),
                "That is the mean over the pitches, too. Take the sum over them, since a frame is one event.",
            ),
            (
                lambda model, optimizer, windows: _training_step(model, optimizer, windows, total=True),
                "That is the sum over frames and windows, too. Take the mean over them.",
            ),
            (_loss_after_the_step, "That is the loss after the update. Return the one that was computed before it."),
        ),
        call=_two_steps,
        solution=_training_step,
    ),
    "03-7": FunctionExercise(
        '''def sample_frame(logits, temperature, uniform):
    """Return the next frame, shape (88,): 1 where a pitch's random number is below its probability, otherwise 0.

    logits are divided by the temperature first; uniform: random numbers from 0 to 1, shape (88,).
    """''',
        (
            Case((_LOGITS, 1.0, _UNIFORM), _sample(_LOGITS, 1.0, _UNIFORM), "At 1, p is the sigmoid of the logit."),
            Case(
                (_LOGITS, 0.4, _UNIFORM), _sample(_LOGITS, 0.4, _UNIFORM), "Divide the logits, then take the sigmoid."
            ),
            Case(
                (_LOGITS, 3.0, _UNIFORM), _sample(_LOGITS, 3.0, _UNIFORM), "A high temperature brings p close to 0.5."
            ),
        ),
        (
            (
                lambda logits, t, uniform: _sample(logits, 1 / t, uniform),
                "That multiplies by the temperature. A low one must make likely pitches likelier: divide.",
            ),
            (lambda logits, t, uniform: _sample(logits, 1, uniform), "The temperature is not used."),
            (
                lambda logits, t, uniform: (uniform < torch.sigmoid(logits) / t).float(),
                "The probability is divided by the temperature. Divide the logits, before the sigmoid.",
            ),
            (
                lambda logits, t, uniform: 1 - _sample(logits, t, uniform),
                "The wrong way round: a likely pitch must sound often, so uniform < p.",
            ),
            (
                lambda logits, t, uniform: (torch.sigmoid(logits / t) > 0.5).float(),
                "That takes what is likelier than not, and is the same each time. Compare with uniform.",
            ),
            (lambda logits, t, uniform: torch.sigmoid(logits / t), "Those are the probabilities. Draw from them."),
        ),
    ),
    "04-1": Exercise(
        63,
        ("An update uses one batch.", "1,000 / 16 is 62.5.", "The last batch is smaller, but it is one, too."),
        (
            (62.5, "There are no half updates. What happens to the last 8 windows?"),
            (62, "The last 8 windows count."),
            (16_000, "That multiplies. How many batches do 1,000 windows make?"),
        ),
    ),
    "04-2": FunctionExercise(
        '''def cosine(done):
    """Return the factor of the learning rate: 1 at the start (done = 0), half a cosine wave later 0 (done = 1)."""''',
        (
            Case((0.0,), 1.0, "cos 0 is 1."),
            Case((1.0,), 0.0, "cos pi is -1. Shift and scale it: from 1 and -1 to 1 and 0."),
            Case((0.5,), 0.5, "Half way, the factor is a half."),
            Case((0.25,), _cosine(0.25), "The cosine goes from 0 to pi while done goes from 0 to 1."),
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
            Case((_HISTORIES,), "best", "Find the lowest validation_nll of each run, then the lowest of those."),
        ),
        (
            (
                lambda histories: min(histories, key=lambda name: histories[name][-1]["validation_nll"]),
                "That compares the last epochs. The best checkpoint is kept, whenever it was.",
            ),
            (
                lambda histories: min(histories, key=lambda name: histories[name][0]["validation_nll"]),
                "That compares the first epochs. A run may need more of them.",
            ),
            (
                lambda histories: min(histories, key=lambda name: _mean_validation(histories[name])),
                "That is the mean of the epochs. Only the best one is kept: take the minimum.",
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
