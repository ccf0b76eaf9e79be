"""The mido sampler: a MIDI file becomes a piano roll on a constant grid, and a roll becomes a MIDI file."""

import io
import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

import mido
import numpy as np
from mido.midifiles import midifiles as mido_reader

from musicgen.performance import DEFAULT_TEMPO, MAX_SECONDS, RAW_NOTE_DTYPE, MidiError, Performance, TempoMap
from musicgen.piano_roll import DEFAULT_FPS, HIGHEST_PITCH, LOWEST_PITCH, PianoRoll
from musicgen.support.files import atomic_write

MAX_FILE_BYTES = 4_000_000
TOO_LARGE = f"larger than {MAX_FILE_BYTES:,} bytes, which no piano piece is"
DRUM_CHANNEL = 9
SUSTAIN_CONTROL = 64
TICKS_PER_FRAME = 48  # in the files we write

# mido adds up a variable-length number byte by byte without an end: a long run of continuation bytes would
# keep it busy for hours. No legal event holds such a run.
ENDLESS_NUMBER = 4_096
LONGEST_DELTA = 2**28 - 1  # four bytes of seven bits


@dataclass
class _Events:
    """What is gathered while the tracks are walked."""

    notes: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    pedal: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    tempos: list[tuple[int, int]] = field(default_factory=list)
    never_released: int = 0
    longest_delta: int = 0


def read_midi(
    path: Path | str, fps: int = DEFAULT_FPS, sustain: bool = False, max_seconds: float = MAX_SECONDS
) -> PianoRoll:
    """Read a MIDI file and sample it: `read_performance`, then `Performance.to_roll`."""
    return read_performance(path).to_roll(fps, sustain, max_seconds)


def read_performance(path: Path | str, content: bytes | None = None) -> Performance:
    """Read the piano notes of a MIDI file.

    Notes are paired per track, channel and pitch, first on, first off; note_on with velocity 0 is a note_off.
    Channel 10, pitches outside the piano and notes that are never released are left out and counted.

    Parameters
    ----------
    path : Path or str
        A MIDI file of type 0 or 1, also inside a RIFF (RMID).
    content : bytes, optional
        What is in it, where it came without a path: then `path` is only its name, and nothing is opened.

    Returns
    -------
    Performance

    Raises
    ------
    MidiError
        If the file cannot be read, is no such MIDI file, or holds no piano note.
    """
    path = Path(path)
    ticks_per_beat, events = _parse(path, _read_bytes(path) if content is None else content)
    events.tempos.sort(key=lambda change: change[0])
    for changes in events.pedal.values():
        changes.sort(key=lambda change: change[0])
    if any(tempo == 0 for _, tempo in events.tempos):
        raise MidiError(path, "a tempo of 0 microseconds per beat")
    return _performance(path, ticks_per_beat, events)


def write_midi(roll: PianoRoll, path: Path | str) -> None:
    """Write a roll as a MIDI file.

    `read_midi` at the same rate reads the same roll again, if each run of sounding frames has one velocity, but for
    silence at its end and what lies beyond its limit of seven minutes.

    Parameters
    ----------
    roll : PianoRoll
        Any roll; each run of sounding frames becomes one note, with the velocity of its first frame.
    path : Path or str
        The file to write, whole or not at all.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(midi_bytes(roll))


def midi_bytes(roll: PianoRoll, tail_seconds: float = 0.0) -> bytes:
    """Return a roll as the content of a MIDI file, which ends `tail_seconds` after the roll."""
    notes = roll.notes
    events = notes[["start_frame", "pitch", "velocity"]].tolist()
    events += [(end, pitch, 0) for end, pitch in notes[["end_frame", "pitch"]].tolist()]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=DEFAULT_TEMPO), mido.Message("program_change")])
    now = 0
    for frame, pitch, velocity in sorted(events):
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=(frame - now) * TICKS_PER_FRAME))
        now = frame
    tail_frames = roll.n_frames - now + round(tail_seconds * roll.fps)
    track.append(mido.MetaMessage("end_of_track", time=tail_frames * TICKS_PER_FRAME))
    ticks_per_beat = TICKS_PER_FRAME * roll.fps * DEFAULT_TEMPO // 10**6
    stream = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=ticks_per_beat, tracks=[track]).save(file=stream)
    return stream.getvalue()


def _read_bytes(path: Path) -> bytes:
    """Read a regular file of bounded size; a pipe would wait for ever and a huge file fill the memory."""
    try:
        if not path.is_file():
            raise MidiError(path, "not a file" if path.exists() else "no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MidiError(path, TOO_LARGE)
        return path.read_bytes()
    except OSError as error:
        raise MidiError(path, error.strerror or type(error).__name__) from error


def _parse(path: Path, content: bytes) -> tuple[int, _Events]:
    """Return the ticks of a beat and what happens, and turn each of mido's many ways to fail into a MidiError."""
    if len(content) > MAX_FILE_BYTES:
        raise MidiError(path, TOO_LARGE)
    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        content = content[content.find(b"MThd") :]
    if content[:4] != b"MThd":
        raise MidiError(path, "not a MIDI file: it does not begin with MThd")
    if any(len(run) >= ENDLESS_NUMBER for run in re.findall(rb"[\x80-\xff]{1000,}", content)):
        raise MidiError(path, "holds a number without an end")
    stream, events = io.BytesIO(content), _Events()
    try:
        kind, n_tracks, ticks_per_beat = mido_reader.read_file_header(stream)
        for _ in range(n_tracks):
            _read_track(stream, events)
    except EOFError as error:
        raise MidiError(path, "broken MIDI file: it ends too early") from error
    except Exception as error:  # mido fails in a dozen more ways
        raise MidiError(path, f"broken MIDI file ({type(error).__name__}: {error})") from error
    if events.longest_delta > LONGEST_DELTA:
        raise MidiError(path, "holds a time of more than four bytes")
    if kind not in (0, 1):
        raise MidiError(path, f"type {kind}; only types 0 and 1 hold one piece")
    if ticks_per_beat <= 0:
        raise MidiError(path, "time in SMPTE frames, or none; only ticks per beat can be sampled")
    return ticks_per_beat, events


