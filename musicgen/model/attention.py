"""Attention cells: the poster's, which modulates the LSTM output, and copy attention, which retrieves notes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.model.sequences import Cache, append, spans

COPY_SIZE = 32  # size of a query and a key of a copy head
COPY_DELAY = 2  # smallest distance of a match in frames: the two frames that followed it must be known


class CausalAttention(nn.Module):
    """The poster's attention cell, made causal: a frame attends to itself and to earlier frames.

    Each LSTM output queries the outputs up to its own frame: scaled dot product plus a learned bias for the distance,
    softmax, weighted sum of the values. As on the poster, the result multiplies the LSTM output. A shift is added, so
    that attention has an effect where the output is near zero (FiLM): ``output * (1 + scale) + shift``.

    Parameters
    ----------
    hidden_size : int
        Units of the LSTM layer below.
    attention_size : int
        Size of queries, keys and values.
    span : int
        Frames that attention sees, including the present one.
    """

    def __init__(self, hidden_size: int, attention_size: int, span: int):
        super().__init__()
        self.span = span
        self.query_key_value = nn.Linear(hidden_size, 3 * attention_size)
        self.distance_bias = nn.Parameter(torch.zeros(span))
        self.scale_shift = nn.Linear(attention_size, 2 * hidden_size)
        nn.init.zeros_(self.scale_shift.weight)  # initially the cell passes the LSTM output through
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, states: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Return the modulated states (B, T, H), and a cache of keys and values for the next call."""
        query, keys, values = self.query_key_value(states).chunk(3, dim=-1)  # (B, T, A) each
        recent, cache = append(cache, torch.cat([keys, values], dim=-1), self.span)
        keys, values = recent.chunk(2, dim=-1)  # (B, P + T, A) each
        n_past = keys.shape[1] - query.shape[1]
        blocks = spans(query.shape[1], n_past, self.span)
        context = [self._weigh(query[:, q], keys[:, k]) @ values[:, k] for q, k in blocks]
        scale, shift = self.scale_shift(torch.cat(context, dim=1)).chunk(2, dim=-1)  # (B, T, H) each
        return states * (1 + scale) + shift, cache

    def weights(self, states: Tensor) -> Tensor:
        """Return the attention weights within a window as a tensor (B, T, T), without cached earlier frames."""
        query, keys, _ = self.query_key_value(states).chunk(3, dim=-1)
        return self._weigh(query, keys)

    def _weigh(self, query: Tensor, keys: Tensor) -> Tensor:
        scores = (query * query.shape[-1] ** -0.5) @ keys.mT  # (B, S, P + S)
        return (scores + self._bias(query.shape[1], keys.shape[1])).softmax(dim=-1)

    def _bias(self, n_queries: int, n_keys: int) -> Tensor:
        """Return the bias of each query and key (n_queries, n_keys); minus infinity masks a key."""
        row = F.pad(self.distance_bias[:n_keys].flip(0), (max(0, n_keys - self.span), n_queries - 1), value=-torch.inf)
        return row.unfold(0, n_keys, 1).flip(0)  # row i is the last row shifted left by n_queries - 1 - i


class CopyAttention(nn.Module):
    """Finds earlier moments that resemble the present one, and returns the notes that followed them.

    A pointer network over the past, also called an induction head: queries and keys see the hidden state and the
    recent notes. The value of frame s is, for each pitch, whether a note starts one and two frames later, and whether
    it sounds one frame later. A "no match" slot with value 0 takes part in the softmax.

    Parameters
    ----------
    hidden_size : int
        Size of the hidden state.
    n_pitches : int
    n_heads : int
    span : int
        Frames that each head sees, including the present one.
    """

    def __init__(self, hidden_size: int, n_pitches: int, n_heads: int, span: int):
        super().__init__()
        self.n_heads, self.span = n_heads, span
        self.query_key = nn.Linear(hidden_size + 3 * n_pitches, 2 * n_heads * COPY_SIZE)
        self.no_match = nn.Linear(hidden_size, n_heads)
        self.distance_bias = nn.Parameter(torch.zeros(self.n_heads, self.span.bit_length() + 1))  # per power of 2
        self.scale = nn.Parameter(torch.ones(self.n_heads))

    def forward(self, hidden: Tensor, pitches: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Return the retrieved notes (B, T, K, 3 * n_heads), and a cache for the next call."""
        query, new = self._project(hidden, pitches)
        recent, cache = append(cache, new, self.span)  # (B, P + T, h * C + 2 K)
        n_past, copied = recent.shape[1] - query.shape[1], []
        for q, k in spans(query.shape[1], n_past, self.span):
            weights = self._weigh(query[:, q], hidden[:, q], recent[:, k])[..., :-1]  # (B, h, S, P + S)
            values = self._values(recent[:, k])[:, None]  # (B, 1, P + S, 3 K)
            copied.append((weights @ values).unflatten(-1, (3, -1)).permute(0, 2, 4, 1, 3).flatten(-2))
        return torch.cat(copied, dim=1), cache

    def weights(self, hidden: Tensor, pitches: Tensor) -> Tensor:
        """Return the weights of a window as a tensor (B, n_heads, T, T + 1); the last column is "no match"."""
        query, recent = self._project(hidden, pitches)
        return self._weigh(query, hidden, recent)

    def _project(self, hidden: Tensor, pitches: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries (B, T, h * C), and keys, onsets and sounding pitches in one tensor (B, T, h * C + 2 K)."""
        notes = pitches[..., 3:5].flatten(-2)  # moving averages over about 5 and 20 frames
        on, onset = pitches[..., 0], pitches[..., 1]
        query, keys = self.query_key(torch.cat([hidden, on, notes], dim=-1)).chunk(2, dim=-1)
        return query, torch.cat([keys, onset.to(keys.dtype), on.to(keys.dtype)], dim=-1)

    def _weigh(self, query: Tensor, hidden: Tensor, recent: Tensor) -> Tensor:
        query, keys = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in (query, recent[..., : query.shape[-1]])
        )
        scores = query * (COPY_SIZE**-0.5 * self.scale[:, None, None]) @ keys.mT  # (B, h, S, P + S)
        scores = scores + self._bias(query.shape[2], keys.shape[2])
        no_match = self.no_match(hidden).transpose(1, 2)[..., None]  # (B, h, S, 1)
        return torch.cat([scores, no_match], dim=-1).softmax(dim=-1)

    def _values(self, recent: Tensor) -> Tensor:
        """Return, for each frame, the onsets one and two frames later and the pitches that sound one frame later."""
        onset, on = recent[..., self.n_heads * COPY_SIZE :].chunk(2, dim=-1)
        later = [F.pad(x, (0, 0, 0, n))[:, n:] for x, n in ((onset, 1), (onset, 2), (on, 1))]
        return torch.cat(later, dim=-1)  # (B, P + S, 3 K)

    def _bias(self, n_queries: int, n_keys: int) -> Tensor:
        """Return the bias of each query and key (n_heads, n_queries, n_keys); minus infinity masks a key."""
        frame = torch.arange(n_keys, device=self.scale.device)
        distance = frame[n_keys - n_queries :, None] - frame
        octave = distance.clamp(1, self.span).float().log2().long()
        outside = (distance < COPY_DELAY) | (distance >= self.span)
        return self.distance_bias[:, octave].masked_fill(outside, -torch.inf)
