"""A model laid out for making music: it hears one frame after the other, and says the same as the model itself.

For a single frame a network is bound by the reading of its weights and by the number of calls. So the weights lie as
the product with one vector reads them, attention keeps its past in place, and where nearly all inputs are 0, since of
88 keys two or three sound, only the rows of the others are read and added up. Products with large matrices, attention
and the velocities are torch's; the many small steps are numpy's, whose calls cost least. All of it is on the CPU,
wherever the model is.
"""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit as sigmoid
from torch import Tensor, nn

from musicgen.attention import CausalAttention
from musicgen.keys import AVERAGE_SCALES, DECAYS, OLDEST, IndependentOutput, PitchConv, PitchOutput, PitchState
from musicgen.model import AttentionLSTM, LayerState, ModelState


class StepFeatures(NamedTuple):
    """What is known before one frame, and what an output makes of that whatever the frame will be.

    `hidden` is as in `FrameFeatures`; `keys` says only whether each sounds, shape (batch, n_pitches, 1). `before` has the shape
    (batch, n_pitches, pitch_size), `persistence` (batch, n_pitches); of an independent output `before` is the logits, and there
    is no more.
    """

    hidden: np.ndarray
    keys: np.ndarray
    before: np.ndarray
    persistence: np.ndarray | None


class Stepper:
    """Goes on from where a model stands, one frame of a batch of pieces at a time.

    Its ``output`` has the methods of the model's, for what `hear` returns.

    Parameters
    ----------
    model : AttentionLSTM
    composers : Tensor of int, shape (batch,)
        As in `AttentionLSTM.forward`.
    state : ModelState, optional
        What the model returned for the frames so far; by default the pieces begin here.
    """

    def __init__(self, model: AttentionLSTM, composers: Tensor, state: ModelState | None):
        state = state or _nothing_yet(model, len(composers))
        self.layers = [_Layer(*layer) for layer in zip(model.lstms, model.attentions, state.layers)]
        inputs, n_inputs = self.layers[0].inputs, 2 * model.config.n_pitches
        self.weight, self.bias = _array(inputs.weight[:n_inputs]), _array(inputs.bias)  # (2 K, 4 H), (4 H,)
        if model.composer is not None:
            self.bias = self.bias + _array(model.composer(composers)) @ _array(inputs.weight[n_inputs:])  # (B, 4 H)
        kind = _StepOutput if isinstance(model.output, PitchOutput) else _IndependentStepOutput
        self.output = kind(model.output, state.keys)

    def hear(self, loudness: np.ndarray) -> StepFeatures:
        """Take in the next frame, of shape (batch, n_pitches); return what is known before the one that follows it."""
        loudness = loudness.astype(self.weight.dtype)
        on = (loudness > 0).astype(loudness.dtype)
        x = self.layers[0].step(self.bias + _sum_of_rows(np.concatenate([on, loudness], -1), self.weight))  # (B, H)
        for layer in self.layers[1:]:
            x = layer.step(layer.inputs(x))
        return self.output.hear(x, on, loudness)


class _Linear:
    """A linear map, its weights as a product with few vectors reads them; by torch, which reads them fastest."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self.weight, self.bias = weight.detach().cpu().T.contiguous(), None if bias is None else bias.detach().cpu()

    def __call__(self, x: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Map (batch, in) to (batch, out), with a bias of its own or with the given one."""
        bias = self.bias if bias is None else torch.from_numpy(bias)
        return torch.addmm(bias, torch.from_numpy(x), self.weight).numpy()


class _Layer:
    """An LSTM layer and its attention cell."""

    def __init__(self, lstm: nn.LSTM, attention: CausalAttention | nn.Identity, state: LayerState):
        self.inputs = _Linear(lstm.weight_ih_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0)
        self.recurrent = _Linear(lstm.weight_hh_l0)
        self.hidden, self.cell = _array(state.hidden[0]), _array(state.cell[0])
        self.attend = (lambda states: states) if state.keys is None else _Attention(attention, state)

    def step(self, gates: np.ndarray) -> np.ndarray:
        """Go on by one frame, from the inputs' part of the gates, shape (batch, 4 hidden_size)."""
        gates = self.recurrent(self.hidden, gates).reshape(len(gates), 4, -1)  # (B, 4, H)
        let_in, keep, _, let_out = sigmoid(gates).swapaxes(0, 1)
        self.cell = keep * self.cell + let_in * np.tanh(gates[:, 2])
        self.hidden = let_out * np.tanh(self.cell)
        return self.attend(self.hidden)


