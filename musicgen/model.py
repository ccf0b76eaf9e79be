"""The attention LSTM: LSTM layers with a causal attention cell after each, and a linear layer to one logit per key."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of an `AttentionLSTM`.

    Parameters
    ----------
    n_keys : int
        Values in a frame, in and out (1..512); a piano has 88 keys.
    hidden_size : int
        Units of each LSTM layer (1..4096).
    n_layers : int
        LSTM layers (1..16).
    n_attention_layers : int
        How many of them, counted from the last, are followed by an attention cell (0..n_layers).
    attention_size : int
        Values in the queries, keys and values of an attention cell (1..4096).
    attention_span : int
        Frames that attention reaches back, the present one included (1..8192); 256 are 12.8 s at 20 Hz.
    dropout : float
        Share of a layer's outputs that is zeroed in training (0..0.9).
    """

    n_keys: int = 88
    hidden_size: int = 256
    n_layers: int = 2
    n_attention_layers: int = 2
    attention_size: int = 64
    attention_span: int = 256
    dropout: float = 0.0

    def __post_init__(self):
        limits = {
            "n_keys": (1, 512),
            "hidden_size": (1, 4096),
            "n_layers": (1, 16),
            "n_attention_layers": (0, self.n_layers),
            "attention_size": (1, 4096),
            "attention_span": (1, 8192),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")
        if not 0 <= self.dropout <= 0.9:
            raise ValueError(f"dropout must lie in 0..0.9, not {self.dropout!r}")


class LayerState(NamedTuple):
    """What one layer keeps between two calls, so that music can be heard or made piece by piece.

    `hidden` and `cell` are the LSTM's, shape (1, batch, hidden_size); `keys` and `values` are those of the last
    ``attention_span - 1`` frames, shape (batch, frames, attention_size), None without attention.
    """

    hidden: Tensor
    cell: Tensor
    keys: Tensor | None
    values: Tensor | None


class CausalAttention(nn.Module):
    """The attention cell: it asks which of the earlier LSTM states matter now.

    The score of each state up to the present one is the scaled dot product of its key with the present query,
    plus a learned bias for its distance in frames; a softmax turns the scores into weights, and the weighted sum
    of the values is the context. As on the poster, the context is multiplied with the LSTM's output; a second
    part of it is added, so that what attention finds can enter even where the output is near zero:
    ``output * (1 + scale(context)) + shift(context)``.

    The softmax never sees a later frame: over a whole window it would leak the answer into the training.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.span = config.attention_span
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.attention_size)
        self.distance_bias = nn.Parameter(torch.zeros(config.attention_span))
        self.scale_shift = nn.Linear(config.attention_size, 2 * config.hidden_size)
        # At first the cell hands the LSTM's output on as it is.
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, states: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the states joined with their context, and the keys and values of the last span to keep."""
        query, keys, values = self._project(states, past)  # (B, T, A), (B, P + T, A), (B, P + T, A)
        bias = self._bias(query.shape[1], keys.shape[1])  # (T, P + T)
        context = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)  # (B, T, A)
        scale, shift = self.scale_shift(context).chunk(2, dim=-1)  # (B, T, H), (B, T, H)
        forgotten = max(0, keys.shape[1] - (self.span - 1))
        return states * (1 + scale) + shift, (keys[:, forgotten:], values[:, forgotten:])

    def weights(self, states: Tensor) -> Tensor:
        """Return the attention weights of a window that begins without a past, shape (B, T, T)."""
        query, keys, _ = self._project(states, None)
        scores = query @ keys.mT / query.shape[-1] ** 0.5
        return (scores + self._bias(query.shape[1], keys.shape[1])).softmax(dim=-1)

    def _project(self, states: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = self.query_key_value(states).chunk(3, dim=-1)  # (B, T, A) each
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=1), torch.cat([past[1], values], dim=1)
        return query, keys, values

    def _bias(self, n_queries: int, n_keys: int) -> Tensor:
        """Return the bias of each key for each query, minus infinity where it is later or beyond the span."""
        now = torch.arange(n_keys - n_queries, n_keys, device=self.distance_bias.device)[:, None]
        distance = now - torch.arange(n_keys, device=now.device)  # (T, P + T), in frames
        unseen = (distance < 0) | (distance >= self.span)
        return self.distance_bias[distance.clamp(0, self.span - 1)].masked_fill(unseen, float("-inf"))


