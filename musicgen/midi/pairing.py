"""From the messages of a MIDI file to its notes and its pedal movements."""

from collections import defaultdict, deque
from itertools import groupby
from operator import itemgetter

import numpy as np

from musicgen.midi.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    RESET_ALL_CONTROLLERS,
    SUSTAIN,
)

DRUM_CHANNEL = 9
PEDAL_DOWN = 64
RAW_NOTE_DTYPE = np.dtype([(name, np.int64) for name in ("pitch", "velocity", "channel", "start_tick", "end_tick")])

Messages = list[tuple[int, int, int, int, int]]  # as in `MidiEvents`


def pair_notes(messages: Messages) -> tuple[np.ndarray, int]:
    """Pair onsets with releases per track, channel and pitch, first in, first out.

    Returns
    -------
    notes : numpy.ndarray
        Of type `RAW_NOTE_DTYPE`, in the order of their releases.
    n_unreleased : int
        The number of onsets without a release.
    """
    notes = []
    # By channel, and there by (track, pitch): the onsets (tick, velocity) that wait for their release.
    waiting = defaultdict(lambda: defaultdict(deque))
    for tick, status, number, value, track in messages:
        kind = status >> 4
        channel = status & 0x0F
        if kind == NOTE_ON and value:
            waiting[channel][track, number].append((tick, value))
        elif kind == NOTE_OFF or kind == NOTE_ON:
            onsets = waiting[channel][track, number]
            if onsets:
                notes.append(_end_first(onsets, number, channel, tick))
        elif number in (ALL_NOTES_OFF, ALL_SOUND_OFF):
            notes += _end_all(waiting[channel], track, channel, tick)
    n_unreleased = sum(len(onsets) for by_pitch in waiting.values() for onsets in by_pitch.values())
    return np.array(notes, RAW_NOTE_DTYPE), n_unreleased


def _end_first(onsets: deque, pitch: int, channel: int, tick: int) -> tuple[int, int, int, int, int]:
    """Remove the first waiting onset, and return it as a note that ends at `tick`."""
    start, velocity = onsets.popleft()
    return pitch, velocity, channel, start, tick


def _end_all(waiting: dict[tuple[int, int], deque], track: int, channel: int, tick: int) -> list:
    """End the notes of a channel that a track switches off, and return them."""
    notes = []
    for (other, pitch), onsets in waiting.items():
        # Each track may reset the channel when it begins: this does not end what another track just struck.
        while onsets and (other == track or onsets[0][0] < tick):
            notes.append(_end_first(onsets, pitch, channel, tick))
    return notes


def pedal_moves(messages: Messages) -> tuple[tuple[int, bool], ...]:
    """Return the ticks at which the sustain pedal goes down or up.

    A piano has one pedal, also if its notes, or its pedal, are spread over several channels: it is down while it is
    down on any of them but that of the drums. "Reset all controllers" lifts the pedal of its channel; alone, it does
    not make a file one with a pedal.

    Returns
    -------
    tuple of (int, bool)
        (tick, whether it is down from there on): the first position and each change, two at a tick in which the
        pedal is lifted and pressed again. Empty without messages for the pedal.
    """
    moves = []
    held = set()  # the channels whose pedal is down
    controls = [m for m in messages if m[1] >> 4 == CONTROL and m[2] in (SUSTAIN, RESET_ALL_CONTROLLERS)]
    pedal = [m for m in controls if m[1] & 0x0F != DRUM_CHANNEL]
    if not any(number == SUSTAIN for _, _, number, _, _ in pedal):
        return ()
    for tick, together in groupby(pedal, key=itemgetter(0)):
        lifted = set()
        for _, status, number, value, _ in together:
            channel = status & 0x0F
            if number == SUSTAIN and value >= PEDAL_DOWN:
                held.add(channel)
            else:
                held.discard(channel)
                lifted.add(channel)
        was_down = moves[-1][1] if moves else True
        if was_down and not held - lifted:  # no channel holds it without a break
            moves.append((tick, False))
        if held and not (moves and moves[-1][1]):
            moves.append((tick, True))
    return tuple(moves)
