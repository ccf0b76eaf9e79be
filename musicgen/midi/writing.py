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
    Silence at the end is lost. The file ends with the pedal up.

    Parameters
    ----------
    tempo_map : TempoMap, optional
        Tempo and time signatures, such as `Performance.prime_tempo_map`; by default those of the beats, or 120 BPM.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(midi_bytes(roll, tempo_map=tempo_map))


def midi_bytes(roll: PianoRoll, tail_seconds: float = 0.0, tempo_map: TempoMap | None = None) -> bytes:
    """Return the bytes of a MIDI file that ends `tail_seconds` after the roll; see `write_midi`."""
    n_frames = roll.n_frames + round(tail_seconds * roll.fps)
    clock, end = _choose_clock(roll, n_frames, tempo_map)
    timed = _time_messages(clock, roll.beats is not None)
    timed += _pedal_messages(roll, clock, end)
    timed += _note_messages(roll, clock)
    track = mido.MidiTrack()
    now = 0
    for tick, message in sorted(timed, key=itemgetter(0)):
        if tick <= end:
            message.time = tick - now  # since the message before
            now = tick
            track.append(message)
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    stream = BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=clock.ticks_per_beat, tracks=[track]).save(file=stream)
    return stream.getvalue()


def _choose_clock(roll: PianoRoll, n_frames: int, tempo_map: TempoMap | None) -> tuple[TempoMap, int]:
    """Return the tempo map of the file, and the tick of frame `n_frames`, at which the file ends.

    It is the first that can tell all frames apart and reach the end: the given one, that of the beats, 120 BPM.
    """
    at_120_bpm = TempoMap(24 * roll.fps, [])  # 48 ticks per frame: always possible
    for candidate in (tempo_map, tempo_map_of_beats(roll.beats), at_120_bpm):
        clock = candidate and candidate.refined(roll.fps)
        if clock:
            end = int(clock.ticks(np.array([n_frames]), roll.fps)[0])
            if end < MAX_TICKS:
                return clock, end
    raise ValueError(f"a MIDI file cannot hold {n_frames:,} frames")


def _time_messages(clock: TempoMap, beats_known: bool) -> list[tuple[int, mido.MetaMessage]]:
    """Return the messages for tempo and time signatures. If the beats are known, a text event says so."""
    timed = [(0, mido.MetaMessage("text", text=BEATS_TEXT))] if beats_known else []
    tempos = {0: DEFAULT_TEMPO} | dict(clock.changes)
    for tick, tempo in tempos.items():
        timed.append((tick, mido.MetaMessage("set_tempo", tempo=tempo)))
    for tick, numerator, denominator in clock.metres:
        timed.append((tick, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)))
    timed.append((0, mido.Message("program_change")))
    return timed


def _pedal_messages(roll: PianoRoll, clock: TempoMap, end: int) -> list[tuple[int, mido.Message]]:
    """Return messages for the initial position of the pedal, for each change, and for a release at the end.

    Without the release, an instrument would ring on after the file.
    """
    if roll.pedal is None or not roll.n_frames:
        return []
    frames = np.flatnonzero(np.diff(roll.pedal, prepend=~roll.pedal[:1]))
    ticks = clock.ticks(frames, roll.fps).tolist()
    moves = list(zip(ticks, roll.pedal[frames].tolist()))
    if roll.pedal[-1]:
        moves.append((end, False))
    return [(tick, mido.Message("control_change", control=SUSTAIN, value=127 * is_down)) for tick, is_down in moves]


def _note_messages(roll: PianoRoll, clock: TempoMap) -> list[tuple[int, mido.Message]]:
    """Return the note-off and note-on messages. Two messages of the same pitch never share a tick."""
    pitches = roll.notes["pitch"].tolist()
    starts = clock.ticks(roll.notes["start_frame"], roll.fps).tolist()
    ends = clock.ticks(roll.notes["end_frame"], roll.fps).tolist()
    velocities = roll.notes["velocity"].tolist()
    off = [(tick, mido.Message("note_on", note=pitch, velocity=0)) for tick, pitch in zip(ends, pitches)]
    on = [
        (tick, mido.Message("note_on", note=pitch, velocity=velocity))
        for tick, pitch, velocity in zip(starts, pitches, velocities)
    ]
    return off + on
