"""From pieces to training data: each piece is sampled once into a cache; batches of windows are cut from the rolls."""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from musicgen.beats import beat_features
from musicgen.home import N_HOME_FEATURES, home_features
from musicgen.midi.performance import MAX_FILE_BYTES, MAX_SECONDS, MidiError, read_performance
from musicgen.piano_roll import DEFAULT_FPS, N_PITCHES, PianoRoll, check_fps, pad
from musicgen.utils.arrays import read_only
from musicgen.utils.files import content_hash, npz_bytes, printable, read_checked, read_npz, write_checked
from musicgen.utils.limits import OverLimit, bounded
from musicgen.utils.processes import run_parallel
from musicgen.utils.progress import print_above_bar, progress_bar
from musicgen.utils.settings import Settings, setting

SAMPLER_VERSION = 7  # part of the cache key: raise it when the sampler changes
# Limits for one file, a hundred times what a long performance takes.
FILE_SECONDS = 20.0
FILE_BYTES = 1_000_000_000
OPENING_SECONDS = (4, 6, 10, 20)  # lengths of the openings that windows are told
KEPT_ROLLS = 128  # decompressed rolls in memory
ROLL_FIELDS = ("velocity", "fps", "pedal", "beats")


class CorpusError(ValueError):
    """Raised for a corpus that cannot be used; the message names the folder, table or address, and the reason."""

    def __init__(self, place: Path | str, reason: str):
        super().__init__(printable(f"{str(place)!r}: {reason}")[:300])
        self.reason = reason


@dataclass(frozen=True)
class Piece:
    """One MIDI file of a corpus.

    Its `name` is the path below the folder of the corpus, with forward slashes. Without a table, the `composer` is
    "unknown" and the `title` the name of the file. `split` is "train", "validation" or "test", and `beats` are
    annotated beats, as in `PianoRoll`; they are read-only.
    """

    path: Path
    name: str
    composer: str
    title: str
    split: str
    beats: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if self.beats is not None:
            object.__setattr__(self, "beats", read_only(np.asarray(self.beats)))


@dataclass(frozen=True, eq=False)
class RollCache(Sequence):
    """The sampled pieces of a corpus, as a sequence of `PianoRoll`; they are compressed in memory.

    Attributes
    ----------
    pieces : list of Piece
        Those that could be sampled.
    entries : list of bytes
        The compressed roll of each piece.
    lengths : numpy.ndarray of int, shape (n_pieces,)
        In frames; read-only.
    skipped : list of (str, str)
        The name of each file that could not be sampled, and the reason.
    dropped : dict of str to int
        Number of dropped notes by reason.
    key : str
        Hash of contents and settings.
    warnings : list of (str, str)
        The name of a file that was sampled, and a fault that was passed over; several for some files.
    """

    pieces: list[Piece]
    entries: list[bytes]
    lengths: np.ndarray
    fps: int
    skipped: list[tuple[str, str]]
    dropped: dict[str, int]
    key: str
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self):
        object.__setattr__(self, "lengths", read_only(np.asarray(self.lengths)))

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int | slice) -> "PianoRoll | RollCache":
        if isinstance(index, slice):
            return self._subset(list(range(len(self)))[index])
        roll = decompress(self.entries[index])
        beats = self.pieces[index].beats
        return roll if beats is None else replace(roll, beats=beats)

    def summary(self) -> dict:
        """Return the number of pieces, the hours, the frame rate and a hash of the data."""
        hours = float(self.lengths.sum() / self.fps / 3600)
        return {"n_pieces": len(self), "hours": round(hours, 2), "fps": self.fps, "key": self.key}

    def select(self, **wanted: str) -> "RollCache":
        """Return a cache of the pieces that have the given field values, as in ``rolls.select(split="train")``.

        Raises
        ------
        ValueError
            If no piece of at least two frames is left.
        """
        chosen = [i for i, piece in enumerate(self.pieces) if all(getattr(piece, k) == v for k, v in wanted.items())]
        if not any(self.lengths[i] > 1 for i in chosen):
            described = " and ".join(f"{name} {value!r}" for name, value in wanted.items())
            few = "; without a table that assigns splits, three or more files are needed" if len(self) < 3 else ""
            raise ValueError(f"no piece of two frames or more has {described} (searched {len(self)} pieces){few}")
        return self._subset(chosen)

    def _subset(self, chosen: list[int]) -> "RollCache":
        key = hashlib.sha256(f"{self.key} {chosen}".encode()).hexdigest()[:16]
        pieces = [self.pieces[i] for i in chosen]
        entries = [self.entries[i] for i in chosen]
        return replace(self, pieces=pieces, entries=entries, lengths=self.lengths[chosen], key=key)

    @classmethod
    def from_rolls(cls, pieces: list[Piece], rolls: Sequence[PianoRoll], key: str = "") -> "RollCache":
        """Make a cache from rolls in memory, all with the same frame rate."""
        lengths = np.array([roll.n_frames for roll in rolls])
        return cls(pieces, [compress(roll) for roll in rolls], lengths, rolls[0].fps, [], {}, key)


