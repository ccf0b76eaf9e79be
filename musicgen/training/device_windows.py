"""Training windows that are cut on the training device, where all rolls are kept."""

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from musicgen.beats import beat_features
from musicgen.dataset import Batch, RollCache, WindowConfig
from musicgen.home import N_HOME_FEATURES
from musicgen.piano_roll import N_PITCHES, PianoRoll


class DeviceWindows:
    """Epochs of random windows (`dataset.Batches`), cut on the training device, because a processor may be too slow.

    All rolls lie on the device, each in `WindowConfig.tempo_versions` tempos. A window is drawn from any piece, so that
    each frame is as likely as another; it may reach beyond the end of its piece by half its length. Unlike those of
    `WindowBatches`, the windows of an epoch need not cover every frame. They are as many as the corpus has frames for.

    Parameters
    ----------
    rolls : RollCache
    config : WindowConfig
    composers : sequence of str
        Those that the model knows.
    device : torch.device or str
    """

    def __init__(
        self, rolls: RollCache, config: WindowConfig, composers: Sequence[str] = (), device: torch.device | str = "cpu"
    ):
        self.config = config
        self.device = torch.device(device)
        self.n_frames = int(rolls.lengths.sum())
        n_versions = max(1, config.tempo_versions)
        # Tempos of the second version and on; the first is the music as it is.
        stretches = np.random.default_rng(config.seed).uniform(-config.max_stretch, config.max_stretch, n_versions - 1)
        factors = [1.0, *np.exp(stretches)]
        versions = [roll if factor == 1 else roll.stretch(factor) for factor in factors for roll in rolls]
        self.velocity = self._join([roll.velocity for roll in versions])  # (N, 88), N frames of all versions
        self.pedal = self._join([roll.pedal_down.astype(np.float32) for roll in versions])  # (N,)
        beats = [beat_features(roll.beats, roll.n_frames, roll.fps).astype(np.float16) for roll in versions]
        self.beats = self._join(beats)  # (N, N_BEAT_FEATURES)
        lengths = np.array([roll.n_frames for roll in versions])
        self.lengths = torch.from_numpy(lengths).to(self.device)
        self.starts = torch.from_numpy(np.cumsum(lengths) - lengths).to(self.device)
        self.chances = self.lengths.float() * (self.lengths > 1)
        if not self.chances.any():
            raise ValueError("no piece has two frames or more: there is nothing to predict")
        known = {composer: label for label, composer in enumerate(composers, 1)}
        labels = [known.get(piece.composer, 0) for piece in rolls.pieces]
        self.labels = torch.tensor(labels * n_versions, device=self.device)
        room = np.array([_room(roll) for roll in versions])
        self.room_below, self.room_above = torch.from_numpy(room.T).to(self.device)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, counted from 0. They depend on the seed and the number only."""
        seed = np.random.SeedSequence([self.config.seed, number]).generate_state(1, np.uint64)[0]
        random = torch.Generator(self.device).manual_seed(int(seed >> np.uint64(1)))
        for _ in range(self.n_batches(number)):
            yield self.draw(random)

    def n_batches(self, number: int) -> int:
        """Return the number of batches in epoch `number`."""
        return -(-self.n_frames // (self.config.batch_size * self.config.window_frames))

    def longer(self) -> "DeviceWindows":
        """Return the same data in batches of half as many windows, each twice as long; the rolls are shared."""
        other = copy(self)  # the rolls are shared
        other.config = self.config.longer()
        return other

    def draw(self, random: torch.Generator) -> Batch:
        """Return a batch of random windows, as tensors on the device."""
        B, T = self.config.batch_size, self.config.window_frames + 1

        def uniform() -> Tensor:
            return torch.rand(B, device=self.device, generator=random)

        piece = torch.multinomial(self.chances, B, replacement=True, generator=random)  # (B,)
        length = self.lengths[piece]  # (B,)
        first = (uniform() * (length - self.config.window_frames // 2).clamp(min=1)).long()  # (B,)
        frame = first[:, None] + torch.arange(T, device=self.device)  # (B, T)
        music = frame < length[:, None]  # (B, T): false beyond the end of the piece
        index = self.starts[piece][:, None] + torch.minimum(frame, length[:, None] - 1)  # (B, T)
        source = self._transposed(piece, uniform())[:, None].expand(B, T, N_PITCHES)
        velocity = self.velocity[index].gather(2, source) * music[..., None]  # (B, T, 88)
        with_beats = uniform() >= self.config.beat_dropout  # (B,)
        beats = self.beats[index].float() * (music & with_beats[:, None])[..., None]  # (B, T, N_BEAT_FEATURES)
        composers = self.labels[piece] * (uniform() >= self.config.composer_dropout)  # (B,)
        lengths = (length - first).clamp(max=T)
        home = torch.zeros(B, N_PITCHES, N_HOME_FEATURES, device=self.device)  # hidden
        return Batch(velocity, self.pedal[index] * music, beats, lengths, composers, home)

    def _transposed(self, piece: Tensor, draw: Tensor) -> Tensor:
        """Draw transpositions, limited by the outermost notes; return the source column of each pitch (B, 88)."""
        most = self.config.max_transpose
        shift = (draw * (2 * most + 1)).long() - most  # (B,)
        shift = torch.minimum(torch.maximum(shift, -self.room_below[piece]), self.room_above[piece])
        return (torch.arange(N_PITCHES, device=self.device) - shift[:, None]).remainder(N_PITCHES)

    def _join(self, parts: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(self.device)


def _room(roll: PianoRoll) -> tuple[int, int]:
    """Return the number of semitones by which a roll can be moved down, and up."""
    sounding = np.flatnonzero(roll.velocity.any(axis=0))
    if not len(sounding):
        return 0, 0
    return int(sounding[0]), int(N_PITCHES - 1 - sounding[-1])
