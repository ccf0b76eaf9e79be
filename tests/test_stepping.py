"""One frame at a time: a stepper says what its model says, for every kind of model, wherever it takes over."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from musicgen.keys import FrameFeatures, decode_frame
from musicgen.stepping import Stepper


def loudness_of(n_pieces, n_frames, n_pitches, seed=0):
    """Notes of two frames, each cell of its own loudness; in the first piece nothing sounds at first."""
    random = torch.Generator().manual_seed(seed)
    on = (torch.rand(n_pieces, n_frames, n_pitches, generator=random) < 0.25).repeat_interleave(2, dim=1)[:, :n_frames]
    on[0, :5] = False
    return on * (0.1 + 0.9 * torch.rand(n_pieces, n_frames, n_pitches, generator=random)).double()


def decided(output, heard, seed):
    """A frame drawn by an output, what `within` says of it, and its logits, all as arrays."""
    uniform = torch.rand(heard.keys.shape[:-1], generator=torch.Generator().manual_seed(seed)).numpy()

    def decide(logits):
        on = (uniform < expit(np.asarray(logits))).astype(np.asarray(logits).dtype)
        return torch.from_numpy(on) if isinstance(heard, FrameFeatures) else on

    following, within = decode_frame(output, heard, decide)
    return [np.asarray(each) for each in (following, within, output.logits(within, heard))]


@pytest.mark.parametrize("n_before", [0, 1, 15])
@pytest.mark.parametrize("n_pieces", [1, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        {"output": "independent"},
        {"output": "shared", "n_attention_layers": 0, "composers": ("Bach", "Liszt")},
        {"output": "joint", "n_pitches": 9, "pitch_reach": 2, "composers": ("Bach", "Liszt")},
        {"output": "joint", "n_layers": 3, "n_attention_layers": 1, "attention_span": 1},
        {"output": "joint", "n_layers": 1, "n_attention_layers": 1, "pitch_reach": 20},
    ],
)
@torch.inference_mode()
def test_it_says_what_the_model_says_from_whatever_frame_it_takes_over(tiny_model, sizes, n_pieces, n_before):
    model = tiny_model(**{"pitch_reach": 3, "pitch_size": 4} | sizes).double()
    labels = torch.tensor([2, 0, 1][:n_pieces]) if model.config.composers else torch.zeros(n_pieces, dtype=torch.long)
    loudness = loudness_of(n_pieces, 26, model.config.n_pitches)  # more than four spans of attention
    heard, _ = model(loudness, composers=labels)
    state = model(loudness[:, :n_before], composers=labels)[1] if n_before else None
    stepper, n_on = Stepper(model, labels, state), 0
    for t in range(n_before, 26):
        now, wanted = stepper.hear(loudness[:, t].numpy()), FrameFeatures(*(known[:, t] for known in heard))
        np.testing.assert_allclose(now.hidden, wanted.hidden, atol=1e-12)
        following, within, logits = decided(stepper.output, now, seed=t)
        wanted_following, wanted_within, wanted_logits = decided(model.output, wanted, seed=t)
        assert np.array_equal(following, wanted_following)
        np.testing.assert_allclose(within, wanted_within, atol=1e-12)
        np.testing.assert_allclose(logits, wanted_logits, atol=1e-12)
        n_on += following.mean()
    assert 0.1 < n_on / (26 - n_before) < 0.9


@torch.inference_mode()
def test_it_leaves_the_model_and_its_state_as_they_were(tiny_model):
    model = tiny_model()
    _, state = model(loudness_of(2, 9, 5).float())
    kept = [tensor.clone() for tensor in (*model.parameters(), *state.layers[0], *state.keys)]

    def hidden():
        stepper = Stepper(model, torch.zeros(2, dtype=torch.long), state)
        return [stepper.hear(frame.numpy()).hidden for frame in loudness_of(2, 30, 5, seed=1).float().unbind(1)]

    assert all(map(np.array_equal, hidden(), hidden()))
    assert all(map(torch.equal, kept, (*model.parameters(), *state.layers[0], *state.keys)))


@torch.inference_mode()
def test_a_model_in_single_precision_stays_in_it(tiny_model):
    model = tiny_model(composers=("Bach",), pitch_reach=3, pitch_size=4)
    stepper = Stepper(model, torch.tensor([1, 0]), None)
    for frame in loudness_of(2, 12, 5).numpy().swapaxes(0, 1):
        heard = stepper.hear(frame)
        following, within, logits = decided(stepper.output, heard, seed=3)
        assert {each.dtype for each in (*heard, within, logits)} == {np.dtype(np.float32)}


def test_it_takes_over_from_a_state_that_has_gradients(tiny_model):
    model = tiny_model()
    _, state = model(loudness_of(1, 9, 5)[-1:].float())
    assert Stepper(model, torch.zeros(1, dtype=torch.long), state).hear(np.ones((1, 5))).hidden.any()
