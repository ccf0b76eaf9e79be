"""Exercises of notebooks 03 (building) and 04 (training)."""

import math

from musicgen.lab.course.exercises.answers import Exercise

EXERCISES = {
    "04-1": Exercise(
        88 * math.log(2),
        ("A coin has the probability 1/2.", "Its loss is log 2 nats.", "88 coins: 88 * log(2)"),
        ((math.log(2), "That is one coin. There are 88."), (88, "That is in bits. A bit is log 2 nats.")),
        tolerance=0.01,
    ),
    "04-2": Exercise(
        1,
        ("The softmax turns scores into weights.", "Weights are positive.", "What is the sum of a softmax?"),
        ((0, "The weights are positive, so their sum is not 0."),),
        tolerance=1e-4,
    ),
    "04-3": Exercise(
        4 * (128 * (176 + 128) + 2 * 128),
        (
            "An LSTM layer has four parts: three gates and the candidate.",
            "Each part has a matrix for the input and one for the hidden state, and PyTorch keeps two biases.",
            "4 * (128 * (176 + 128) + 2 * 128)",
        ),
        (
            (128 * (176 + 128) + 2 * 128, "That is one gate. With the candidate, a layer has four parts."),
            (4 * (128 * (176 + 128) + 128), "Almost: PyTorch keeps two biases per part."),
            (4 * 128 * (176 + 128), "Almost: the biases are missing."),
        ),
    ),
}
