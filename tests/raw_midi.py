"""For the tests: an independent and slow reader of MIDI files, and MIDI files built by hand."""

import struct
from bisect import bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby

import numpy as np
from hypothesis import strategies as st

# --- Reading: the MIDI file standard and the rules of sampling, one by one ---


@dataclass
class RawMidi:
    """What the bytes say; notes are (channel, pitch, velocity, start_tick, end_tick)."""

    ticks_per_beat: int
    notes: list = field(default_factory=list)
    pedal: list = field(default_factory=list)
    tempos: list = field(default_factory=list)
    never_released: int = 0

    def frame(self, tick, fps):
        """The frame of a tick: its exact time, rounded half up."""
        seconds, here, tempo = Fraction(0), 0, 500_000
        for at, next_tempo in self.tempos:
            if at > tick:
                break
            seconds += Fraction((at - here) * tempo, self.ticks_per_beat * 10**6)
            here, tempo = at, next_tempo
        seconds += Fraction((tick - here) * tempo, self.ticks_per_beat * 10**6)
        return int(seconds * fps + Fraction(1, 2))

    def pedal_states(self):
        """For each tick with a pedal: whether a channel is down through all its messages, and after them."""
        down, states = {}, []
        for tick, messages in groupby(self.pedal, lambda event: event[0]):
            messages = [(channel, value >= 64) for _, value, channel in messages]
            lifted = {channel for channel, is_down in messages if not is_down}
            through = {channel for channel, was_down in down.items() if was_down} | dict(messages).keys()
            down |= messages
            states.append((tick, bool(through - lifted), any(down.values())))
        return states

    def pedalled(self, end_tick, last_release):
        """The tick in which a released note falls silent: where the pedal comes up, if it is down at the release."""
        states = self.pedal_states()
        after = bisect_right(states, end_tick, key=lambda state: state[0])
        if after == 0 or not states[after - 1][2]:
            return end_tick
        return next((tick for tick, through, _ in states[after:] if not through), last_release)

    def piano_notes(self):
        return [note for note in self.notes if note[0] != 9 and 21 <= note[1] <= 108]

    def velocity(self, fps=20, sustain=False, max_seconds=420):
        """The roll's matrix: a pitch sounds as long as any note holds it, with the velocity of the latest onset."""
        strikes = defaultdict(list)
        last_release = max([note[4] for note in self.piano_notes()], default=0)
        for _, pitch, struck, start_tick, end_tick in self.piano_notes():
            silent_tick = self.pedalled(end_tick, last_release) if sustain else end_tick
            start, end = self.frame(start_tick, fps), self.frame(silent_tick, fps)
            strikes[pitch].append((start, max(end, start + 1), struck))
        matrix = np.zeros((max_seconds * fps, 88), np.uint8)
        for pitch, key_strikes in strikes.items():
            key_strikes.sort()  # of those in one frame the longest, then the loudest, comes last
            next_starts = [start for start, _, _ in key_strikes[1:]] + [10**12]
            held_until = 0
            for (start, end, struck), next_start in zip(key_strikes, next_starts):
                held_until = max(held_until, end)
                for frame in range(start, min(held_until, next_start, len(matrix))):
                    gives_up = frame > start and frame + 1 == next_start
                    matrix[frame, pitch - 21] = 0 if gives_up else struck
        return matrix[: self.n_frames(matrix)]

    @staticmethod
    def n_frames(matrix):
        """The length up to the last sounding frame."""
        return np.flatnonzero(matrix.any(axis=1)).max(initial=-1) + 1

    def pedal_down(self, n_frames, fps=20):
        """Whether the pedal is down at the end of each frame, and was not lifted in it; None without pedal events."""
        down, lifts = np.zeros(n_frames, bool), []
        was_down = False
        for tick, through, is_down in self.pedal_states():
            down[self.frame(tick, fps) :] = is_down
            lifts += [self.frame(tick, fps)] * (was_down and not through)
            was_down = is_down
        down[[frame for frame in lifts if frame < n_frames]] = False
        return down if self.pedal else None