def compress(roll: PianoRoll) -> bytes:
    """Return a roll as the bytes of a compressed npz file."""
    return npz_bytes({name: value for name, value in vars(roll).items() if name in ROLL_FIELDS and value is not None})


@lru_cache(KEPT_ROLLS)
def decompress(entry: bytes) -> PianoRoll:
    """Rebuild the roll from the bytes that `compress` returned."""
    return PianoRoll(**{name: int(part) if name == "fps" else part for name, part in read_npz(entry).items()})


def prepare(
    pieces: Sequence[Piece],
    cache_dir: Path | str | None = None,
    fps: int = DEFAULT_FPS,
    sustain: bool = False,
    max_seconds: float = MAX_SECONDS,
    progress: bool = True,
) -> RollCache:
    """Convert pieces to piano rolls in parallel, except those in the cache, and return all rolls.

    Each piece has its own entry in `cache_dir` (by default the user's cache folder), found by a hash of the file's
    content, the settings and the sampler's version. So adding a file samples one file, an interrupted call continues,
    and processes may share a cache. `fps`, `sustain` and `max_seconds` are as in `midi.read_midi`. Raises ValueError
    if none of the files could be sampled. If the cache cannot be written, a line on standard error says so.
    """
    check_fps(fps)
    settings = {"version": SAMPLER_VERSION, "fps": int(fps), "sustain": sustain, "max_seconds": max_seconds}
    folder = Path(cache_dir) if cache_dir is not None else _user_cache()
    paths = [_entry_path(folder.absolute(), piece.path.absolute(), settings) for piece in pieces]
    found = {path: read_checked(path) for path in dict.fromkeys(paths)}
    todo = {path: piece.path for path, piece in zip(paths, pieces) if found[path] is None}
    jobs = [(path, source.absolute(), settings) for path, source in todo.items()]
    problems = []
    with progress_bar("sampling", len(jobs), "piece", progress and bool(jobs)) as bar:
        for (path, *_), (entry, problem) in zip(jobs, run_parallel(_sample_file, jobs)):
            found[path] = entry
            problems += filter(None, [problem])
            bar.update()
    if problems:
        advice = "the files will be sampled again next time; XDG_CACHE_HOME chooses another folder"
        print_above_bar(f"the cache cannot be written ({problems[0]}): {advice}")
    return _collect(pieces, [found[path] for path in paths], settings)


def _user_cache() -> Path:
    """Return the user's cache folder, or a folder for temporary files if the user has no home folder."""
    from pooch import os_cache  # imported here because it takes half a second

    try:
        return os_cache("musicgen").expanduser()
    except RuntimeError:  # the home folder is unknown, as in some containers
        return Path(tempfile.gettempdir()) / "musicgen"


def _sample_file(path: Path, source: Path, settings: dict) -> tuple[bytes, str]:
    """Sample one file within limits of time and memory, and write its cache entry.

    Returns
    -------
    entry : bytes
    problem : str
        Why the entry could not be written; empty if it was.
    """
    fps, max_seconds = settings["fps"], settings["max_seconds"]
    roll = b""
    try:
        with bounded(FILE_SECONDS, FILE_BYTES):
            performance = read_performance(source)
            sampled = performance.to_roll(fps, settings["sustain"], max_seconds)
            report = {
                "n_frames": sampled.n_frames,
                "dropped": performance.dropped_notes(fps, max_seconds),
                "warnings": performance.warnings,
            }
            roll = compress(sampled)
        is_final = True
    except MidiError as error:
        report = {"reason": error.reason}
        is_final = source.is_file()  # what cannot be opened is tried again next time
    except OverLimit as error:
        report = {"reason": str(error)}
        is_final = False  # as is what took too much: another computer, or this one on another day, may have more
    entry = json.dumps(report).encode() + b"\n" + roll
    # A file that was replaced between its hash and its sampling must not stay in the cache as what it was before.
    if is_final and path == _entry_path(path.parent, source, settings):
        try:
            write_checked(path, entry)
        except OSError as error:  # a full disk or a read-only folder: the work is not lost
            return entry, str(error)
    return entry, ""


