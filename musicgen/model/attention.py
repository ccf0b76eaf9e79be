"""Attention cells: the poster's, which modulates the recurrent output, and copy attention, which retrieves notes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.model.features import ACTIVE, ONSET, RECENT_AVERAGES

COPY_SIZE = 32  # size of a query and a key of a copy head
COPY_DELAY = 2  # smallest distance of a match in frames: the two frames that followed it must be known


class KVCache(NamedTuple):
    """Keys and values of the last frames of a sequence, in a preallocated buffer.

    A call that continues from a cache writes into its buffer. To continue twice from one cache, copy it with `select`.

    Attributes
    ----------
    buffer : Tensor, shape (batch, capacity, size)
    end : int
        The first `end` frames of the buffer are in use.
    span : int
        Frames that a query sees, including its own.
    """

    buffer: Tensor
    end: int
    span: int

    @classmethod
    def empty(cls, like: Tensor, size: int, span: int) -> "KVCache":
        """Return the cache before the first frame, for a batch like that of a tensor (batch, ...)."""
        return cls(like.new_empty(len(like), 0, size), 0, span)

    def append(self, new: Tensor) -> tuple[Tensor, "KVCache"]:
        """Add frames (batch, n_new, size).

        Returns
        -------
        recent : Tensor, shape (batch, n_past + n_new, size)
            The last ``span - 1`` frames before the new ones, or fewer at the start, and the new ones.
        cache : KVCache
        """
        n_new = new.shape[1]
        if self.end == 0:
            return new, KVCache(new, n_new, self.span)
        start = max(0, self.end - (self.span - 1))
        end = self.end + n_new
        buffer = self.buffer
        if end > buffer.shape[1]:  # full: move what is still needed to a larger buffer, one call in `span`
            n_past = self.end - start
            buffer = new.new_empty(len(new), 2 * self.span + n_new, new.shape[2])
            buffer[:, :n_past] = self.buffer[:, start : self.end]
            start = 0
            end = n_past + n_new
        buffer[:, end - n_new : end] = new
        return buffer[:, start:end], KVCache(buffer, end, self.span)

    def select(self, indices: Tensor) -> "KVCache":
        """Return a cache with copies of the given rows of the batch."""
        start = max(0, self.end - (self.span - 1))
        used = self.buffer[:, start : self.end].index_select(0, indices)
        return KVCache(used, self.end - start, self.span)


def query_blocks(n_frames: int, n_past: int, span: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of at most `span` queries, each with the slice of keys that they see."""
    for start in range(0, n_frames, span):
        end = min(start + span, n_frames)
        yield slice(start, end), slice(max(0, n_past + start - (span - 1)), n_past + end)


def bias_by_distance(bias: Tensor, n_queries: int, n_keys: int, shortest: int = 0) -> Tensor:
    """Return what to add to the attention scores of each query and key.

    Parameters
    ----------
    bias : Tensor, shape (..., span)
        For each distance in frames.
    n_queries, n_keys : int
        The last query and the last key belong to the same frame.
    shortest : int
        Smallest distance at which a query sees a key; 0 is its own frame.

    Returns
    -------
    Tensor, shape (..., n_queries, n_keys)
        Minus infinity where a key lies outside of what the query sees.
    """
    span = bias.shape[-1]
    frame = torch.arange(n_keys, device=bias.device)
    distance = frame[n_keys - n_queries :, None] - frame  # (S, P + S)
    unseen = (distance < shortest) | (distance >= span)
    return bias[..., distance.clamp(0, span - 1)].masked_fill(unseen, -torch.inf)


class NoAttention(nn.Module):
    """Passes the recurrent output through."""

    def __init__(self, hidden_size: int, attention_size: int, span: int):
        super().__init__()

    def forward(self, states: Tensor, cache: None = None) -> tuple[Tensor, None]:
        """Return the states unchanged, and no cache."""
        return states, None


