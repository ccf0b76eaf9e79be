"""Helpers: config fields, files, limits, processes, resuming, sequences, MIDI events, tempo maps and beats."""
