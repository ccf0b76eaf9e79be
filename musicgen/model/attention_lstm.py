"""The attention LSTM: layers of a recurrent cell with attention, copy attention, and an output head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from musicgen.beats import N_BEAT_FEATURES
from musicgen.model.attention import CausalAttention, CopyAttention, KVCache, NoAttention
from musicgen.model.features import PedalState, PitchHistory, PitchState, initial_pedal_state, pedal_history
from musicgen.model.heads import HEADS, FrameFeatures
from musicgen.model.origin import Origin
from musicgen.model.probe import Probe
from musicgen.piano_roll import DEFAULT_FPS, N_PITCHES
from musicgen.utils.settings import Settings, check_names, setting

COMPOSER_SIZE = 32  # size of a composer's embedding


class LSTMState(NamedTuple):
    """Hidden and cell state of an `LSTM`, each of shape (batch, hidden_size)."""

    hidden: Tensor
    cell: Tensor


class LSTM(nn.LSTM):
    """An LSTM with the interface of a recurrent cell in `CELLS`."""

    def __init__(self, n_inputs: int, hidden_size: int):
        super().__init__(n_inputs, hidden_size, batch_first=True)
        nn.init.xavier_uniform_(self.weight_ih_l0)
        nn.init.orthogonal_(self.weight_hh_l0)
        nn.init.zeros_(self.bias_ih_l0)
        nn.init.zeros_(self.bias_hh_l0)
        nn.init.ones_(self.bias_ih_l0[hidden_size : 2 * hidden_size])  # an open forget gate keeps what was seen

    @property
    def input_weight(self) -> Tensor:
        """Weights of the inputs, shape (4 * hidden_size, n_inputs)."""
        return self.weight_ih_l0

    def initial_state(self, x: Tensor) -> LSTMState:
        """Return the state before the first frame, for a batch of the size of `x` (B, ...)."""
        zeros = x.new_zeros(len(x), self.hidden_size)
        return LSTMState(zeros, zeros)

    def forward(self, x: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Return the hidden states (B, T, H), and the state after the last frame."""
        state = self.initial_state(x) if state is None else state
        if x.shape[1] == 1 and not torch.is_grad_enabled():  # generation: this has a third of the overhead
            hidden, cell = torch.lstm_cell(x[:, 0], state, *self.all_weights[0])
            return hidden[:, None], LSTMState(hidden, cell)
        x, (hidden, cell) = super().forward(x, (state.hidden[None], state.cell[None]))
        return x, LSTMState(hidden[0], cell[0])


# Another cell or attention is one class and one name here.
#
# A cell is a module made with ``(n_inputs, hidden_size)``. Its `forward` takes frames (B, T, n_inputs) and a state, by
# default that of `initial_state`, and returns outputs (B, T, hidden_size) and the new state: a tensor (B, ...), or
# several in a NamedTuple (`map_state` rebuilds it). Its `input_weight` (n, n_inputs) is what its inputs are multiplied
# with. In generation `forward` is called frame by frame, without gradients.
CELLS = {"lstm": LSTM}
ATTENTIONS = {"causal": CausalAttention, "none": NoAttention}


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Configuration of an `AttentionLSTM`."""

    n_pitches: int = setting("Pitches in a frame; a piano has 88.", 88, 1, 512)
    fps: int = setting("Frames per second of the rolls.", DEFAULT_FPS, 1, 1000)
    hidden_size: int = setting("Units of each recurrent layer.", 256, 1, 4096, usual=(16, 1024))
    n_layers: int = setting("Recurrent layers.", 2, 1, 16, usual=(1, 4))
    n_attention_layers: int = setting("How many layers, from the last, have attention cells.", 2, 0, 16, usual=(0, 4))
    attention_size: int = setting("Size of queries, keys and values in attention cells.", 64, 1, 4096, usual=(8, 256))
    attention_span: int = setting("Frames that attention sees; 256 are 12.8 s.", 256, 1, 8192, usual=(16, 1024))
    copy_heads: int = setting("Heads of copy attention; 0 leaves it out.", 4, 0, 16)
    copy_span: int = setting("Frames that copy attention sees; 640 are 32 s.", 640, 4, 8192, usual=(64, 1024))
    dropout: float = setting("Dropout after each layer during training.", 0.0, 0, 0.9)
    cell: str = setting("Recurrent cell of each layer.", "lstm", choices=CELLS.keys())
    attention: str = setting("Attention cell of the last layers.", "causal", choices=ATTENTIONS.keys())
    output: str = setting("Head: ``independent`` as on the poster, or `PitchOutput`.", "joint", choices=HEADS.keys())
    pitch_size: int = setting("Size of the embedding of a pitch in `PitchOutput`.", 16, 1, 512, usual=(4, 64))
    pitch_reach: int = setting("Pitches on either side that a pitch sees.", 36, 1, 128, usual=(1, 87))
    pedal: bool = setting("Hear and predict the sustain pedal, but not with ``independent``.", True)
    beats: bool = setting("Accept beat features as input.", True)
    velocity_context: bool = setting("Let a velocity depend on those below it and on recent ones nearby.", True)
    home: bool = setting("Accept the profile of the opening as input of the head.", False)
    probe: bool = setting("Hold a probe, which tells the model's own music from a pianist's.", False)
    composers: tuple[str, ...] = setting("Composers whose style can be requested.", ())

    def __post_init__(self):
        super().__post_init__()
        if self.n_attention_layers > self.n_layers:
            allowed = f"a whole number from 0 to {self.n_layers}, not {self.n_attention_layers}"
            raise ValueError(f"n_attention_layers must be {allowed} (n_layers is {self.n_layers})")
        if self.home and (self.n_pitches != N_PITCHES or self.output == "independent"):
            raise ValueError(f"home needs {N_PITCHES} pitches and an output other than independent")
        object.__setattr__(self, "composers", check_names("composers", self.composers))

    @property
    def hears_pedal(self) -> bool:
        """True if the pedal is an input; the head must predict it, too, since generation needs it."""
        return self.pedal and self.output != "independent"

    @property
    def n_attending_layers(self) -> int:
        """Number of layers with attention: `n_attention_layers`, but 0 if `attention` is "none"."""
        return 0 if self.attention == "none" else self.n_attention_layers

    @property
    def copies(self) -> bool:
        """True if the model has copy attention, which the independent head cannot use."""
        return self.copy_heads > 0 and self.output != "independent"

    def label_of(self, composer: str | None) -> int:
        """Return the index of a composer's embedding, 0 for None; ValueError if the model does not know the name."""
        if composer is not None and composer not in self.composers:
            known = ", ".join(self.composers[:8]) + (", ..." if len(self.composers) > 8 else "")
            raise ValueError(f"the model does not know {composer!r}; it knows {known or 'no composers'}")
        return 1 + self.composers.index(composer) if composer is not None else 0


