"""The former import path of `musicgen.training.checkpoint`, kept so that old scripts keep working."""

from musicgen.training.checkpoint import SHIPPED_CHECKPOINT as SHIPPED_CHECKPOINT
from musicgen.training.checkpoint import CheckpointError as CheckpointError
from musicgen.training.checkpoint import load_checkpoint as load_checkpoint
from musicgen.training.checkpoint import save_checkpoint as save_checkpoint