def steady(velocity):
    """The same matrix with each run of sounding frames in the velocity of its first frame: all that a note keeps."""
    velocity = velocity.copy()
    for frame in range(1, len(velocity)):
        goes_on = (velocity[frame] > 0) & (velocity[frame - 1] > 0)
        velocity[frame] = np.where(goes_on, velocity[frame - 1], velocity[frame])
    return velocity


def read_raw(content):
    """Read a MIDI file whose chunks and events are complete."""
    ticks_per_beat, at, events = int.from_bytes(content[12:14], "big"), 14, []
    raw = RawMidi(ticks_per_beat)
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "big")
        if content[at : at + 4] == b"MTrk":
            events += [(*event, at) for event in _track_events(raw, content[at + 8 : at + 8 + size])]
        at += 8 + size
    raw.tempos.sort(key=lambda change: change[0])
    _pair(raw, sorted(events, key=lambda event: event[0]))
    return raw


def _pair(raw, events):
    held = defaultdict(deque)
    has_pedal = False
    for tick, status, first, second, track in events:
        kind, channel = status >> 4, status & 15
        waiting = held[channel, track, first]
        if kind == 9 and second > 0:
            waiting.append((second, tick))
        elif kind in (8, 9) and waiting:
            raw.notes.append((channel, first, *waiting.popleft(), tick))
        elif kind == 11 and first == 64:
            if channel != 9:
                raw.pedal.append((tick, second, channel))
                has_pedal = True
        elif kind == 11 and first == 121 and channel != 9:
            raw.pedal.append((tick, 0, channel))  # all controllers are reset: the pedal is up
        elif kind == 11 and first in (120, 123):
            for (other, its_track, pitch), notes in held.items():
                ended = [note for note in notes if other == channel and (its_track == track or note[1] < tick)]
                raw.notes += [(channel, pitch, *note, tick) for note in ended]
                for note in ended:
                    notes.remove(note)
    raw.pedal = raw.pedal if has_pedal else []
    raw.never_released += sum(len(waiting) for waiting in held.values())


