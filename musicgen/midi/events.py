"""Read the events of a MIDI file from its bytes, as the Standard MIDI File specification defines them.

Events that cannot move a note are skipped without a look inside. mido's reader rejects whole files because of them.
"""

import gzip
import io
import zlib
from dataclasses import dataclass, field
from operator import itemgetter

TEXT, END_OF_TRACK, SET_TEMPO, TIME_SIGNATURE = 0x01, 0x2F, 0x51, 0x58
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x8, 0x9, 0xB, 0xC  # the upper half of a status byte; the lower is the channel
SUSTAIN, ALL_SOUND_OFF, RESET_ALL_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123
CONTROLS = (SUSTAIN, ALL_SOUND_OFF, RESET_ALL_CONTROLLERS, ALL_NOTES_OFF)
OTHER_PEDALS = {66: "sostenuto pedal", 69: "second hold pedal"}  # they hold notes, too, and are left out
LARGEST_NUMBER = 2**28 - 1  # four bytes of seven bits
LARGEST_DENOMINATOR = 6  # as a power of two
N_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, **dict.fromkeys((0xF6, 0xF8, 0xFA, 0xFB, 0xFC, 0xFE), 0)}
SMPTE_RATES = {24: (24, 1_000_000), 25: (25, 1_000_000), 29: (30, 1_001_000), 30: (30, 1_000_000)}


class BrokenFile(ValueError):
    """Raised for bytes that are not a readable MIDI file; the message gives the reason."""


