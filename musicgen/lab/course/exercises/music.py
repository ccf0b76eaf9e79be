"""Exercises of notebooks 05 to 07: generation, evaluation and profiling."""

import math

import numpy as np
import torch

from musicgen.lab.course.exercises.answers import Exercise
from musicgen.lab.course.exercises.functions import Case, FunctionExercise


def _temper(logits, temperature):
    return torch.sigmoid(torch.as_tensor(logits) / temperature)


def _top_p(p, share):
    ordered, order = torch.sort(torch.as_tensor(p), descending=True)
    before = ordered.cumsum(0) - ordered
    return torch.zeros(len(p), dtype=torch.bool).scatter(0, order, before < share * ordered.sum())


def _top_p_without_the_last(p, share):
    ordered, order = torch.sort(torch.as_tensor(p), descending=True)
    return torch.zeros(len(p), dtype=torch.bool).scatter(0, order, ordered.cumsum(0) <= share * ordered.sum())


def _effective_sample_size(weights):
    return weights.sum() ** 2 / (weights**2).sum()


def _top_p_with_one_more(p, share):
    ordered, order = torch.sort(torch.as_tensor(p), descending=True)
    before = ordered.cumsum(0) - ordered
    return torch.zeros(len(p), dtype=torch.bool).scatter(0, order, before <= share * ordered.sum())


def _nll(p, roll):
    p = np.asarray(p)
    roll = np.asarray(roll)
    return -np.log(np.where(roll == 1, p, 1 - p)).sum(axis=1).mean()


def _auc(generated, real, tie=0.5):
    pairs = [(g, r) for g in generated for r in real]
    return sum(1 if r > g else tie * (r == g) for g, r in pairs) / len(pairs)


def _longest_run(one, other):
    found = 0
    for i in range(len(one)):
        for j in range(len(other)):
            n = 0
            while i + n < len(one) and j + n < len(other) and one[i + n] == other[j + n]:
                n += 1
            found = max(found, n)
    return found


_P = np.array([[0.9, 0.2, 0.5], [0.6, 0.25, 0.1]])
_ROLL = np.array([[1, 0, 1], [0, 1, 0]])
_LOGITS = torch.tensor([-2.0, 0.0, 3.0])
_WEIGHTS = torch.tensor([1.0, 4.0, 0.0, 1.0, 2.0])
_ONSETS = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
_TIE = torch.tensor([0.25, 0.5, 0.25])  # sums of these are exact

