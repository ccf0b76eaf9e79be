"""The poster's attention cell, which modulates the recurrent output, and copy attention, which retrieves notes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen.model.features import ACTIVE, ONSET, RECENT_AVERAGES

COPY_SIZE = 32  # size of a query and a key of a copy head
COPY_DELAY = 2  # smallest distance of a match in frames: the two frames that followed it must be known


class KVCache(NamedTuple):
    """Keys and values of the last frames of a sequence, in preallocated buffers.

    A call that continues from a cache writes into its buffers. To continue twice from one cache, copy it with `select`.

    Attributes
    ----------
    keys, values : Tensor, shape (batch, ..., capacity, size)
    end : int
        The first `end` frames of the buffers are in use.
    span : int
        Frames that a query sees, including its own.
    """

    keys: Tensor
    values: Tensor
    end: int
    span: int

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, "KVCache"]:
        """Add the keys and values of T frames (batch, ..., T, size).

        Returns
        -------
        keys, values : Tensor, shape (batch, ..., P + T, size)
            Those of the last ``span - 1`` frames before, or fewer at the start, and the new ones.
        distance : Tensor of int, shape (T, P + T)
            How many frames each key lies before each of the new frames.
        cache : KVCache
            To continue from.
        """
        T = keys.shape[-2]
        if self.end == 0:
            cache = KVCache(keys, values, T, self.span)
            seen = slice(0, T)
        else:
            is_full = self.end + T > self.keys.shape[-2]
            before = self._resized(2 * self.span + T) if is_full else self  # copied once in `span` frames
            cache = before._replace(end=before.end + T)
            cache.keys[..., before.end : cache.end, :] = keys
            cache.values[..., before.end : cache.end, :] = values
            seen = slice(max(0, before.end - (self.span - 1)), cache.end)
        frame = torch.arange(seen.stop - seen.start, device=keys.device)
        distance = frame[-T:, None] - frame  # (T, P + T)
        return cache.keys[..., seen, :], cache.values[..., seen, :], distance, cache

    def select(self, indices: Tensor) -> "KVCache":
        """Return a cache with copies of the given rows of the batch."""
        keys = self._still_needed(self.keys).index_select(0, indices)
        values = self._still_needed(self.values).index_select(0, indices)
        return KVCache(keys, values, keys.shape[-2], self.span)

    def as_ring(self) -> "RingCache":
        """Return the cache as a `RingCache`, whose tensors have fixed shapes."""
        resized = self._resized(self.span)
        return RingCache(resized.keys, resized.values, resized.keys.new_full((), resized.end))

    def _still_needed(self, buffer: Tensor) -> Tensor:
        return buffer[..., max(0, self.end - (self.span - 1)) : self.end, :]

    def _resized(self, capacity: int) -> "KVCache":
        """Return a cache with new buffers of `capacity` frames that begin with the frames that are still needed."""
        keys = self._still_needed(self.keys)
        values = self._still_needed(self.values)
        padding = (0, 0, 0, capacity - keys.shape[-2])
        return KVCache(F.pad(keys, padding), F.pad(values, padding), keys.shape[-2], self.span)


class RingCache(NamedTuple):
    """Keys and values of the last frames as tensors of fixed shapes, for exported graphs.

    Frame number n has place ``n % span``, so that the latest frame replaces the oldest. One frame is added at a time.

    Attributes
    ----------
    keys, values : Tensor, shape (batch, ..., span, size)
    n_heard : Tensor, shape ()
        Frames since the start, the same for all rows.
    """

    keys: Tensor
    values: Tensor
    n_heard: Tensor

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, "RingCache"]:
        """Add one frame; return the same as `KVCache.append`, with a distance (1, span) of `span` for empty places."""
        span = self.keys.shape[-2]
        n_before = self.n_heard.long()  # (): whole numbers have a faster remainder
        place = n_before.remainder(span)  # ()
        cache = RingCache(_replace(self.keys, place, keys), _replace(self.values, place, values), self.n_heard + 1)
        distance = (place - torch.arange(span, device=place.device)).remainder(span)  # (span,)
        distance = torch.where(distance <= n_before, distance, span)[None]
        return cache.keys, cache.values, distance, cache


def _replace(buffer: Tensor, place: Tensor, new: Tensor) -> Tensor:
    """Return a copy of a buffer (B, ..., span, size) with one frame (B, ..., 1, size) replaced."""
    return buffer.scatter(-2, place.expand_as(new), new)


def query_blocks(n_frames: int, n_keys: int, span: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of at most `span` queries, each with the slice of keys that they see."""
    n_past = n_keys - n_frames
    for start in range(0, n_frames, span):
        end = min(start + span, n_frames)
        yield slice(start, end), slice(max(0, n_past + start - (span - 1)), n_past + end)