def _track_events(raw, chunk):
    """Yield (tick, status, first, second) of the channel messages, and store the tempos."""
    tick, at, running = 0, 0, 0
    while at < len(chunk):
        delta, at = _read_number(chunk, at)
        tick += delta
        if chunk[at] == 0xFF:
            size, start = _read_number(chunk, at + 2)
            if chunk[at + 1] == 0x2F:
                return
            if chunk[at + 1] == 0x51:
                raw.tempos.append((tick, int.from_bytes(chunk[start : start + size], "big")))
            at = start + size
        elif chunk[at] in (0xF0, 0xF7):
            size, start = _read_number(chunk, at + 1)
            at = start + size
        elif chunk[at] > 0xF0:
            at += 1 + {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(chunk[at], 0)
        else:
            if chunk[at] >= 0x80:
                running, at = chunk[at], at + 1
            n_data = 1 if running >> 4 in (12, 13) else 2
            yield tick, running, chunk[at], chunk[at + n_data - 1]
            at += n_data


def _read_number(data, at):
    value = 0
    while data[at] >= 0x80:
        value, at = value * 128 + data[at] - 0x80, at + 1
    return value * 128 + data[at], at + 1


# --- Building: a track is a list of (tick, bytes), in any order, or the bytes of its chunk ---


def midi_bytes(tracks, ticks_per_beat=480, kind=1, n_tracks=None):
    """A MIDI file; at one tick a track's events keep the order in which they are given."""
    chunks = [track if isinstance(track, bytes) else track_bytes(track) for track in tracks]
    header = struct.pack(">4sIHHH", b"MThd", 6, kind, len(chunks) if n_tracks is None else n_tracks, ticks_per_beat)
    return header + b"".join(chunk_of(b"MTrk", chunk) for chunk in chunks)


def chunk_of(name, content):
    return name + len(content).to_bytes(4, "big") + content


def track_bytes(events):
    now, chunk = 0, b""
    for tick, event in sorted(events, key=lambda event: event[0]):
        chunk += number(tick - now) + event
        now = tick
    return chunk + b"\0\xff\x2f\0"


def number(value):
    """A variable-length number."""
    head = [0x80 | value >> shift & 0x7F for shift in (28, 21, 14, 7) if value >> shift]
    return bytes([*head, value & 0x7F])


def note(start, end, pitch, velocity=64, channel=0):
    return [strike(start, pitch, velocity, channel), release(end, pitch, channel)]


def strike(tick, pitch, velocity=64, channel=0):
    return tick, bytes([0x90 | channel, pitch, velocity])


def release(tick, pitch, channel=0):
    return tick, bytes([0x80 | channel, pitch, 0])


def tempo(tick, microseconds_per_beat):
    return tick, b"\xff\x51\x03" + microseconds_per_beat.to_bytes(3, "big")


def pedal(tick, value, channel=0):
    return control(tick, 64, value, channel)


def control(tick, number, value=0, channel=0):
    return tick, bytes([0xB0 | channel, number, value])


def metre(tick, numerator, power):
    return tick, bytes([0xFF, 0x58, 4, numerator, power, 24, 8])


def scale(n_notes=8, ticks=480, start=0):
    """Notes up from C4, one after the other."""
    return [event for nth in range(n_notes) for event in note(start + nth * ticks, start + (nth + 1) * ticks, 60 + nth)]


# --- Any track: notes of all kinds, on and off the piano, and other events ---

one_tick, pitch, channel = st.integers(0, 300), st.sampled_from([60, 61, 21, 108, 20, 109]), st.sampled_from([0, 1, 9])
whole_note = st.builds(
    lambda start, lasts, *how: note(start, start + lasts, *how),
    one_tick,
    st.integers(0, 40) | one_tick,
    st.just(60) | pitch,
    st.integers(1, 127),
    st.just(0) | channel,
)
pedalling = st.builds(
    lambda start, lasts, down, up, foot: [pedal(start, down, foot), pedal(start + lasts, up, foot)],
    one_tick,
    one_tick,
    st.sampled_from([127, 64, 63]),
    st.sampled_from([0, 63, 64]),
    st.just(0) | channel,
)
one_event = st.one_of(
    st.builds(tempo, one_tick, st.sampled_from([1, 200_000, 333_333, 500_000, 1_000_003])),
    st.builds(strike, one_tick, pitch, st.integers(0, 127), channel),
    st.builds(release, one_tick, pitch, channel),
    st.builds(control, one_tick, st.sampled_from([120, 121, 123]), st.just(0), channel),
)
any_track = st.lists(whole_note | pedalling | st.lists(one_event, max_size=4), max_size=8).map(
    lambda them: sum(them, [])
)

# --- Any file: chunks of other kinds, a wrong number of tracks, and events that cannot move a note ---

ODD_EVENTS = [
    "ff580104", "ff580404ff1808", "ff58040002ff08", "ff5800", "ff59020009", "ff59026300", "ff5900", "ff590400000000",
    "ff540101", "ff5400", "ff20020101", "ff2000", "ff000105", "ff00030101ff", "ffc00161", "ff7f00", "ff0103e7889f",
    "f702f301", "f701f8", "f700", "f000", "f0026162", "f003ff80f7", "f105", "f20506", "f305", "f6", "f8", "fe",
    "a0ffff", "dfff",
]  # fmt: skip
odd_track = st.builds(
    lambda events, odd, late: track_bytes(events + [(tick, bytes.fromhex(event)) for tick, event in odd]) + late,
    any_track,
    st.lists(st.tuples(one_tick, st.sampled_from(ODD_EVENTS)), max_size=4),
    st.just(b"") | st.binary(max_size=5) | st.just(track_bytes(note(0, 99, 60))),
)
other_chunk = st.builds(chunk_of, st.sampled_from([b"ZQ01", b"mtrk", b"\0\0\0\0"]), st.binary(max_size=9))
any_file = st.builds(
    lambda chunks, kind, n_tracks: midi_bytes([], kind=kind, n_tracks=n_tracks) + b"".join(chunks),
    st.lists(other_chunk | odd_track.map(lambda track: chunk_of(b"MTrk", track)), min_size=1, max_size=5),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 6),
)