EXERCISES: dict[str, Exercise | FunctionExercise] = {
    "05-3": Exercise(
        80,
        ("Eight beats at 120 beats per minute.", "A beat lasts 0.5 s, so the prime lasts 4 s.", "4 * 20 frames"),
        (
            (4, "That is in seconds. A second has 20 frames."),
            (160, "At 120 beats per minute, a beat lasts 0.5 s."),
            (8, "That is the number of beats."),
        ),
    ),
    "05-4": Exercise(
        "which",
        (
            "Compare it with the temperature of `draw_frame`, which changes how many notes there are.",
            "It keeps the expected number of onsets the same.",
            'The answer is "which" or "when".',
        ),
        (
            (
                "when",
                "`generate` keeps the expected number of onsets, so they do not become rarer. What else can change?",
            ),
        ),
    ),
    "05-5": Exercise(
        0,
        (
            "1 is as trained.",
            "Only `unconditional` should be left.",
            "unconditional + scale * (conditional - unconditional): which scale removes the second part?",
        ),
        ((1, "1 follows the composer as in training."), (-1, "That would go away from the composer.")),
    ),
    "05-1": Exercise(
        0,
        ("1 / (1 + exp(-x)) = 1/2", "Then exp(-x) is 1.", "Which number has the exponential 1?"),
        ((0.5, "That is the probability. Which x gives it?"), (1, "The logit 1 has the probability 0.73.")),
    ),
    "05-2": Exercise(
        1 / (1 + math.exp(1)),
        ("Divide the logit by the temperature first.", "The logit becomes -1.", "1 / (1 + exp(1))"),
        (
            (-1, "That is the logit at this temperature. Which probability does it have? Take the sigmoid."),
            (-2, "That is the logit. Divide it by the temperature, and take the sigmoid."),
            (1 / (1 + math.exp(2)), "That is its probability at temperature 1."),
            (1 / (1 + math.exp(4)), "That is at temperature 0.5: divide by the temperature."),
            (1 / (1 + math.exp(-1)), "The sign: a negative logit has a probability below one half."),
        ),
        tolerance=0.001,
    ),
    "05-6": FunctionExercise(
        '''def temper(logits, temperature):
    """Return the probabilities of logits at a temperature: below 1, likely pitches become likelier."""''',
        (
            Case((_LOGITS, 1.0), _temper(_LOGITS, 1.0), "At 1 nothing changes: torch.sigmoid(logits)."),
            Case((_LOGITS, 0.5), _temper(_LOGITS, 0.5), "Divide the logits by the temperature, then take the sigmoid."),
            Case((_LOGITS, 2.0), _temper(_LOGITS, 2.0), "Above 1, all probabilities come closer to 0.5."),
        ),
        (
            (
                lambda logits, t: torch.sigmoid(logits * t),
                "A low temperature must make likely pitches likelier: / not *.",
            ),
            (
                lambda logits, t: torch.sigmoid(logits) / t,
                "That is no probability any more. Divide before the sigmoid.",
            ),
            (lambda logits, t: logits / t, "Those are still logits. A probability is their sigmoid."),
            (
                lambda logits, t: torch.softmax(logits / t, -1),
                "A softmax lets one pitch win. Pitches may sound together: use the sigmoid.",
            ),
        ),
    ),
    "05-7": FunctionExercise(
        '''def top_p(p, share):
    """Return a mask, shape (pitches,): the likeliest pitches that together reach this share of the sum of p."""''',
        (
            Case((_ONSETS, 1.0), torch.ones(5), "With a share of 1 everything stays."),
            Case((_ONSETS, 0.5), _top_p(_ONSETS, 0.5), "0.4 alone does not reach 0.5, so 0.3 stays as well."),
            Case((_ONSETS / 10, 0.5), _top_p(_ONSETS, 0.5), "The share is one of the sum of p, which need not be 1."),
            Case((_ONSETS, 0.01), _top_p(_ONSETS, 0.01), "At least the likeliest pitch stays."),
            Case((_TIE, 0.5), _top_p(_TIE, 0.5), "0.5 alone reaches half of the sum: the others go."),
        ),
        (
            (
                _top_p_without_the_last,
                "Off by one: the pitch with which the sum reaches the share must stay. Compare the sum before it.",
            ),
            (
                _top_p_with_one_more,
                "Where the sum before a pitch reaches the share exactly, the pitch is not needed: < not <=.",
            ),
            (lambda p, share: p >= share, "That compares single pitches. Add them up, from the likeliest."),
            (lambda p, share: _top_p(-p, share), "The order is wrong: begin with the likeliest pitch."),
            (
                lambda p, share: torch.cumsum(p, 0) - p < share * p.sum(),
                "That goes from low to high pitches. Sort by probability, and put the mask back in order.",
            ),
        ),
    ),
    "05-8": FunctionExercise(
        '''def guide(conditional, unconditional, scale):
    """Return logits with guidance: 0 ignores the composer, 1 is as trained, above 1 goes further the same way."""''',
        (
            Case((_LOGITS, _LOGITS + 1, 1.0), _LOGITS, "At 1 only the conditional logits count."),
            Case((_LOGITS, _LOGITS + 1, 0.0), _LOGITS + 1, "At 0 only the unconditional logits count."),
            Case((_LOGITS, _LOGITS + 1, 3.0), _LOGITS - 2, "Go from `unconditional` by `scale` times the difference."),
        ),
        (
            (lambda c, u, scale: c + scale * (u - c), "The two are swapped: begin at `unconditional`."),
            (lambda c, u, scale: scale * c, "That only scales. Without the composer it should be `unconditional`."),
            (
                lambda c, u, scale: c + scale * (c - u),
                "At a scale of 1 that already goes too far. Begin at `unconditional`.",
            ),
        ),
    ),
    "05-9": FunctionExercise(
        '''def effective_sample_size(weights):
    """Return how many equal weights have the same sum, and the same sum of squares, as these weights.

    All of them if they are equal, 1 if one has everything. The sum need not be 1.
    """''',
        (
            Case((torch.full((8,), 0.125),), 8.0, "Eight equal weights count as eight."),
            Case((torch.tensor([0.0, 1.0, 0.0]),), 1.0, "If one has everything, the others do not count."),
            Case((torch.tensor([0.5, 0.25, 0.25]),), 1 / 0.375, "For a sum of 1: 1 / (w1 ** 2 + w2 ** 2 + ...)."),
            Case((_WEIGHTS,), _effective_sample_size(_WEIGHTS), "Divide the weights by their sum first."),
        ),
        (
            (lambda w: 1 / (w**2).sum(), "That is right if they sum to 1. Divide the weights by their sum first."),
            (lambda w: (w**2).sum() / w.sum() ** 2, "Upside down: equal weights give the largest number."),
            (lambda w: (w > 0).sum(), "A weight that is almost 0 should count almost nothing: use the squares."),
            (lambda w: w.sum() / w.max(), "That looks at the largest weight only. Use the squares of all."),
            (lambda w: w.sum() ** 2 / w.sum(), "Square each weight before you add them up."),
        ),
    ),
    "06-1": FunctionExercise(
        '''def nll(p, roll):
    """Return the negative log-likelihood in nats per frame: summed over pitches, averaged over frames.

    Both are NumPy arrays (frames, pitches): the probability that each pitch sounds, and 1 where it does.
    """''',
        (
            Case((_P[:1], _ROLL[:1]), _nll(_P[:1], _ROLL[:1]), "-log p where a pitch sounds, -log(1 - p) where not."),
            Case((_P, _ROLL), _nll(_P, _ROLL), "Sum over the pitches of a frame, then take the mean of the frames."),
        ),
        (
            (lambda p, roll: _nll(p, roll) / p.shape[1], "That is the mean over all cells. Sum over the pitches."),
            (lambda p, roll: -_nll(p, roll), "The sign: a log of a probability is negative, the loss is positive."),
            (lambda p, roll: -(roll * np.log(p)).sum(1).mean(), "Silent cells count, too: -log(1 - p)."),
            (
                lambda p, roll: _nll(p, roll) / np.log(2),
                "That is in bits. A nat uses the natural logarithm, np.log.",
            ),
            (
                lambda p, roll: (1 - np.where(roll == 1, p, 1 - p)).sum(1).mean(),
                "The log is missing: -log of the probability of what happened.",
            ),
            (lambda p, roll: _nll(p, roll) * len(p), "That is the sum over all frames. Take the mean of the frames."),
        ),
    ),
    "06-2": FunctionExercise(
        '''def auc(generated, real):
    """Return the share of pairs in which the real excerpt has the higher score; a tie counts one half."""''',
        (
            Case(([0.1, 0.2], [0.8, 0.9, 0.7]), 1.0, "Here every real score is higher."),
            Case(([0.1, 0.8], [0.3, 0.9]), 0.75, "Compare each generated with each real score: four pairs."),
            Case(([0.5, 0.5], [0.5]), 0.5, "A tie counts one half."),
            Case(([0.9], [0.1, 0.2, 0.95]), 1 / 3, "Divide by the number of pairs."),
        ),
        (
            (lambda generated, real: _auc(generated, real, 0), "A tie counts one half, not 0."),
            (lambda generated, real: _auc(generated, real, 1), "A tie counts one half, not 1."),
            (
                lambda generated, real: _auc(real, generated),
                "The other way round: the real excerpt has the higher score.",
            ),
            (
                lambda generated, real: _auc(generated, real) * len(generated) * len(real),
                "That is a number of pairs. Divide by the number of all pairs.",
            ),
            (lambda generated, real: np.mean([r > g for g, r in zip(generated, real)]), "Compare each with each."),
        ),
    ),
    "06-3": FunctionExercise(
        '''def longest_shared_run(one, other):
    """Return the length of the longest run of notes that two melodies, lists of pitches, have in common."""''',
        (
            Case(([60, 62, 64], [60, 62, 64]), 3, "The whole melody is shared."),
            Case(([60, 62, 64, 65], [70, 62, 64, 71]), 2, "Begin at each note of the one and each of the other."),
            Case(([60, 62, 64], [60, 70, 62, 70, 64]), 1, "A run has no gaps."),
            Case(([60, 62, 60, 62, 67], [62, 60, 62, 67]), 4, "A run can begin in the middle of both."),
            Case(([], [60]), 0, "Without notes nothing is shared."),
        ),
        (
            (
                lambda one, other: len(set(one) & set(other)),
                "Those are shared pitches. A run keeps their order, without gaps.",
            ),
            (
                lambda one, other: next(
                    (i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other))
                ),
                "That is the shared beginning. A run can begin anywhere in both.",
            ),
            (
                lambda one, other: _longest_run(one, other) - 1,
                "Off by one: count the notes, not the steps between them.",
            ),
        ),
        tolerance=0,
    ),
    "06-4": Exercise(
        0.5,
        ("It wins as often as it loses.", "In how many of 100 pairs is it right?", "50 of 100"),
        ((1, "That is a classifier that is always right."), (0, "That one is always wrong, so it knows the answer.")),
    ),
    "06-5": Exercise(
        2.3 / math.log(2),
        ("A bit is the surprise of a fair coin.", "log 2 nats are one bit.", "2.3 / log(2)"),
        ((2.3 * math.log(2), "A bit is smaller than a nat, so there must be more bits: divide."),),
        tolerance=0.01,
    ),
    "07-4": Exercise(
        6,
        ("A minute has 60 seconds.", "At 10 times real time, a second makes 10 s of music.", "60 / 10"),
        ((600, "That would be slower than real time: divide."), (10, "That is the factor.")),
    ),
    "07-1": FunctionExercise(
        '''def realtime_factor(n_frames, fps, seconds_taken):
    """Return how many seconds of music one second of computing makes."""''',
        (
            Case((400, 20, 20.0), 1.0, "400 frames at 20 Hz are 20 s of music."),
            Case((400, 20, 4.0), 5.0, "More is faster: seconds of music divided by the seconds taken."),
            Case((300, 10, 4.0), 7.5, "The rate is the argument fps."),
        ),
        (
            (lambda n, fps, taken: taken * fps / n, "Upside down: a faster computer must have a higher factor."),
            (lambda n, fps, taken: n / taken, "Those are frames per second. Ask for seconds of music."),
            (lambda n, fps, taken: n / 20 / taken, "The rate is the argument fps, not always 20."),
        ),
    ),
    "07-2": FunctionExercise(
        '''def speed_up(before, after):
    """Return how many times faster something became, from the medians of several times before and after."""''',
        (
            Case(([4.0, 4.0], [2.0]), 2.0, "Half the time is twice as fast: before / after."),
            Case(
                ([3.0, 3.0, 30.0], [1.0, 2.0, 1.0]), 3.0, "One slow run must not count: use the median, not the mean."
            ),
            Case(
                ([1.0, 9.0, 4.0, 6.0], [5.0, 5.0]), 1.0, "Of an even number, the median is the mean of the middle two."
            ),
        ),
        (
            (lambda before, after: np.mean(before) / np.mean(after), "That is the mean: one slow run spoils it."),
            (lambda before, after: np.median(after) / np.median(before), "Upside down: before / after."),
            (lambda before, after: min(before) / min(after), "Those are the fastest runs. Use the medians."),
            (lambda before, after: np.median(before) - np.median(after), "Those are saved seconds. Divide instead."),
            (
                lambda before, after: sorted(before)[len(before) // 2] / sorted(after)[len(after) // 2],
                "Sort, and of an even number take the mean of the middle two: np.median does it.",
            ),
        ),
    ),
    "07-3": FunctionExercise(
        '''def amdahl(share, factor):
    """Return how many times faster the whole becomes if a part that takes this share of the time is sped up."""''',
        (
            Case((1.0, 4.0), 4.0, "If the part is everything, its factor is the whole's."),
            Case((0.5, 2.0), 4 / 3, "The new time is 1 - share + share / factor."),
            Case((0.9, 1e12), 10.0, "What stays slow sets the limit."),
            Case((0.0, 7.0), 1.0, "A part that takes no time cannot help."),
        ),
        (
            (lambda share, factor: share * factor, "The rest still takes its time: add 1 - share."),
            (lambda share, factor: 1 - share + share / factor, "That is the new time. How many times faster is it?"),
            (
                lambda share, factor: 1 - share + share * factor,
                "Add up times, not speeds: the part now takes share / factor.",
            ),
        ),
    ),
}