def bias_by_distance(bias: Tensor, distance: Tensor, shortest: int = 0) -> Tensor:
    """Return the bias to add to the attention score of each query and key.

    Parameters
    ----------
    bias : Tensor, shape (n_heads, span)
        For each distance in frames.
    distance : Tensor of int, shape (..., n_queries, n_keys)
        How many frames each key lies before each query.
    shortest : int
        Smallest distance at which a query sees a key; 0 is its own frame.

    Returns
    -------
    Tensor, shape (..., n_heads, n_queries, n_keys)
        Minus infinity where a query does not see a key.
    """
    span = bias.shape[-1]
    padded = F.pad(bias[:, shortest:], (1 + shortest, 1), value=-torch.inf)  # (n_heads, 1 + span + 1), from distance -1
    index = distance.clamp(-1, span) + 1  # (..., n_queries, n_keys)
    return padded.index_select(-1, index.flatten()).unflatten(-1, index.shape).movedim(0, -3)


class NoAttention(nn.Module):
    """Passes the recurrent output through."""

    def __init__(self, hidden_size: int, attention_size: int, span: int):
        super().__init__()

    def initial_state(self, states: Tensor) -> None:
        """Return None, since there is no cache."""

    def forward(self, states: Tensor, cache: None = None) -> tuple[Tensor, None]:
        """Return the states unchanged, and None for the cache."""
        return states, None


