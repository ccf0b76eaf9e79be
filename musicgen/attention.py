"""The attention cell of the poster, made causal."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.linear import Linear


class CausalAttention(nn.Module):
    """The attention cell: it asks which of the earlier LSTM states matter now.

    The score of each state up to the present one is the scaled dot product of its key with the present query,
    plus a learned bias for its distance in frames; a softmax turns the scores into weights, and the weighted sum
    of the values is the context. As on the poster, the context is multiplied with the LSTM's output; a second
    part of it is added, so that what attention finds can enter even where the output is near zero:
    ``output * (1 + scale(context)) + shift(context)``.

    The softmax never sees a later frame: over a whole window it would leak the answer into the training.

    Parameters
    ----------
    hidden_size : int
        Units of the LSTM layer below.
    attention_size : int
        Values in a query, a key and a value.
    span : int
        Frames that attention reaches back, the present one included.
    """

    def __init__(self, hidden_size: int, attention_size: int, span: int):
        super().__init__()
        self.span = span
        self.query_key_value = Linear(hidden_size, 3 * attention_size)
        self.distance_bias = nn.Parameter(torch.zeros(span))
        self.scale_shift = Linear(attention_size, 2 * hidden_size)
        # At first the cell hands the LSTM's output on as it is.
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, states: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the states joined with their context, and the keys and values of the last span to keep."""
        query, keys, values = self._project(states, past)  # (B, T, A), (B, P + T, A), (B, P + T, A)
        context = self._context(query, keys, values)  # (B, T, A)
        scale, shift = self.scale_shift(context).chunk(2, dim=-1)  # (B, T, H), (B, T, H)
        forgotten = max(0, keys.shape[1] - (self.span - 1))
        return states * (1 + scale) + shift, (keys[:, forgotten:], values[:, forgotten:])

    def weights(self, states: Tensor) -> Tensor:
        """Return the attention weights of a window that begins without a past, shape (B, T, T)."""
        return self._weigh(*self._project(states, None)[:2])

    def _project(self, states: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = self.query_key_value(states).chunk(3, dim=-1)  # (B, T, A) each
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=1), torch.cat([past[1], values], dim=1)
        return query, keys, values

    def _context(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Weigh the values, a span of frames at a time: the work grows with the window, not with its square."""
        n_past, parts = keys.shape[1] - query.shape[1], []
        for start in range(0, query.shape[1], self.span):
            asking = query[:, start : start + self.span]  # (B, S, A)
            first, end = max(0, n_past + start - (self.span - 1)), n_past + start + asking.shape[1]
            parts.append(self._weigh(asking, keys[:, first:end]) @ values[:, first:end])
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _weigh(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the weight of each key for each query; under autocast only products are in bfloat16."""
        scores = (query * query.shape[-1] ** -0.5) @ keys.mT  # (B, S, S + span - 1) at most
        return (scores + self._bias(query.shape[1], keys.shape[1])).softmax(dim=-1)

    def _bias(self, n_queries: int, n_pitches: int) -> Tensor:
        """Return the bias of each key for each query, minus infinity where it is later or beyond the span."""
        row = F.pad(self.distance_bias[:n_pitches].flip(0), (max(0, n_pitches - self.span), n_queries - 1), value=-torch.inf)
        # Its first n_pitches values are the bias of the last query; those of each query before it begin one further on.
        return row.unfold(0, n_pitches, 1).flip(0)  # (n_queries, n_pitches)