class CausalAttention(nn.Module):
    """The poster's attention cell, made causal: a frame attends to itself and to earlier frames.

    Each recurrent output queries the outputs up to its own frame: scaled dot product plus a learned bias for the
    distance, softmax, weighted sum of the values. As on the poster, the result multiplies the output. A shift is added,
    so that attention has an effect where the output is near zero (FiLM): ``output * (1 + scale) + shift``.

    Parameters
    ----------
    hidden_size : int
        Units of the recurrent cell below.
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
        nn.init.zeros_(self.scale_shift.weight)  # initially the cell passes the recurrent output through
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, states: Tensor, cache: KVCache | None = None) -> tuple[Tensor, KVCache]:
        """Return the modulated states (B, T, H), and a cache of keys and values for the next call."""
        query, keys, values = self.query_key_value(states).chunk(3, dim=-1)  # (B, T, A) each
        new = torch.cat([keys, values], dim=-1)
        cache = cache or KVCache.empty(new, new.shape[-1], self.span)
        recent, cache = cache.append(new)
        keys, values = recent.chunk(2, dim=-1)  # (B, P + T, A) each
        n_frames = query.shape[1]
        n_past = keys.shape[1] - n_frames
        context = []
        for queries, seen in query_blocks(n_frames, n_past, self.span):
            weights = self._weigh(query[:, queries], keys[:, seen])  # (B, S, P + S)
            context.append(weights @ values[:, seen])  # (B, S, A)
        scale, shift = self.scale_shift(torch.cat(context, dim=1)).chunk(2, dim=-1)  # (B, T, H) each
        return states * (1 + scale) + shift, cache

    def weights(self, states: Tensor) -> Tensor:
        """Return the attention weights within a window as a tensor (B, T, T), without cached earlier frames."""
        query, keys, _ = self.query_key_value(states).chunk(3, dim=-1)
        return self._weigh(query, keys)

    def _weigh(self, query: Tensor, keys: Tensor) -> Tensor:
        scores = (query * query.shape[-1] ** -0.5) @ keys.mT  # (B, S, P + S)
        scores = scores + bias_by_distance(self.distance_bias, query.shape[1], keys.shape[1])
        return scores.softmax(dim=-1)


class CopyAttention(nn.Module):
    """Finds earlier moments that resemble the present one, and returns the notes that followed them.

    A pointer network over the past, also called an induction head: queries and keys see the hidden state and the
    recent notes. The value of frame s is, for each pitch, whether a note starts one and two frames later, and whether
    it sounds one frame later. A null key with value 0 takes part in the softmax: its weight means "no match".

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
        self.n_heads = n_heads
        self.span = span
        self.query_key = nn.Linear(hidden_size + 3 * n_pitches, 2 * n_heads * COPY_SIZE)
        self.null_key = nn.Linear(hidden_size, n_heads)  # the score of the null key
        self.distance_bias = nn.Parameter(torch.zeros(n_heads, span.bit_length() + 1))  # per power of 2
        self.scale = nn.Parameter(torch.ones(n_heads))

    def forward(self, hidden: Tensor, pitches: Tensor, cache: KVCache | None = None) -> tuple[Tensor, KVCache]:
        """Return the retrieved notes (B, T, K, 3 * n_heads), and a cache for the next call."""
        query, new = self._project(hidden, pitches)  # (B, T, h * C), (B, T, h * C + 2 K)
        cache = cache or KVCache.empty(new, new.shape[-1], self.span)
        recent, cache = cache.append(new)  # (B, P + T, h * C + 2 K)
        n_frames = query.shape[1]
        n_past = recent.shape[1] - n_frames
        copied_notes = []
        for queries, seen in query_blocks(n_frames, n_past, self.span):
            weights = self._weigh(query[:, queries], hidden[:, queries], recent[:, seen])  # (B, h, S, P + S + 1)
            values = self._values(recent[:, seen])  # (B, P + S, 3 K)
            found = weights[..., :-1] @ values[:, None]  # (B, h, S, 3 K); the null key has value 0
            found = found.unflatten(-1, (3, -1))  # (B, h, S, 3, K)
            copied_notes.append(found.permute(0, 2, 4, 1, 3).flatten(-2))  # (B, S, K, h * 3)
        return torch.cat(copied_notes, dim=1), cache

    def weights(self, hidden: Tensor, pitches: Tensor) -> Tensor:
        """Return the weights of a window as a tensor (B, n_heads, T, T + 1); the last column is the null key's."""
        query, recent = self._project(hidden, pitches)
        return self._weigh(query, hidden, recent)

    def _project(self, hidden: Tensor, pitches: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries (B, T, h * C), and keys, onsets and active pitches in one tensor (B, T, h * C + 2 K)."""
        active = pitches[..., ACTIVE]  # (B, T, K)
        onset = pitches[..., ONSET]
        averages = pitches[..., RECENT_AVERAGES].flatten(-2)  # (B, T, K * 2)
        query, keys = self.query_key(torch.cat([hidden, active, averages], dim=-1)).chunk(2, dim=-1)
        return query, torch.cat([keys, onset.to(keys.dtype), active.to(keys.dtype)], dim=-1)

    def _weigh(self, query: Tensor, hidden: Tensor, recent: Tensor) -> Tensor:
        n_queries, size = query.shape[1:]
        n_keys = recent.shape[1]
        query = query.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, h, S, C)
        keys = recent[..., :size].unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, h, P + S, C)
        scores = query * (COPY_SIZE**-0.5 * self.scale[:, None, None]) @ keys.mT  # (B, h, S, P + S)
        scores = scores + bias_by_distance(self._bias(), n_queries, n_keys, COPY_DELAY)
        null_score = self.null_key(hidden).transpose(1, 2)[..., None]  # (B, h, S, 1)
        return torch.cat([scores, null_score], dim=-1).softmax(dim=-1)

    def _values(self, recent: Tensor) -> Tensor:
        """Return, for each frame, the onsets one and two frames later and the pitches that sound one frame later."""
        onset, active = recent[..., self.n_heads * COPY_SIZE :].chunk(2, dim=-1)
        later = [F.pad(x, (0, 0, 0, n))[:, n:] for x, n in ((onset, 1), (onset, 2), (active, 1))]
        return torch.cat(later, dim=-1)  # (B, P + S, 3 K)

    def _bias(self) -> Tensor:
        """Return the bias of each distance, shape (n_heads, span): one value from each power of 2 to the next."""
        distance = torch.arange(self.span, device=self.scale.device)
        powers = 2 ** torch.arange(1, self.distance_bias.shape[1], device=self.scale.device)
        log_distance = (distance[:, None] >= powers).sum(dim=-1)  # (span,): log2, rounded down
        return self.distance_bias[:, log_distance]
