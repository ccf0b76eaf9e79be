"""The mido sampler: it reads a MIDI file into a piano roll, and writes a roll as a MIDI file.

mido writes the files. The package reads the events itself, from the bytes: mido refuses files that are sound but for
events that move no note, an endless number hangs it, and it takes four times as long.
"""

from musicgen.midi.performance import MAX_SECONDS as MAX_SECONDS
from musicgen.midi.performance import MidiError as MidiError
from musicgen.midi.performance import Performance as Performance
from musicgen.midi.performance import read_midi as read_midi
from musicgen.midi.performance import read_performance as read_performance
from musicgen.midi.writing import midi_bytes as midi_bytes
from musicgen.midi.writing import write_midi as write_midi