def _entry_path(folder: Path, source: Path, settings: dict) -> Path:
    """Return where the entry of a file lies, by a hash of its content and of the settings."""
    return folder / f"{content_hash(source, MAX_FILE_BYTES, json.dumps(settings))[:40]}.roll"


def _collect(pieces: Sequence[Piece], entries: list[bytes], settings: dict) -> RollCache:
    """Make a `RollCache` of the pieces that were sampled, and list those that failed."""
    reports = [json.loads(entry.partition(b"\n")[0]) for entry in entries]
    skipped = [(piece.name, report["reason"]) for piece, report in zip(pieces, reports) if "reason" in report]
    good = [index for index, report in enumerate(reports) if "reason" not in report]
    if not good:
        first = f"; the first, {skipped[0][0]!r}: {skipped[0][1]}" if skipped else ""
        raise ValueError(printable(f"none of the {len(pieces)} files could be sampled{first}")[:300])
    dropped = Counter()
    for index in good:
        dropped.update(reports[index]["dropped"])
    digest = hashlib.sha256(
        json.dumps(settings).encode()
        + b"".join(piece.name.encode(errors="surrogateescape") + entry for piece, entry in zip(pieces, entries))
    )
    return RollCache(
        pieces=[pieces[index] for index in good],
        entries=[entries[index].partition(b"\n")[2] for index in good],
        lengths=np.array([reports[index]["n_frames"] for index in good]),
        fps=settings["fps"],
        skipped=skipped,
        dropped=dict(dropped),
        key=digest.hexdigest()[:16],
        warnings=[(pieces[index].name, warning) for index in good for warning in reports[index]["warnings"]],
    )


