"""A model laid out for making music: it hears one frame after the other, and says the same as the model itself.

For a single frame a network is bound by the reading of its weights and by the number of calls. So the weights lie as
the product with one vector reads them, attention keeps its past in place, and where nearly all inputs are 0, since of
88 keys two or three sound, only the rows of the others are read and added up.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.attention import CausalAttention
from musicgen.keys import AVERAGE_SCALES, DECAYS, OLDEST, Heard, KeyOutput, KeyState, Neighbours
from musicgen.model import AttentionLSTM, LayerState, ModelState


class HeardNow(NamedTuple):
    """What is known before one frame: as `Heard`, and what an output makes of that whatever the frame will be.

    `before` has the shape (batch, n_keys, key_size), `persistence` (batch, n_keys, 1).
    """

    hidden: Tensor
    keys: Tensor
    before: Tensor
    persistence: Tensor


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
        n_inputs = 2 * model.config.n_keys
        weight = model.lstms[0].weight_ih_l0.T  # (2 K + E, 4 H)
        self.weight, self.bias = weight[:n_inputs].contiguous(), self.layers[0].bias
        if model.composer is not None:
            self.bias = self.bias + model.composer(composers) @ weight[n_inputs:]  # (B, 4 H)
        self.output = _StepOutput(model.output, state.keys) if isinstance(model.output, KeyOutput) else model.output

    def hear(self, loudness: Tensor) -> Heard | HeardNow:
        """Take in the next frame, of shape (batch, n_keys); return what is known before the one that follows it."""
        on = (loudness > 0).to(loudness.dtype)
        x = self.layers[0].step(self.bias + _sum_of_rows(torch.cat([on, loudness], -1), self.weight))  # (B, H)
        for layer in self.layers[1:]:
            x = layer.step(_product(x, layer.weight, layer.bias))
        return self.output.hear(x, on, loudness) if isinstance(self.output, _StepOutput) else Heard(x, on[..., None])


class _Layer:
    """An LSTM layer and its attention cell."""

    def __init__(self, lstm: nn.LSTM, attention: CausalAttention | nn.Identity, state: LayerState):
        self.weight, self.recurrent = lstm.weight_ih_l0.T.contiguous(), lstm.weight_hh_l0.T.contiguous()
        self.bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
        self.hidden, self.cell = state.hidden[0], state.cell[0]
        self.attend = attention if state.keys is None else _Attention(attention, state)

    def step(self, gates: Tensor) -> Tensor:
        """Go on by one frame, from the inputs' part of the gates, shape (batch, 4 hidden_size)."""
        gates = _product(self.hidden, self.recurrent, gates)
        let_in, keep, new, let_out = gates.chunk(4, dim=-1)
        self.cell = keep.sigmoid() * self.cell + let_in.sigmoid() * new.tanh()
        self.hidden = let_out.sigmoid() * self.cell.tanh()
        return self.attend(self.hidden)


class _Attention:
    """A `CausalAttention` with its past in a buffer of twice the span: only once that is full is anything moved."""

    def __init__(self, attention: CausalAttention, state: LayerState):
        self.span, (n_pieces, self.end, self.size) = attention.span, state.keys.shape
        self.weight, self.bias = attention.query_key_value.weight.T.contiguous(), attention.query_key_value.bias
        self.spread, self.spread_bias = attention.scale_shift.weight.T.contiguous(), attention.scale_shift.bias
        self.distance_bias = attention.distance_bias.flip(0)  # that of the oldest first
        self.past = state.keys.new_empty(n_pieces, 2 * self.span, 2 * self.size)  # keys and values
        self.past[:, : self.end] = torch.cat([state.keys, state.values], dim=-1)

    def __call__(self, states: Tensor) -> Tensor:
        query, key_value = _product(states, self.weight, self.bias).tensor_split([self.size], dim=-1)
        if self.end == 2 * self.span:
            self.end = self.span
            self.past[:, : self.end] = self.past[:, self.end :].clone()
        self.past[:, self.end] = key_value
        self.end += 1
        keys, values = self.past[:, max(0, self.end - self.span) : self.end].chunk(2, dim=-1)  # (B, P, A)
        bias = self.distance_bias[-keys.shape[1] :]
        scores = torch.baddbmm(bias, query[:, None], keys.mT, alpha=self.size**-0.5)  # (B, 1, P)
        context = (scores.softmax(-1) @ values)[:, 0]  # (B, A)
        scale, shift = _product(context, self.spread, self.spread_bias).chunk(2, dim=-1)
        return states * (1 + scale) + shift


