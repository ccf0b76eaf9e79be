"""Validated config fields, atomic writes, per-file limits."""
