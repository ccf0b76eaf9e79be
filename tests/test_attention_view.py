import numpy as np
import pytest

from musicgen.lab.attention_view import attention_at
from musicgen.piano_roll import PianoRoll

FRAMES = np.where(np.random.default_rng(0).random((60, 88)) < 0.05, 70, 0).astype(np.uint8)
ROLL = PianoRoll(FRAMES)  # 3 s


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_pitches=88, n_layers=3, n_attention_layers=2, attention_span=20, composers=("Bach", "Liszt"))


def test_each_layer_shares_out_one_over_the_moment_and_its_span(model):
    weights = attention_at(model, ROLL, seconds=2)
    assert weights.shape == (2, 41)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights[:, -20:] > 0).all() and (weights[:, :-20] == 0).all()
    assert not np.allclose(weights[0], weights[1])


def test_what_comes_later_changes_nothing_and_what_was_before_does(model):
    later, earlier = FRAMES.copy(), FRAMES.copy()
    later[41:], earlier[35:38] = 90, 90
    weights = attention_at(model, ROLL, seconds=2)
    np.testing.assert_array_equal(attention_at(model, PianoRoll(later), seconds=2), weights)
    assert not np.allclose(attention_at(model, PianoRoll(earlier), seconds=2), weights)


def test_it_depends_on_the_composer_that_was_asked_for(model):
    bach, liszt = (attention_at(model, ROLL, 1.5, name) for name in ("Bach", "Liszt"))
    assert not np.allclose(bach, liszt)


@pytest.mark.parametrize("seconds", [-0.1, 3.0])
def test_a_moment_outside_the_piece_is_refused(model, seconds):
    with pytest.raises(ValueError, match="from 0 to 3 s"):
        attention_at(model, ROLL, seconds)


def test_a_model_without_attention_has_nothing_to_show(tiny_model):
    with pytest.raises(ValueError, match="no attention"):
        attention_at(tiny_model(n_pitches=88, n_attention_layers=0), ROLL, 1)