def _read_track(stream: io.BytesIO, events: _Events) -> None:
    """Gather a track's notes, pedal and tempo.

    It is read as mido reads it, by mido's own functions and with its complaints, but for the message that mido makes
    of every note and every move of a pedal: those take two thirds of its time.
    """
    name, size = mido_reader.read_chunk_header(stream)
    if name != b"MTrk":
        raise OSError("no MTrk header at start of track")
    end, tick, running = stream.tell() + size, 0, None
    sounding = defaultdict(deque)
    while stream.tell() != end:
        delta = mido_reader.read_variable_int(stream)
        events.longest_delta = max(events.longest_delta, delta)
        tick += delta
        status, read = mido_reader.read_byte(stream), b""
        if status < 0x80:
            if running is None:
                raise OSError("running status without last_status")
            status, read = running, bytes([status])
        elif status != 0xFF:  # a meta event leaves the running status as it was
            running = status
        if status < 0xF0:
            read += stream.read((1 if 0xC0 <= status < 0xE0 else 2) - len(read))
            _take(status, read, tick, sounding, events)
        elif status == 0xFF:
            message = mido_reader.read_meta_message(stream, delta)
            if message.type == "set_tempo":
                events.tempos.append((tick, message.tempo))
        elif status in (0xF0, 0xF7):
            mido_reader.read_sysex(stream, delta)
        else:
            mido_reader.read_message(stream, status, list(read), delta)
    events.never_released += sum(map(len, sounding.values()))


def _take(status: int, data: bytes, tick: int, sounding: dict[tuple[int, int], deque], events: _Events) -> None:
    """Gather what a message of a channel says."""
    kind, channel = status & 0xF0, status & 0x0F
    if len(data) < (1 if kind in (0xC0, 0xD0) else 2):
        raise EOFError
    if max(data) > 127:
        raise OSError("data byte must be in range 0..127")
    if kind == 0x90 and data[1]:
        sounding[channel, data[0]].append((tick, data[1]))
    elif kind in (0x80, 0x90) and sounding[channel, data[0]]:
        start_tick, velocity = sounding[channel, data[0]].popleft()
        events.notes.append((data[0], velocity, channel, start_tick, tick))
    elif kind == 0xB0 and data[0] == SUSTAIN_CONTROL:
        events.pedal[channel].append((tick, data[1]))


def _performance(path: Path, ticks_per_beat: int, events: _Events) -> Performance:
    """Keep what a piano can play, and count the rest."""
    notes = np.array(events.notes, RAW_NOTE_DTYPE)
    drums = notes["channel"] == DRUM_CHANNEL
    off_the_piano = ~drums & ((notes["pitch"] < LOWEST_PITCH) | (notes["pitch"] > HIGHEST_PITCH))
    dropped = {
        "never_released": events.never_released,
        "drums": int(drums.sum()),
        "off_the_piano": int(off_the_piano.sum()),
    }
    notes = notes[~drums & ~off_the_piano]
    if not len(notes):
        lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise MidiError(path, f"no piano notes (dropped: {lost})" if lost else "no piano notes")
    return Performance(path, notes, dict(events.pedal), TempoMap(ticks_per_beat, events.tempos), dropped)
