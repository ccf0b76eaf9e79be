"""The attention LSTM: LSTM layers with a causal attention cell after each, and an output that plays the keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from musicgen.attention import CausalAttention
from musicgen.keys import FrameFeatures, IndependentOutput, PitchHistory, PitchOutput, PitchState
from musicgen.support.settings import Settings, setting

OUTPUTS = ("independent", "shared", "joint")
COMPOSER_SIZE = 32  # values in the embedding of a composer


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The sizes of an `AttentionLSTM`.

    Parameters
    ----------
    n_pitches : int
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
    output : str
        ``independent``, the poster's linear layer to one logit per key; ``shared``, a `PitchOutput` that treats all
        keys by the same rules, still independently; or ``joint``, in which the keys of a frame know each other.
    pitch_size : int
        Values that a `PitchOutput` works out for each key (1..512).
    pitch_reach : int
        Keys to either side that it looks at (1..128); 36 are three octaves.
    composers : tuple of str
        Whose music the model tells apart; it can be told any of them, or none.
    """

    n_pitches: int = setting(88, 1, 512)
    hidden_size: int = setting(256, 1, 4096, usual=(16, 1024))
    n_layers: int = setting(2, 1, 16, usual=(1, 4))
    n_attention_layers: int = setting(2, 0, 16, usual=(0, 4))
    attention_size: int = setting(64, 1, 4096, usual=(8, 256))
    attention_span: int = setting(256, 1, 8192, usual=(16, 1024))
    dropout: float = setting(0.0, 0, 0.9)
    output: str = setting("joint", choices=OUTPUTS)
    pitch_size: int = setting(16, 1, 512, usual=(4, 64))
    pitch_reach: int = setting(36, 1, 128, usual=(1, 87))
    composers: tuple[str, ...] = setting(())

    def __post_init__(self):
        super().__post_init__()
        if self.n_attention_layers > (most := self.n_layers):
            raise ValueError(
                f"n_attention_layers must be a whole number from 0 to {most}, not {self.n_attention_layers}"
            )
        if isinstance(self.composers, str) or not isinstance(self.composers, Sequence):
            raise ValueError(f"composers must be a sequence of names, not {self.composers!r}")
        object.__setattr__(self, "composers", tuple(self.composers))
        if not all(isinstance(name, str) and name for name in self.composers):
            raise ValueError(f"composers must be names, not {self.composers!r}")
        if len(set(self.composers)) < len(self.composers):
            raise ValueError(f"composers names one twice: {', '.join(self.composers)}")

    def label_of(self, composer: str | None) -> int:
        """Return what stands for a composer, or for any; ValueError if it is none of ``composers``."""
        if composer is not None and composer not in self.composers:
            raise ValueError(f"the model does not know {composer!r}, only {', '.join(self.composers) or 'nobody'}")
        return 1 + self.composers.index(composer) if composer is not None else 0


class LayerState(NamedTuple):
    """What one layer keeps between two calls, so that music can be heard or made piece by piece.

    `hidden` and `cell` are the LSTM's, shape (1, batch, hidden_size); `keys` and `values` are those of the last
    ``attention_span - 1`` frames, shape (batch, frames, attention_size), None without attention.
    """

    hidden: Tensor
    cell: Tensor
    keys: Tensor | None
    values: Tensor | None


class ModelState(NamedTuple):
    """What the whole model keeps between two calls: of each layer, and of each key if its output looks at them."""

    layers: list[LayerState]
    keys: PitchState | None


class AttentionLSTM(nn.Module):
    """Predicts each next frame of a piano roll from all frames before it.

    Parameters
    ----------
    config : ModelConfig
        The sizes.

    Notes
    -----
    The architecture of the poster "Generating Music with LSTM" (its figure 3): LSTM layers with attention cells,
    then the output. `forward` takes a whole window at once, or any next part of a piece with the state that the
    part before it left: both hear the same. What it returns goes to ``output``, which holds the methods that turn
    it into logits.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.composer = nn.Embedding(len(config.composers) + 1, COMPOSER_SIZE) if config.composers else None
        n_inputs = 2 * config.n_pitches + (COMPOSER_SIZE if config.composers else 0)
        sizes = [n_inputs] + [config.hidden_size] * config.n_layers
        self.lstms = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(sizes, sizes[1:]))
        plain = config.n_layers - config.n_attention_layers
        self.attentions = nn.ModuleList(
            nn.Identity()
            if layer < plain
            else CausalAttention(config.hidden_size, config.attention_size, config.attention_span)
            for layer in range(config.n_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.memory = None if config.output == "independent" else PitchHistory()
        self.output = self._make_output(config)
        self._initialise()

    @staticmethod
    def _make_output(config: ModelConfig) -> PitchOutput | IndependentOutput:
        if config.output == "independent":
            return IndependentOutput(config.hidden_size, config.n_pitches)
        return PitchOutput(config.hidden_size, config.n_pitches, config.pitch_size, config.pitch_reach, config.output == "joint")

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
        if self.composer is not None:
            nn.init.zeros_(self.composer.weight)  # at first all composers are alike

    def forward(
        self, frames: Tensor, state: ModelState | None = None, composers: Tensor | None = None
    ) -> tuple[FrameFeatures, ModelState]:
        """Return what is known after each frame, that is, before the one that follows it.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, n_frames, n_pitches)
            0 where a key is up, else how loud it was struck, up to 1: a binary roll is one of equal loudness.
        state : ModelState, optional
            What the call before returned; by default the piece begins here.
        composers : Tensor of int, shape (batch,), optional
            Places in ``config.composers``, counted from 1; 0, the default, stands for any.

        Returns
        -------
        heard : FrameFeatures
            Of shapes (batch, n_frames, hidden_size) and (batch, n_frames, n_pitches, features); an independent output
            looks at no key, and of its features there is only the first.
        state : ModelState
            To go on from.
        """
        x = self._inputs(frames, composers)  # (B, T, 2 K + E)
        layers = []
        for layer, before in zip(range(self.config.n_layers), state.layers if state else [None] * len(self.lstms)):
            x, after = self._layer(layer, x, before)  # (B, T, H)
            layers.append(after)
            x = self.dropout(x)
        if self.memory is None:
            return FrameFeatures(x, (frames > 0).to(frames.dtype)[..., None]), ModelState(layers, None)
        with torch.autocast(frames.device.type, enabled=False):
            keys, key_state = self.memory(frames, state.keys if state else None)  # (B, T, K, F)
        return FrameFeatures(x, keys), ModelState(layers, key_state)

    def _inputs(self, frames: Tensor, composers: Tensor | None) -> Tensor:
        """Join whether a key sounds, how loud, and whose music it is, in every frame."""
        parts = [(frames > 0).to(frames.dtype), frames]
        if self.composer is not None:
            if composers is None:
                composers = torch.zeros(len(frames), dtype=torch.long, device=frames.device)
            parts.append(self.composer(composers)[:, None].expand(-1, frames.shape[1], -1))
        return torch.cat(parts, dim=-1)

    def attention_weights(self, frames: Tensor, composers: Tensor | None = None) -> list[Tensor]:
        """Return what each attention layer looks at, for a piece that begins with `frames`.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, n_frames, n_pitches)
        composers : Tensor of int, shape (batch,), optional
            Both as in `forward`.

        Returns
        -------
        list of Tensor, shape (batch, n_frames, n_frames)
            For each attention layer, the weight of each frame (last axis) for each frame; rows sum to 1.
        """
        x, weights = self._inputs(frames, composers), []
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
