"""The attention LSTM: LSTM layers with causal attention cells, copy attention, and an output head."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model.attention import CausalAttention, CopyAttention
from musicgen.model.features import PitchHistory, PitchState, pedal_history
from musicgen.model.heads import FrameFeatures, IndependentOutput, PitchOutput
from musicgen.model.sequences import Cache
from musicgen.utils.settings import Settings, check_names, setting

OUTPUTS = ("independent", "shared", "joint")
COMPOSER_SIZE = 32  # size of a composer's embedding


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Configuration of an `AttentionLSTM`."""

    n_pitches: int = setting("Pitches in a frame; a piano has 88.", 88, 1, 512)
    hidden_size: int = setting("Units of each LSTM layer.", 256, 1, 4096, usual=(16, 1024))
    n_layers: int = setting("LSTM layers.", 2, 1, 16, usual=(1, 4))
    n_attention_layers: int = setting("How many layers, from the last, have attention cells.", 2, 0, 16, usual=(0, 4))
    attention_size: int = setting("Size of queries, keys and values in attention cells.", 64, 1, 4096, usual=(8, 256))
    attention_span: int = setting("Frames that attention sees; 256 are 12.8 s.", 256, 1, 8192, usual=(16, 1024))
    copy_heads: int = setting("Heads of copy attention; 0 leaves it out.", 4, 0, 16)
    copy_span: int = setting("Frames that copy attention sees; 640 are 32 s.", 640, 4, 8192, usual=(64, 1024))
    dropout: float = setting("Dropout after each layer during training.", 0.0, 0, 0.9)
    output: str = setting("Head: ``independent`` as on the poster, or `PitchOutput`.", "joint", choices=OUTPUTS)
    pitch_size: int = setting("Size of the embedding of a pitch in `PitchOutput`.", 16, 1, 512, usual=(4, 64))
    pitch_reach: int = setting("Pitches on either side that a pitch sees.", 36, 1, 128, usual=(1, 87))
    pedal: bool = setting("Predict the sustain pedal, and let the pitches depend on it.", True)
    beats: bool = setting("Accept beat features as input.", True)
    velocity_context: bool = setting("Let a velocity depend on those below it and on recent ones nearby.", True)
    composers: tuple[str, ...] = setting("Composers whose style can be requested.", ())

    def __post_init__(self):
        super().__post_init__()
        if self.n_attention_layers > self.n_layers:
            allowed = f"a whole number from 0 to {self.n_layers}, not {self.n_attention_layers}"
            raise ValueError(f"n_attention_layers must be {allowed} (n_layers is {self.n_layers})")
        object.__setattr__(self, "composers", check_names("composers", self.composers))

    def label_of(self, composer: str | None) -> int:
        """Return the index of a composer's embedding, 0 for None; ValueError if the model does not know the name."""
        if composer is not None and composer not in self.composers:
            known = ", ".join(self.composers[:8]) + (", ..." if len(self.composers) > 8 else "")
            raise ValueError(f"the model does not know {composer!r}, only {known or 'nobody'}")
        return 1 + self.composers.index(composer) if composer is not None else 0


class LayerState(NamedTuple):
    """State of one layer: the LSTM's `hidden` and `cell`, shape (1, batch, hidden_size), and the attention's cache."""

    hidden: Tensor
    cell: Tensor
    cache: Cache | None


class ModelState(NamedTuple):
    """State of the whole model between two calls."""

    layers: list[LayerState]
    pitches: PitchState
    pedal: tuple[Tensor, Tensor]  # down (batch, 1) and age in frames (batch, 1)
    copies: Cache | None


