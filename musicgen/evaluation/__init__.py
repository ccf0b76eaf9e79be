"""Likelihood and baselines, statistics of pieces, likeness to real music, novelty."""
