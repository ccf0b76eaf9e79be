"""A corpus sampled once: many piano rolls in one cache on disk."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
from platformdirs import user_cache_path
from tqdm import tqdm

from musicgen.corpora.folder import Piece
from musicgen.fingerprints import Status, file_hash, list_hash, read_sealed, recall, remember, text_hash, write_sealed
from musicgen.midi import MAX_FILE_BYTES, MAX_SECONDS, MidiError, read_midi
from musicgen.piano_roll import DEFAULT_FPS, N_PITCHES, PianoRoll, check_fps
from musicgen.shards import Shards, growing, is_whole
from musicgen.support.limits import OverLimit, bounded

# Part of the cache's key: raise it with every change in what the sampler makes of a file.
SAMPLER_VERSION = 3

# What one file may take, before it is skipped: a hundred times what a long performance does.
FILE_SECONDS = 20.0
FILE_BYTES = 1_000_000_000

# So many files are sampled before they count: what a preparation that was killed does again, and holds at most.
SHARD_FILES = 500


@dataclass(frozen=True, eq=False)
class RollCache(Sequence):
    """The sampled pieces of a corpus, memory-mapped: an index gives a `PianoRoll` without a copy.

    Parameters
    ----------
    pieces : list of Piece
        The pieces that could be sampled.
    frames : numpy.ndarray of uint8, shape (total_frames, 88)
        The velocities of all pieces, one after the other.
    starts, lengths : numpy.ndarray of int, shape (n_pieces,)
        Where each piece lies in `frames`, in frames.
    fps : int
        Frames a second.
    skipped : list of (str, str)
        The name of each file that could not be sampled, and the reason.
    key : str
        Stands for the content of the files and for how they were sampled.
    """

    pieces: list[Piece]
    frames: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    fps: int
    skipped: list[tuple[str, str]]
    key: str

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int | slice) -> "PianoRoll | RollCache":
        if isinstance(index, slice):
            return self._only(list(range(len(self)))[index])
        start = self.starts[index]
        return PianoRoll(self.frames[start : start + self.lengths[index]], self.fps)

    def summary(self) -> dict:
        """Tell what these pieces are, in JSON: how many, how long, and a key that changes with the data."""
        hours = round(float(self.lengths.sum() / self.fps / 3600), 2)
        return {"n_pieces": len(self), "hours": hours, "fps": self.fps, "key": self.key}

    def select(self, **wanted: str) -> "RollCache":
        """Keep the pieces whose fields have the wanted values, as in ``rolls.select(split="train")``.

        Raises
        ------
        ValueError
            If no piece is left.
        """
        chosen = [i for i, piece in enumerate(self.pieces) if all(getattr(piece, k) == v for k, v in wanted.items())]
        if not chosen:
            told = " and ".join(f"{name} {value!r}" for name, value in wanted.items())
            few = "; without a table that splits them it takes three or more" if len(self) < 3 else ""
            raise ValueError(f"none of the {len(self)} pieces has {told}{few}")
        return self._only(chosen)

    def _only(self, chosen: list[int]) -> "RollCache":
        pieces = [self.pieces[i] for i in chosen]
        key = text_hash(f"{self.key} {chosen}")[:16]
        return replace(self, pieces=pieces, starts=self.starts[chosen], lengths=self.lengths[chosen], key=key)


def prepare(
    pieces: Sequence[Piece],
    cache_dir: Path | str | None = None,
    fps: int = DEFAULT_FPS,
    sustain: bool = False,
    max_seconds: float = MAX_SECONDS,
    progress: bool = True,
) -> RollCache:
    """Sample every piece once, in parallel, and keep the rolls; the next call with the same files is immediate.

    A call that was killed is gone on with: no more than the last 500 files are sampled again. Memory does not grow
    with the music, only with the list of the files.

    The cache is keyed by the content of the files, the settings and the version of the sampler, and carries
    its own checksum: made from anything else, or damaged, it is made anew. Files that nobody touched since they were
    last read are not read again for a day.

    Parameters
    ----------
    pieces : sequence of Piece
        As `corpus.load_corpus` gives them.
    cache_dir : Path or str, optional
        Where caches are kept; by default the user's cache folder.
    fps, sustain, max_seconds
        As in `midi.read_midi`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    RollCache

    Raises
    ------
    ValueError
        If not one of the files could be sampled.
    """
    check_fps(fps)
    settings = {"version": SAMPLER_VERSION, "fps": int(fps), "sustain": sustain, "max_seconds": max_seconds}
    folder = Path(cache_dir) if cache_dir is not None else user_cache_path("musicgen")
    sources = Status.of(settings, ((piece.name, piece.path) for piece in pieces))
    note_path = folder / f"{sources.key[:16]}.seen"
    seen = recall(note_path)
    contents = ([piece.name, file_hash(piece.path, MAX_FILE_BYTES)] for piece in pieces)
    key = seen.get("key") or list_hash(settings, contents)[:16]
    data_path, index_path = folder / f"{key}.u8", folder / f"{key}.json"
    data = Status.of({}, [(key, data_path)])
    untouched = data.key == seen.get("data")
    index = _read_index(index_path, data_path, untouched)
    if index is None:
        index = _make(pieces, (fps, sustain, max_seconds), data_path, index_path, progress)
    elif not untouched and data.settled and sources.settled:
        remember(note_path, {"key": key, "data": data.key})
    return _open_cache(pieces, index, data_path, fps)


def _read_index(index_path: Path, data_path: Path, untouched: bool = False) -> dict | None:
    """Return the index of a cache that is whole, or None; rolls that are `untouched` were whole when last read."""
    index = read_sealed(index_path)
    return index if "seals" in index and (untouched or is_whole(data_path, index["seals"])) else None


def _make(pieces: Sequence[Piece], settings: tuple, data_path: Path, index_path: Path, progress: bool) -> dict:
    """Sample all pieces into a new cache and return its index; another process may have made it meanwhile."""
    with growing(data_path) as shards:
        index = _read_index(index_path, data_path)
        if index is None:
            index = _sample_all(pieces, settings, shards, progress)
            write_sealed(index_path, index)
            shards.finish()
    return index


def _sample(path: Path, settings: tuple, seconds: float, n_bytes: int) -> tuple[int, np.ndarray, np.ndarray] | str:
    """Return a roll as its length, the places of the cells that sound, and what they hold: a tenth of its bytes."""
    try:
        with bounded(seconds, n_bytes):
            velocity = read_midi(path, *settings).velocity
            places = np.flatnonzero(velocity).astype(np.uint32)
            return len(velocity), places, velocity.ravel()[places]
    except MidiError as error:
        return error.reason
    except OverLimit as error:
        return str(error)


def _sample_all(pieces: Sequence[Piece], settings: tuple, shards: Shards, progress: bool) -> dict:
    """Write the rolls one after the other as they come, and return what is where and what was skipped."""
    if not pieces:
        raise ValueError("there are no pieces to sample")
    done = sum(len(note["lengths"]) for note in shards.notes)
    with tqdm(total=len(pieces), initial=done, desc="sampling", unit="piece", disable=not progress) as bar:
        for first in range(done, len(pieces), SHARD_FILES):
            note = {"lengths": [], "skipped": []}
            shards.append(_sample_some(pieces[first : first + SHARD_FILES], settings, note, bar), note)
    lengths, skipped = ([each for note in shards.notes for each in note[name]] for name in ("lengths", "skipped"))
    if not any(lengths):
        shards.remove()
        name, reason = skipped[0]
        raise ValueError(f"none of the {len(pieces)} files could be sampled; the first, {name!r}: {reason}")
    return {"lengths": lengths, "skipped": skipped, "seals": shards.seals}


def _sample_some(pieces: Sequence[Piece], settings: tuple, note: dict, bar: tqdm) -> Iterator[np.ndarray]:
    """Yield the rolls of those pieces that have one, and note their lengths, 0 for the others."""
    workers = joblib.Parallel(n_jobs=min(os.cpu_count() or 1, len(pieces)), return_as="generator", batch_size=8)
    # Absolute, since the workers of an earlier call may still stand in another folder.
    calls = (joblib.delayed(_sample)(piece.path.absolute(), settings, FILE_SECONDS, FILE_BYTES) for piece in pieces)
    for piece, result in zip(pieces, workers(calls)):
        bar.update()
        if isinstance(result, str):
            note["skipped"].append([piece.name, result])
        else:
            roll = np.zeros((result[0], N_PITCHES), np.uint8)
            np.put(roll, *result[1:])
            yield roll
        note["lengths"].append(0 if isinstance(result, str) else result[0])


def _open_cache(pieces: Sequence[Piece], index: dict, data_path: Path, fps: int) -> RollCache:
    sampled = [piece for piece, length in zip(pieces, index["lengths"]) if length]
    lengths = np.array([length for length in index["lengths"] if length])
    frames = np.memmap(data_path, np.uint8, "r", shape=(int(lengths.sum()), N_PITCHES))
    skipped = [*map(tuple, index["skipped"])]
    return RollCache(sampled, frames, np.cumsum(lengths) - lengths, lengths, fps, skipped, data_path.stem)