class _Attention:
    """A `CausalAttention` with its past in a buffer of twice the span: only once that is full is anything moved."""

    def __init__(self, attention: CausalAttention, state: LayerState):
        self.span, (n_pieces, self.end, self.size) = attention.span, state.keys.shape
        self.query_key_value = _Linear(attention.query_key_value.weight, attention.query_key_value.bias)
        self.scale_shift = _Linear(attention.scale_shift.weight, attention.scale_shift.bias)
        self.distance_bias = attention.distance_bias.detach().cpu().flip(0)  # that of the oldest first
        self.past = self.distance_bias.new_empty(n_pieces, 2 * self.span, 2 * self.size)  # keys and values
        self.past[:, : self.end] = torch.cat([state.keys, state.values], dim=-1).detach()

    def __call__(self, states: np.ndarray) -> np.ndarray:
        query_key_value = torch.from_numpy(self.query_key_value(states))  # (B, 3 A)
        if self.end == 2 * self.span:
            self.end = self.span
            self.past[:, : self.end] = self.past[:, self.end :].clone()
        self.past[:, self.end] = query_key_value[:, self.size :]
        self.end += 1
        keys, values = self.past[:, max(0, self.end - self.span) : self.end].chunk(2, dim=-1)  # (B, P, A)
        query, bias = query_key_value[:, None, : self.size], self.distance_bias[-keys.shape[1] :]
        scores = torch.baddbmm(bias, query, keys.mT, alpha=self.size**-0.5)  # (B, 1, P)
        context = torch.bmm(scores.softmax(-1), values)[:, 0]  # (B, A)
        scale, shift = self.scale_shift(context.numpy()).reshape(len(states), 2, -1).swapaxes(0, 1)
        return states * (1 + scale) + shift


class _IndependentStepOutput:
    """An `IndependentOutput`, whose logits nothing in the frame itself changes."""

    velocity, within, logits = None, IndependentOutput.within, IndependentOutput.logits  # they hand on what they get

    def __init__(self, output: IndependentOutput, _: PitchState | None):
        self.linear = _Linear(output.weight, output.bias)

    def hear(self, hidden: np.ndarray, on: np.ndarray, _: np.ndarray) -> StepFeatures:
        """Return what is known before the next frame."""
        return StepFeatures(hidden, on[..., None], self.linear(hidden), None)

    def before(self, heard: StepFeatures) -> np.ndarray:
        """Return what the past says: the logits, shape (batch, n_pitches)."""
        return heard.before


