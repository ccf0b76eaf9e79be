"""A piano roll as a MIDI file."""

from io import BytesIO
from operator import itemgetter
from pathlib import Path

import mido
import numpy as np

from musicgen.midi.events import SUSTAIN
from musicgen.midi.performance import BEATS_TEXT
from musicgen.midi.tempo_map import DEFAULT_TEMPO, TempoMap, tempo_map_of_beats
from musicgen.piano_roll import PianoRoll
from musicgen.utils.files import atomic_write

MAX_TICKS = 2**28  # the times in a file have 28 bits


def write_midi(roll: PianoRoll, path: Path | str, tempo_map: TempoMap | None = None) -> None:
    """Write a roll as a MIDI file, completely or not at all.

    `read_midi` at the same rate returns the same notes and pedal if each run of sounding frames has one velocity.
    Silence at the end is lost.

    Parameters
    ----------
    tempo_map : TempoMap, optional
        Tempo and time signatures, such as `Performance.prime_tempo_map`; by default those of the beats, or 120 BPM.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(midi_bytes(roll, tempo_map=tempo_map))


def midi_bytes(roll: PianoRoll, tail_seconds: float = 0.0, tempo_map: TempoMap | None = None) -> bytes:
    """Return a roll as the bytes of a MIDI file that ends `tail_seconds` after it; see `write_midi`."""
    maps, frames = (tempo_map, tempo_map_of_beats(roll.beats), TempoMap(24 * roll.fps, [])), roll.n_frames
    clocks = [finer for each in maps if each and (finer := each.refined(roll.fps))]
    ends = [int(clock.ticks(np.array([frames + round(tail_seconds * roll.fps)]), roll.fps)[0]) for clock in clocks]
    clock, end = next((clock, end) for clock, end in zip(clocks, ends) if end < MAX_TICKS)
    track, now = mido.MidiTrack(), 0
    timed = _time_messages(clock, roll.beats is not None) + _pedal_messages(roll, clock) + _note_messages(roll, clock)
    for tick, message in sorted(timed, key=itemgetter(0)):
        if tick <= end:
            message.time, now = tick - now, tick
            track.append(message)
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    stream = BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=clock.ticks_per_beat, tracks=[track]).save(file=stream)
    return stream.getvalue()


def _time_messages(clock: TempoMap, beats_known: bool) -> list[tuple[int, mido.MetaMessage]]:
    """Return the tempo and time signatures, and a text by which `read_midi` knows that they are right."""
    found = [(0, mido.MetaMessage("text", text=BEATS_TEXT))] if beats_known else []
    changes = {0: DEFAULT_TEMPO} | dict(clock.changes)
    found += [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in changes.items()]
    found += [(t, mido.MetaMessage("time_signature", numerator=n, denominator=d)) for t, n, d in clock.metres]
    return [*found, (0, mido.Message("program_change"))]


def _pedal_messages(roll: PianoRoll, clock: TempoMap) -> list[tuple[int, mido.Message]]:
    """Return messages for the initial position of the pedal and each change."""
    if roll.pedal is None:
        return []
    frames = np.flatnonzero(np.diff(roll.pedal, prepend=~roll.pedal[:1]))
    moves = zip(clock.ticks(frames, roll.fps).tolist(), roll.pedal[frames].tolist())
    return [(tick, mido.Message("control_change", control=SUSTAIN, value=127 * down)) for tick, down in moves]


def _note_messages(roll: PianoRoll, clock: TempoMap) -> list[tuple[int, mido.Message]]:
    """Return the note-off and note-on messages. Those of one pitch have different ticks."""
    starts, ends = (clock.ticks(roll.notes[name], roll.fps).tolist() for name in ("start_frame", "end_frame"))
    pitches, velocities = roll.notes["pitch"].tolist(), roll.notes["velocity"].tolist()
    off = [(tick, mido.Message("note_on", note=pitch, velocity=0)) for tick, pitch in zip(ends, pitches)]
    return off + [(t, mido.Message("note_on", note=p, velocity=v)) for t, p, v in zip(starts, pitches, velocities)]
