"""Helpers that know nothing about music or models: files, settings, limits, processes, signals, progress."""
