"""Panels: forms, a training run, composing, the explorer of moments, and the table of runs."""