class LayerState(NamedTuple):
    """State of one `Layer`: the state of its recurrent cell, and the cache of its attention."""

    cell: Any
    attention: Any


class Layer(nn.Module):
    """A recurrent cell, optionally followed by attention to its earlier outputs.

    Parameters
    ----------
    n_inputs : int
    config : ModelConfig
        Its `cell` and `attention` are names in `CELLS` and `ATTENTIONS`.
    attends : bool
        Whether the layer has attention.
    """

    def __init__(self, n_inputs: int, config: ModelConfig, attends: bool):
        super().__init__()
        attention = ATTENTIONS[config.attention if attends else "none"]
        self.cell = CELLS[config.cell](n_inputs, config.hidden_size)
        self.attention = attention(config.hidden_size, config.attention_size, config.attention_span)

    def initial_state(self, x: Tensor) -> LayerState:
        """Return the state before the first frame, for a batch of the size of `x` (B, ...)."""
        return LayerState(self.cell.initial_state(x), self.attention.initial_state(x))

    def forward(self, x: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """Map (B, T, n_inputs) to (B, T, H), and return the state for the next call."""
        state = self.initial_state(x) if state is None else state
        x, cell = self.cell(x, state.cell)
        x, attention = self.attention(x, state.attention)
        return x, LayerState(cell, attention)


class ModelState(NamedTuple):
    """State of the whole model between two calls."""

    layers: list[LayerState]
    pitches: PitchState
    pedal: PedalState
    copy: KVCache | None

    @property
    def n_rows(self) -> int:
        """The number of rows in the batch."""
        return len(self.pitches.active)

    def select(self, indices: Tensor) -> "ModelState":
        """Return the state of the given rows of the batch, in this order.

        All is copied, so several rows may descend from one, and this state may still be continued.

        Parameters
        ----------
        indices : Tensor of int, shape (n_rows,)
        """
        indices = indices.to(self.pitches.active.device)
        return map_state(self, lambda cache: cache.select(indices), lambda tensor: tensor.index_select(0, indices))

    def fixed(self) -> "ModelState":
        """Return a copy of the state whose shapes do not grow with the number of frames, to continue frame by frame."""
        return map_state(self, lambda cache: cache.as_ring(), lambda tensor: tensor.clone())


def map_state(state: Any, of_cache: Callable[[KVCache], Any], of_tensor: Callable[[Tensor], Any]) -> Any:
    """Apply `of_cache` to each cache of a state and `of_tensor` to each other tensor; None stays None."""
    if state is None:
        return None
    if isinstance(state, KVCache):
        return of_cache(state)
    if isinstance(state, Tensor):
        return of_tensor(state)
    parts = [map_state(part, of_cache, of_tensor) for part in state]
    return parts if isinstance(state, list) else type(state)(*parts)


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

    origin: Origin | None = None  # set by `load_checkpoint`

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.composer = nn.Embedding(len(config.composers) + 1, COMPOSER_SIZE) if config.composers else None
        n_inputs = 2 * config.n_pitches + config.hears_pedal + N_BEAT_FEATURES * config.beats
        n_inputs += COMPOSER_SIZE * (self.composer is not None)
        n_plain = config.n_layers - config.n_attention_layers
        self.layers = nn.ModuleList(
            Layer(config.hidden_size if number else n_inputs, config, attends=number >= n_plain)
            for number in range(config.n_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.history = PitchHistory()
        self.copy = None
        if config.copies:
            self.copy = CopyAttention(config.hidden_size, config.n_pitches, config.copy_heads, config.copy_span)
        self.output = HEADS[config.output](config)
        # For `Steering`; not used by `forward`.
        self.probe = Probe(config.n_layers * config.hidden_size) if config.probe else None
        self._initialise()

    def _initialise(self) -> None:
        """Initialise the first layer for sparse input.

        Of 88 pitches about two sound. With torch's small default weights the first layer hardly reacts to them, and
        the loss stays at the marginal baseline for a thousand updates.
        """
        weight = self.layers[0].cell.input_weight
        nn.init.normal_(weight)
        nn.init.normal_(weight[:, 2 * self.config.n_pitches :], std=0.2)
        if self.composer is not None:
            nn.init.zeros_(self.composer.weight)  # initially all composers are alike

    def forward(
        self,
        frames: Tensor,
        state: ModelState | None = None,
        composers: Tensor | None = None,
        pedal: Tensor | None = None,
        beats: Tensor | None = None,
        home: Tensor | None = None,
    ) -> tuple[FrameFeatures, ModelState]:
        """Return the features from which the output head predicts each next frame, and the new state.

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
        home : Tensor of float, shape (batch, n_pitches, N_HOME_FEATURES), optional
            `musicgen.home.home_features` of the opening of each piece; by default unknown.

        Returns
        -------
        features : FrameFeatures
            Of shape (batch, n_frames, ...).
        state : ModelState
            To continue from.
        """
        B, T, _ = frames.shape
        pedal = frames.new_zeros(B, T) if pedal is None else pedal.to(frames.dtype)
        beats = frames.new_zeros(B, T, N_BEAT_FEATURES) if beats is None else beats
        x = self.inputs(frames, composers, pedal, beats)  # (B, T, I)
        state = self.initial_state(frames) if state is None else state
        outputs = []
        layer_states = []
        for layer, before in zip(self.layers, state.layers):
            x, after = layer(x, before)  # (B, T, H)
            x = self.dropout(x)
            outputs.append(x)
            layer_states.append(after)
        with torch.autocast(frames.device.type, enabled=False):
            pitches, recent, pitch_state = self.history(frames, state.pitches)  # (B, T, K, F), (B, T, K, 4)
            pedal_features, pedal_state = pedal_history(pedal, state.pedal)  # (B, T, 3)
        copied_notes = None
        copy_state = None
        if self.copy is not None:
            copied_notes, copy_state = self.copy(x, pitches, state.copy)  # (B, T, K, 3 h)
        home_embedding = None
        if self.config.home and home is not None:
            home_embedding = self.output.home(home)[:, None]  # (B, 1, K, S): computed once, the same in every frame
            home_embedding = home_embedding.expand(-1, T, -1, -1)  # (B, T, K, S)
        all_hidden = None if self.probe is None else torch.cat(outputs, dim=-1)  # (B, T, L H)
        features = FrameFeatures(x, pitches, recent, pedal_features, beats, copied_notes, home_embedding, all_hidden)
        return features, ModelState(layer_states, pitch_state, pedal_state, copy_state)

    def initial_state(self, frames: Tensor) -> ModelState:
        """Return the state before the first frame, for a batch of the size of `frames` (batch, ..., n_pitches)."""
        return ModelState(
            [layer.initial_state(frames) for layer in self.layers],
            self.history.initial_state(frames),
            initial_pedal_state(frames[..., 0]),
            self.copy.initial_state(frames) if self.copy is not None else None,
        )

    def inputs(self, frames: Tensor, composers: Tensor | None, pedal: Tensor, beats: Tensor) -> Tensor:
        """Return the inputs of the first layer, shape (batch, n_frames, n_inputs)."""
        parts = [(frames > 0).to(frames.dtype), frames]
        if self.config.hears_pedal:
            parts.append(pedal[..., None])
        if self.config.beats:
            parts.append(beats)
        if self.composer is not None:
            composers = frames.new_zeros(len(frames), dtype=torch.long) if composers is None else composers
            parts.append(self.composer(composers)[:, None].expand(-1, frames.shape[1], -1))
        return torch.cat(parts, dim=-1)
