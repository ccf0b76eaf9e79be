"""The training loop: the loss of the next frame, a trainer that can be stopped and resumed, and checkpoints."""

from musicgen.training.checkpoint import SHIPPED_CHECKPOINT as SHIPPED_CHECKPOINT
from musicgen.training.checkpoint import Checkpoint as Checkpoint
from musicgen.training.checkpoint import CheckpointError as CheckpointError
from musicgen.training.checkpoint import load_checkpoint as load_checkpoint
from musicgen.training.checkpoint import save_checkpoint as save_checkpoint
from musicgen.training.loss import next_frame_loss as next_frame_loss
from musicgen.training.trainer import TrainConfig as TrainConfig
from musicgen.training.trainer import Trainer as Trainer