@dataclass(frozen=True)
class WindowConfig(Settings):
    """Configuration of `WindowBatches` and `DeviceWindows`."""

    window_frames: int = setting("Frames to predict in one window.", 128, 2, 8192, usual=(32, 1024))
    batch_size: int = setting("Windows per batch.", 8, 1, 1024, usual=(1, 64))
    max_transpose: int = setting("Transpose each window by up to this many semitones.", 0, 0, 12)
    max_stretch: float = setting("Change the tempo of each window by up to this share.", 0.0, 0, 0.5)
    tempo_versions: int = setting("Tempo versions per piece, for windows cut on the device; 0: on the CPU.", 0, 0, 100)
    composer_dropout: float = setting("Share of windows whose composer is hidden.", 0.2, 0, 1)
    beat_dropout: float = setting("Share of windows whose beats are hidden.", 0.3, 0, 1)
    home_dropout: float = setting("Share of windows whose opening is hidden.", 0.2, 0, 1)
    seed: int = setting("Seed of all random choices.", 0, 0, 2**63 - 1)

    def longer(self) -> "WindowConfig":
        """Return a configuration with windows of twice the length, and half as many in a batch."""
        return replace(self, window_frames=2 * self.window_frames, batch_size=max(1, self.batch_size // 2))


class Batch(NamedTuple):
    """A batch of windows: frame t + 1 is the target of frame t. Arrays, or tensors on the training device.

    Windows that are shorter than `window_frames` + 1 = T frames are padded with zeros.
    """

    velocity: np.ndarray  # (B, T, 88) uint8
    pedal: np.ndarray  # (B, T) float32
    beats: np.ndarray  # (B, T, N_BEAT_FEATURES) float32; 0 where beats are unknown or hidden
    lengths: np.ndarray  # (B,) frames without padding
    composers: np.ndarray  # (B,) as in `ModelConfig.label_of`
    home: np.ndarray  # (B, 88, N_HOME_FEATURES) float32; 0 where the opening is unknown or hidden


class Batches(Protocol):
    """Interface of a trainer's data. The batches of an epoch depend only on the number of the epoch.

    So a stopped run can continue, also within an epoch. `WindowBatches` cuts the windows on the CPU,
    `training.device_windows.DeviceWindows` on the training device.
    """

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, counted from 0."""

    def n_batches(self, number: int) -> int:
        """Return the number of batches in epoch `number`."""

    def longer(self) -> "Batches":
        """Return the same data in batches of half as many windows, each twice as long."""


class WindowBatches:
    """Epochs of shuffled windows, each within one piece; see `Batches`.

    Unless windows are stretched, an epoch predicts every frame but the first of a piece at least once. `composers` are
    those that the model knows. With `home`, a window is told the opening of its piece: the first seconds, from 4 to 20
    of them. It is hidden in windows that overlap the opening, which would be told what they must predict.
    """

    def __init__(self, rolls: RollCache, config: WindowConfig, composers: Sequence[str] = (), home: bool = False):
        self.rolls = rolls
        self.home = home
        self.config = config
        self.composers = composers
        labels = {composer: label for label, composer in enumerate(composers, 1)}
        self.labels = np.array([labels.get(piece.composer, 0) for piece in rolls.pieces])

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, counted from 0."""
        random = np.random.default_rng([self.config.seed, number])
        windows = random.permutation(self._cut(random))
        for first in range(0, len(windows), self.config.batch_size):
            chosen = windows[first : first + self.config.batch_size]
            rolls = [self._excerpt(*window, random) for window in chosen]
            with_composer = random.random(len(chosen)) >= self.config.composer_dropout
            with_beats = random.random(len(chosen)) >= self.config.beat_dropout
            home = np.zeros((len(chosen), N_PITCHES, N_HOME_FEATURES), np.float32)
            if self.home:
                home = np.stack([self._home(*window, roll, random) for window, roll in zip(chosen, rolls)])
            yield self._batch(rolls, with_beats, self.labels[chosen[:, 0]] * with_composer, home)

    def longer(self) -> "WindowBatches":
        """Return the same data in batches of half as many windows, each twice as long."""
        return WindowBatches(self.rolls, self.config.longer(), self.composers, self.home)

    def n_batches(self, number: int) -> int:
        """Return the number of batches in epoch `number`."""
        n_windows = len(self._cut(np.random.default_rng([self.config.seed, number])))
        return -(-n_windows // self.config.batch_size)

    def _cut(self, random: np.random.Generator) -> np.ndarray:
        """Return the piece and the first frame of each window. Windows lie on a randomly shifted grid in each piece."""
        step = self.config.window_frames
        offsets = random.integers(step, size=len(self.rolls))
        cuts = []
        for piece, (offset, length) in enumerate(zip(offsets, self.rolls.lengths)):
            if length >= 2:
                # The first and the last window are moved into the piece. They are shorter only if the piece is.
                starts = np.clip(np.arange(-offset, length - 1, step), 0, max(0, length - 1 - step))
                cuts.append(np.column_stack([np.full_like(starts, piece), starts]))
        if not cuts:
            raise ValueError("no piece has two frames or more: there is nothing to predict")
        return np.concatenate(cuts)

    def _excerpt(self, piece: int, start: int, random: np.random.Generator) -> PianoRoll:
        semitones = random.integers(-self.config.max_transpose, self.config.max_transpose + 1)
        factor = 1 + random.uniform(-self.config.max_stretch, self.config.max_stretch)
        n_frames = self.config.window_frames + 1
        roll = self.rolls[piece][start : start + round(n_frames / factor)].transpose(semitones)
        return roll.stretch(factor)[:n_frames] if self.config.max_stretch else roll

    def _home(self, piece: int, start: int, window: PianoRoll, random: np.random.Generator) -> np.ndarray:
        """Return the profile of the piece's opening, transposed like the window; all 0 if it is hidden."""
        n_frames = round(random.choice(OPENING_SECONDS) * self.rolls.fps)
        hidden = random.random() < self.config.home_dropout
        roll = self.rolls[piece]
        unknown = home_features(roll[:0])
        first = int(roll.active.any(axis=1).argmax())
        opening = roll[first : first + n_frames]
        before = np.flatnonzero(roll[start : start + window.n_frames].active.any(axis=0))
        after = np.flatnonzero(window.active.any(axis=0))
        if hidden or start < first + n_frames or not len(before) or not len(after):
            return unknown
        shift = int(after[0] - before[0])  # the outermost notes limit it
        moved = opening.transpose(shift)
        fits = moved.notes["pitch"][0] == opening.notes["pitch"][0] + shift
        return home_features(moved) if fits else unknown

    def _batch(self, rolls: list[PianoRoll], with_beats: np.ndarray, composers: np.ndarray, home: np.ndarray) -> Batch:
        n_frames = self.config.window_frames + 1
        velocity, lengths = pad([roll.velocity for roll in rolls], n_frames)
        pedal = np.zeros(velocity.shape[:2], np.float32)
        for row, roll in zip(pedal, rolls):
            row[: roll.n_frames] = roll.pedal_down
        beats = [
            beat_features(roll.beats if known else None, n_frames, roll.fps) for roll, known in zip(rolls, with_beats)
        ]
        return Batch(velocity, pedal, np.stack(beats), lengths, composers, home)