class AttentionLSTM(nn.Module):
    """Predicts each next frame of a piano roll from all frames before it.

    Parameters
    ----------
    config : ModelConfig

    Notes
    -----
    The architecture of the poster "Generating Music with LSTM" (its figure 3): LSTM layers with attention cells, then
    the output. `forward` takes a whole window, or the next part of a piece with the state that the previous part
    returned. Both give the same features. ``output`` turns them into logits.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        n_more = config.pedal + N_BEAT_FEATURES * config.beats + COMPOSER_SIZE * bool(config.composers)
        self.composer = nn.Embedding(len(config.composers) + 1, COMPOSER_SIZE) if config.composers else None
        sizes = [2 * config.n_pitches + n_more] + [config.hidden_size] * config.n_layers
        self.lstms = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(sizes, sizes[1:]))
        n_plain = config.n_layers - config.n_attention_layers
        sizes = config.hidden_size, config.attention_size, config.attention_span
        cells = [nn.Identity()] * n_plain + [CausalAttention(*sizes) for _ in range(config.n_attention_layers)]
        self.attentions = nn.ModuleList(cells)
        self.dropout = nn.Dropout(config.dropout)
        self.history = PitchHistory()
        independent = config.output == "independent"
        sizes = config.hidden_size, config.n_pitches, config.copy_heads, config.copy_span
        self.copy = CopyAttention(*sizes) if config.copy_heads and not independent else None
        self.output = IndependentOutput(config.hidden_size, config.n_pitches) if independent else PitchOutput(config)
        self._initialise()

    def _initialise(self) -> None:
        """Initialise the LSTMs for sparse input.

        Of 88 pitches about two sound. With torch's small default weights the first layer hardly reacts to them, and
        the loss stays at the marginal baseline for a thousand updates. An open forget gate keeps what was seen.
        """
        for lstm in self.lstms:
            nn.init.xavier_uniform_(lstm.weight_ih_l0)
            nn.init.orthogonal_(lstm.weight_hh_l0)
            nn.init.zeros_(lstm.bias_ih_l0)
            nn.init.zeros_(lstm.bias_hh_l0)
            nn.init.ones_(lstm.bias_ih_l0[self.config.hidden_size : 2 * self.config.hidden_size])
        nn.init.normal_(self.lstms[0].weight_ih_l0)
        nn.init.normal_(self.lstms[0].weight_ih_l0[:, 2 * self.config.n_pitches :], std=0.2)
        if self.composer is not None:
            nn.init.zeros_(self.composer.weight)  # initially all composers are alike

    def forward(
        self,
        frames: Tensor,
        state: ModelState | None = None,
        composers: Tensor | None = None,
        pedal: Tensor | None = None,
        beats: Tensor | None = None,
    ) -> tuple[FrameFeatures, ModelState]:
        """Return for each frame the features from which the output head predicts the next frame.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, n_frames, n_pitches)
            0 where a pitch is silent, otherwise its velocity divided by 127.
        state : ModelState, optional
            From the previous call; by default the piece begins here.
        composers : Tensor of int, shape (batch,), optional
            From `ModelConfig.label_of`; 0, the default, is any composer.
        pedal : Tensor, shape (batch, n_frames), optional
            1 where the sustain pedal is down; by default it is up.
        beats : Tensor of float, shape (batch, n_frames, N_BEAT_FEATURES), optional
            `beats.beat_features` of the frames to be predicted, one frame ahead of `frames`; by default unknown.

        Returns
        -------
        features : FrameFeatures
            Of shape (batch, n_frames, ...).
        state : ModelState
            To continue from.
        """
        pedal = frames.new_zeros(frames.shape[:2]) if pedal is None else pedal.to(frames.dtype)
        beats = frames.new_zeros(*frames.shape[:2], N_BEAT_FEATURES) if beats is None else beats
        x, layers = self._inputs(frames, composers, pedal, beats), []  # (B, T, I)
        for layer, before in zip(range(self.config.n_layers), state.layers if state else [None] * len(self.lstms)):
            x, after = self._layer(layer, x, before)  # (B, T, H)
            layers.append(after)
            x = self.dropout(x)
        with torch.autocast(frames.device.type, enabled=False):
            pitches, recent, pitch_state = self.history(frames, state and state.pitches)  # (B, T, K, F), (B, T, K, 4)
            pedal_features, pedal_state = pedal_history(pedal, state and state.pedal)  # (B, T, 3)
        copied, copies = None, None
        if self.copy is not None:
            copied, copies = self.copy(x, pitches, state and state.copies)  # (B, T, K, 3 h)
        features = FrameFeatures(x, pitches, recent, pedal_features, beats, copied)
        return features, ModelState(layers, pitch_state, pedal_state, copies)

    def _inputs(self, frames: Tensor, composers: Tensor | None, pedal: Tensor, beats: Tensor) -> Tensor:
        parts = [(frames > 0).to(frames.dtype), frames]
        if self.config.pedal:
            parts.append(pedal[..., None])
        if self.config.beats:
            parts.append(beats)
        if self.composer is not None:
            composers = frames.new_zeros(len(frames), dtype=torch.long) if composers is None else composers
            parts.append(self.composer(composers)[:, None].expand(-1, frames.shape[1], -1))
        return torch.cat(parts, dim=-1)

    def _layer(self, layer: int, x: Tensor, before: LayerState | None) -> tuple[Tensor, LayerState]:
        x, (hidden, cell) = self._lstm(self.lstms[layer], x, before and (before.hidden, before.cell))
        cache = None
        if isinstance(self.attentions[layer], CausalAttention):
            x, cache = self.attentions[layer](x, before and before.cache)
        return x, LayerState(hidden, cell, cache)

    @staticmethod
    def _lstm(lstm: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run an LSTM layer; a single frame uses `torch.lstm_cell`, which has a third of the overhead."""
        if x.shape[1] > 1 or state is None or torch.is_grad_enabled():
            return lstm(x, state)
        hidden, cell = torch.lstm_cell(x[:, 0], (state[0][0], state[1][0]), *lstm.all_weights[0])
        return hidden[:, None], (hidden[None], cell[None])