class _StepOutput(_IndependentStepOutput):
    """A `PitchOutput` with the memory of the keys that it looks at, and the methods that decide on a frame."""

    def __init__(self, output: PitchOutput, state: PitchState):
        self.velocity, self.n_pitches = deepcopy(output.velocity).cpu(), output.n_pitches  # the model's own stays where it is
        self.on, self.age, self.averages = map(_array, state)
        self.decays, self.scales = (np.array(numbers, self.on.dtype)[:, None] for numbers in (DECAYS, AVERAGE_SCALES))
        near = _rows(output.near, self.n_pitches)  # (F, K, K S)
        self.near, lately = near[:3].reshape(3 * self.n_pitches, -1), self.scales[..., None] * near[3:]  # (D, K, K S)
        self.lately = np.einsum("bdk,dkj->bdj", self.averages, lately)  # what `near` makes of the averages
        self.sounding = ((1 - self.decays[..., None]) * lately).swapaxes(0, 1).reshape(self.n_pitches, -1)  # (K, D K S)
        bias = output.hidden.bias + output.near.convolution.bias.repeat(self.n_pitches)
        self.features = _array(torch.cat([output.own.weight, output.persistence.weight]).T)  # (F, S + 1)
        self.features_bias = _array(torch.cat([output.own.bias, output.persistence.bias]))
        self.middle, self.last = ((_array(map_.weight.T), _array(map_.bias)) for map_ in (output.middle, output.last))
        self.lower = None
        if output.lower is not None:
            bias = bias + output.lower.convolution.bias.repeat(self.n_pitches)
            higher = np.triu(np.ones((self.n_pitches, self.n_pitches), self.on.dtype), 1)
            counts = np.einsum("sf,kj->fkjs", _array(output.lower_counts.weight), higher)  # (3, K, K, S)
            self.lower = counts.reshape(3 * self.n_pitches, -1)  # (3 K, K S)
            self.lower[: 2 * self.n_pitches] += _rows(output.lower, self.n_pitches).reshape(2 * self.n_pitches, -1)
        self.hidden, self.bias = _Linear(output.hidden.weight), _array(bias)

    def hear(self, hidden: np.ndarray, on: np.ndarray, loudness: np.ndarray) -> StepFeatures:
        """Take in a frame, as `PitchHistory` does; return what is known before the next."""
        struck = on * (1 - self.on)
        self.age = np.where(on == self.on, np.minimum(self.age + 1, OLDEST), 0)
        self.averages = self.decays * self.averages + (1 - self.decays) * on[:, None]  # (B, D, K)
        self.lately = self.decays * self.lately + _sum_of_rows(on, self.sounding).reshape(self.lately.shape)
        self.on, time = on, np.log1p(self.age) / 3
        now = np.stack([on, struck, loudness], axis=1)  # (B, 3, K)
        ages = np.stack([time * on, time * (1 - on)], axis=1)
        features = np.concatenate([now, self.scales * self.averages, ages], axis=1).swapaxes(1, 2)  # (B, K, F)
        features = features @ self.features + self.features_bias  # (B, K, S + 1)
        near = self.bias + _sum_of_rows(now.reshape(len(on), -1), self.near) + self.lately.sum(axis=1)
        before = self.hidden(hidden, near).reshape(len(on), self.n_pitches, -1) + features[..., :-1]  # (B, K, S)
        return StepFeatures(hidden, on[..., None], before, features[..., -1])

    def within(self, before: np.ndarray, heard: StepFeatures, following: np.ndarray) -> np.ndarray:
        """Add what the lower keys of the following frame itself say of each; same shape as `before`."""
        if self.lower is None:
            return before
        on = heard.keys[..., 0]
        events = np.concatenate([following * (1 - on), (1 - following) * on, following], axis=-1)  # (B, 3 K)
        return before + _sum_of_rows(events, self.lower).reshape(before.shape)

    def logits(self, within: np.ndarray, heard: StepFeatures) -> np.ndarray:
        """Return the logit of each key, shape (batch, n_pitches)."""
        x = np.maximum(np.maximum(within, 0) @ self.middle[0] + self.middle[1], 0)  # (B, K, S)
        return (x @ self.last[0] + self.last[1])[..., 0] + heard.persistence


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor's values, as rows that can be read one by one."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _sum_of_rows(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return ``x @ weight``, where most of `x` is 0."""
    places = [values.nonzero()[0] for values in x]
    return np.stack([np.einsum("p,pj->j", values[at], weight[at]) for values, at in zip(x, places)])


def _rows(neighbours: PitchConv, n_pitches: int) -> np.ndarray:
    """Write a convolution along the keys as a table: what each feature of each key adds to all keys, (F, K, K S)."""
    weight = _array(neighbours.convolution.weight[:, :, 0].permute(1, 2, 0))  # (F, W, S)
    key = np.arange(n_pitches)
    tap = key[:, None] - key + neighbours.padding[0]  # (K, K): from each key to each
    reached = (tap >= 0) & (tap < weight.shape[1])
    return (weight[:, tap.clip(0, weight.shape[1] - 1)] * reached[..., None]).reshape(len(weight), n_pitches, -1)


def _nothing_yet(model: AttentionLSTM, n_pieces: int) -> ModelState:
    """Return the state before the first frame."""
    zeros, config = next(model.parameters()).new_zeros, model.config
    hidden, past = zeros(1, n_pieces, config.hidden_size), zeros(n_pieces, 0, config.attention_size)
    pasts = [past if isinstance(attention, CausalAttention) else None for attention in model.attentions]
    on = zeros(n_pieces, config.n_pitches)
    keys = PitchState(on, on + OLDEST, zeros(n_pieces, len(DECAYS), config.n_pitches))
    return ModelState([LayerState(hidden, hidden, past, past) for past in pasts], keys)