class _StepOutput:
    """A `KeyOutput` with the memory of the keys that it looks at, and the methods that decide on a frame."""

    def __init__(self, output: KeyOutput, state: KeyState):
        self.output, self.velocity, self.n_keys = output, output.velocity, output.n_keys
        self.on, self.age, self.averages = state
        self.decays, self.scales = (self.on.new_tensor(numbers)[:, None] for numbers in (DECAYS, AVERAGE_SCALES))
        near = _rows(output.near, self.n_keys)  # (F, K, K S)
        self.near, lately = near[:3].flatten(0, 1), self.scales[..., None] * near[3:]  # (3 K, K S), (D, K, K S)
        self.lately = torch.einsum("bdk,dkj->bdj", self.averages, lately)  # what `near` makes of the averages
        self.sounding = ((1 - self.decays[..., None]) * lately).transpose(0, 1).flatten(1)  # (K, D K S)
        self.hidden = output.hidden.weight.T.contiguous()
        self.bias = output.hidden.bias + output.near.convolution.bias.repeat(self.n_keys)
        self.features = torch.cat([output.own.weight, output.persistence.weight]).T.contiguous()  # (F, S + 1)
        self.features_bias = torch.cat([output.own.bias, output.persistence.bias])
        if output.lower is not None:
            self.bias = self.bias + output.lower.convolution.bias.repeat(self.n_keys)
            higher = self.on.new_ones(self.n_keys, self.n_keys).triu(1)
            lower = torch.einsum("sf,kj->fkjs", output.lower_counts.weight, higher).flatten(2)  # (3, K, K S)
            lower[:2] += _rows(output.lower, self.n_keys)
            self.lower = lower.flatten(0, 1)

    def hear(self, hidden: Tensor, on: Tensor, loudness: Tensor) -> HeardNow:
        """Take in a frame, as `KeyMemory` does; return what is known before the next."""
        struck = on * (1 - self.on)
        self.age = torch.where(on == self.on, (self.age + 1).clamp(max=OLDEST), 0)
        self.averages = self.decays * self.averages + (1 - self.decays) * on[:, None]  # (B, D, K)
        self.lately = self.decays * self.lately + _sum_of_rows(on, self.sounding).view_as(self.lately)
        self.on, time = on, torch.log1p(self.age) / 3
        now = torch.stack([on, struck, loudness], dim=1)  # (B, 3, K)
        ages = torch.stack([time * on, time * (1 - on)], dim=1)
        features = torch.cat([now, self.scales * self.averages, ages], dim=1).mT @ self.features + self.features_bias
        near = self.bias + _sum_of_rows(now.flatten(1), self.near) + self.lately.sum(1)
        before = _product(hidden, self.hidden, near).unflatten(-1, (self.n_keys, -1)) + features[..., :-1]  # (B, K, S)
        return HeardNow(hidden, on[..., None], before, features[..., -1:])

    def before(self, heard: HeardNow) -> Tensor:
        """Return what the past says of each key, shape (batch, n_keys, key_size)."""
        return heard.before

    def within(self, before: Tensor, heard: HeardNow, following: Tensor) -> Tensor:
        """Add what the lower keys of the following frame itself say of each; same shape as `before`."""
        if self.output.lower is None:
            return before
        on = heard.keys[..., 0]
        events = torch.cat([following * (1 - on), (1 - following) * on, following], dim=-1)  # (B, 3 K)
        return before + _sum_of_rows(events, self.lower).view_as(before)

    def logits(self, within: Tensor, heard: HeardNow) -> Tensor:
        """Return the logit of each key, shape (batch, n_keys)."""
        x = F.relu(self.output.middle(F.relu(within)))  # (B, K, S)
        return (self.output.last(x) + heard.persistence).squeeze(-1)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``x @ weight + bias``; of one vector by the call that reads the weights fastest."""
    if len(x) == 1:
        return torch.addmv(bias.view(-1), weight.T, x[0])[None]
    return torch.addmm(bias, x, weight)


def _sum_of_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``x @ weight``, where most of `x` is 0."""
    piece, place = x.nonzero(as_tuple=True)
    firsts = torch.searchsorted(piece, torch.arange(len(x), device=x.device))
    return F.embedding_bag(place, weight, firsts, mode="sum", per_sample_weights=x[piece, place])


def _rows(neighbours: Neighbours, n_keys: int) -> Tensor:
    """Write a convolution along the keys as a table: what each feature of each key adds to all keys, (F, K, K S)."""
    weight = neighbours.convolution.weight[:, :, 0].permute(1, 2, 0)  # (F, W, S)
    key = torch.arange(n_keys, device=weight.device)
    tap = key[:, None] - key + neighbours.padding[0]  # (K, K): from each key to each
    reached = (tap >= 0) & (tap < weight.shape[1])
    return (weight[:, tap.clamp(0, weight.shape[1] - 1)] * reached[..., None]).flatten(2)


def _nothing_yet(model: AttentionLSTM, n_pieces: int) -> ModelState:
    """Return the state before the first frame."""
    zeros, config = next(model.parameters()).new_zeros, model.config
    hidden, past = zeros(1, n_pieces, config.hidden_size), zeros(n_pieces, 0, config.attention_size)
    pasts = [past if isinstance(attention, CausalAttention) else None for attention in model.attentions]
    on = zeros(n_pieces, config.n_keys)
    keys = KeyState(on, on + OLDEST, zeros(n_pieces, len(DECAYS), config.n_keys))
    return ModelState([LayerState(hidden, hidden, past, past) for past in pasts], keys)