class AttentionLSTM(nn.Module):
    """Predicts each next frame of a piano roll from all frames before it.

    Parameters
    ----------
    config : ModelConfig
        The sizes.

    Notes
    -----
    The architecture of the poster "Generating Music with LSTM" (its figure 3): LSTM layers with attention cells,
    then a linear layer. `forward` takes a whole window at once, or any next part of a piece with the state that
    the part before it left: both give the same logits.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        sizes = [config.n_keys] + [config.hidden_size] * config.n_layers
        self.lstms = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(sizes, sizes[1:]))
        plain = config.n_layers - config.n_attention_layers
        self.attentions = nn.ModuleList(
            nn.Identity() if layer < plain else CausalAttention(config) for layer in range(config.n_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, config.n_keys)
        self._initialise()

    def _initialise(self) -> None:
        """Start where learning starts at once.

        Of 88 keys two sound: with torch's own small weights the first layer hardly hears them, and training stands
        at the marginal baseline for a thousand updates. A forget gate that is open at first keeps what is heard.
        """
        for lstm in self.lstms:
            nn.init.xavier_uniform_(lstm.weight_ih_l0)
            nn.init.orthogonal_(lstm.weight_hh_l0)
            nn.init.zeros_(lstm.bias_ih_l0)
            nn.init.zeros_(lstm.bias_hh_l0)
            nn.init.ones_(lstm.bias_ih_l0[self.config.hidden_size : 2 * self.config.hidden_size])
        nn.init.normal_(self.lstms[0].weight_ih_l0)

    def forward(self, frames: Tensor, state: list[LayerState] | None = None) -> tuple[Tensor, list[LayerState]]:
        """Return the logits of the frame after each frame.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, n_frames, n_keys)
            1 where a key sounds, else 0.
        state : list of LayerState, optional
            What the call before returned; by default the piece begins here.

        Returns
        -------
        logits : Tensor, shape (batch, n_frames, n_keys)
        state : list of LayerState
            To go on from.
        """
        x = frames  # (B, T, K)
        new_state = []
        for layer, before in zip(range(self.config.n_layers), state or [None] * self.config.n_layers):
            x, after = self._layer(layer, x, before)  # (B, T, H)
            new_state.append(after)
            x = self.dropout(x)
        return self.output(x), new_state  # (B, T, K)

    def attention_weights(self, frames: Tensor) -> list[Tensor]:
        """Return what each attention layer looks at, for a piece that begins with `frames`.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, n_frames, n_keys)

        Returns
        -------
        list of Tensor, shape (batch, n_frames, n_frames)
            For each attention layer, the weight of each frame (last axis) for each frame; rows sum to 1.
        """
        x, weights = frames, []
        for layer, attention in enumerate(self.attentions):
            if isinstance(attention, CausalAttention):
                weights.append(attention.weights(self.lstms[layer](x)[0]))
            x, _ = self._layer(layer, x, None)
        return weights

    def _layer(self, layer: int, x: Tensor, before: LayerState | None) -> tuple[Tensor, LayerState]:
        lstm_state = None if before is None else (before.hidden, before.cell)
        x, (hidden, cell) = self.lstms[layer](x, lstm_state)
        keys = values = None
        if isinstance(self.attentions[layer], CausalAttention):
            past = None if before is None else (before.keys, before.values)
            x, (keys, values) = self.attentions[layer](x, past)
        return x, LayerState(hidden, cell, keys, values)