@dataclass
class MidiEvents:
    """The events of a MIDI file that matter for piano notes.

    `sort` puts them in ascending order of their ticks.

    Parameters
    ----------
    ticks_per_beat : int
        Ticks per quarter note.
    messages : list of (int, int, int, int, int)
        (tick, status, pitch or controller, value, track): notes, and the messages of `CONTROLS`.
    programs : list of (int, int, int)
        Choices of an instrument as (tick, channel, program 0..127).
    tempos : list of (int, int)
        (tick, microseconds per quarter note).
    metres : list of (int, int, int)
        Time signatures as (tick, numerator, denominator).
    texts : list of bytes
        The contents of text events.
    warnings : list of str
        Faults that were tolerated.
    """

    ticks_per_beat: int = 0
    messages: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    programs: list[tuple[int, int, int]] = field(default_factory=list)
    tempos: list[tuple[int, int]] = field(default_factory=list)
    metres: list[tuple[int, int, int]] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def extend(self, track: "MidiEvents") -> None:
        """Add the events of a track."""
        self.messages += track.messages
        self.programs += track.programs
        self.tempos += track.tempos
        self.metres += track.metres
        self.texts += track.texts
        for warning in track.warnings:
            self.warn(warning)

    def warn(self, warning: str) -> None:
        """Add a warning once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def sort(self) -> None:
        """Sort the events by tick, with a stable sort."""
        for events in (self.messages, self.programs, self.tempos, self.metres):
            events.sort(key=itemgetter(0))


def unpack(content: bytes, max_bytes: int) -> bytes:
    """Return the MIDI file inside gzip or RIFF (RMID) data; other data is returned unchanged.

    Raises
    ------
    BrokenFile
        If it has more than `max_bytes`, or the gzip data are damaged.
    """
    if content[:2] == b"\x1f\x8b" and len(content) <= max_bytes:
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(max_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise BrokenFile("damaged gzip data") from error
    if len(content) > max_bytes:
        raise BrokenFile(f"larger than {max_bytes:,} bytes, too much for a piano piece")
    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        content = content[max(content.find(b"MThd"), 0) :]
    return content


def read_events(content: bytes) -> MidiEvents:
    """Read the events of all tracks of a MIDI file.

    All tracks begin at the same time, also in a file of type 2.
    Chunks of other kinds are skipped. Tracks beyond the number in the header are read if they are intact.

    Raises
    ------
    BrokenFile
        If the bytes end too early or contain something that is not an event.
    """
    if content[:4] != b"MThd":
        raise BrokenFile("not a MIDI file: it does not begin with MThd")
    header_end = 8 + int.from_bytes(content[4:8], "big")
    if not 14 <= header_end <= len(content):
        raise BrokenFile("broken MIDI file: its header has the wrong length")
    kind = int.from_bytes(content[8:10], "big")
    n_expected = int.from_bytes(content[10:12], "big")
    division = int.from_bytes(content[12:14], "big")
    if kind > 2:
        raise BrokenFile(f"type {kind}, but only types 0, 1 and 2 are defined")
    events = MidiEvents()
    n_tracks = _read_chunks(content, header_end, n_expected, events)
    if n_tracks != n_expected:
        events.warn(f"number of tracks: {n_expected} by the header, {n_tracks} in the file")
    if kind == 2 and n_tracks > 1:
        events.warn("type 2: the tracks are read as if they were played together")
    events.sort()
    _set_division(events, division)
    return events


def _read_chunks(content: bytes, position: int, n_expected: int, events: MidiEvents) -> int:
    """Read all chunks that follow a position, and return the number of tracks."""
    n_tracks = 0
    while position + 8 <= len(content):
        name = content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "big")
        start = position + 8
        is_cut = start + size > len(content)
        if name == b"MTrk":
            try:
                track, n_read = _read_track(content[start : start + size], n_tracks, is_cut)
            except BrokenFile:
                if n_tracks < n_expected:
                    raise
                break
            events.extend(track)
            n_tracks += 1
            size = n_read if is_cut else size  # a wrong size: the next chunk follows the End of Track
        position = start + size
    if position != len(content) and n_tracks < n_expected:
        raise BrokenFile("broken MIDI file: it ends too early")
    if position != len(content):
        events.warn("unreadable bytes after the last track")
    return n_tracks


def _set_division(events: MidiEvents, division: int) -> None:
    """Set the resolution in ticks per beat; in SMPTE time, a "beat" lasts about one second."""
    if division < 0x8000:
        events.ticks_per_beat = division
    elif 256 - (division >> 8) in SMPTE_RATES:
        rate, tempo = SMPTE_RATES[256 - (division >> 8)]
        events.ticks_per_beat = rate * (division & 0xFF)
        events.tempos = [(0, tempo)]
        events.metres = []
    if not events.ticks_per_beat:
        raise BrokenFile("a resolution of 0 ticks, or of an unknown kind")


def _read_track(data: bytes, number: int, is_cut: bool) -> tuple[MidiEvents, int]:
    """Read the events of one track; return them and the number of bytes read.

    The track ends at its End of Track event.
    """
    track = MidiEvents()
    position = 0
    tick = 0
    running = None  # the status of the last channel message, which the next one may leave out
    try:
        while position < len(data):
            delta = data[position]
            position += 1
            if delta >= 0x80:  # rare: a delta time of more than one byte
                delta, position = _read_number(data, position - 1)
            tick += delta
            status = running
            if data[position] >= 0x80:
                status = data[position]
                position += 1
            if status is None:
                raise BrokenFile("broken MIDI file: data without a status byte")
            if status < 0xF0:
                position = _read_message(data, position, status, tick, number, track)
                running = status
            elif status == 0xFF and data[position] == END_OF_TRACK:
                return track, _read_meta(data, position, tick, track)
            elif status == 0xFF:
                position = _read_meta(data, position, tick, track)
            elif status in (0xF0, 0xF7):  # system exclusive, or any bytes behind an escape
                size, position = _read_number(data, position)
                position += size
            elif status in N_SYSTEM_BYTES:
                position += N_SYSTEM_BYTES[status]
            else:
                raise BrokenFile(f"broken MIDI file: an undefined status byte, {status:#x}")
    except IndexError:  # the data end within an event
        position = len(data) + 1
    if is_cut or position > len(data):
        raise BrokenFile("broken MIDI file: it or one of its tracks ends too early")
    return track, position


def _read_message(data: bytes, position: int, status: int, tick: int, number: int, track: MidiEvents) -> int:
    """Read a channel message, and return the position after it."""
    kind = status >> 4
    first = data[position]
    if kind == 0xC or kind == 0xD:  # the messages of one data byte
        if kind == PROGRAM and first <= 127:
            track.programs.append((tick, status & 0x0F, first))
        return position + 1
    second = data[position + 1]
    if kind <= NOTE_ON or kind == CONTROL:
        if first > 127 or second > 127:
            raise BrokenFile("broken MIDI file: a data byte above 127")
        if kind <= NOTE_ON or first in CONTROLS:
            track.messages.append((tick, status, first, second, number))
        elif first in OTHER_PEDALS and second >= 64:
            track.warn(f"the {OTHER_PEDALS[first]} is left out")
    return position + 2


def _read_meta(data: bytes, position: int, tick: int, track: MidiEvents) -> int:
    """Read a meta event and return the position after it."""
    kind = data[position]
    size, position = _read_number(data, position + 1)
    content = data[position : position + size]
    if kind == SET_TEMPO:
        if len(content) != 3:
            track.warn(f"a tempo event of {len(content)} bytes, not 3")
        if content:
            track.tempos.append((tick, _tempo_of(content)))
    elif kind == TIME_SIGNATURE and len(content) >= 2 and content[0] and content[1] <= LARGEST_DENOMINATOR:
        track.metres.append((tick, content[0], 2 ** content[1]))
    elif kind == TEXT:
        track.texts.append(content)
    return position + size


def _tempo_of(content: bytes) -> int:
    """Return the microseconds per quarter note of a tempo event.

    It has three bytes. Like other readers, this takes the first three of more, and zeros for those that are missing;
    but four bytes of which the first is 0 are a number of 32 bits.
    """
    if len(content) == 4 and content[0] == 0:
        content = content[1:]
    tempo = int.from_bytes(content[:3].ljust(3, b"\0"), "big")
    if not tempo:
        raise BrokenFile("a tempo event of 0 microseconds")
    return tempo


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    """Read a variable-length number; return it and the position after it."""
    value = data[position] & 0x7F
    while data[position] >= 0x80:
        position += 1
        value = value << 7 | data[position] & 0x7F
        if value > LARGEST_NUMBER:
            raise BrokenFile("broken MIDI file: a number of more than four bytes")
    return value, position + 1