class CausalAttention(nn.Module):
    """The poster's attention cell, made causal: a frame attends only to itself and to earlier frames.

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

    def initial_state(self, states: Tensor) -> KVCache:
        """Return an empty cache for a batch of the size of `states` (B, ...)."""
        empty = states.new_empty(len(states), 0, self.scale_shift.in_features)
        return KVCache(empty, empty, 0, self.span)

    def forward(self, states: Tensor, cache: KVCache | RingCache | None = None) -> tuple[Tensor, KVCache | RingCache]:
        """Return the modulated states (B, T, H), and a cache of keys and values for the next call."""
        cache = cache or self.initial_state(states)
        query, keys, values = self._project(states)
        # (B, P + T, A) each, (T, P + T); from a RingCache (B, span, A) each, (1, span).
        keys, values, distance, cache = cache.append(keys, values)
        context = []
        for queries, seen in query_blocks(query.shape[1], keys.shape[1], self.span):
            weights = self._weigh(query[:, queries], keys[:, seen], distance[..., queries, seen])  # (B, S, P + S)
            context.append(weights @ values[:, seen])  # (B, S, A)
        scale, shift = self.scale_shift(torch.cat(context, dim=1)).chunk(2, dim=-1)  # (B, T, H) each
        return states * (1 + scale) + shift, cache

    def weights(self, states: Tensor) -> Tensor:
        """Return the attention weights within a window, without earlier frames, shape (B, T, T)."""
        query, keys, values = self._project(states)
        keys, _, distance, _ = self.initial_state(states).append(keys, values)
        return self._weigh(query, keys, distance)

    def _project(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys that are scaled for the dot product, and values, shape (B, T, A) each."""
        query, keys, values = self.query_key_value(states).chunk(3, dim=-1)
        return query, keys * keys.shape[-1] ** -0.5, values

    def _weigh(self, query: Tensor, keys: Tensor, distance: Tensor) -> Tensor:
        scores = query @ keys.mT  # (B, S, P + S)
        bias = bias_by_distance(self.distance_bias[None], distance).squeeze(-3)  # (S, P + S): one head
        return (scores + bias).softmax(dim=-1)


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
        self.n_pitches = n_pitches
        self.n_heads = n_heads
        self.span = span
        self.query_key = nn.Linear(hidden_size + 3 * n_pitches, 2 * n_heads * COPY_SIZE)
        self.null_key = nn.Linear(hidden_size, n_heads)  # the score of the null key
        self.distance_bias = nn.Parameter(torch.zeros(n_heads, span.bit_length() + 1))  # per power of 2
        self.scale = nn.Parameter(torch.ones(n_heads))

    def initial_state(self, hidden: Tensor) -> KVCache:
        """Return an empty cache for a batch of the size of `hidden` (B, ...)."""
        B = len(hidden)
        keys = hidden.new_empty(B, self.n_heads, 0, COPY_SIZE)
        return KVCache(keys, hidden.new_empty(B, 0, 2 * self.n_pitches), 0, self.span)

    def forward(
        self, hidden: Tensor, pitches: Tensor, cache: KVCache | RingCache | None = None
    ) -> tuple[Tensor, KVCache | RingCache]:
        """Return the retrieved notes (B, T, K, 3 * n_heads), and a cache for the next call."""
        cache = cache or self.initial_state(hidden)
        query, keys = self._project(hidden, pitches)  # (B, h, T, C) each
        notes = torch.cat([pitches[..., ONSET], pitches[..., ACTIVE]], dim=-1).to(keys.dtype)  # (B, T, 2 K)
        keys, notes, distance, cache = cache.append(keys, notes)
        copied_notes = []
        for queries, seen in query_blocks(query.shape[2], keys.shape[2], self.span):
            weights = self._weigh(
                query[:, :, queries], keys[:, :, seen], distance[..., queries, seen], hidden[:, queries]
            )
            copied_notes.append(self._retrieve(weights[..., :-1], notes[:, seen]))  # the null key has value 0
        return torch.cat(copied_notes, dim=1), cache

    def weights(self, hidden: Tensor, pitches: Tensor) -> Tensor:
        """Return the weights within a window, shape (B, n_heads, T, T + 1); the last column is the null key's."""
        query, keys = self._project(hidden, pitches)
        keys, _, distance, _ = self.initial_state(hidden).append(keys, hidden)  # any values: they are not used
        return self._weigh(query, keys, distance, hidden)

    def _project(self, hidden: Tensor, pitches: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys, shape (B, h, T, C) each."""
        active = pitches[..., ACTIVE]  # (B, T, K)
        averages = pitches[..., RECENT_AVERAGES].flatten(-2)  # (B, T, K * 2)
        query, keys = self.query_key(torch.cat([hidden, active, averages], dim=-1)).chunk(2, dim=-1)
        query = query.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        return query, keys.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def _weigh(self, query: Tensor, keys: Tensor, distance: Tensor, hidden: Tensor) -> Tensor:
        """Return the weights (B, h, S, P + S + 1); the last one is the null key's."""
        scores = query * (COPY_SIZE**-0.5 * self.scale[:, None, None]) @ keys.mT  # (B, h, S, P + S)
        scores = scores + bias_by_distance(self._bias(), distance, COPY_DELAY)
        null_score = self.null_key(hidden).transpose(1, 2)[..., None]  # (B, h, S, 1)
        return torch.cat([scores, null_score], dim=-1).softmax(dim=-1)

    def _retrieve(self, weights: Tensor, notes: Tensor) -> Tensor:
        """Return the notes that followed the attended frames, shape (B, S, K, 3 * h); `weights` is (B, h, S, P + S).

        Instead of the notes, the weights move by one and two frames. Those that move past the end of a window are 0,
        since a match is at least `COPY_DELAY` frames old. In a RingCache, the place after the last is the first.
        """
        B, h, S, _ = weights.shape
        rows = weights.flatten(1, 2)  # (B, h * S, P + S): all heads see the same notes
        moved = torch.cat([rows.roll(1, dims=-1), rows.roll(2, dims=-1)], dim=1)  # (B, 2 * h * S, P + S)
        one_later, two_later = (moved @ notes).chunk(2, dim=1)  # (B, h * S, 2 K) each
        onsets, active = one_later.chunk(2, dim=-1)  # (B, h * S, K) each
        found = torch.stack([onsets, two_later[..., : self.n_pitches], active], dim=-1)  # (B, h * S, K, 3)
        return found.unflatten(1, (h, S)).permute(0, 2, 3, 1, 4).flatten(-2)

    def _bias(self) -> Tensor:
        """Return the bias of each distance, shape (n_heads, span). It is constant from one power of 2 to the next."""
        distance = torch.arange(self.span, device=self.scale.device)
        powers = 2 ** torch.arange(1, self.distance_bias.shape[1], device=self.scale.device)
        log_distance = (distance[:, None] >= powers).sum(dim=-1)  # (span,): log2, rounded down
        return self.distance_bias[:, log_distance]
