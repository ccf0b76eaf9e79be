"""Two sets of pieces: areas known from their distributions, and sets that would break a density."""

import numpy as np
import pytest

from musicgen.evaluation.overlap import compare, markov_piece
from musicgen.piano_roll import PianoRoll


def rows(values, name="polyphony"):
    return [{name: value} for value in values]


def overlap(real, generated):
    return compare(rows(real), rows(generated))["polyphony"]


def normal(n, seed, spread=1.0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, spread, n)


def test_sets_of_one_kind_overlap():
    area, divergence = overlap(normal(80, 1), normal(120, 2))
    assert 0.93 < area <= 1 and 0 <= divergence < 0.03
    assert overlap(normal(80, 1), normal(80, 1)).area > 0.96


@pytest.mark.parametrize("spread", [2.0, 4.0])
def test_area_and_divergence_are_those_of_the_two_distributions(spread):
    # Distances of normal values are half-normal: sqrt(2) wide within the real set, sqrt(1 + spread**2) between.
    points = np.linspace(0, 25, 20001)
    widths = np.sqrt(2), np.sqrt(1 + spread**2)
    densities = [np.sqrt(2 / np.pi) / width * np.exp(-((points / width) ** 2) / 2) for width in widths]
    area = np.minimum(*densities).sum() * points[1]
    divergence = np.log(widths[1] / widths[0]) + (widths[0] / widths[1]) ** 2 / 2 - 1 / 2
    found = overlap(normal(120, 3), normal(120, 4, spread))
    assert found.area == pytest.approx(area, abs=0.05)
    assert found.divergence == pytest.approx(divergence, abs=0.1)


def test_no_piece_is_compared_with_itself_and_rounding_errors_are_no_distance():
    triangle = [[0, 0], [1, 0], [0.5, np.sqrt(0.75)]]
    assert overlap(triangle[:2], triangle[2:]).area > 0.99


def test_the_further_apart_the_smaller_the_overlap():
    overlaps = [overlap(normal(60, 5), normal(60, 6, mean=mean)) for mean in (0, 1, 2, 4, 8)]
    assert sorted(overlaps, key=lambda each: -each.area) == overlaps
    assert sorted(overlaps, key=lambda each: each.divergence) == overlaps
    assert overlaps[-1].area < 0.02


def test_neither_units_nor_the_order_of_pieces_matter():
    real, generated = normal(40, 7), normal(30, 8, spread=2)
    expected = pytest.approx(overlap(real, generated))
    assert overlap(1000 - 7 * real, 1000 - 7 * generated) == expected
    assert overlap(real[::-1], generated[::-1]) == expected


def test_every_descriptor_is_compared_and_arrays_by_their_distance():
    real, generated = normal(20, 9), normal(20, 10, spread=3)
    line = np.array([3.0, 4.0]) / 5
    sets = [[{"mean_pitch": x, "classes": x * line, "velocity": 2 * x} for x in values] for values in (real, generated)]
    found = compare(*sets)
    assert list(found) == ["mean_pitch", "classes", "velocity"]
    assert found["classes"] == pytest.approx(found["mean_pitch"])


@pytest.mark.parametrize(
    ("real", "generated", "area"),
    [
        ([5, 5, 5], [5, 5], 1),
        ([5, 5, 5], [7, 7], 0),
        ([5, 5, 5], [7, 9, 12, 30], 0),
        ([1, 2, 4, 8, 16], [1000, 1000], 0),
        ([0, 0], [0], 1),
    ],
)
def test_sets_without_spread_are_compared_too(real, generated, area):
    found = overlap(real, generated)
    assert found.area == pytest.approx(area, abs=0.01)
    assert (0 <= found.divergence < 0.01) if area else (1 < found.divergence < 28)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (rows([1]), rows([1, 2]), "1 real and 2 generated"),
        (rows([1, 2]), [], "2 real and 0 generated"),
        (rows([1, 2]), rows([1], "velocity"), "same descriptors"),
        (rows([1, np.nan]), rows([1]), "polyphony must be finite"),
        (rows([1, 2]), rows([np.inf]), "polyphony must be finite"),
    ],
)
def test_what_cannot_be_compared_is_told(real, generated, message):
    with pytest.raises(ValueError, match=message):
        compare(real, generated)


def test_the_markov_baseline_goes_on_from_the_prime_by_its_two_rows():
    velocity = np.zeros((3, 88), np.uint8)
    velocity[1, 4], velocity[2, [5, 9]] = 20, [50, 90]
    prime = PianoRoll(velocity, fps=10)
    markov = np.stack([np.linspace(0.02, 0.3, 88), np.linspace(0.9, 0.5, 88)])
    piece = markov_piece(markov, prime, 6000, seed=3)
    assert piece[:3] == prime and (piece.n_frames, piece.fps) == (6000, 10)
    assert set(np.unique(piece.velocity[3:])) == {0, 50}
    before, after = piece.active[2:-1], piece.active[3:]
    for row, state in zip(markov, (~before, before)):
        counted = (state & after).sum(axis=0) / state.sum(axis=0)
        np.testing.assert_allclose(counted, row, atol=0.07)
    assert markov_piece(markov, prime, 6000, seed=3) == piece != markov_piece(markov, prime, 6000, seed=4)


def test_after_a_silent_prime_the_markov_baseline_takes_the_usual_velocity():
    piece = markov_piece(np.full((2, 88), 0.5), PianoRoll(np.zeros((1, 88), np.uint8)), 20, seed=0)
    assert set(np.unique(piece.velocity)) == {0, 64}
