"""Training in several processes with torchrun."""
